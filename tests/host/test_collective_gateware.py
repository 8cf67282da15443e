# SPDX-License-Identifier: Apache-2.0
"""What a user can see of the whole engine's gateware, where memory and kernels make it wait, and where things fail.

Results are those of NumPy, or of the model, bit for bit.
"""

import random

import numpy as np
import pytest

import rackgate_host
from rackgate.collective.abi import (
    Call,
    Cause,
    Completion,
    ConfigSpace,
    Control,
    Counter,
    Header,
    HeaderFlag,
    PacketType,
    Scenario,
    Status,
)
from rackgate.collective.programs.shipped import programs
from rackgate_host.collective import MAX, MIN, SUM, CollectiveError, CollectiveTimeout, Stream, wait_all
from rackgate_host.collective.engine import Engine
from rackgate_host.transport import MEMORY_BASE
from rackgate_host.world import open_world
from rackgate_sim.arith import compress, expand, reduce

pytestmark = [pytest.mark.cosim, pytest.mark.xdist_group("native")]

#: A memory that is slow, and answers in another order than it was asked.
SLOW = {"jitter": 30, "stall": 0.3, "reorder": 1, "interleave": 1, "outstanding": 3}
DTYPES = ("int32", "int64", "float16", "float32", "float64")


@pytest.fixture(scope="module")
def slow(clusters):
    """Two ranks with slow memories and slow kernels."""
    cluster = clusters.get("sim", 2, timeout=50_000, **SLOW)
    for device in cluster.devices:
        device.transport.simulation.stream("kernel").stall(0.4)
        device.transport.simulation.stream("kernel_out").stall(0.6)
    return cluster


def values(dtype, count, rng):
    """Two arrays: any bits, and of floats many pairs that are nearly equal, or nearly opposite."""
    first, second = (np.frombuffer(rng.randbytes(count * np.dtype(dtype).itemsize), dtype).copy() for _ in range(2))
    if np.dtype(dtype).kind == "f":
        near = np.arange(count) % 3 != 0
        bits, unsigned = first.view(f"u{first.itemsize}"), second.view(f"u{first.itemsize}")
        mantissa = np.finfo(dtype).nmant
        flips = np.array([rng.getrandbits(rng.randrange(1, mantissa)) | rng.getrandbits(1) << 8 * first.itemsize - 1
                          | rng.choice([0, 0, 1, 3]) << mantissa for _ in range(count)]).astype(bits.dtype)
        unsigned[near] = (bits ^ flips)[near]
    return first, second


@pytest.mark.parametrize("dtype", DTYPES)
def test_arithmetic(slow, seed, dtype):
    """Sums, maxima and minima of any bits, from and to wherever elements may be."""
    def program(comm):
        rng = random.Random(f"{seed} {dtype} {comm.rank}")
        memory = comm.device.allocate(4096, dtype)
        for op, count in zip((SUM, SUM, MAX, MIN), (301, 1, 130, 131), strict=True):
            first, second = values(dtype, count, rng)
            places = [1000 * k + rng.randrange(16) for k in range(3)]
            one, other, result = (memory[place:][:count] for place in places)
            one[:], other[:], memory[2000:3000] = first, second, 0
            comm.Combine(one, other, result, op)
            assert result.tobytes() == reduce(op, first, second).tobytes(), (op, count)
            assert not memory[2000:places[2]].any() and not memory[places[2] + count:3000].any()
            # Of two ranks each has the other's as its second operand; a sum of floats does not mind.
            theirs = np.zeros(count, dtype)
            comm.Sendrecv(first, 1 - comm.rank, 1, theirs, 1 - comm.rank, 1)
            comm.Allreduce(one, result, op)
            assert result.tobytes() == reduce(op, first, theirs).tobytes(), (op, count)

    slow.run(program)


def halves(count, rng):
    """Floats of which half precision keeps all, a part, or nothing: subnormal, halfway, too large, not numbers."""
    bits = np.array([rng.getrandbits(1) << 31 | rng.randrange(100, 146) << 23
                     | rng.choice([rng.getrandbits(23), 0x1000, 0x3000, 0xFFF, 0x7FF000, 0x1001 << rng.randrange(10)])
                     for _ in range(count)], np.uint32)
    special = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 65504.0, 65519.9, 65520.0, 6e-8, 2.9e-8], np.float32)
    return np.concatenate([special, bits.view(np.float32)])[rng.randrange(3):][:count]


