# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""ReceiveQueues against a model made of lists, and its parts."""

import random
from collections import Counter, defaultdict

import pytest
from amaranth.hdl import Module
from collective_queues import Key, QueuesModel

from rackgate.collective.abi import MOVES, HeaderFlag, PacketType
from rackgate.collective.packets.abi import credit_threshold
from rackgate.collective.packets.freeslots import FreeSlots
from rackgate.collective.packets.owed import OwedCredits
from rackgate.collective.packets.postedkeys import PostedKeys
from rackgate.collective.packets.receivequeues import ReceiveQueues
from rackgate.collective.packets.slotlists import SlotLists
from rackgate.verif.stimulus import simulate
from rackgate.verif.stream_rules import watch

STROBES = ("no_buffer", "no_communicator", "matched_posted", "matched_late")
STREAMS = 16


@pytest.mark.parametrize("any_tag,any_node", [(0, 0), (1, 0), (0, 1)])
def test_every_bit_of_a_key_counts(any_tag, any_node):
    """A packet whose key differs in one bit matches only if that bit is of what any will do for."""
    dut = PostedKeys(1)
    key = {"communicator": 5, "operation": 0xA35C, "tag": 0x9C5A_36F0, "node": 9}
    widths = {"communicator": 3, "operation": 16, "tag": 32, "node": 4}

    async def testbench(ctx):
        ctx.set(dut.key, {**key, "any_tag": any_tag, "any_node": any_node})
        ctx.set(dut.post, 1)
        await ctx.tick()
        ctx.set(dut.post, 0)
        ctx.set(dut.packet, key)
        assert ctx.get(dut.match)
        for name, width in widths.items():
            for bit in range(width):
                ctx.set(dut.packet, {**key, name: key[name] ^ 1 << bit})
                ignored = {"tag": any_tag, "node": any_node}.get(name, 0)
                assert ctx.get(dut.match) == ignored, (name, bit)

    simulate(dut, testbench)


@pytest.mark.parametrize("make,rule", [
    (lambda: ReceiveQueues(1), "slots must be 2 to 256, not 1"),
    (lambda: ReceiveQueues(257), "slots must be 2 to 256, not 257"),
    (lambda: ReceiveQueues(4, moves=17), "moves must be 1 to 16, not 17"),
    (lambda: ReceiveQueues(4, nodes=3), "nodes must be a power of two from 2 to 16, not 3"),
    (lambda: ReceiveQueues(4, communicators=16), "communicators must be a power of two up to 8, not 16"),
    (lambda: SlotLists(0, slots=4), "lists must be at least 1, not 0"),
    (lambda: SlotLists(1, slots=1), "slots must be at least 2, not 1"),
    (lambda: FreeSlots(1), "slots must be at least 2, not 1"),
    (lambda: PostedKeys(0), "moves must be 1 to 16, not 0"),
    (lambda: OwedCredits(communicators=3), "communicators must be a power of two up to 8, not 3"),
])
def test_parameters(make, rule):
    with pytest.raises(ValueError, match=rule):
        make()
    with pytest.raises(TypeError):
        ReceiveQueues("64")


def header(node, *, communicator=0, flags=HeaderFlag.LAST, tag=0, operation=0, identity=0, size=8, credit=0,
           kind=PacketType.DATA, handle=None):
    """HeaderFields. ``length`` is what packets are told apart by."""
    return {"type": kind, "flags": int(flags), "communicator": communicator, "credit": credit, "node": node,
            "operation": operation, "tag": tag, "length": identity, "offset": 0, "element": identity & 15, "size": size,
            "handle": identity >> 4 & 15 if handle is None else handle}


