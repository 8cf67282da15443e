# SPDX-License-Identifier: Apache-2.0
"""Where the bytes of a range of a stream are in memory."""

from amaranth.hdl import Array, Assert, Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rackgate.stream.queue import Queue
from rackgate.stream.skid import SkidBuffer
from rackgate.zeronic.abi import Right
from rackgate.zeronic.records import FLOW_BITS, LENGTH_BITS, Piece, PostUpdate, RegionUpdate, RetireUpdate
from rackgate.zeronic.tables.regions import Regions
from rackgate.zeronic.tables.segments import SegmentLists
from rackgate.zeronic.tables.walker import Stretch, Walker

__all__ = ["Cover"]

#: Requests whose answers are not complete.
_REQUESTS = 32


class Cover(wiring.Component):
    """Cut a range of a flow's stream into pieces that lie in posted segments, with addresses that have been checked.

    The pieces are contiguous from the position on, one a segment, up to the end of the range, to the first byte that
    is in no segment, or to the first segment of which not all that is wanted lies in its region, with the right and the
    owner. A piece is of a segment that was posted when its request was taken, or has been posted since.

    Timing: when all lists hold 64 segments and each request is one piece, a request takes 7, 3 or 2 cycles with 1, 2 or
    3 ``engines``; with 32 segments 6, 2.5 or 1.7; in short lists 5, 2.5 or 1.7. Each further piece of a request takes
    5 cycles, or 6; as many requests as engines are walked at a time. The first piece of a lone request comes after up
    to 20 cycles if its list has one or two segments, and 3 later each time their number doubles: 35 for 64. Order is
    kept. For updates see :class:`~rackgate.zeronic.tables.segments.SegmentLists`.

    Reset empties all tables, an entry a cycle.

    Parameters
    ----------
    right:
        ``Right.WRITE`` to place, ``Right.READ`` to gather.
    flows:
        Number of flows, a power of two from 2 to 1024.
    segments:
        That each can have, a power of two from 2 to 64.
    regions:
        Number of regions, 1 to 256.
    engines:
        1 to 4: see :class:`~rackgate.zeronic.tables.segments.SegmentLists`.
    carried:
        Shape of what goes along.

    Members
    -------
    post, refused, retire, clear:
        See :class:`~rackgate.zeronic.tables.segments.SegmentLists`.
    region, region_refused:
        ``update`` and ``refused`` of :class:`~rackgate.zeronic.tables.regions.Regions`.
    request:
        ``size`` bytes, perhaps none, from ``position`` on.
    piece:
        Pieces of all requests, in order; at most ``segments`` a request. The last of a request has ``last``, and
        it alone may be of size 0.
    result:
        Of each request: ``covered`` bytes are in its pieces. If those are not all, then either ``no_segment`` or
        ``bad_region`` says why. It is offered with the request's last piece, but neither waits for the other to be
        taken. So, who wants the result first has to hold ``segments`` pieces.
    ready:
        The tables have been emptied after reset. Before that nothing is taken.
    """

    post: stream.Interface
    retire: stream.Interface
    clear: stream.Interface
    region: stream.Interface
    request: stream.Interface
    piece: stream.Interface
    result: stream.Interface

    def __init__(self, right: Right, *, flows: int, segments: int, regions: int, engines: int = 1, carried=0):
        self._lists = SegmentLists(flows, segments, engines=engines)
        self._walkers = [Walker(flows, segments) for _ in range(engines)]
        along = data.StructLayout({"position": 32, "size": LENGTH_BITS, "has_size": 1, "last": 1, "missing": 1})
        self._regions = Regions(right, regions, carried=along)
        request = {"flow": FLOW_BITS, "position": 32, "size": LENGTH_BITS, "carried": carried}
        result = {"covered": LENGTH_BITS, "no_segment": 1, "bad_region": 1, "carried": carried}
        super().__init__({
            "post": In(stream.Signature(PostUpdate)), "refused": Out(1),
            "retire": In(stream.Signature(RetireUpdate)),
            "clear": In(stream.Signature(FLOW_BITS)),
            "region": In(stream.Signature(RegionUpdate)), "region_refused": Out(1),
            "request": In(stream.Signature(data.StructLayout(request))),
            "piece": Out(stream.Signature(Piece)),
            "result": Out(stream.Signature(data.StructLayout(result))),
            "ready": Out(1),
        })
        self._pieces, self._results = SkidBuffer(Piece), SkidBuffer(self.result.payload.shape())
        # Of requests: what is searched for; what goes along.
        self._ranges = Queue(data.StructLayout({"position": 32, "size": LENGTH_BITS}), depth=_REQUESTS)
        self._carried = Queue(data.StructLayout({"carried": carried}), depth=_REQUESTS)
        # Of the request whose pieces come: bytes so far; a region has refused.
        self._covered, self._is_refused = Signal(LENGTH_BITS), Signal()

    def elaborate(self, platform):
        m = Module()
        m.submodules.lists, m.submodules.regions = lists, regions = self._lists, self._regions
        m.submodules.ranges, m.submodules.carried = self._ranges, self._carried
        m.submodules.pieces, m.submodules.results = self._pieces, self._results
        for name in ("post", "retire", "clear"):
            wiring.connect(m, wiring.flipped(getattr(self, name)), getattr(lists, name))
        wiring.connect(m, wiring.flipped(self.region), regions.update)
        m.d.comb += [
            self.refused.eq(lists.refused), self.region_refused.eq(regions.refused),
            self.ready.eq(lists.ready & regions.ready),
        ]
        self._take(m, lists)
        self._walk(m, lists)
        self._give(m, regions.o)
        return m

    def _take(self, m, lists):
        """A request goes three ways; each of them has room, or none is gone."""
        request, ranges, carried = self.request, self._ranges, self._carried
        goes = Signal()
        m.d.comb += [
            request.ready.eq(lists.search.ready & ranges.i.ready & carried.i.ready & self.ready),
            goes.eq(request.valid & request.ready),
            *(port.valid.eq(goes) for port in (lists.search, ranges.i, carried.i)),
            lists.search.payload.flow.eq(request.payload.flow),
            lists.search.payload.position.eq(request.payload.position),
            ranges.i.payload.position.eq(request.payload.position),
            ranges.i.payload.size.eq(request.payload.size),
            carried.i.payload.carried.eq(request.payload.carried),
        ]

    def _walk(self, m, lists):
        """Walkers take requests in turn; of each, all stretches go on before those of the next."""
        walkers, ranges, stretch = self._walkers, self._ranges.o, self._regions.i
        m.submodules += walkers
        given, gives, chosen = Signal(range(len(walkers))), Signal(range(len(walkers))), Signal(Stretch)
        takes = Signal()
        m.d.comb += [
            takes.eq(lists.found.valid & ranges.valid & Array(walker.i.ready for walker in walkers)[given]),
            lists.found.ready.eq(takes), ranges.ready.eq(takes),
            chosen.eq(Array(walker.o.payload for walker in walkers)[gives]),
            stretch.valid.eq(Array(walker.o.valid for walker in walkers)[gives]),
            *(stretch.payload[name].eq(chosen[name]) for name in ("flow", "region", "offset", "size")),
            *(stretch.payload.carried[name].eq(chosen[name]) for name in ("position", "size", "last", "missing")),
            stretch.payload.carried.has_size.eq(chosen.size != 0),
        ]
        for index, walker in reversed(list(enumerate(walkers))):
            m.d.comb += [
                walker.i.valid.eq(lists.found.valid & ranges.valid & (given == index)),
                walker.i.payload.position.eq(ranges.payload.position), walker.i.payload.size.eq(ranges.payload.size),
                walker.i.payload.found.eq(lists.found.payload),
                walker.o.ready.eq(stretch.ready & (gives == index)),
                walker.segment.eq(lists.segment),
            ]
            with m.If(walker.read):  # the first one that wants to
                m.d.comb += [lists.read.eq(1), lists.place.eq(walker.place)]
            m.d.comb += walker.granted.eq(~Cat(other.read for other in walkers[:index]).any())
        with m.If(takes):
            m.d.sync += given.eq(Mux(given == len(walkers) - 1, 0, given + 1))
        with m.If(stretch.valid & stretch.ready & chosen.last):
            m.d.sync += gives.eq(Mux(gives == len(walkers) - 1, 0, gives + 1))

    def _give(self, m, checked):
        """Pieces up to the first that its region refuses; then the result."""
        stretch, pieces, results, carried = checked.payload.carried, self._pieces.i, self._results.i, self._carried.o
        is_good, goes, ends, covered = Signal(), Signal(), Signal(), Signal(LENGTH_BITS)
        refuses = self._is_refused | ~checked.payload.ok & stretch.has_size
        piece, result = pieces.payload, results.payload
        wiring.connect(m, self._pieces.o, wiring.flipped(self.piece))
        wiring.connect(m, self._results.o, wiring.flipped(self.result))
        m.d.comb += [
            is_good.eq(~refuses & stretch.has_size),
            covered.eq(self._covered + Mux(is_good, stretch.size, 0)),
            # Room for a piece is waited for even if there is none: it takes less logic, and does not matter.
            goes.eq(checked.valid & pieces.ready & (~stretch.last | results.ready)),
            ends.eq(goes & stretch.last),
            checked.ready.eq(goes), carried.ready.eq(ends),
            pieces.valid.eq(goes & (is_good | stretch.last)), results.valid.eq(ends),
            piece.position.eq(stretch.position), piece.size.eq(Mux(is_good, stretch.size, 0)),
            piece.address.eq(checked.payload.address), piece.last.eq(stretch.last),
            result.covered.eq(covered), result.carried.eq(carried.payload.carried),
            result.no_segment.eq(stretch.missing & ~refuses), result.bad_region.eq(refuses),
        ]
        m.d.sync += Assert(~ends | carried.valid, "an answer to no request")
        with m.If(goes):
            m.d.sync += [
                self._covered.eq(Mux(stretch.last, 0, covered)), self._is_refused.eq(refuses & ~stretch.last),
            ]