def test_floats_travel_as_halves(slow, seed):
    """To and from memory and kernels."""
    def program(comm):
        other = 1 - comm.rank
        rngs = [random.Random(f"{seed} {rank}") for rank in range(2)]
        for count in (700, 1, 6):
            both = [halves(count, rng) for rng in rngs]
            own, wanted = both[comm.rank], expand(compress(both[other]))
            got = np.zeros(count, np.float32)
            comm.Sendrecv(own, other, 0, got, other, 0, wire="float16")
            assert got.tobytes() == wanted.tobytes()
            comm.Sendrecv(own, other, 2, got, other, 2)  # as they are, behind some that are not
            assert got.tobytes() == both[other].tobytes()
            comm.device.push("kernel", own.tobytes())
            comm.Sendrecv(Stream(count, np.float32), other, 1, Stream(count, np.float32), other, 1, wire="float16")
            assert taken(comm, count).tobytes() == wanted.tobytes()

    slow.run(program)


def test_compressed_collectives(slow, clusters, seed):
    """As the model has them: some ranks have what was rounded, others what was not yet."""
    def program(comm):
        rng, found = random.Random(f"{seed} {comm.rank}"), []
        for count in (600, 10):
            own, result, whole = halves(count, rng), np.zeros(count, np.float32), np.zeros(2 * count, np.float32)
            for op in (SUM, MIN):
                comm.Allreduce(own, result, op, wire="float16")
                found.append(result.tobytes())
                comm.Reduce(own, result if comm.rank else None, op, 1, wire="float16")
                found.append(result.tobytes())
                comm.Reduce_scatter_block(own, result[:count // 2], op, wire="float16")
                found.append(result.tobytes())
            comm.Allgather(own, whole, wire="float16")
            comm.Bcast(own, 1, wire="float16")
            found += [whole.tobytes(), own.tobytes()]
        return found

    assert slow.run(program) == clusters.get("model", 2).run(program)


def test_kernels_streams(slow, seed):
    """What comes from a kernel and what goes to it, of all lengths."""
    def program(comm):
        other = 1 - comm.rank
        for count in (1, 3, 256, 1000):
            own, theirs = (np.random.default_rng([seed, count, rank]).integers(0, 1 << 30, count).astype(np.int32)
                           for rank in (comm.rank, other))
            stream, result = Stream(count, np.int32), np.zeros(count, np.int32)
            comm.Copy(own, stream)
            assert np.array_equal(taken(comm, count), own)
            comm.device.push("kernel", own.tobytes())
            comm.Copy(stream, result)
            assert np.array_equal(result, own)
            comm.device.push("kernel", own.tobytes())
            comm.Combine(stream, theirs, result)
            assert np.array_equal(result, own + theirs)
            comm.Combine(own, theirs, stream)
            assert np.array_equal(taken(comm, count), own + theirs)
            comm.device.push("kernel", own.tobytes())
            comm.Sendrecv(stream, other, 1, stream, other, 1)
            assert np.array_equal(taken(comm, count), theirs)
            comm.Put(own, other, count)
            assert np.array_equal(taken(comm, count), theirs)
            comm.Barrier()

    slow.run(program)


def taken(comm, count):
    """The packet that the kernel gets: a whole message of four-byte elements."""
    content = comm.device.pop("kernel_out", cycles=50_000)
    assert len(content) == 4 * count and not content.error
    return np.frombuffer(content, np.int32)


def test_a_kernel_that_takes_nothing_holds_up_its_own_call_alone(clusters):
    """The call fails in time, what it had in the lanes goes, and the next one is carried out."""
    cluster = clusters.get("sim", 2, timeout=2_000, latency=7)
    own = np.arange(600, dtype=np.int32)

    def program(comm):
        whole, found = comm.Dup(), np.zeros_like(own)
        comm.device.transport.simulation.stream("kernel_out").stall(0.9999999)
        with pytest.raises(CollectiveTimeout):
            comm.Copy(own, Stream(own.size, np.int32))
        whole.Copy(own, found)
        assert np.array_equal(found, own)

    cluster.run(program)


def test_failures_leave_the_rest_alone(clusters):
    """A message that does not fit, one that never comes, a call that is given up: then a reset, and all is well."""
    cluster = clusters.get("sim", 2, timeout=3_000)

    def fails(comm):
        got = np.zeros(600, np.float32)
        part = comm.Dup()
        if comm.rank == 0:
            requests = [comm.Isend(np.ones(600, np.float32), 1, tag) for tag in range(2)]
            wait_all(requests)
        else:
            with pytest.raises(CollectiveError, match="longer than"):
                comm.Recv(got[:-1], 0, 0)
            with pytest.raises(CollectiveError, match="an earlier call on this communicator failed"):
                comm.Recv(got, 0, 1)
        part.Sendrecv(np.full(600, part.rank, np.float32), 1 - part.rank, 0, got, 1 - part.rank, 0)
        assert (got == 1 - part.rank).all()
        with pytest.raises(CollectiveTimeout, match="has not ended after 1000"):
            part.Irecv(got, 1 - part.rank, 9).Wait(cycles=1_000)
        if comm.rank == 0:
            with pytest.raises(CollectiveTimeout, match="no packet came from rank 1"):
                comm.Recv(got, 1, 9)

    cluster.run(fails)
    cluster.reset()

    def works(comm):
        total = np.zeros(1000, np.int32)
        comm.Allreduce(np.full(1000, 1 + comm.rank, np.int32), total)
        assert (total == 3).all()

    cluster.run(works)


# By registers and packets


CREDITS = 4


class Raw:
    """A device without a driver: node 0, and on communicator 0 also rank 0 of two; the other is node 1."""

    def __init__(self, device):
        self.device, self.regs = device, device.regs
        self.sequence = 0
        simulation = device.transport.simulation
        self.memories = [simulation.memory(port.name) for port in simulation.library.ports if port.kind == "memory"]
        self.regs.CONTROL.write(reset=1)
        device.wait_register("CONTROL", Control.RESET, 0)
        self.regs.TIMEOUT.value = 2_000
        self.regs.CONTROL.value = int(Control.ENABLE)
        at = 0
        for scenario, program in programs(width=8).items():
            if scenario in (Scenario.NOP, Scenario.COPY, Scenario.SEND, Scenario.RECV, Scenario.STREAM_PUT):
                self.configure(ConfigSpace.PROGRAM + at, program.placed(at))
                self.configure(ConfigSpace.ENTRY + scenario, [program.entry_word(at)])
                at += len(program.words)
        self.free = at
        self.open()

    def configure(self, address, words):
        self.regs.CONFIG_ADDRESS.value = address
        for word in words:
            self.regs.CONFIG_DATA.value = word

    def open(self, eager=0):
        self.configure(ConfigSpace.COMMUNICATOR + 16, [0, 1])
        self.configure(ConfigSpace.COMMUNICATOR, [2 | 1 << 31, CREDITS | eager << 8])

    def call(self, **fields):
        for word in Call(**fields).words():
            self.regs.CALL_WORD.value = word

    def ended(self, count=1, cycles=5_000):
        """Completions, as many as are asked for and no more."""
        self.device.wait(lambda device: device.regs.COMPLETIONS.value >= count, cycles=cycles)
        assert self.regs.COMPLETIONS.value == count
        return [self.completion() for _ in range(count)]

    def completion(self):
        found = Completion.from_words(tuple(self.regs[f"COMPLETION_{k}"].value for k in range(4)))
        self.regs.COMPLETION_POP.value = 0
        return found

    def status(self, **fields):
        self.call(**fields)
        return Status(self.ended()[0].status)

    def packet(self, content=b"", *, counts=True, **fields):
        """A packet from node 1; ``counts``: it is a good one."""
        known = {"type": PacketType.DATA, "flags": HeaderFlag.FIRST | HeaderFlag.LAST, "source": 1,
                 "sequence": self.sequence, "length": len(content)}
        self.sequence += counts
        return Header(**(known | fields)).to_bytes() + content

    def push(self, packet, **options):
        self.device.transport.simulation.stream("net_rx").push(packet, **options)

    def sent(self, cycles=500):
        """Header of the next packet that is sent, but for those that only give credits back."""
        while (header := Header.from_bytes(self.device.pop("net_tx", cycles=cycles))).type == PacketType.CREDIT:
            pass
        return header

    def count(self, counter):
        return self.regs[f"COUNT_{counter.name}"].value


@pytest.fixture
def raw():
    with rackgate_host.open("sim:collective", memory=1 << 20) as device:
        yield Raw(device)


def test_what_is_wrong_with_a_call(raw):
    """Each status by a call that has just that to be told, whichever bits of a word are wrong."""
    nop = Scenario.NOP
    for status, fields in (
        (Status.SUCCESS, {"streams": 0xFF03, "function": 2}), (Status.NO_SUCH_SCENARIO, {"scenario": 77}),
        (Status.NO_SUCH_SCENARIO, {"scenario": nop | 1 << 8, "communicator": 9}),
        (Status.NO_SUCH_SCENARIO, {"scenario": nop | 1 << 31}),
        (Status.NO_SUCH_COMMUNICATOR, {"communicator": 1, "function": 3}),
        *((Status.NO_SUCH_COMMUNICATOR, {"communicator": 1 << k}) for k in (3, 4, 30)),
        *((Status.BAD_TYPE, {"function": value, "streams": 4}) for value in (3, 4, 8, 16, 1 << 31)),
        *((Status.BAD_TYPE, {"element": value}) for value in (5, 8, 16, 1 << 31)),
        (Status.BAD_TYPE, {"element": 0, "compression": 8}),
        *((Status.BAD_FLAGS, {"compression": 1 << k}) for k in (0, 2, 4, 31)),
        *((Status.BAD_FLAGS, {"streams": 1 << k}) for k in (2, 4, 7, 16, 31)),
        (Status.BAD_FLAGS, {"id": 1 << 16}), (Status.BAD_FLAGS, {"id": 1 << 31}),
        (Status.BAD_PEER, {"scenario": Scenario.SEND, "count": 1, "peer": 2}),
        (Status.PROGRAM_ERROR, {"scenario": 78}), (Status.PROGRAM_RAISED, {"scenario": 79}),
        (Status.SUCCESS, {}),
    ):
        if fields.get("scenario") in (78, 79):  # an opcode that does not exist; ERR 5
            self_made = {78: 63 << 26, 79: 28 << 26 | 5}[fields["scenario"]]
            raw.configure(ConfigSpace.PROGRAM + raw.free, [self_made])
            raw.configure(ConfigSpace.ENTRY + fields["scenario"], [1 << 31 | raw.free])
        assert raw.status(**({"scenario": nop, "element": 3} | fields)) == status, fields


@pytest.mark.parametrize("cycles", [0, 100, 131, 260])
def test_a_reset_waits_for_the_memory(cycles):
    """CONTROL says until when, and what a host writes then is kept; at once, if nothing is under way."""
    with rackgate_host.open("sim:collective", memory=1 << 20, latency=400) as device:
        for is_busy in (True, False):
            raw = Raw(device)
            if is_busy:
                raw.call(scenario=Scenario.COPY, count=10_000, operand_0=MEMORY_BASE, result=MEMORY_BASE + (1 << 16))
            device.run(cycles)
            raw.regs.CONTROL.write(reset=1)
            if is_busy:
                device.wait_register("CONTROL", Control.RESET, 0, cycles=1_000)
            raw.regs.NODE.value = 5
            raw.regs.TIMEOUT.value = 1_234
            raw.regs.CONTROL.value = int(Control.ENABLE)
            device.run(1_000)
            assert (raw.regs.NODE.value, raw.regs.TIMEOUT.value, raw.regs.CONTROL.value) == (5, 1_234, Control.ENABLE)
            assert raw.regs.COMPLETIONS.value == 0
        assert Raw(device).status(scenario=Scenario.NOP) == Status.SUCCESS


@pytest.mark.parametrize("cycles", [60, 100, 131, 260])
def test_a_driver_that_begins_while_the_memory_works(cycles):
    """What it writes behind the reset is kept."""
    with open_world("sim:collective", 2, memory=1 << 20, latency=400) as world:
        device = world.devices[1]
        Raw(device).call(scenario=Scenario.COPY, count=10_000, operand_0=MEMORY_BASE, result=MEMORY_BASE + (1 << 16))
        device.run(cycles)
        Engine(device, world, 5, timeout=1_234)
        device.run(1_000)
        assert (device.regs.NODE.value, device.regs.TIMEOUT.value, device.regs.CONTROL.value) == (
            5, 1_234, Control.ENABLE)


def test_a_call_without_space_is_dropped(raw):
    """As a whole, and those that wait are kept; their room is there again when their completions have been read."""
    raw.regs.CONTROL.value = 0
    space = raw.regs.CALL_SPACE.value
    for number in range(space + 1):
        raw.call(scenario=Scenario.NOP, id=100 + number)
    assert raw.regs.CALL_SPACE.value == 0
    raw.regs.ABORT.value = 102
    raw.regs.CONTROL.value = int(Control.ENABLE)
    ended = {one.id: Status(one.status) for one in raw.ended(space)}
    assert ended == {100 + k: Status.ABORTED if k == 2 else Status.SUCCESS for k in range(space)}
    assert raw.regs.CALL_SPACE.value == space
    assert raw.status(scenario=Scenario.NOP) == Status.SUCCESS


def receive(tag, number, result=MEMORY_BASE, count=4, **fields):
    return {"scenario": Scenario.RECV, "count": count, "peer": 1, "tag": tag, "element": 0, "result": result,
            "id": number, **fields}


def test_calls_that_wait_are_ended_each_by_its_cause(raw):
    for victim in range(4):
        for number in range(5):  # one more than can run at a time
            raw.call(**receive(number, number))
        for number in (4, victim, 77):
            raw.regs.ABORT.value = number
        assert {one.id: one.status for one in raw.ended(5, cycles=1_000)} == {
            number: Status.ABORTED if number in (victim, 4) else Status.COMMUNICATOR_BROKEN for number in range(5)}
        raw.open()
    raw.call(**receive(0, 8))
    one, = raw.ended()
    assert (one.id, one.status, one.cause, one.node) == (8, Status.TIMEOUT, Cause.PACKET, 1)
    assert raw.status(**receive(0, 9)) == Status.COMMUNICATOR_BROKEN
    raw.open()
    send = {"scenario": Scenario.SEND, "peer": 1, "element": 0, "operand_0": MEMORY_BASE}
    raw.call(**send, count=256 * (CREDITS + 1))
    one, = raw.ended()
    assert (one.status, one.cause, one.node) == (Status.TIMEOUT, Cause.CREDIT, 1)
    raw.open()
    raw.call(scenario=Scenario.COPY, count=4, streams=1, result=MEMORY_BASE)
    one, = raw.ended()
    assert (one.status, one.cause) == (Status.TIMEOUT, Cause.LANE)


def test_packets_that_are_not_good(raw):
    """They are dropped and counted by what is wrong with them, and those behind them are taken."""
    content = bytes(range(16))
    bad = {Counter.BAD_HEADER: [
        raw.packet(content, counts=False, **fields) for fields in (
            {"type": 3}, {"type": 8}, {"destination": 1}, {"destination": 1 << 8}, {"source": 16},
            {"source": 1 << 15 | 1}, {"communicator": 8}, {"communicator": 128}, {"offset": 17}, {"offset": 1 << 31})]}
    whole = raw.packet(content, counts=False)
    bad[Counter.BAD_HEADER] += [bytes([whole[0] ^ 0x20]) + whole[1:], whole[:14] + b"?" + whole[15:], whole[:24],
                                whole[:31]]
    bad[Counter.BAD_SEQUENCE] = [raw.packet(content, counts=False, sequence=k) for k in (1, 2, 0xFFFF)]
    for counter, packets in bad.items():
        for packet in packets:
            raw.push(packet)
        raw.device.run(200 + 20 * len(packets))
        assert raw.count(counter) == len(packets), counter
    assert raw.count(Counter.PACKETS_RECEIVED) == 0
    raw.push(raw.packet(content, communicator=5))
    for tag in range(CREDITS):
        raw.push(raw.packet(content[::-1] if tag else content, tag=tag))
    raw.push(raw.packet(content, tag=9))  # no credit left
    raw.device.run(300)
    assert [raw.count(counter) for counter in (Counter.NO_COMMUNICATOR, Counter.NO_BUFFER)] == [1, 1]
    for tag in (2, 0, 1):
        raw.call(**receive(tag, tag))
        one, = raw.ended()
        assert (one.status, one.id, one.bytes, one.tag, one.node) == (Status.SUCCESS, tag, 16, tag, 1)
        assert raw.device.transport.read_memory(MEMORY_BASE, 16) == (content[::-1] if tag else content)
    # A payload that is damaged, too short or too long, is told to who receives it.
    for tag, (damaged, options) in enumerate([(content[:-1], {}), (content + b"!", {}), (content, {"error": True})]):
        raw.push(raw.packet(content, tag=10 + tag)[:-16] + damaged, **options)
        raw.device.run(100)
        assert raw.count(Counter.BAD_LENGTH) == 1 + tag
        raw.call(**receive(10 + tag, 20))
        assert raw.ended()[0].status == Status.READ_ERROR
        raw.open()


def test_credits_come_back(raw):
    """A message that is longer than all credits goes on as they come, in a packet of their own or in one with data."""
    size = 1024 * (CREDITS + 3)
    content = np.random.default_rng(1).integers(0, 256, size).astype(np.uint8).tobytes()
    raw.device.transport.write_memory(MEMORY_BASE, content)
    raw.call(scenario=Scenario.SEND, count=size // 4, peer=1, tag=5, element=0, operand_0=MEMORY_BASE)
    got = [raw.device.pop("net_tx", cycles=2_000) for _ in range(CREDITS)]
    raw.device.run(500)
    assert raw.device.transport.pop("net_tx") is None
    raw.push(raw.packet(type=PacketType.CREDIT, flags=0, credit=2))
    got += [raw.device.pop("net_tx", cycles=2_000) for _ in range(2)]
    raw.push(raw.packet(b"abcd", tag=1, credit=1))
    got.append(raw.device.pop("net_tx", cycles=2_000))
    assert raw.ended()[0].status == Status.SUCCESS
    headers = [Header.from_bytes(packet) for packet in got]
    assert b"".join(packet[32:] for packet in got) == content
    last = len(got) - 1
    for number, header in enumerate(headers):
        flags = (HeaderFlag.FIRST if number == 0 else 0) | (HeaderFlag.LAST if number == last else 0)
        assert header == Header(PacketType.DATA, flags, destination=1, sequence=number, tag=5, length=size,
                                offset=1024 * number), number
    assert raw.count(Counter.STALLED_CREDIT) > 300
    raw.call(**receive(1, 3, count=1))
    assert raw.ended()[0].status == Status.SUCCESS
    assert Header.from_bytes(raw.device.pop("net_tx", cycles=500))[:4] == (PacketType.CREDIT, 0, 0, 1)


def test_a_message_that_asks(raw):
    """Its first packet says so, and no answer but the one to it lets the others go."""
    raw.open(eager=2)
    raw.regs.TIMEOUT.value = 0
    size = 1024 * 3
    content = np.random.default_rng(1).integers(0, 256, size).astype(np.uint8).tobytes()
    raw.device.transport.write_memory(MEMORY_BASE, content)
    send = {"scenario": Scenario.SEND, "peer": 1, "tag": 5, "element": 0, "operand_0": MEMORY_BASE}
    raw.call(**receive(1, 50))  # the first context has another call
    raw.call(**send, count=size // 4, id=51)
    first = raw.device.pop("net_tx", cycles=500)
    header = Header.from_bytes(first)
    assert header == Header(PacketType.DATA, HeaderFlag.FIRST | HeaderFlag.REQUEST_TO_SEND, destination=1, tag=5,
                            length=size, handle=header.handle)
    assert header.handle == 4 and first[32:] == content[:1024]  # of the second context the first move
    answer = {"type": PacketType.CLEAR_TO_SEND, "flags": 0, "handle": header.handle}
    configured = ConfigSpace.COMMUNICATOR + 32  # one whose answers are not for this message
    raw.configure(configured + 16, [0, 1])
    raw.configure(configured, [2 | 1 << 31, CREDITS])
    for wrong in ({"handle": 5}, {"handle": 0}, {"communicator": 1}, {"communicator": 7}):
        raw.push(raw.packet(**(answer | wrong)))
    raw.push(Header(PacketType.CLEAR_TO_SEND, source=2, handle=header.handle).to_bytes())
    raw.push(raw.packet(type=PacketType.CREDIT, flags=0, credit=4))
    raw.device.run(300)
    assert raw.device.transport.pop("net_tx") is None
    assert raw.count(Counter.NO_COMMUNICATOR) == 1 and raw.count(Counter.BAD_HEADER) == 0
    raw.push(raw.packet(**answer))
    rest = [raw.device.pop("net_tx", cycles=500) for _ in range(2)]
    assert [packet[32:] for packet in rest] == [content[1024:2048], content[2048:]]
    assert [Header.from_bytes(packet)[1:2] + Header.from_bytes(packet)[-1:] for packet in rest] == [
        (0, 0), (HeaderFlag.LAST, 0)]
    done, = raw.ended()
    assert (done.id, done.status) == (51, Status.SUCCESS)
    # One of two packets does not ask, and neither does one for a kernel's stream, or any where none should.
    raw.call(**send, count=512)
    raw.call(**(send | {"scenario": Scenario.STREAM_PUT}), count=size // 4)
    assert [one.status for one in raw.ended(2)] == [Status.SUCCESS] * 2
    assert not any(one.flags & HeaderFlag.REQUEST_TO_SEND or one.handle for one in (raw.sent() for _ in range(5)))
    # What waits for an answer that does not come is told apart from what waits for a credit.
    raw.push(raw.packet(bytes(16), tag=1))
    assert raw.ended()[0].id == 50
    raw.regs.TIMEOUT.value = 2_000
    raw.open(eager=1)
    raw.call(**send, count=512)
    one, = raw.ended()
    assert (one.status, one.cause, one.node) == (Status.TIMEOUT, Cause.CLEAR_TO_SEND, 1)
    # Its answer comes when the communicator has been opened anew, to a message that has not asked yet.
    assert raw.sent().flags & HeaderFlag.REQUEST_TO_SEND
    raw.open(eager=1)
    raw.push(raw.packet(**(answer | {"handle": 0})))
    raw.device.run(100)
    raw.call(**send, count=512)
    assert raw.sent().flags & HeaderFlag.REQUEST_TO_SEND
    raw.device.run(300)
    assert raw.device.transport.pop("net_tx") is None
    raw.push(raw.packet(**(answer | {"handle": 0})))
    assert raw.ended()[0].status == Status.SUCCESS


def test_a_receive_of_a_message_that_asks(raw):
    """It is answered when its first packet is taken, whether the receive was there before or not; and only then."""
    content = np.random.default_rng(2).integers(0, 256, 2048).astype(np.uint8).tobytes()
    asks = {"flags": HeaderFlag.FIRST | HeaderFlag.REQUEST_TO_SEND, "length": 2048}
    for number, (handle, is_early) in enumerate(((15, True), (3, False))):
        if is_early:
            raw.call(**receive(handle, handle, count=512))
        raw.push(raw.packet(content[:1024], tag=handle, handle=handle, **asks))
        if not is_early:
            raw.device.run(300)
            assert raw.count(Counter.CLEARS) == number
            raw.call(**receive(handle, handle, count=512))
        answer = raw.sent()
        assert answer == Header(PacketType.CLEAR_TO_SEND, destination=1, sequence=answer.sequence, handle=handle)
        raw.push(raw.packet(content[1024:], tag=handle, flags=HeaderFlag.LAST, length=2048, offset=1024))
        one, = raw.ended()
        assert (one.id, one.status, one.bytes) == (handle, Status.SUCCESS, 2048)
        assert raw.device.transport.read_memory(MEMORY_BASE, 2048) == content
    assert raw.count(Counter.CLEARS) == 2
    # Of a packet for a kernel's stream the flag means nothing.
    raw.push(raw.packet(content[:1024], flags=HeaderFlag.FIRST | HeaderFlag.LAST | HeaderFlag.STREAM
                        | HeaderFlag.REQUEST_TO_SEND))
    assert raw.device.pop("kernel_out", cycles=2_000) == content[:1024]
    raw.device.run(200)
    assert raw.count(Counter.CLEARS) == 2


@pytest.mark.parametrize("status", [Status.READ_ERROR, Status.WRITE_ERROR])
def test_memory_that_answers_with_an_error(raw, status):
    """The call that asked says so, and those behind it are well; what a kernel got by then is marked."""
    target, reads = MEMORY_BASE + 0x8000, status == Status.READ_ERROR
    copy = {"scenario": Scenario.COPY, "count": 1000, "element": 0, "operand_0": MEMORY_BASE, "result": target}
    at = (MEMORY_BASE if reads else target) + 1200
    for streams in (0, 2) if reads else (0,):
        for memory in raw.memories:
            memory.inject(at, at + 8, read=reads, write=not reads)
        assert raw.status(**copy, streams=streams) == status
        for memory in raw.memories:
            memory.clear_faults()
        assert raw.status(**copy) == Status.COMMUNICATOR_BROKEN
        raw.open()
        assert raw.status(**copy) == Status.SUCCESS
        if streams:
            assert raw.device.pop("kernel_out", cycles=500).error
            assert raw.status(**copy, streams=streams) == Status.SUCCESS
            packet = raw.device.pop("kernel_out", cycles=500)
            assert len(packet) == 4000 and not packet.error
