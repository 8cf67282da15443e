# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""The native simulation of one device: registers, memory, streams, events, limits, waves."""

import random
import re
import signal

import numpy as np
import pytest
from native_devices import Asserting, Bridge, Copier, CopierRegister, Forwarder

from rackgate_sim.native import (
    AssertionFailure,
    Event,
    ProtocolError,
    RegisterError,
    Simulation,
    SimulationError,
    SimulationTimeout,
    build,
)

pytestmark = pytest.mark.cosim

SOURCE, DESTINATION = 0x1_0000, 0x4_0000


@pytest.fixture(scope="module")
def copier():
    return build(Copier(), name="copier", key=())


@pytest.fixture(scope="module")
def bridge():
    return build(Bridge(), name="bridge", key=())


@pytest.fixture(scope="module")
def forwarder():
    return build(Forwarder(), name="forwarder", key=())


@pytest.fixture(scope="module")
def asserting():
    return build(Asserting(), name="asserting", key=())


def prepared(library, size=4096, seed=1):
    """A copier with its two windows of memory."""
    simulation = Simulation(library, seed=seed)
    source = np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)
    destination = np.zeros(size, np.uint8)
    memory = simulation.memory()
    memory.attach(source, SOURCE)
    memory.attach(destination, DESTINATION)
    return simulation, memory, source, destination


def copy(simulation, words, source=SOURCE, destination=DESTINATION, limit=200_000):
    simulation.write_register(CopierRegister.SOURCE, source)
    simulation.write_register(CopierRegister.DESTINATION, destination)
    simulation.write_register(CopierRegister.WORDS, words)
    simulation.wait(Event.IRQ, limit, "the end of the copy")
    return simulation.read_register(CopierRegister.STATUS)


# ---- memory ----

CONDITIONS = {
    "as it comes": {},
    "no latency": {"latency": 0, "write_latency": 0},
    "slow": {"latency": 200, "write_latency": 100},
    "jitter": {"jitter": 50},
    "narrow": {"bytes_per_cycle": 1.5},
    "stalls": {"stall": 0.5},
    "one stalled channel": {"stall": {"w": 0.9}},
    "all": {"latency": 30, "jitter": 30, "bytes_per_cycle": 4, "stall": 0.2, "reorder": True, "interleave": True,
            "outstanding": 1},
}


@pytest.mark.parametrize("name", CONDITIONS)
def test_copy_is_exact(copier, seed, name):
    simulation, memory, source, destination = prepared(copier, seed=seed)
    memory.configure(**CONDITIONS[name])
    assert copy(simulation, 333) == 1
    assert (destination[:2664] == source[:2664]).all()
    assert not destination[2664:].any()
    statistics = memory.statistics
    assert statistics.read_bytes == statistics.write_bytes == 2664
    assert statistics.read_bursts == statistics.write_bursts == 42
    assert statistics.read_errors == statistics.write_errors == 0


def test_time_follows_latency_and_bandwidth(copier):
    def cycles(**behaviour):
        simulation, memory, *_ = prepared(copier)
        memory.configure(latency=10, write_latency=1)
        memory.configure(**behaviour)
        copy(simulation, 256)
        return simulation.cycle

    base = cycles()
    assert cycles(latency=30) == base + 32 * 20
    assert cycles(write_latency=6) == base + 32 * 5
    # 2048 bytes each way, at a byte in two cycles, and never both ways at once.
    assert cycles(bytes_per_cycle=0.5) > 2 * 2048 * 2 * 0.8
    assert cycles(stall=0.5) > base * 1.3


