# SPDX-License-Identifier: Apache-2.0
"""The data of writes whose addresses overtake each other."""

from amaranth.hdl import Array, Assert, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from rackgate.iaa.addresspath import PathParameters
from rackgate.stream.queue import Queue

__all__ = ["WritePath"]

#: Beats on their way to the bus.
_BEATS = 4
#: Bursts whose data are not yet routed.
_BURSTS = 8


class WritePath(wiring.Component):
    """Put the data of write bursts into the order in which their addresses go out.

    AXI4 has no id with the data: they come in the order of the addresses at the initiator's side, and must leave
    in the order of those at the bus. Every burst that comes in is told at ``i_burst``: it passes, or it is parked, and
    its data then go into the memory of its context. Every burst that goes out is told at ``o_burst``: it passes, or
    was parked, or is refused, and its data then are thrown away. Bursts that pass go out in the order in which they
    came in; a parked one goes out later than it came in.

    A beat a cycle, also from the memory. Latency 1 cycle for the data of a burst that passes, 2 from the memory.
    ``i_w.ready`` and ``i_burst.ready``, ``o_burst.ready`` depend on no input. Reset forgets all.

    Parameters
    ----------
    parameters:
        See :class:`~rackgate.iaa.addresspath.PathParameters`.

    Members
    -------
    i_burst: of each burst that comes in, whether it is parked, and its context.
    o_burst: of each burst that goes out, whether it was parked, its context and ``len``, and whether it is refused.
    i_w, o_w: the data.
    released, released_context: the last beat of a parked burst has left the memory. is_refused: and was thrown away.
    """

    def __init__(self, parameters: PathParameters):
        self.parameters = parameters
        self._number = range(parameters.contexts)
        self._size = parameters.depth * parameters.burst
        self._incoming = data.StructLayout({"is_parked": 1, "context": self._number})
        self._outgoing = data.StructLayout({"is_parked": 1, "context": self._number, "len": 8, "is_refused": 1})
        beat = parameters.bus.members["w"].signature
        super().__init__({
            "i_burst": In(stream.Signature(self._incoming)),
            "o_burst": In(stream.Signature(self._outgoing)),
            "i_w": In(beat),
            "o_w": Out(beat),
            "released": Out(1),
            "released_context": Out(self._number),
            "is_refused": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        shape = self.o_w.signature.members["payload"].shape
        m.submodules.incoming = incoming = Queue(self._incoming, depth=_BURSTS)
        m.submodules.outgoing = outgoing = Queue(self._outgoing, depth=_BURSTS)
        m.submodules.beats = beats = Queue(shape, depth=_BEATS)
        m.submodules.memory = memory = Memory(shape=shape, depth=len(self._number) * self._size, init=[])
        wiring.connect(m, wiring.flipped(self.i_burst), incoming.i)
        wiring.connect(m, wiring.flipped(self.o_burst), outgoing.i)
        wiring.connect(m, beats.o, wiring.flipped(self.o_w))
        stored = Array(Signal(range(self._size + 1), name=f"stored_{k}") for k in self._number)
        store, fetch = Signal(), Signal()
        self._store(m, memory, incoming, store)
        is_fetched, has_room, passes = self._fetch(m, memory, outgoing, beats, stored, fetch)

        burst = incoming.o.payload
        m.d.comb += [
            passes.eq(incoming.o.valid & ~burst.is_parked & outgoing.o.valid & ~outgoing.o.payload.is_parked
                      & has_room & ~is_fetched),
            store.eq(incoming.o.valid & burst.is_parked & self.i_w.valid),
            self.i_w.ready.eq(passes | incoming.o.valid & burst.is_parked),
            incoming.o.ready.eq(self.i_w.valid & self.i_w.ready & self.i_w.payload.last),
        ]
        for k in self._number:
            m.d.sync += [
                stored[k].eq(stored[k] + (store & (burst.context == k))
                             - (fetch & (outgoing.o.payload.context == k))),
                Assert(stored[k] <= self._size, "more data parked than there is room for"),
            ]
        return m

    def _store(self, m, memory, incoming, store):
        """Data of a parked burst into its context's part of the memory, a ring."""
        port, context = memory.write_port(), incoming.o.payload.context
        place = Array(Signal(range(self._size), name=f"store_at_{k}") for k in self._number)
        m.d.comb += [
            port.addr.eq(context * self._size + place[context]),
            port.data.eq(self.i_w.payload),
            port.en.eq(store),
        ]
        with m.If(store):
            m.d.sync += place[context].eq(place[context] + 1)

    def _fetch(self, m, memory, outgoing, beats, stored, fetch):
        """The beats of the burst whose turn it is, from the memory or from ``i_w``."""
        port, burst = memory.read_port(), outgoing.o.payload
        place = Array(Signal(range(self._size), name=f"fetch_at_{k}") for k in self._number)
        is_fetched, has_room, passes, beat, is_last = Signal(), Signal(), Signal(), Signal(8), Signal()
        m.d.comb += [
            has_room.eq(beats.level + is_fetched < _BEATS),
            is_last.eq(beat == burst.len),
            fetch.eq(outgoing.o.valid & burst.is_parked & (stored[burst.context] != 0)
                     & (has_room | burst.is_refused)),
            port.addr.eq(burst.context * self._size + place[burst.context]),
            port.en.eq(fetch),
            beats.i.valid.eq(is_fetched | passes & self.i_w.valid),
            beats.i.payload.eq(Mux(is_fetched, port.data, self.i_w.payload)),
            outgoing.o.ready.eq(Mux(burst.is_parked, fetch & is_last,
                                    passes & self.i_w.valid & self.i_w.payload.last)),
            self.released.eq(fetch & is_last),
            self.released_context.eq(burst.context),
            self.is_refused.eq(burst.is_refused),
        ]
        m.d.sync += [
            is_fetched.eq(fetch & ~burst.is_refused),
        ]
        with m.If(fetch):
            m.d.sync += [beat.eq(Mux(is_last, 0, beat + 1)), place[burst.context].eq(place[burst.context] + 1)]
        m.d.sync += [
            Assert(~beats.i.valid | beats.i.ready, "a beat came for which there is no room"),
            Assert(~fetch | (burst.len < self.parameters.burst), "a burst of more beats than one may have is parked"),
        ]
        return is_fetched, has_room, passes
