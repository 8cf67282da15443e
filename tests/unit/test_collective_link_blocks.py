# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""The blocks of the link over UDP, each against plain Python, and the whole of it against the golden peer."""

import random
from collections import Counter as Tally
from collections import deque

import pytest
from amaranth.hdl import Module
from collective_packets import content, split, words
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

from rackgate.collective.abi import Header, PacketType
from rackgate.collective.link.abi import LinkCounter, LinkFlag, LinkHeader, endpoint, link_frame, split_link_frame
from rackgate.collective.link.arrivals import Arrivals
from rackgate.collective.link.deframer import Deframer
from rackgate.collective.link.deliverer import Deliverer
from rackgate.collective.link.framer import Framer
from rackgate.collective.link.store import PacketStore
from rackgate.collective.link.udp import UdpLink
from rackgate.collective.link.windows import Windows
from rackgate.collective.top import Collective
from rackgate.net.frames import internet_checksum
from rackgate.verif.stimulus import receive, send, simulate
from rackgate.verif.stream_rules import watch
from rackgate_sim.collective.udp import UdpPeer, UdpReceiver, UdpSender

NODE, ADDRESS, PORT, SESSION = 3, 0x0A520000, 0x5247, 5
WHERE = {"address": ADDRESS, "port": PORT}
SETTINGS = {"address": ADDRESS | 9, "port": PORT, "session": SESSION}  # the address' last bits do not count


def test_parameters():
    for make in (Framer, Deframer, Deliverer, PacketStore, UdpLink):
        with pytest.raises(ValueError, match=r"width of a link over UDP must be one of \(4, 8, 16\) bytes, not 32"):
            make(32)
        with pytest.raises(TypeError):
            make("8")
    for make in (Deframer, PacketStore, UdpLink):
        with pytest.raises(ValueError, match=r"segment must be one of .* not 100"):
            make(8, segment=100)
    for make in (lambda n: PacketStore(8, buffers=n), Windows):
        for count in (1, 512):
            with pytest.raises(ValueError, match=f"buffers must be 2 to 511, not {count}"):
                make(count)
    for slots in (0, 257):
        with pytest.raises(ValueError, match=f"slots must be 1 to 256, not {slots}"):
            UdpLink(slots=slots)
    with pytest.raises(ValueError, match=r"link must be one of 0 \(DIRECT\), 1 \(UDP\), not 2"):
        Collective(link=2)
    with pytest.raises(ValueError, match="width of a link over UDP must be one of .* not 64"):
        Collective(64, link=1)


def packet_for(destination, payload, *, source=NODE):
    """A packet of the engine."""
    return Header(PacketType.DATA, destination=destination, source=source, length=len(payload)).to_bytes() + payload


# PacketStore ---------------------------------------------------------------------------------------------------------


@pytest.mark.thorough
@pytest.mark.parametrize("width,idle,stall", [(4, 0.1, 0.3), (8, 0, 0), (8, 0.3, 0.6), (16, 0.1, 0.1)])
def test_store(width, idle, stall, seed):
    """Packets are read as often as one likes, in any order, until they are freed."""
    rng, m = random.Random(seed), Module()
    m.submodules.dut = dut = PacketStore(width, segment=256, buffers=5)
    watch(m, dut.words, name="words")
    watch(m, dut.stored, name="stored")
    items = [(packet_for(rng.randrange(16), rng.randbytes(rng.choice((0, 1, 256, rng.randrange(256))))),
              rng.random() < 0.2) for _ in range(12)]
    held, reads, wanted, got = {}, deque(), [], []

    async def writer(ctx):
        for raw, error in items:
            await send(ctx, dut.i, words(raw, width, error=error), rng=rng, idle=idle)

    async def keeper(ctx):
        for raw, error in items:
            one, = await receive(ctx, dut.stored, 1, rng=rng, stall=stall)
            assert one.peer == raw[4] and one.buffer not in held
            held[one.buffer] = raw
            ctx.set(dut.lookup, one.buffer)
            assert ctx.get(dut.entry.length) == len(raw) and ctx.get(dut.entry.error) == error
            assert ctx.get(dut.entry.sum) % 0xFFFF == (internet_checksum(raw) ^ 0xFFFF) % 0xFFFF
            for _ in range(rng.randrange(1, 4)):
                buffer = rng.choice(list(held))
                wanted.append(held[buffer])
                await send(ctx, dut.read, [{"buffer": buffer, "length": len(held[buffer])}])
            while len(got) < len(wanted):
                await ctx.tick()
            if len(held) > rng.randrange(4):
                buffer = rng.choice(list(held))
                del held[buffer]
                ctx.set(dut.freed.payload, buffer)
                ctx.set(dut.freed.valid, 1)
                await ctx.tick()
                ctx.set(dut.freed.valid, 0)
        reads.append("end")

    async def reader(ctx):
        open_one = []
        while not reads:
            ready = rng.random() >= stall
            ctx.set(dut.words.ready, ready)
            _, _, valid, word = await ctx.tick().sample(dut.words.valid, dut.words.payload)
            if valid and ready:
                open_one.append(word)
                if word.last:
                    got.append(content(open_one)[0])
                    open_one = []

    simulate(m, writer, keeper, reader)
    assert got == wanted


