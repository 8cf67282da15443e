# SPDX-License-Identifier: Apache-2.0
"""The calls that have come in and not been answered: their words and their ages."""

import operator

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from rackgate.collective.abi import CALL_WORDS
from rackgate.collective.control.callport import CallPort, HostPort, call_word_layout
from rackgate.collisions import ATTRIBUTE
from rackgate.stream.arbiter import Arbiter

__all__ = ["KERNEL_CALLS", "CallStore"]

#: Calls of a kernel's port that have been begun and not been answered.
KERNEL_CALLS = 2
_PAIRS = CALL_WORDS // 2


class CallStore(wiring.Component):
    """Take in the calls of the host and of kernels, and keep their words until they are answered.

    Slots are numbered: the host's ``calls`` first, then :data:`KERNEL_CALLS` of each kernel. Words of the host are
    written at once; of the kernels in the remaining cycles, each having its turn once in ``kernels`` cycles. A whole
    call is offered two cycles after its last word, the ports taking turns. What is read is there in the next cycle.
    Reset forgets all calls.

    Parameters
    ----------
    calls:
        Calls of the host, 2 to 64.
    kernels:
        Ports for kernels, 0 to 8.

    Members
    -------
    word, word_write, space:
        The host's words, and the calls that it can begin. The 16th of a call is followed by the next call's first not
        in the next cycle.
    kernel:
        Words of each kernel.
    call:
        Slots of whole calls, each port's in order.
    look_slot, look_pair, look:
        Read words 2k and 2k + 1 of a call.
    load_slot, load_word, load:
        Read word k, in the low half, and the one after it; after the last one comes the first.
    age_slot, age:
        Read how many cycles ago a call's last word came.
    release, release_slot:
        Of each port, the host's first: a call has been answered.
    begin, begin_slot:
        High for a cycle when a call is whole.
    """

    call: stream.Interface

    def __init__(self, *, calls: int = 16, kernels: int = 0):
        self.calls, self.kernels = operator.index(calls), operator.index(kernels)
        if not 2 <= self.calls <= 64:
            raise ValueError(f"calls must be 2 to 64, not {calls}")
        if not 0 <= self.kernels <= 8:
            raise ValueError(f"kernels must be 0 to 8, not {kernels}")
        self.slots = self.calls + KERNEL_CALLS * self.kernels
        slot = range(self.slots)
        super().__init__({
            "word": In(32),
            "word_write": In(1),
            "space": Out(range(self.calls + 1)),
            "kernel": In(stream.Signature(32)).array(self.kernels),
            "call": Out(stream.Signature(slot)),
            "look_slot": In(slot), "look_pair": In(range(_PAIRS)), "look": Out(64),
            "load_slot": In(slot), "load_word": In(range(CALL_WORDS)), "load": Out(64),
            "age_slot": In(slot), "age": Out(32),
            "release": In(self.kernels + 1), "release_slot": In(slot).array(self.kernels + 1),
            "begin": Out(1), "begin_slot": Out(slot),
        })

    def elaborate(self, platform):
        m = Module()
        word = Signal(call_word_layout(self.slots))
        has_word = Signal()
        self._take(m, word, has_word)
        self._keep(m, word, has_word)
        m.d.comb += [
            self.begin.eq(has_word & (word.word == CALL_WORDS - 1)),
            self.begin_slot.eq(word.slot),
        ]
        return m

    def _take(self, m, word, has_word):
        """The ports, and whose word is written."""
        m.submodules.host = host = HostPort()
        m.submodules.turns = turns = Arbiter(range(self.slots), self.kernels + 1)
        wiring.connect(m, turns.o, wiring.flipped(self.call))
        turn = Signal(range(max(self.kernels, 1)))
        m.d.sync += turn.eq(Mux(turn == self.kernels - 1, 0, turn + 1))
        m.d.comb += [host.word.eq(self.word), host.write.eq(self.word_write)]
        for number in range(self.kernels + 1):
            first = self.calls + KERNEL_CALLS * (number - 1) if number else 0
            port = CallPort(KERNEL_CALLS if number else self.calls)
            m.submodules[f"port_{number}"] = port
            m.d.comb += [
                turns.i[number].valid.eq(port.call.valid),
                turns.i[number].payload.eq(first + port.call.payload),
                port.call.ready.eq(turns.i[number].ready),
                port.release.eq(self.release[number]),
                port.release_slot.eq(self.release_slot[number] - first),
            ]
            if number:
                wiring.connect(m, wiring.flipped(self.kernel[number - 1]), port.i)
                m.d.comb += port.o.ready.eq(~self.word_write & (turn == number - 1))
            else:
                wiring.connect(m, host.o, port.i)
                m.d.comb += [port.o.ready.eq(1), self.space.eq(port.space)]
            with m.If(port.o.valid & port.o.ready):
                m.d.comb += [
                    has_word.eq(1), word.slot.eq(first + port.o.payload.slot),
                    word.word.eq(port.o.payload.word), word.value.eq(port.o.payload.value),
                ]

    def _keep(self, m, word, has_word):
        """Even words and odd ones have a memory each, so that any two neighbours can be read at a time."""
        is_odd = Signal()
        m.d.sync += is_odd.eq(self.load_word[0])
        looked, loaded = [], []
        for parity, name in enumerate(("even", "odd")):
            m.submodules[name] = memory = Memory(
                shape=32, depth=_PAIRS * self.slots, init=[], attrs={ATTRIBUTE: 1})  # only whole calls are read
            write, look, load = memory.write_port(), memory.read_port(), memory.read_port()
            # The word after an odd one is in the next pair.
            pair = self.load_word[1:] + self.load_word[0] if parity == 0 else self.load_word[1:]
            m.d.comb += [
                write.addr.eq(Cat(word.word[1:], word.slot)), write.data.eq(word.value),
                write.en.eq(has_word & (word.word[0] == parity)),
                look.addr.eq(Cat(self.look_pair, self.look_slot)),
                load.addr.eq(Cat(pair[:3], self.load_slot)),
            ]
            looked.append(look.data)
            loaded.append(load.data)
        m.d.comb += [
            self.look.eq(Cat(looked)),
            self.load.eq(Mux(is_odd, Cat(reversed(loaded)), Cat(loaded))),
        ]
        m.submodules.stamps = stamps = Memory(shape=32, depth=self.slots, init=[], attrs={ATTRIBUTE: 1})
        stamp, age, now = stamps.write_port(), stamps.read_port(), Signal(32)
        m.d.sync += now.eq(now + 1)
        m.d.comb += [
            stamp.addr.eq(word.slot), stamp.data.eq(now), stamp.en.eq(self.begin),
            age.addr.eq(self.age_slot), self.age.eq(now - age.data),
        ]