def test_error_responses_reach_the_device(copier):
    simulation, memory, source, destination = prepared(copier)
    memory.inject(SOURCE + 128, SOURCE + 136, write=False)
    assert copy(simulation, 64) == 0b011
    assert not destination[128:192].any() and (destination[:128] == source[:128]).all()
    simulation.write_register(CopierRegister.STATUS, 0)
    memory.clear_faults()
    destination[:] = 0
    memory.inject(DESTINATION, DESTINATION + 4096, response="DECERR", read=False, after=3, count=2)
    assert copy(simulation, 64) == 0b101
    written = [bool(destination[k:k + 64].any()) for k in range(0, 512, 64)]
    assert written == [True, True, True, False, False, True, True, True]
    assert (memory.statistics.read_errors, memory.statistics.write_errors) == (1, 2)


def test_outside_all_windows_is_a_decode_error(copier):
    simulation, memory, *_ = prepared(copier)
    assert copy(simulation, 16, source=SOURCE + 4096 - 64) == 0b011
    assert memory.statistics.outside == 1
    memory.detach(SOURCE)
    with pytest.raises(ValueError, match="no window begins at 0x10000"):
        memory.detach(SOURCE)
    simulation.write_register(CopierRegister.STATUS, 0)
    assert copy(simulation, 8) == 0b011


def test_watched_writes_stop_the_run(copier):
    simulation, memory, _, destination = prepared(copier)
    memory.watch(DESTINATION + 1024, DESTINATION + 1032)
    simulation.write_register(CopierRegister.SOURCE, SOURCE)
    simulation.write_register(CopierRegister.DESTINATION, DESTINATION)
    simulation.write_register(CopierRegister.WORDS, 512)
    assert simulation.run(100_000, Event.WATCH | Event.IRQ) == Event.WATCH
    assert destination[1024:1032].any() and not destination[1032:].any()
    memory.clear_watches()
    assert simulation.run(100_000, Event.WATCH | Event.IRQ) == Event.IRQ


def test_events_wait_until_they_are_reported(copier):
    simulation, *_ = prepared(copier)
    simulation.write_register(CopierRegister.WORDS, 0)
    for _ in range(20):
        simulation.read_register(CopierRegister.STATUS)
    cycle = simulation.cycle
    assert simulation.run(1000, Event.IRQ) == Event.IRQ and simulation.cycle == cycle
    assert simulation.run(1000, Event.IRQ) == Event.LIMIT and simulation.cycle == cycle + 1000
    assert simulation.irq
    simulation.write_register(CopierRegister.STATUS, 0)
    assert not simulation.irq


def address(simulation, where, beats, identifier, size=3, burst=1):
    simulation.push([{"addr": where, "id": identifier, "len": beats - 1, "size": size, "burst": burst}])


def reads_through(library, seed, **behaviour):
    """Twelve reads on four ids: the order in which beats came back."""
    simulation = Simulation(library, seed=seed)
    words = np.arange(512, dtype=np.uint64)
    memory = simulation.memory()
    memory.attach(words.view(np.uint8), 0x8000)
    memory.configure(**behaviour)
    ar, r = simulation.stream("i_ar"), simulation.stream("o_r")
    for k in range(12):
        address(ar, 0x8000 + 64 * k, 8, k % 4)
    simulation.run(3000)
    beats = [r.unpack(item) for item in r.pop_all()]
    assert len(beats) == 96
    for identifier in range(4):
        own = [beat for beat in beats if beat["id"] == identifier]
        assert [beat["data"] for beat in own] == [8 * k + j for k in range(identifier, 12, 4) for j in range(8)]
        assert [beat["last"] for beat in own] == ([0] * 7 + [1]) * 3
    return [beat["data"] for beat in beats]


def test_reads_are_reordered_between_ids_only(bridge, seed):
    assert reads_through(bridge, seed) == list(range(96))
    mixed = reads_through(bridge, seed, reorder=True, jitter=100)
    assert mixed != list(range(96))
    assert all(mixed[k + j] == mixed[k] + j for k in range(0, 96, 8) for j in range(8)), "bursts must stay whole"
    assert mixed == reads_through(bridge, seed, reorder=True, jitter=100)
    assert mixed != reads_through(bridge, seed + 1, reorder=True, jitter=100)
    finer = reads_through(bridge, seed, interleave=True, jitter=100)
    assert any(finer[k + 1] != finer[k] + 1 for k in range(0, 96, 8))


