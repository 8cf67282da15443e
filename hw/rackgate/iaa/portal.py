# SPDX-License-Identifier: Apache-2.0
"""The portals: where software writes descriptors."""

import operator

from amaranth.hdl import Array, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from rackgate.axi.bus import AXI4LiteSignature, Response
from rackgate.iaa.abi import DESCRIPTOR_SIZE, PORTAL_SIZE, QUEUES

__all__ = ["Portal"]

_WORDS = DESCRIPTOR_SIZE // 4
_PLACES = PORTAL_SIZE // DESCRIPTOR_SIZE

_ADDRESS = data.StructLayout({"byte": 2, "word": exact_log2(_WORDS), "place": exact_log2(_PLACES),
                              "queue": exact_log2(QUEUES)})


class Portal(wiring.Component):
    """Take descriptors, word by word, on an AXI4-Lite target, and put them into the queues.

    The words of a descriptor go to one place (64 bytes) of a queue's portal, in order; the last one submits it. For
    each queue the device knows the place and the words so far of one descriptor. Word 0 begins another, whatever the
    place. Any other word must follow the one before, at the same place, with all four bytes; else it is refused with
    SLVERR, and if it is at that place, the descriptor is forgotten, so that none is ever made of two, as far as
    different places or their order tell them apart. Queues do not disturb each other.

    Each word for a queue that is not open is refused. The last word puts the descriptor into the queue and is
    answered with OKAY. A shared queue that was full when word 0 came, or has reached its threshold, refuses the last
    word with SLVERR (try again); a dedicated queue that was full loses the descriptor, with OKAY and ``overflow``.
    What was staged in a queue is forgotten when it closes. Reads answer zero.

    A write takes 3 cycles, its answer comes 2 cycles after the request, with ``overflow`` when that has been taken.
    ``bus.aw.ready`` and ``bus.w.ready`` depend combinationally on each other's ``valid``. Reset forgets what was
    staged and the transactions under way.

    Parameters
    ----------
    queues:
        Number of queues, 1 to 8; the others' portals refuse everything.

    Members
    -------
    bus:
        The target, 15 address bits.
    is_open, is_full, is_limited, is_dedicated:
        Bit per queue: it takes descriptors; see :class:`~rackgate.iaa.queues.Queues`; it is dedicated.
    stage, queue, word, value, put:
        See :class:`~rackgate.iaa.queues.Queues`.
    overflow:
        Queue of a descriptor that was lost.
    """

    overflow: stream.Interface

    def __init__(self, queues: int):
        self.queues = operator.index(queues)
        if not 1 <= self.queues <= QUEUES:
            raise ValueError(f"queues must be 1 to {QUEUES}, not {queues}")
        super().__init__({
            "bus": In(AXI4LiteSignature(addr_width=_ADDRESS.size)),
            "is_open": In(self.queues),
            "is_full": In(self.queues),
            "is_limited": In(self.queues),
            "is_dedicated": In(self.queues),
            "stage": Out(1),
            "queue": Out(range(self.queues)),
            "word": Out(range(_WORDS)),
            "value": Out(32),
            "put": Out(1),
            "overflow": Out(stream.Signature(range(self.queues))),
        })

    def elaborate(self, platform):
        m = Module()
        bus = self.bus
        m.d.comb += bus.ar.ready.eq(~bus.r.valid | bus.r.ready)
        with m.If(bus.ar.ready):
            m.d.sync += bus.r.valid.eq(bus.ar.valid)

        address, is_now, is_refused, is_lost = Signal(_ADDRESS), Signal(), Signal(), Signal()
        m.d.comb += [
            self.queue.eq(address.queue),
            self.word.eq(address.word),
            self.overflow.payload.eq(address.queue),
        ]
        self._judge(m, address, is_now, is_refused, is_lost)
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += [bus.aw.ready.eq(bus.w.valid), bus.w.ready.eq(bus.aw.valid)]
                m.d.sync += [address.eq(bus.aw.payload.addr), self.value.eq(bus.w.payload.data)]
                with m.If(bus.aw.valid & bus.w.valid):
                    m.next = "JUDGE"
            with m.State("JUDGE"):
                m.d.comb += is_now.eq(1)
                m.d.sync += bus.b.payload.resp.eq(Mux(is_refused, Response.SLVERR, Response.OKAY))
                m.next = "ANSWER"
                with m.If(is_lost):
                    m.next = "REPORT"
            with m.State("REPORT"):
                m.d.comb += self.overflow.valid.eq(1)
                with m.If(self.overflow.ready):
                    m.next = "ANSWER"
            with m.State("ANSWER"):
                m.d.comb += bus.b.valid.eq(1)
                with m.If(bus.b.ready):
                    m.next = "IDLE"
        return m

    def _judge(self, m, address, is_now, is_refused, is_lost):
        """What becomes of the word in ``address`` and ``value``.

        All that was so when the word came is looked up then, in the cycle before ``is_now``. But the queue must be open
        now: a command that closes it then waits for what is in it.
        """
        following = [Signal(range(_WORDS), name=f"following_{k}") for k in range(self.queues)]  # 0: none has begun
        place = [Signal(range(_PLACES), name=f"place_{k}") for k in range(self.queues)]
        has_room = [Signal(name=f"has_room_{k}") for k in range(self.queues)]
        is_open, is_whole, is_same_place, is_next, is_roomy, is_dedicated, is_ready, is_taken, is_last = (
            Signal(name=name) for name in ("is_open_here", "is_whole", "is_same_place", "is_next", "is_roomy",
                                           "is_dedicated_here", "is_ready", "is_taken", "is_last"))
        coming, strobe = data.View(_ADDRESS, self.bus.aw.payload.addr), self.bus.w.payload.strb
        queue, is_first = coming.queue, coming.word == 0
        room = Mux(is_first, ~Array(self.is_full)[queue], Array(has_room)[queue])
        m.d.sync += [
            is_whole.eq(strobe.all() & (queue < self.queues)),
            is_same_place.eq(Array(place)[queue] == coming.place),
            is_next.eq(is_first | ((Array(place)[queue] == coming.place) & (Array(following)[queue] == coming.word))),
            is_roomy.eq(room),
            is_dedicated.eq(Array(self.is_dedicated)[queue]),
            is_ready.eq(room & (Array(self.is_dedicated)[queue] | ~Array(self.is_limited)[queue])),
        ]
        m.d.comb += [
            is_open.eq(Array(self.is_open)[address.queue]),
            is_taken.eq(is_open & is_whole & is_next),
            is_last.eq(is_taken & (address.word == _WORDS - 1)),
            is_refused.eq(~is_taken | is_last & ~is_ready & ~is_dedicated),
            is_lost.eq(is_last & ~is_ready & is_dedicated),
            self.stage.eq(is_now & is_taken & is_roomy),
            self.put.eq(is_now & is_last & is_ready),
        ]
        for k in range(self.queues):
            with m.If(is_now & (address.queue == k)):
                with m.If(is_taken):
                    m.d.sync += [following[k].eq(address.word + 1), place[k].eq(address.place),
                                 has_room[k].eq(is_roomy)]
                with m.Elif(is_same_place):
                    m.d.sync += following[k].eq(0)
            with m.If(~self.is_open[k]):
                m.d.sync += following[k].eq(0)