class Bench:
    """ReceiveQueues, driven a cycle at a time by one testbench; compares each strobe and each packet with the model."""

    def __init__(self, slots=16, *, seed=0, stall=0.0):
        self.dut, self.model = ReceiveQueues(slots), QueuesModel(slots)
        self.module = Module()
        self.module.submodules.dut = self.dut
        for name in ("admit", "credit", "credit_packet"):
            watch(self.module, getattr(self.dut, name), name=name)
        self.rng, self.stall, self.cycle = random.Random(seed), stall, 0
        self.expected, self.seen = Counter(), Counter()  # strobes
        self.place, self.lent, self.taken = {}, {}, defaultdict(list)  # identity: slot; slot: header; list: packets
        self.admitted, self.admissions = [], []
        self.returned, self.credits = Counter(), []  # credits by account; that came in
        self.headers = {}  # by identity
        self.clears, self.cleared = [], 0  # messages that may be sent on, and how many there were
        self._asked, self._took, self._offers, self._probed = None, None, {}, None
        self.found = Counter()  # answers to probes
        self.idles = None  # how often the link is idle

    def run(self, testbench, *, limit=500_000):
        async def whole(ctx):
            ctx.set(self.dut.is_open, 0)
            await testbench(ctx)
            await self.idle(ctx, 8)
            assert self.seen == self.expected
        simulate(self.module, whole, limit=limit)

    def offer(self, ctx, name, payload):
        """Offer a payload at a stream until it is taken."""
        port = getattr(self.dut, name)
        assert name not in self._offers
        self._offers[name] = payload
        ctx.set(port.payload, payload.get("fields", payload))
        ctx.set(port.valid, 1)

    def is_offering(self, name):
        return name in self._offers

    async def put(self, ctx, name, payload):
        """Offer a payload, and go on until it is taken; the cycles that took."""
        self.offer(ctx, name, payload)
        start = self.cycle
        while self.is_offering(name):
            await self.step(ctx)
        return self.cycle - start

    async def idle(self, ctx, cycles):
        for _ in range(cycles):
            await self.step(ctx)

    async def step(self, ctx, *, take=None, owe=None):
        """A cycle, in which a packet is taken (number of a list) and an account asked for what it is owed."""
        dut = self.dut
        if self.idles is not None:
            ctx.set(dut.idle, self.rng.random() < self.idles)
        ctx.set(dut.take, take is not None)
        ctx.set(dut.take_move, take or 0)
        ctx.set(dut.owe_take, owe is not None)
        if owe is not None:
            ctx.set(dut.owe_communicator, owe[0])
            ctx.set(dut.owe_node, owe[1])
        ready = {name: self.rng.random() >= self.stall for name in ("admit", "credit", "credit_packet")}
        for name, value in ready.items():
            ctx.set(getattr(dut, name).ready, value)
        offers = ("header", "post", "cancel", "open", "free", "probe")
        inputs = [getattr(dut, name).ready for name in offers]
        outputs = [value for name in ready for value in (getattr(dut, name).valid, getattr(dut, name).payload)]
        _, _, *values = await ctx.tick().sample(*inputs, *outputs, *(getattr(dut, name) for name in STROBES),
                                                dut.taken, dut.owe_count, dut.is_cleared, dut.cleared, dut.probed)
        self.cycle += 1
        assert self.cycle < 400_000, "this does not end"
        if self._probed is not None:
            self._check_probed(self._probed, values[-1])
            self._probed = None
        is_cleared, cleared = values[-3:-1]
        if is_cleared:
            assert (cleared.communicator, cleared.node, cleared.handle) == self.clears.pop(0)
            self.cleared += 1
        assert not self.clears, "a message that may be sent on is not"
        for name, value in zip(offers, values[:6], strict=True):
            if value and name in self._offers:
                getattr(self, f"_did_{name}")(self._offers.pop(name))
                ctx.set(getattr(dut, name).valid, 0)
        del values[0]
        for index, name in enumerate(ready):
            valid, payload = values[5 + 2 * index:7 + 2 * index]
            if valid and ready[name]:
                getattr(self, f"_got_{name}")(payload)
        self.seen.update({name: value for name, value in zip(STROBES, values[11:15], strict=True) if value})
        if self._took is not None:
            self._got_packet(self._took, values[15])
        if self._asked is not None:
            self.returned[self._asked] += values[16]
        self._took, self._asked = take, owe

    def _did_header(self, given):
        self.headers[given["length"]] = given
        strobe = self.model.arrive(given)
        if strobe:
            self.expected[strobe] += 1
        is_kept = strobe in ("", "matched_posted") and given["type"] == PacketType.DATA
        if given["type"] == PacketType.DATA and given["size"]:
            self.admitted.append((given["length"], not is_kept))
        if strobe == "no_communicator" and given["communicator"] not in self.model.is_open:
            return
        if given["type"] == PacketType.CLEAR_TO_SEND:
            self.clears.append((given["communicator"], given["node"], given["handle"]))
        if given["credit"]:
            self.credits.append((given["communicator"], given["node"], given["credit"]))

    def _did_post(self, given):
        late = self.model.post(given["move"], given["key"])
        if late:
            self.expected["matched_late"] += late

    def _did_probe(self, given):
        self._probed = self.model.probe(given["key"]) or {}

    def _check_probed(self, wanted, probed):
        """In the cycle after it was taken."""
        self.found[bool(wanted)] += 1
        assert probed.found == bool(wanted)
        if wanted:
            assert probed.compressed == bool(wanted["flags"] & HeaderFlag.COMPRESSED)
            assert all(getattr(probed, name) == wanted[name] for name in ("node", "element", "tag", "length"))

    def _did_cancel(self, given):
        self.model.cancel(given["move"])
        self.model.stored -= len(self.model.got[given["move"]]) - len(self.taken[given["move"]])

    def _did_open(self, given):
        self.model.open(given["communicator"], given["credits"])

    def _did_free(self, given):
        del self.lent[given["slot"]]
        self.model.stored -= 1

    def _got_admit(self, payload):
        identity, drop = self.admitted.pop(0)
        assert payload.drop == drop
        if not drop:
            self.place[identity] = payload.slot

    def _got_credit(self, payload):
        assert (payload.communicator, payload.node, payload.count) == self.credits.pop(0)

    def _got_credit_packet(self, payload):
        assert payload.count
        self.returned[payload.communicator, payload.node] += payload.count

    def _got_packet(self, queue, packet):
        assert packet.slot not in self.lent, "a slot is given out twice"
        names = ("size", "flags", "node", "tag", "length", "element", "handle")
        self.lent[packet.slot] = got = {name: getattr(packet, name) for name in names}
        assert got == {name: self.headers[packet.length][name] for name in names}
        self.taken[queue].append(packet.length)