def test_writes_respect_strobes(bridge):
    simulation = Simulation(bridge)
    array = np.full(64, 0xEE, np.uint8)
    simulation.memory().attach(array, 0)
    address(simulation.stream("i_aw"), 8, 2, 5)
    simulation.stream("i_w").push([{"data": 0x1122334455667788, "strb": 0x0F}, {"data": 1, "strb": 0x81, "last": 1}])
    simulation.wait(Event.PACKET, 100, "the write's response")
    b = simulation.stream("o_b")
    assert b.unpack(b.pop()) == {"id": 5, "resp": 0}
    assert bytes(array[8:16]) == bytes.fromhex("88776655EEEEEEEE")
    assert bytes(array[16:24]) == bytes.fromhex("01EEEEEEEEEEEE00")
    assert set(array[:8]) | set(array[24:]) == {0xEE}


def test_outstanding_bursts_are_limited(bridge):
    simulation = Simulation(bridge)
    memory = simulation.memory()
    memory.attach(np.zeros(4096, np.uint8), 0)
    memory.configure(outstanding=3, latency=100)
    for k in range(10):
        address(simulation.stream("i_ar"), 64 * k, 1, 0)
    simulation.run(50)
    assert simulation.stream("i_ar").pending == 7
    simulation.run(1000)
    assert memory.statistics.outstanding_reads == 3 and memory.statistics.read_bursts == 10


# ---- rules ----

def break_rules(simulation, fault):
    ar, word = simulation.stream("i_ar"), simulation.stream("i_word")
    if fault == "crossing":
        address(ar, 0x1FF8, 2, 0)
    elif fault == "burst":
        address(ar, 0x1000, 1, 0, burst=2)
    elif fault == "size":
        address(ar, 0x1000, 1, 0, size=2)
    elif fault in ("early last", "late last"):
        address(simulation.stream("i_aw"), 0x1000, 2, 0)
        simulation.stream("i_w").push([{"last": fault == "early last"}, {}])
    elif fault == "count zero":
        word.push([1 << 35])
    elif fault == "count short":
        word.push([3 << 32])
    elif fault == "count long":
        word.push([5 << 32 | 1 << 35])
    else:
        simulation.memory().configure(stall={"ar": 0.999999})
        simulation.stream("net_tx").stall(0.999999)
        if fault == "word taken back":
            word.push([4 << 32])
        else:
            address(ar, 0x1000, 1, 0)
        simulation.run(10)
        if fault == "payload changes":
            simulation.poke("twist", 64)
        else:
            simulation.poke("mute", 1)


RULES = {
    "crossing": "mem.ar: burst of 2 beats at address 8184 crosses a 4 KiB boundary",
    "burst": "mem.ar: burst type 2, only INCR is allowed",
    "size": "mem.ar: beats of 4 bytes on a bus of 8",
    "early last": "mem.w: last is 1 on a beat with 1 beats of its burst to come",
    "late last": "mem.w: last is 0 on a beat with 0 beats of its burst to come",
    "count zero": "net_tx: a word that is the last of its packet has count 0",
    "count short": "net_tx: a word that is not the last of its packet has count 3",
    "count long": "net_tx: a word that is the last of its packet has count 5",
    "payload changes": "mem.ar: the payload changed before the transfer",
    "valid falls": "mem.ar: valid fell before the transfer",
    "word taken back": "net_tx: valid fell before the transfer",
}


@pytest.mark.parametrize("fault", RULES)
def test_broken_rules_raise(bridge, fault):
    simulation = Simulation(bridge)
    simulation.memory().attach(np.zeros(8192, np.uint8), 0)
    break_rules(simulation, fault)
    with pytest.raises(ProtocolError, match=rf"^cycle \d+: {re.escape(RULES[fault])}$"):
        simulation.run(100)
    with pytest.raises(ProtocolError):
        simulation.run(1)


