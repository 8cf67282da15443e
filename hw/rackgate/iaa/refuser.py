# SPDX-License-Identifier: Apache-2.0
"""Answers of memory, and errors in the place of those that will not come."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from rackgate.axi.bus import Response
from rackgate.iaa.addresspath import PathParameters

__all__ = ["Refuser"]


class Refuser(wiring.Component):
    """Pass the answers of memory, and answer refused bursts with SLVERR between them.

    A refused read gets ``len`` + 1 beats of zeros, a refused write one answer. Memory's answers pass without delay,
    and wait while a refused burst is being answered. ``i.ready`` is ``o.ready`` then or low. Reset drops what is
    being answered.

    Parameters
    ----------
    parameters:
        See :class:`~rackgate.iaa.addresspath.PathParameters`.
    write:
        For the answers of writes.

    Members
    -------
    i, o: answers from memory, and to the initiator. i_refused: bursts to be refused.
    answered, answered_context: a burst's last answer leaves at ``o``.
    """

    def __init__(self, parameters: PathParameters, *, write: bool):
        self.parameters = parameters
        self.write = bool(write)
        answers = parameters.bus.members["b" if self.write else "r"].signature.flip()
        super().__init__({
            "i": In(answers),
            "o": Out(answers),
            "i_refused": In(stream.Signature(parameters.refusal)),
            "answered": Out(1),
            "answered_context": Out(range(parameters.contexts)),
        })

    def elaborate(self, platform):
        m = Module()
        refused, is_refusing, left = self.i_refused.payload, Signal(), Signal(8)
        id = Signal(self.parameters.bus.id_width)
        is_end = Signal()
        m.d.comb += [
            self.o.valid.eq(self.i.valid | is_refusing),
            self.i.ready.eq(self.o.ready & ~is_refusing),
            self.o.payload.eq(self.i.payload),
            is_end.eq(1 if self.write else self.o.payload.last),
            self.answered.eq(self.o.valid & self.o.ready & is_end),
            self.answered_context.eq(self.parameters.context_of(self.o.payload.id)),
        ]
        with m.If(is_refusing):
            m.d.comb += [self.o.payload.id.eq(id), self.o.payload.resp.eq(Response.SLVERR)]
            if not self.write:
                m.d.comb += [self.o.payload.data.eq(0), self.o.payload.last.eq(left == 0)]
            with m.If(self.o.ready):
                m.d.sync += [left.eq(left - 1), is_refusing.eq(left != 0)]
        # Nothing may be on offer and not taken when the errors begin. With an Elif the payload would seem to depend on
        # ready: both would come from one priority encoder.
        with m.If(~is_refusing & (~self.i.valid | self.o.ready)):
            m.d.comb += self.i_refused.ready.eq(1)
            m.d.sync += [
                is_refusing.eq(self.i_refused.valid),
                id.eq(refused.id),
                left.eq(Mux(self.write, 0, refused.len)),
            ]
        return m