async def opened(bench, ctx, communicators):
    """Open communicators with their credits."""
    for communicator, credits in communicators.items():
        await bench.put(ctx, "open", {"communicator": communicator, "credits": credits})
        bench.model.is_open.add(communicator)
        ctx.set(bench.dut.is_open, sum(1 << number for number in bench.model.is_open))


def post(move, key):
    return {"move": move, "key": key, "fields": {"move": move, "key": key.fields()}}


def test_latency():
    """A posted packet shows 3 cycles after its header; headers are taken every 4 cycles."""
    bench = Bench()

    async def testbench(ctx):
        await opened(bench, ctx, {0: 8})
        assert await bench.put(ctx, "post", post(3, Key(0, 0, 5, 2))) == 3
        bench.offer(ctx, "header", header(2, tag=5, flags=HeaderFlag.FIRST))
        for _ in range(2):
            await bench.step(ctx)
            assert ctx.get(bench.dut.has_packet) == 0
        await bench.step(ctx)
        assert ctx.get(bench.dut.has_packet) == 1 << 3
        assert not bench.is_offering("header")
        assert await bench.put(ctx, "header", header(2, tag=5, identity=7)) == 4
        await bench.step(ctx, take=3)
        await bench.step(ctx, take=3)
        await bench.step(ctx)
        assert ctx.get(bench.dut.has_packet) == 0
        assert bench.taken[3] == [0, 7]

    bench.run(testbench)


def test_scan_cycles():
    """A post takes 3 cycles, 2 for a packet that it looks at, 3 if it matches, and 1 for each further source."""
    bench = Bench()

    async def testbench(ctx):
        await opened(bench, ctx, {0: 8})
        for tag in range(8):
            await bench.put(ctx, "header", header(2, tag=tag, identity=tag))
        assert await bench.put(ctx, "post", post(0, Key(0, 0, 99, 2))) == 3 + 2 * 8
        assert await bench.put(ctx, "post", post(1, Key(0, 0, 98, 3))) == 3
        assert await bench.put(ctx, "post", post(2, Key(0, 0, 7, None))) == 3 + 2 * 7 + 3 + 2

    bench.run(testbench)