# ---- registers and limits ----

def test_registers(copier):
    simulation, *_ = prepared(copier)
    simulation.write_register(CopierRegister.SOURCE, 0xDEADBEEF)
    simulation.write_register(CopierRegister.DESTINATION, 0x12345678)
    assert simulation.read_register(CopierRegister.SOURCE) == 0xDEADBEEF
    assert simulation.read_register(CopierRegister.DESTINATION) == 0x12345678
    assert simulation.cycle < 20
    with pytest.raises(RegisterError, match="read of register 0x40 at port csr: the device answered SLVERR"):
        simulation.read_register(CopierRegister.ABSENT)
    with pytest.raises(RegisterError, match="write of register 0x40 at port csr: the device answered SLVERR"):
        simulation.write_register(CopierRegister.ABSENT, 1)
    with pytest.raises(ValueError, match="value must fit 32 bits, not 0x100000000"):
        simulation.write_register(CopierRegister.SOURCE, 1 << 32)
    with pytest.raises(ValueError, match="no register port 'regs'; it has csr"):
        simulation.read_register(0, port="regs")


def test_waiting_ends_and_says_what_for(copier):
    simulation, *_ = prepared(copier)
    simulation.memory().configure(latency=5000)
    simulation.write_register(CopierRegister.SOURCE, SOURCE)
    simulation.write_register(CopierRegister.WORDS, 8)
    cycle = simulation.cycle
    with pytest.raises(SimulationTimeout) as caught:
        simulation.wait(Event.IRQ, 1000, "the end of the copy")
    assert simulation.cycle == cycle + 1000
    text = str(caught.value)
    assert f"waited 1000 cycles, until cycle {cycle + 1000}, for the end of the copy" in text
    assert "mem: 1 reads and 0 writes under way" in text and "csr: no access under way" in text and "irq: low" in text
    assert isinstance(caught.value, TimeoutError)
    with pytest.raises(SimulationTimeout, match=r"read of register 0x20 at port csr(.|\n)*no response"):
        simulation.read_register(CopierRegister.SOURCE, limit=1)
    with pytest.raises(SimulationError, match="the access before it has not ended"):
        simulation.read_register(CopierRegister.SOURCE)
    simulation.run(10)
    simulation.write_register(CopierRegister.DESTINATION, 77)
    assert simulation.read_register(CopierRegister.DESTINATION) == 77, "the late answer must not be taken for this one"
    with pytest.raises(ValueError, match="cycles must not be negative, not -1"):
        simulation.run(-1)


# ---- streams ----

def test_packets_pass_whole(forwarder, seed):
    rng = random.Random(seed)
    simulation = Simulation(forwarder, seed=seed)
    rx, tx = simulation.stream("net_rx"), simulation.stream("net_tx")
    simulation.poke("step", 1)
    rx.stall(0.3)
    tx.stall(0.4)
    packets = [rng.randbytes(rng.randint(1, 70)) for _ in range(200)]
    marked = [rng.random() < 0.2 for _ in packets]
    for packet, error in zip(packets, marked, strict=True):
        rx.push(packet, error=error)
    assert rx.pending == 200
    simulation.wait(Event.DRAIN, 20_000, "the queue to run empty")
    simulation.run(20)
    received = tx.pop_all()
    assert received == [bytes((byte + 1) & 255 for byte in packet) for packet in packets]
    assert [packet.error for packet in received] == marked
    assert all(a.cycle < b.cycle for a, b in zip(received, received[1:], strict=False))
    assert tx.pop() is None and rx.pending == 0 and tx.available == 0