# Windows -------------------------------------------------------------------------------------------------------------


@pytest.mark.thorough
def test_windows(seed):
    """Any order of packets, acknowledgements old, new and wrong, and time-outs, beside the model."""
    rng, buffers, timeout = random.Random(seed), 12, 400
    dut, models = Windows(buffers), {peer: UdpSender() for peer in (0, 1, 7, 15)}
    free, seen = deque(range(buffers)), Tally()

    async def bench(ctx):
        freed, expired = [], []

        async def tick():
            _, _, valid, buffer, late, peer = await ctx.tick().sample(dut.freed.valid, dut.freed.payload, dut.expired,
                                                                      dut._peer)
            if valid:
                freed.append(buffer)
            if late:
                expired.append(peer)
                models[peer].sent = 0
                seen["expired"] += 1

        async def offer(target, item):
            ctx.set(target.payload, item)
            ctx.set(target.valid, 1)
            while not ctx.get(target.ready):
                await tick()
            taken = {name: ctx.get(getattr(dut.taken, name)) for name in ("found", "buffer", "sequence", "again")}
            await tick()
            ctx.set(target.valid, 0)
            return taken

        ctx.set(dut.timeout, timeout)
        for _ in range(700):
            peer = rng.choice(list(models))
            model, choice = models[peer], rng.random()
            if choice < 0.35 and free:
                buffer = free.popleft()
                await offer(dut.append, {"peer": peer, "buffer": buffer})
                model.packets.append(buffer)
            elif choice < 0.7:
                pending = ctx.get(dut.pending) >> peer & 1
                taken = await offer(dut.take, peer)
                before = dict.fromkeys(taken, 0)
                if (wanted := model.take(0)) is not None:
                    before = dict(zip(("sequence", "buffer", "again"), wanted, strict=True), found=1)
                    seen["again"] += wanted[2]
                assert taken["found"] == before["found"]
                assert pending == taken["found"] or seen["expired"]
                assert not taken["found"] or taken == before
            elif choice < 0.95:
                said = model.oldest + rng.choice((0, 0, 1, 2, len(model.packets), len(model.packets) + 1, -1))
                is_missing, count = rng.random() < 0.3, len(freed)
                wanted = list(model.packets)
                await offer(dut.acknowledge, {"peer": peer, "acknowledgement": said % 65536, "missing": is_missing})
                # Behind the front or beyond the end: nothing.
                before = model.acknowledge(said % 65536, is_missing, 0) if said >= model.oldest else 0
                assert freed[count:] == wanted[:before]
                free.extend(freed[count:])
                seen["freed"] += before
            else:
                for _ in range(rng.choice((1, 30, timeout + 80))):
                    await tick()
        for _ in range(timeout + 80):
            await tick()
        assert all(not model.sent for model in models.values()), "all that was sent is late"
        for peer, model in models.items():
            assert ctx.get(dut.pending) >> peer & 1 == bool(model.packets)

    simulate(dut, bench)
    assert min(seen[name] for name in ("expired", "again", "freed")) > 0, seen


def test_a_buffer_that_is_being_sent_is_not_freed():
    dut = Windows(4)

    async def bench(ctx):
        await send(ctx, dut.append, [{"peer": 2, "buffer": 3}])
        await send(ctx, dut.take, [2])
        ctx.set(dut.held[1], {"valid": 1, "buffer": 3})
        ctx.set(dut.acknowledge.payload, {"peer": 2, "acknowledgement": 1, "missing": 0})
        ctx.set(dut.acknowledge.valid, 1)
        for _ in range(30):
            await ctx.tick()
            assert not ctx.get(dut.freed.valid) and not ctx.get(dut.acknowledge.ready)
        ctx.set(dut.held[1].valid, 0)
        assert ctx.get(dut.freed.valid) and ctx.get(dut.freed.payload) == 3

    simulate(dut, bench)


# Arrivals ------------------------------------------------------------------------------------------------------------