def test_few_credits_go_back_when_the_link_is_idle():
    bench = Bench()

    async def testbench(ctx):
        await opened(bench, ctx, {0: 8, 6: 8})
        for communicator in (0, 6, 6):
            await bench.put(ctx, "post", post(communicator, Key(communicator, 0, 0, 9)))
            await bench.put(ctx, "header", header(9, communicator=communicator))
            await bench.step(ctx, take=communicator)
            await bench.idle(ctx, 2)
            slot, = bench.lent
            await bench.put(ctx, "free", {"slot": slot})
        await bench.idle(ctx, 300)
        assert not bench.returned
        ctx.set(bench.dut.idle, 1)
        await bench.idle(ctx, 2 * 128)
        assert bench.returned == {(0, 9): 1, (6, 9): 2}

    bench.run(testbench)


def test_no_credit():
    """A packet beyond the credits is dropped, whatever comes; credits that come back count."""
    bench = Bench()

    async def testbench(ctx):
        await opened(bench, ctx, {1: 2})
        for identity in range(4):
            await bench.put(ctx, "header", header(9, communicator=1, identity=identity))
        await bench.put(ctx, "post", post(0, Key(1, 0, 0, 9)))
        assert bench.expected["no_buffer"] == 2
        await bench.step(ctx, take=0)
        await bench.idle(ctx, 2)
        slot, = bench.lent
        await bench.put(ctx, "free", {"slot": slot})
        await bench.idle(ctx, 9)
        assert bench.returned[1, 9] == 1 == credit_threshold(2)
        bench.model.granted[1, 9] += 1
        for identity in (5, 6):
            await bench.put(ctx, "header", header(9, communicator=1, identity=identity))
        assert bench.expected["no_buffer"] == 3

    bench.run(testbench)


def test_no_slot():
    """With more credits given than there are slots, what has no slot is dropped, and its credit owed."""
    bench = Bench(slots=4)

    async def testbench(ctx):
        await opened(bench, ctx, {0: 100})
        for identity in range(6):
            await bench.put(ctx, "header", header(1, identity=identity))
        assert bench.expected["no_buffer"] == 2
        await bench.idle(ctx, 3)
        await bench.step(ctx, owe=(0, 1))
        await bench.step(ctx)
        assert bench.returned[0, 1] == 2

    bench.run(testbench)


def test_closed_and_broken():
    bench = Bench()

    async def testbench(ctx):
        await opened(bench, ctx, {2: 3})
        await bench.put(ctx, "header", header(1, communicator=5, credit=3))
        await bench.put(ctx, "header", header(1, communicator=5, kind=PacketType.CREDIT, credit=3))
        assert bench.expected == {"no_communicator": 2}
        bench.model.is_broken.add(2)
        ctx.set(bench.dut.is_broken, 1 << 2)
        for _ in range(4):
            await bench.put(ctx, "header", header(1, communicator=2))
        await bench.idle(ctx, 3)
        await bench.step(ctx, owe=(2, 1))
        await bench.idle(ctx, 8)
        assert bench.returned[2, 1] == 3
        assert bench.expected == {"no_communicator": 2 + 3, "no_buffer": 1}

    bench.run(testbench)


def test_open_frees():
    """A communicator that is opened again has all its credits, and its old packets are gone; others stay."""
    bench = Bench(slots=8)

    async def testbench(ctx):
        await opened(bench, ctx, {0: 4, 1: 4})
        for identity in range(4):
            flags = HeaderFlag.STREAM if identity == 3 else HeaderFlag.LAST
            await bench.put(ctx, "header", header(1, communicator=0, identity=identity, flags=flags))
            await bench.put(ctx, "header", header(1, communicator=1, identity=10 + identity, tag=identity))
        assert bench.model.stored == 8
        await opened(bench, ctx, {0: 4})
        assert bench.model.stored == 4
        for identity in range(4):
            await bench.put(ctx, "header", header(1, communicator=0, identity=20 + identity))
        for move in range(4):
            await bench.put(ctx, "post", post(move, Key(1, 0, move, None)))
            await bench.step(ctx, take=move)
        await bench.idle(ctx, 2)
        assert [bench.taken[move] for move in range(4)] == [[10], [11], [12], [13]]
        assert not bench.expected["no_buffer"]

    bench.run(testbench)