def test_wide_payloads(forwarder):
    simulation = Simulation(forwarder)
    numbers = [0, 1, (1 << 70) - 1, 1 << 69, 0x123456789ABCDEF012]
    simulation.stream("number_in").push(numbers)
    simulation.run(10)
    assert simulation.stream("number_out").pop_all() == [(n + 1) % (1 << 70) for n in numbers]
    with pytest.raises(ValueError, match="number_in: a payload must fit 70 bits"):
        simulation.stream("number_in").push([1 << 70])
    with pytest.raises(ValueError, match="a packet must have at least one byte"):
        simulation.stream("net_rx").push(b"")
    with pytest.raises(TypeError, match="net_rx: a packet must be bytes, not list"):
        simulation.stream("net_rx").push([1, 2])


def test_signals(forwarder):
    simulation = Simulation(forwarder)
    assert simulation.peek("cycles") == 0
    simulation.run(10)
    simulation.poke("counting", 1)
    simulation.run(7)
    assert simulation.peek("cycles") == 7
    with pytest.raises(ValueError, match="signal cycles is an output"):
        simulation.poke("cycles", 1)
    with pytest.raises(ValueError, match="step must fit 1 bits, not 2"):
        simulation.poke("step", 2)
    with pytest.raises(ValueError, match="no signal 'nothing'; it has step, counting, cycles"):
        simulation.peek("nothing")


# ---- idle cycles ----

def test_idle_cycles_are_left_out_and_change_nothing(forwarder):
    still, busy = Simulation(forwarder), Simulation(forwarder)
    busy.poke("counting", 1)
    for simulation in (still, busy):
        for packet in (b"first", b"second", b"third"):
            simulation.run(100_000)
            simulation.stream("net_rx").push(packet)
        simulation.run(100)
    assert still.skipped > 290_000 and busy.skipped == 0
    assert still.evaluations < 3000
    assert still.log_hash() == busy.log_hash()
    packets = [simulation.stream("net_tx").pop_all() for simulation in (still, busy)]
    assert packets[0] == packets[1] == [b"first", b"second", b"third"]
    assert [p.cycle for p in packets[0]] == [p.cycle for p in packets[1]]
    assert busy.peek("cycles") == busy.cycle == still.cycle == 300_100


# ---- the same again ----

def test_same_seed_same_log(copier):
    def log(seed, words=100):
        simulation, memory, *_ = prepared(copier, seed=7)
        simulation = Simulation(copier, seed=seed)
        memory, windows = simulation.memory(), (np.ones(4096, np.uint8), np.zeros(4096, np.uint8))
        memory.attach(windows[0], SOURCE)
        memory.attach(windows[1], DESTINATION)
        memory.configure(stall=0.3, jitter=10)
        copy(simulation, words)
        return simulation.log_hash(), simulation.cycle

    assert log(1) == log(1)
    assert log(1) != log(2)
    assert log(1) != log(1, 99)


def test_cutting_a_run_into_pieces_changes_nothing(copier):
    results = []
    for step in (1, 7, 100_000):
        simulation, memory, *_ = prepared(copier)
        memory.configure(stall=0.3)
        simulation.write_register(CopierRegister.SOURCE, SOURCE)
        simulation.write_register(CopierRegister.DESTINATION, DESTINATION)
        simulation.write_register(CopierRegister.WORDS, 128)
        while simulation.run(step, Event.IRQ) != Event.IRQ:
            assert simulation.cycle < 50_000
        results.append((simulation.cycle, simulation.log_hash()))
    assert len(set(results)) == 1


def test_long_runs_can_be_interrupted(forwarder):
    """A run of any length comes back to Python now and then: a signal's handler gets its turn."""

    class Enough(Exception):
        pass

    def stop(*_):
        raise Enough

    simulation = Simulation(forwarder)
    simulation.poke("counting", 1)
    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    try:
        with pytest.raises(Enough):
            simulation.run(1 << 40)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert 0 < simulation.cycle < 1 << 32
    assert simulation.run(300_000, Event.IRQ) == Event.LIMIT


# ---- assertions ----

