# SPDX-License-Identifier: Apache-2.0
"""SWERR: the first error that no completion record tells."""

import operator

from amaranth.hdl import Array, Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rackgate.iaa.abi import QUEUES, Status
from rackgate.iaa.work import ErrorReport

__all__ = ["Errors"]

_SWERR0 = data.StructLayout({
    "valid": 1, "overflow": 1, "descriptor_valid": 1, "queue_valid": 1, "batch": 1, "fault_write": 1, "reserved": 2,
    "error": 8, "queue": 8, "reserved_high": 8,
})


class Errors(wiring.Component):
    """Keep the first error in SWERR until software clears VALID; set OVERFLOW when there is another.

    The inputs are asked in turn, one a cycle, which is cheap and quick enough for what is rare; each error takes two or
    three cycles more, those of lanes before that of a full queue. An error that comes as VALID is cleared is kept as
    the next first one. ``ready`` does not depend on ``valid``. Reset forgets errors that wait.

    Parameters
    ----------
    reporters:
        Inputs for errors of descriptors, at least 1.
    queues:
        Number of queues, 1 to 8.

    Members
    -------
    i:
        Errors of descriptors: array.
    overflow:
        Queue that had no place for a descriptor.
    swerr0, set, clear:
        The register as the bank has it, and the bits of it to set and to clear (setting wins).
    swerr1, address:
        What the other registers show.
    raised:
        Strobe: an error was seen, kept or not.
    """

    overflow: stream.Interface

    def __init__(self, reporters: int = 1, *, queues: int = QUEUES):
        self.reporters = operator.index(reporters)
        self.queues = operator.index(queues)
        if self.reporters < 1:
            raise ValueError(f"reporters must be at least 1, not {reporters}")
        if not 1 <= self.queues <= QUEUES:
            raise ValueError(f"queues must be 1 to {QUEUES}, not {queues}")
        super().__init__({
            "i": In(stream.Signature(ErrorReport)).array(self.reporters),
            "overflow": In(stream.Signature(range(self.queues))),
            "swerr0": In(32),
            "set": Out(32),
            "clear": Out(32),
            "swerr1": Out(32),
            "address": Out(64),
            "raised": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        now, setting, report = data.View(_SWERR0, self.swerr0), Signal(_SWERR0), Signal(ErrorReport)
        is_descriptor, has_error, is_done = Signal(), Signal(), Signal()
        turn = Signal(range(self.reporters))
        with m.If(~is_descriptor):
            m.d.sync += [
                report.eq(Array(i.payload for i in self.i)[turn]),
                is_descriptor.eq(Array(i.valid for i in self.i)[turn]),
                turn.eq(Mux(turn == self.reporters - 1, 0, turn + 1)),
            ]
        with m.Elif(is_done):
            m.d.sync += is_descriptor.eq(0)
        for k, i in enumerate(self.i):
            m.d.comb += i.ready.eq(~is_descriptor & (turn == k))
        m.d.comb += [
            has_error.eq(is_descriptor | self.overflow.valid),
            self.overflow.ready.eq(is_done & ~is_descriptor),
            self.raised.eq(is_done),
            self.set.eq(setting),
        ]
        with m.FSM():
            with m.State("IDLE"):
                with m.If(~now.valid):
                    # Software clears two bits; what they made valid goes with them, so that the next can be set.
                    m.d.comb += self.clear.eq(0xFFFFFFFF)
                with m.If(has_error & now.valid):
                    m.d.comb += setting.overflow.eq(1)
                    m.next = "CONFIRM"
                with m.Elif(has_error):
                    m.d.comb += [is_done.eq(1), setting.valid.eq(1), setting.queue_valid.eq(1)]
                    m.d.sync += [self.swerr1.eq(0), self.address.eq(0)]
                    with m.If(is_descriptor):
                        m.d.comb += [setting.descriptor_valid.eq(1), setting.fault_write.eq(report.write),
                                     setting.error.eq(report.status), setting.queue.eq(report.queue)]
                        m.d.sync += [self.swerr1.eq(Cat(report.opcode, report.pasid)),
                                     self.address.eq(report.address)]
                    with m.Else():
                        m.d.comb += [setting.error.eq(Status.QUEUE_FULL), setting.queue.eq(self.overflow.payload)]
            with m.State("CONFIRM"):  # if VALID was cleared while OVERFLOW was set, this is the first error
                m.d.comb += is_done.eq(now.valid)
                m.next = "IDLE"
        return m