def test_streams_packets_are_hidden_while_a_communicator_opens():
    """One that is seen just before can be taken; none is offered that may be freed before it is taken."""
    bench = Bench(slots=8)

    async def testbench(ctx):
        await opened(bench, ctx, {0: 4, 1: 4})
        for communicator in (1, 0):
            await bench.put(ctx, "header", header(1, communicator=communicator, identity=communicator,
                                                  flags=HeaderFlag.STREAM))
        shown = []
        bench.offer(ctx, "open", {"communicator": 0, "credits": 4})
        while bench.is_offering("open"):
            shown.append(ctx.get(bench.dut.has_packet) >> MOVES)
            await bench.step(ctx)
        assert shown[:2] == [1, 0] and not any(shown[1:])
        await bench.step(ctx)
        await bench.step(ctx)
        assert ctx.get(bench.dut.has_packet) == 1 << MOVES
        await bench.step(ctx, take=MOVES)
        await bench.step(ctx)
        assert bench.taken[MOVES] == [1] and ctx.get(bench.dut.has_packet) == 0

    bench.run(testbench)


def test_a_packet_that_comes_before_the_opening_is_over_waits():
    """The communicator is open two cycles after the queues have taken the opening: just in time."""
    bench = Bench()

    async def testbench(ctx):
        bench.offer(ctx, "open", {"communicator": 2, "credits": 3})
        bench.offer(ctx, "header", header(1, communicator=2))
        while bench.is_offering("open"):
            await bench.step(ctx)
        await bench.step(ctx)
        bench.model.is_open.add(2)
        ctx.set(bench.dut.is_open, 1 << 2)
        while bench.is_offering("header"):
            await bench.step(ctx)
        assert bench.model.stored == 1 and not bench.expected

    bench.run(testbench)


def test_cancel():
    """Packets of a move that is cancelled are freed and their credits owed, and it gets no more."""
    bench = Bench(slots=8)

    async def testbench(ctx):
        await opened(bench, ctx, {0: 8})
        await bench.put(ctx, "header", header(3, identity=1, flags=0))
        await bench.put(ctx, "post", post(6, Key(0, 0, 0, 3)))
        await bench.put(ctx, "header", header(3, identity=2, flags=0))
        await bench.put(ctx, "cancel", {"move": 6})
        assert ctx.get(bench.dut.has_packet) == 0
        await bench.put(ctx, "header", header(3, identity=3, flags=0))
        assert ctx.get(bench.dut.has_packet) == 0
        await bench.put(ctx, "cancel", {"move": 6})
        await bench.step(ctx, owe=(0, 3))
        await bench.step(ctx)
        assert bench.returned[0, 3] == 2
        await bench.put(ctx, "post", post(6, Key(0, 0, 0, 3)))
        await bench.step(ctx, take=6)
        await bench.step(ctx)
        assert bench.taken[6] == [3]

    bench.run(testbench)


def probe(key):
    return {"key": key, "fields": key.fields()}


def test_probe():
    """What matches is shown and stays: of its source the first, of any source that of the lowest node."""
    bench = Bench()

    async def testbench(ctx):
        await opened(bench, ctx, {0: 8, 1: 8})
        assert await bench.put(ctx, "probe", probe(Key(0, 0, None, None))) == 3 + 15
        for node, tag in ((7, 1), (7, 2), (3, 2), (3, 2)):
            await bench.put(ctx, "header", header(node, tag=tag, identity=10 * node + tag))
        await bench.put(ctx, "header", header(2, operation=1, flags=HeaderFlag.COMPRESSED))
        await bench.put(ctx, "header", header(1, communicator=1, flags=HeaderFlag.COMPRESSED, identity=4))
        await bench.put(ctx, "header", header(1, flags=HeaderFlag.STREAM))
        assert await bench.put(ctx, "probe", probe(Key(0, 0, 2, 7))) == 3 + 2 * 2
        for key in (Key(0, 0, None, None), Key(0, 0, 1, None), Key(0, 0, None, 7), Key(0, 0, 3, None),
                    Key(1, 0, None, None), Key(2, 0, None, None), Key(0, 1, None, 2), Key(0, 0, 0, 1)):
            await bench.put(ctx, "probe", probe(key))
        await bench.step(ctx)
        assert bench.found == {True: 6, False: 4}
        assert ctx.get(bench.dut.has_packet) == 1 << STREAMS
        for move, node in enumerate((7, 3)):
            await bench.put(ctx, "post", post(move, Key(0, 0, 2, node)))
            await bench.step(ctx, take=move)
        await bench.step(ctx)
        assert (bench.taken[0], bench.taken[1]) == ([72], [32])

    bench.run(testbench)


