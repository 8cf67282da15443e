# SPDX-License-Identifier: Apache-2.0
"""Completions on their way to those who called."""

import operator

from amaranth.hdl import Assert, Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from rackgate.collective.control.callstore import KERNEL_CALLS
from rackgate.collective.control.completer import Ended
from rackgate.collective.records import CompletionFields
from rackgate.stream.queue import Queue

__all__ = ["Completions"]

#: From the way in to the way out of a queue in block RAM.
_QUEUE_CYCLES = 3


class Completions(wiring.Component):
    """Give each completion to the port that its call came from; slots are free when it has been taken.

    The host's are in a queue of block RAM and can be seen 3 cycles later; a kernel's are offered in the next cycle.
    There is always room, as every call has a slot. Reset forgets all.

    Parameters
    ----------
    calls, kernels:
        As of the :class:`~rackgate.collective.control.callstore.CallStore`.

    Members
    -------
    i:
        Completions.
    waiting, first, pop:
        The host's: how many can be seen; the oldest, if there is one; forget it (nothing if there is none).
    arrived:
        High for a cycle when one more of the host's can be seen, or a little later.
    kernel:
        Each kernel's.
    release, release_slot:
        Of each port, the host first: a slot is free.
    """

    i: stream.Interface

    def __init__(self, *, calls: int = 16, kernels: int = 0):
        self.calls, self.kernels = operator.index(calls), operator.index(kernels)
        self.slots = self.calls + KERNEL_CALLS * self.kernels
        super().__init__({
            "i": In(stream.Signature(Ended)),
            "waiting": Out(range(self.calls + 1)), "first": Out(CompletionFields), "pop": In(1),
            "arrived": Out(1),
            "kernel": Out(stream.Signature(CompletionFields)).array(self.kernels),
            "release": Out(self.kernels + 1), "release_slot": Out(range(self.slots)).array(self.kernels + 1),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.host = host = Queue(Ended, depth=self.calls, block_ram=True)
        coming = Signal(_QUEUE_CYCLES)  # an interrupt must not come before what it is for
        m.d.comb += [
            self.i.ready.eq(1),
            host.i.valid.eq(self.i.valid & (self.i.payload.slot < self.calls)),
            self.waiting.eq(Mux(host.o.valid, host.level, 0)),
            self.first.eq(host.o.payload.fields),
            host.o.ready.eq(self.pop),
            self.arrived.eq(coming[-1]),
        ]
        m.d.sync += coming.eq(Cat(host.i.valid, coming))
        queues = [host]
        for number, kernel in enumerate(self.kernel):
            m.submodules[f"kernel_{number}"] = queue = Queue(Ended, depth=KERNEL_CALLS)
            first = self.calls + KERNEL_CALLS * number
            m.d.comb += [
                queue.i.valid.eq(self.i.valid & (self.i.payload.slot >= first)
                                 & (self.i.payload.slot < first + KERNEL_CALLS)),
                kernel.valid.eq(queue.o.valid), kernel.payload.eq(queue.o.payload.fields),
                queue.o.ready.eq(kernel.ready),
            ]
            queues.append(queue)
        for number, queue in enumerate(queues):
            m.d.comb += [
                queue.i.payload.eq(self.i.payload),
                self.release[number].eq(queue.o.valid & queue.o.ready),
                self.release_slot[number].eq(queue.o.payload.slot),
            ]
            m.d.sync += Assert(~queue.i.valid | queue.i.ready, "a completion is lost")
        return m