def test_arrivals(seed):
    """A frame a cycle, in any order, beside the model."""
    rng, dut = random.Random(seed), Arrivals()
    models, seen = {peer: UdpReceiver() for peer in (0, 4, 15)}, Tally()

    async def bench(ctx):
        ctx.set(dut.delay, (1 << 32) - 1)  # when time makes it due is another test
        for _ in range(1000):
            peer, is_told, told = rng.choice(list(models)), rng.random() < 0.1, rng.choice(list(models))
            model, is_valid = models[peer], rng.random() < 0.7
            sequence = (model.expected + rng.choice((0, 0, 0, 1, 2, -1, -2, 1000, -1000))) % 65536
            kind = rng.choice(("good", "good", "good", "foreign", "damaged", "bare"))
            flags = (0 if kind == "bare" else LinkFlag.PACKET) | rng.choice((0, LinkFlag.MISSING)) | rng.choice(
                (0, LinkFlag.ERROR))
            frame = {"peer": peer, "flags": int(flags), "sequence": sequence, "acknowledgement": rng.getrandbits(16),
                     "is_foreign": kind == "foreign", "is_damaged": kind == "damaged", "has_words": kind != "bare"}
            ctx.set(dut.i.payload, frame)
            ctx.set(dut.i.valid, is_valid)
            ctx.set(dut.told, is_told)
            ctx.set(dut.peer, told)
            assert ctx.get(dut.expected) == models[told].expected and ctx.get(dut.missing) == models[told].missing
            is_good = is_valid and kind in ("good", "bare")
            assert ctx.get(dut.acknowledge.valid) == is_good == ctx.get(dut.received)
            waited = model.waits
            result = "none"
            if is_told:
                models[told].told()
            if is_good and kind == "good":
                model.waits = waited  # it came before the telling
                result = model.take(sequence)
                model.waits = True
            assert ctx.get(dut.order.valid) == (is_valid and kind != "bare")
            assert ctx.get(dut.order.payload.deliver) == (result is None)
            for name, is_so in (("ahead", result == LinkCounter.AHEAD), ("duplicate", result == LinkCounter.DUPLICATES),
                                ("foreign", is_valid and kind == "foreign"),
                                ("damaged", is_valid and kind == "damaged")):
                assert ctx.get(getattr(dut, name)) == is_so, name
                seen[name] += is_so
            await ctx.tick()
            for number, one in models.items():
                assert ctx.get(dut.due) >> number & 1 == one.due
        ctx.set(dut.i.valid, 0)
        ctx.set(dut.told, 0)
        ctx.set(dut.delay, 5)
        for _ in range(8):
            await ctx.tick()
        assert ctx.get(dut.due) == sum(1 << number for number, one in models.items() if one.waits or one.due)

    simulate(dut, bench)
    assert len(seen) == 4 and min(seen.values()) > 10, seen


# Deframer ------------------------------------------------------------------------------------------------------------


def mangled(rng, frame):
    """A frame with something wrong, or padded; and what it is then: good, foreign, damaged or any of the latter."""
    kind = rng.choice(("good", "good", "padded", "flip", "cut", "mac", "address", "port", "session", "type", "no sum"))
    source, destination, header, packet = split_link_frame(frame)
    match kind:
        case "padded":
            return frame + rng.randbytes(rng.randrange(1, 40)), "good"
        case "flip":
            place = rng.randrange(6, len(frame))
            place = place if not 6 <= place < 12 else 13  # nobody looks at where it came from on the last wire
            return frame[:place] + bytes([frame[place] ^ 1 << rng.randrange(8)]) + frame[place + 1:], "bad"
        case "cut":
            return frame[:rng.randrange(1, len(frame))], "bad"
        case "mac":
            return bytes([frame[0] ^ 1]) + frame[1:], "foreign"
        case "address":
            return link_frame(source, destination._replace(address=destination.address ^ 1), header, packet), "foreign"
        case "port":
            return link_frame(source, destination._replace(port=PORT + 1), header, packet), "foreign"
        case "session":
            return link_frame(source, destination, header._replace(session=SESSION ^ 1), packet), "foreign"
        case "type":
            return frame[:12] + b"\x08\x06" + frame[14:], "foreign"
        case "no sum":
            return frame[:40] + bytes(2) + frame[42:], "damaged"
    return frame, "good"