@pytest.mark.thorough
def test_a_packet_is_taken_while_a_probe_finds_one():
    """In any cycle of the probe."""
    for delay in range(10):
        bench = Bench()

        async def testbench(ctx, bench=bench, delay=delay):
            await opened(bench, ctx, {0: 8})
            await bench.put(ctx, "post", post(0, Key(0, 0, 5, 2)))
            await bench.put(ctx, "header", header(2, tag=5, identity=1))
            await bench.put(ctx, "header", header(2, tag=6, identity=2))
            await bench.idle(ctx, 3)
            bench.offer(ctx, "probe", probe(Key(0, 0, 6, None)))
            await bench.idle(ctx, delay)
            await bench.step(ctx, take=0)
            await bench.idle(ctx, 30)
            assert (bench.taken[0], bench.found) == ([1], {True: 1})

        bench.run(testbench)


class Traffic:
    """Messages that nodes send within their credits, and receives for them, at random."""

    OPEN = {0: 2, 3: 1, 6: 3}
    NODES = (0, 1, 7, 15)

    def __init__(self, bench, rng, packets):
        self.bench, self.rng, self.left = bench, rng, packets
        self.sent, self.identity = Counter(), 0
        self.active = defaultdict(dict)  # node: key of a message: packets that are still to come
        self.busy = {}  # move: key it was posted with
        self.cancelled = []

    def header(self):
        """The next header of any node, or None if none has a credit."""
        rng = self.rng
        node, communicator = rng.choice(self.NODES), rng.choice([*self.OPEN]) if rng.random() < 0.98 else 5
        account = communicator, node
        if rng.random() < 0.1:
            return header(node, communicator=communicator, kind=PacketType.CREDIT, credit=rng.randrange(4), size=0)
        if rng.random() < 0.05:
            return header(node, communicator=communicator, kind=PacketType.CLEAR_TO_SEND, credit=rng.randrange(2),
                          size=0, handle=rng.randrange(16))
        if communicator in self.OPEN and self.sent[account] - self.bench.returned[account] == self.OPEN[communicator]:
            return None
        self.left -= communicator in self.OPEN
        self.identity += 1
        common = {"communicator": communicator, "identity": self.identity, "credit": rng.choice((0, 0, 1, 200)),
                  "size": rng.choice((0, 8))}
        if communicator in self.OPEN:
            self.sent[account] += 1
        if rng.random() < 0.1:
            return header(node, flags=HeaderFlag.STREAM, tag=rng.randrange(3), **common)
        key = (communicator, rng.randrange(2), rng.randrange(3))
        begins = key not in self.active[node]
        more = self.active[node].get(key, rng.choice((1, 1, 2, 3, 5))) - 1
        self.active[node][key] = more
        if not more:
            del self.active[node][key]
        flags = (HeaderFlag.FIRST if begins else 0) | (0 if more else HeaderFlag.LAST)
        return header(node, flags=flags, operation=key[1], tag=key[2], **common)

    def post(self):
        """A receive that may be posted now, or None."""
        rng = self.rng
        move = rng.randrange(16)
        key = Key(rng.choice([*self.OPEN]), rng.randrange(2), rng.randrange(3), rng.choice(self.NODES))
        waiting = [given for queue in self.bench.model.unexpected.values() for given in queue]
        if waiting and rng.random() < 0.7:
            given = rng.choice(waiting)
            key = Key(given["communicator"], given["operation"], given["tag"], given["node"])
        if rng.random() < 0.2:
            key.tag = None
        if rng.random() < 0.2:
            key.node = None
        if move in self.busy or any(key.overlaps(other) for other in self.bench.model.keys.values()):
            return None
        self.busy[move] = key
        self.bench.taken[move] = []
        return post(move, key)

    def end(self, move):
        """A move has got all, or will get no more: what it got must be what the model says."""
        got = [given["length"] for given in self.bench.model.got[move]]
        assert self.bench.taken[move] == got[:len(self.bench.taken[move])]
        del self.busy[move]

    def check_ends(self, cancelled):
        for move in set(self.busy) - {cancelled}:
            got = self.bench.model.got[move]
            if move not in self.bench.model.keys and not self.bench.is_offering("post") and got \
                    and got[-1]["flags"] & HeaderFlag.LAST and len(self.bench.taken[move]) == len(got):
                self.end(move)