def line_of(text):
    with open(Asserting.elaborate.__code__.co_filename) as source:
        return next(number for number, line in enumerate(source, 1) if text in line)


def test_assertion_names_its_line(asserting):
    simulation = Simulation(asserting)
    simulation.poke("sync_value", 3)
    simulation.run(2)
    assert simulation.printed == "value is three\n" * 2
    simulation.poke("sync_value", 7)
    with pytest.raises(AssertionFailure) as caught:
        simulation.run(100)
    failure = caught.value
    assert (failure.message, failure.cycle) == ("value must not be seven", 3)
    assert failure.file.endswith("native_devices.py") and failure.line == line_of('"value must not be seven"')
    assert isinstance(failure, AssertionError) and isinstance(failure, SimulationError)
    with pytest.raises(AssertionFailure):
        simulation.run(1)


def test_combinational_assertion_is_formatted_and_sampled_at_the_edge(asserting):
    simulation = Simulation(asserting)
    simulation.run(5)
    simulation.poke("comb_value", 9)
    with pytest.raises(AssertionFailure, match="comb_value is 9") as caught:
        simulation.run(100)
    assert caught.value.cycle == 6 and caught.value.line == line_of("comb_value is {:d}")


# ---- refusals ----

def test_closed_simulation_refuses(copier):
    with Simulation(copier) as simulation:
        simulation.run(1)
    with pytest.raises(SimulationError, match="the simulation is closed"):
        simulation.run(1)


def test_waves_and_coverage_need_their_variant(copier, tmp_path):
    simulation = Simulation(copier)
    with pytest.raises(SimulationError, match="copier was built as 'fast': waves need variant 'debug'"):
        simulation.trace(tmp_path / "x.fst")
    with pytest.raises(SimulationError, match="copier was built as 'fast': coverage needs variant 'coverage'"):
        simulation.write_coverage(tmp_path / "x.dat")


def test_memory_refuses_what_it_cannot_share(copier):
    simulation = Simulation(copier)
    memory = simulation.memory()
    with pytest.raises(TypeError, match="array must be a NumPy array of uint8, not int64"):
        memory.attach(np.zeros(8, np.int64), 0)
    with pytest.raises(ValueError, match="array must be contiguous and writeable"):
        memory.attach(np.zeros(16, np.uint8)[::2], 0)
    with pytest.raises(ValueError, match="base must be a multiple of the bus width, 8 bytes, not 0x4"):
        memory.attach(np.zeros(8, np.uint8), 4)
    with pytest.raises(ValueError, match="size must be a multiple of the bus width, 8 bytes, not 0x9"):
        memory.attach(np.zeros(9, np.uint8), 0)
    with pytest.raises(ValueError, match="array must not be empty"):
        memory.attach(np.zeros(0, np.uint8), 0)
    memory.attach(np.zeros(64, np.uint8), 0x40)
    with pytest.raises(ValueError, match="the window at 0x38 overlaps that at 0x40"):
        memory.attach(np.zeros(16, np.uint8), 0x38)
    with pytest.raises(ValueError, match="latency must not be negative, not -1"):
        memory.configure(latency=-1)
    with pytest.raises(ValueError, match="outstanding must be at least 1, not 0"):
        memory.configure(outstanding=0)
    with pytest.raises(ValueError, match="stall must be a probability below 1, not 1"):
        memory.configure(stall=1)
    with pytest.raises(ValueError, match="stall must name channels among aw, w, b, ar, r, not 'x'"):
        memory.configure(stall={"x": 0.1})
    with pytest.raises(ValueError, match="response must be SLVERR or DECERR, not 'OKAY'"):
        memory.inject(0, 8, response="OKAY")
    with pytest.raises(ValueError, match="end must be above start"):
        memory.inject(8, 8)
    with pytest.raises(ValueError, match="high must be above low"):
        memory.watch(8, 8)
    with pytest.raises(TypeError, match="port mem is a memory, not a stream"):
        simulation.stream("mem")