@pytest.mark.thorough
@pytest.mark.parametrize("width,idle", [(4, 0.05), (8, 0), (8, 0.3), (16, 0)])
def test_deframer(width, idle, seed):
    """Good and bad frames, back to back: what is handed on is what the golden reader finds."""
    rng, m = random.Random(seed), Module()
    m.submodules.dut = dut = Deframer(width, segment=256)
    frames = []
    for _ in range(50):
        packet = rng.choice((b"", rng.randbytes(32), rng.randbytes(288), rng.randbytes(rng.randrange(32, 289))))
        flags = (LinkFlag.PACKET if packet else 0) | rng.choice((0, LinkFlag.MISSING)) | rng.choice((0, LinkFlag.ERROR))
        header = LinkHeader(int(flags), rng.getrandbits(16), rng.getrandbits(16), SESSION)
        frame = link_frame(endpoint(rng.randrange(16), **WHERE), endpoint(NODE, **WHERE), header, packet)
        frames.append(mangled(rng, frame))
    for size in (1, 31, 289, 400):  # no packets: too short, too long
        header = LinkHeader(LinkFlag.PACKET, session=SESSION)
        frames.append((link_frame(endpoint(1, **WHERE), endpoint(NODE, **WHERE), header, bytes(size)), "damaged"))
    header = LinkHeader(0, session=SESSION)  # says that it has none
    frames.append((link_frame(endpoint(1, **WHERE), endpoint(NODE, **WHERE), header, bytes(40)), "damaged"))
    frames.append((frames[0][0], "error"))
    arrivals, taken = [], []

    async def source(ctx):
        ctx.set(dut.node, NODE)
        ctx.set(dut.settings, SETTINGS)
        for frame, kind in frames:
            await send(ctx, dut.i, words(frame, width, error=kind == "error"), rng=rng, idle=idle)

    async def watcher(ctx):
        while len(arrivals) < len(frames):
            _, _, valid, arrival = await ctx.tick().sample(dut.o.valid, dut.o.payload)
            if valid:
                arrivals.append(arrival)

    async def sink(ctx):
        ctx.set(dut.words.ready, 1)
        while len(arrivals) < len(frames):
            _, _, valid, word = await ctx.tick().sample(dut.words.valid, dut.words.payload)
            if valid:
                taken.append(word)

    simulate(m, source, watcher, sink)
    bodies = deque(content(one)[0] for one in split(taken))
    for (frame, kind), arrival in zip(frames, arrivals, strict=True):
        body = bodies.popleft() if arrival.has_words else b""
        if kind == "good":
            came, _, header, packet = split_link_frame(frame)
            assert not arrival.is_foreign and not arrival.is_damaged
            assert (arrival.peer, arrival.flags, arrival.sequence, arrival.acknowledgement) == (
                came.address & 15, header.flags, header.sequence, header.acknowledgement)
            assert body == packet
        elif kind == "foreign":
            assert arrival.is_foreign
        elif kind in ("damaged", "error"):
            assert arrival.is_damaged and not arrival.is_foreign or frames[0][1] != "good"
        else:
            assert arrival.is_damaged or arrival.is_foreign, "a fault was not seen"
    assert not bodies


# The whole link ------------------------------------------------------------------------------------------------------


async def set_up(ctx, dut, *, timeout, delay):
    ctx.set(dut.node, NODE)
    ctx.set(dut.settings, SETTINGS)
    ctx.set(dut.timeout, timeout)
    ctx.set(dut.delay, delay)


@pytest.mark.thorough
@pytest.mark.parametrize("width", [4, 8, 16])
def test_frames_sent(width, seed):
    """Frames byte for byte, by the golden writer and by Scapy's own sums, without a gap."""
    rng, dut = random.Random(seed), UdpLink(width, segment=256, slots=16)
    packets = [(packet_for(rng.randrange(16), rng.randbytes(rng.choice((0, 255, 256)))), rng.random() < 0.3)
               for _ in range(8)]
    got = []

    async def engine(ctx):
        await set_up(ctx, dut, timeout=0, delay=50)
        for raw, error in packets:
            await send(ctx, dut.i, words(raw, width, error=error))

    async def network(ctx):
        got.extend([split(await frame_words(ctx, dut.net_tx))[0] for _ in packets])

    simulate(dut, engine, network)
    wanted, counts = Tally(), Tally()
    for raw, error in packets:
        flags = LinkFlag.PACKET | (LinkFlag.ERROR if error else 0)
        header = LinkHeader(int(flags), counts[raw[4]], 0, SESSION)
        counts[raw[4]] += 1
        wanted[link_frame(endpoint(NODE, **WHERE), endpoint(raw[4], **WHERE), header, raw)] += 1
    frames = [content(one)[0] for one in got]
    assert Tally(frames) == wanted
    for raw in frames:
        again = Ether(raw)
        del again[IP].chksum, again[UDP].chksum, again[IP].len, again[UDP].len
        assert bytes(again) == raw