async def play(bench, ctx, traffic, rng, *, drain):
    """A cycle of everything at random."""
    def chance(part):
        return rng.random() < part
    if not bench.is_offering("header") and traffic.left > 0 and chance(0.6):
        given = traffic.header()
        if given:
            bench.offer(ctx, "header", given)
    if not bench.is_offering("post") and not bench.is_offering("cancel") and chance(0.5):
        given = traffic.post()
        if given:
            bench.offer(ctx, "post", given)
    if not bench.is_offering("probe") and chance(0.03):
        key = Key(rng.choice([*traffic.OPEN]), rng.randrange(2), rng.choice((None, rng.randrange(3))),
                  rng.choice((None, rng.choice(traffic.NODES))))
        bench.offer(ctx, "probe", probe(key))
    cancels = [move for move in traffic.busy if not bench.is_offering("post")]
    if cancels and not bench.is_offering("cancel") and chance(0.1 if drain else 0.004):
        bench.offer(ctx, "cancel", {"move": rng.choice(cancels)})
    if not bench.is_offering("free") and bench.lent and chance(0.4):
        bench.offer(ctx, "free", {"slot": rng.choice([*bench.lent])})
    waiting = ctx.get(bench.dut.has_packet)
    cancelled = bench._offers["cancel"]["move"] if bench.is_offering("cancel") else None
    ready = [number for number in range(17) if waiting >> number & 1 and number != cancelled]
    await bench.step(ctx, take=rng.choice(ready) if ready and chance(0.3) else None,
                     owe=(rng.choice([*traffic.OPEN]), rng.choice(traffic.NODES)) if chance(0.1) else None)
    if cancelled is not None and not bench.is_offering("cancel"):
        await bench.step(ctx)
        traffic.end(cancelled)
        bench.taken[cancelled], bench.model.got[cancelled] = [], []
    traffic.check_ends(cancelled)


@pytest.mark.thorough
@pytest.mark.parametrize("packets,stall", [(150, 0.0), (150, 0.5), pytest.param(3000, 0.3, marks=pytest.mark.soak)])
def test_random(packets, stall, seed):
    """All that can happen, at the same time; then everything is freed, and every credit has come back."""
    rng, bench = random.Random(seed), Bench(slots=64, seed=seed, stall=stall)
    traffic, bench.idles = Traffic(bench, rng, packets), 0.05

    async def testbench(ctx):
        await opened(bench, ctx, traffic.OPEN)
        while traffic.left > 0:
            # The model grants what it has seen come back.
            for account in list(bench.model.granted):
                bench.model.granted[account] = traffic.OPEN[account[0]]
            await play(bench, ctx, traffic, rng, drain=False)
        for _ in range(20_000):
            await play(bench, ctx, traffic, rng, drain=True)
            if not bench.model.stored and not bench.lent:
                break
        assert not bench.model.stored, "packets stay that nobody can get"
        await bench.idle(ctx, 200)
        for communicator in traffic.OPEN:
            for node in traffic.NODES:
                await bench.step(ctx, owe=(communicator, node))
        await bench.idle(ctx, 3)
        assert bench.returned == traffic.sent, "credits are lost or made up"
        assert bench.expected["matched_posted"] > packets / 25, bench.expected
        assert bench.expected["matched_late"] > packets / 25
        assert bench.cleared > packets / 50
        assert bench.found[True] > packets / 50 and bench.found[False] > packets / 50, bench.found

    bench.run(testbench)