async def frame_words(ctx, source, *, rng=None, stall=0.0):
    """The words of the next packet."""
    got = []
    while not got or not got[-1].last:
        got += await receive(ctx, source, 1, rng=rng, stall=stall)
    return got


@pytest.mark.thorough
@pytest.mark.parametrize("width,fault", [(8, 0), (8, 0.1), (16, 0.2)])
def test_the_link_and_the_golden_peer(width, fault, seed):
    """They understand each other on a network that loses, doubles, delays and damages frames."""
    rng, count = random.Random(seed), 15
    dut = UdpLink(width, segment=256, slots=16)
    peer = UdpPeer(6, **WHERE, session=SESSION, timeout=900, delay=60)
    ours = [(packet_for(6, rng.randbytes(rng.choice((0, 1, 256, rng.randrange(256))))), rng.random() < 0.1)
            for _ in range(count)]
    theirs = [(packet_for(NODE, rng.randbytes(rng.choice((0, 1, 256, rng.randrange(256)))), source=6),
               rng.random() < 0.1) for _ in range(count)]
    to_dut, to_peer, at_peer, at_engine, clock = [], [], [], [], [0]

    def fly(queue, frame, now):
        for _ in range((rng.random() >= fault) + (rng.random() < fault)):
            if rng.random() < fault:
                place = rng.randrange(14, len(frame))
                frame = frame[:place] + bytes([frame[place] ^ 1 << rng.randrange(8)]) + frame[place + 1:]
            queue.append((now + 10 + (rng.randrange(300) if rng.random() < fault else 0), frame))

    def ended():
        return len(at_peer) == len(at_engine) == count and not peer.waiting

    async def engine(ctx):
        await set_up(ctx, dut, timeout=900, delay=60)
        for raw, error in ours:
            await send(ctx, dut.i, words(raw, width, error=error))

    async def network(ctx):
        for raw, error in theirs:
            peer.send(raw, error=error)
        open_one = []
        ctx.set(dut.net_tx.ready, 1)
        while not ended():
            clock[0] += 1
            _, _, valid, word = await ctx.tick().sample(dut.net_tx.valid, dut.net_tx.payload)
            if valid:
                open_one.append(word)
                if word.last:
                    fly(to_peer, content(open_one)[0], clock[0])
                    open_one = []
            for item in [one for one in to_peer if one[0] <= clock[0]]:
                to_peer.remove(item)
                if (got := peer.arrive(item[1], clock[0])) is not None:
                    at_peer.append((got.packet, got.error))
            for frame in peer.depart(clock[0]):
                fly(to_dut, frame, clock[0])

    async def inwards(ctx):
        while not ended():
            due = [one for one in to_dut if one[0] <= clock[0]]
            if due:
                to_dut.remove(due[0])
                await send(ctx, dut.net_rx, words(due[0][1], width))
            else:
                await ctx.tick()

    async def deliveries(ctx):
        open_one = []
        while not ended():
            ready = rng.random() < 0.9
            ctx.set(dut.o.ready, ready)
            _, _, valid, word = await ctx.tick().sample(dut.o.valid, dut.o.payload)
            if valid and ready:
                open_one.append(word)
                if word.last:
                    at_engine.append(content(open_one))
                    open_one = []

    simulate(dut, engine, network, inwards, deliveries)
    assert at_peer == ours
    assert at_engine == theirs
    assert fault or not peer.counts[LinkCounter.RETRANSMITTED]


def test_recovery_from_a_single_loss(seed):
    """A frame that is lost comes again within twice the time-out, even if nothing comes behind it."""
    rng, dut, timeout = random.Random(seed), UdpLink(8, segment=256, slots=16), 700
    raw, times = packet_for(6, rng.randbytes(100)), []

    async def engine(ctx):
        await set_up(ctx, dut, timeout=timeout, delay=60)
        await send(ctx, dut.i, words(raw, 8))

    async def network(ctx):
        cycle = [0]

        async def frame():
            got = []
            ctx.set(dut.net_tx.ready, 1)
            while not got or not got[-1].last:
                _, _, valid, word = await ctx.tick().sample(dut.net_tx.valid, dut.net_tx.payload)
                cycle[0] += 1
                if valid:
                    got.append(word)
            return content(got)[0]

        first = await frame()
        times.append(cycle[0])
        assert await frame() == first
        times.append(cycle[0])

    simulate(dut, engine, network)
    assert timeout <= times[1] - times[0] + 60 and times[1] - times[0] < 2 * timeout
