# SPDX-License-Identifier: Apache-2.0
"""Waves that are read back, and what a timeline makes of them."""

import random

import numpy as np
import pytest
from amaranth.hdl import Module, ResetInserter, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from rackgate.stream.queue import Queue
from rackgate_sim.devices import component
from rackgate_sim.native import Simulation, build
from rackgate_sim.timeline.fst import Waves, WavesError
from rackgate_sim.timeline.hierarchy import parts
from rackgate_sim.timeline.stages import STAGES, Stage, stages
from rackgate_sim.timeline.timeline import rows

pytestmark = pytest.mark.cosim


class _Door(wiring.Component):
    """Let three payloads pass, then none for two cycles. Nothing else."""

    i: In(stream.Signature(24))
    o: Out(stream.Signature(24))

    def elaborate(self, platform):
        m = Module()
        passed = Signal(2)
        m.d.comb += self.o.p.eq(self.i.p)
        with m.FSM():
            with m.State("OPEN"):
                m.d.comb += [self.o.valid.eq(self.i.valid), self.i.ready.eq(self.o.ready)]
                with m.If(self.i.valid & self.i.ready):
                    m.d.sync += passed.eq(passed + 1)
                    with m.If(passed == 2):
                        m.d.sync += passed.eq(0)
                        m.next = "SHUT"
            with m.State("SHUT"):
                m.next = "OPENING"
            with m.State("OPENING"):
                m.next = "OPEN"
        return m


class _Chain(wiring.Component):
    """A queue before a door."""

    net_rx: In(stream.Signature(24))
    net_tx: Out(stream.Signature(24))
    level: Out(5)
    wide: Out(80)

    def elaborate(self, platform):
        m = Module()
        m.submodules.queue = queue = Queue(24, depth=16)
        m.submodules.door = door = ResetInserter(Signal())(_Door())
        wiring.connect(m, wiring.flipped(self.net_rx), queue.i)
        wiring.connect(m, queue.o, door.i)
        wiring.connect(m, door.o, wiring.flipped(self.net_tx))
        m.d.comb += self.level.eq(queue.level)
        m.d.sync += self.wide.eq(self.wide + 1)
        return m


CHAIN = (Stage("queue", "queue", {"i": "number", "o": "number"}), Stage("door", "door", {"o": "number"}, "fsm"),
         Stage("device", "", {"net_rx": "number"}))


@pytest.fixture(scope="module")
def library():
    return build(_Chain(), name="chain", variant="debug")


@pytest.fixture(scope="module")
def run(library, tmp_path_factory, request):
    """Waves of a random run, and what was seen from outside meanwhile."""
    seed = request.config.getoption("--seed")
    path, draw = tmp_path_factory.mktemp("waves") / "chain.fst", random.Random(seed)
    seen = {"level": [], "words": []}
    with Simulation(library, seed=seed) as simulation:
        simulation.run(37)
        simulation.trace(path)
        simulation.stream("net_tx").stall(0.3)
        for _ in range(600):
            if draw.random() < 0.5:
                simulation.stream("net_rx").push([draw.getrandbits(24)])
            simulation.run(1)
            seen["level"].append(simulation.peek("level"))
        while (word := simulation.stream("net_tx").pop()) is not None:
            seen["words"].append(word)
        simulation.trace(None)
    return Waves(path), seen


def test_values_are_those_that_were_there(run):
    waves, seen = run
    assert (waves.first, waves.cycles) == (37, 600)
    # peek() shows the state that a cycle's rising edge leaves, which is the next cycle's.
    assert waves["queue.level"].dtype == np.uint64
    assert waves["level"][1:].tolist() == seen["level"][:-1] and max(seen["level"]) > 2
    moved = (waves["door.o__valid"] & waves["door.o__ready"]) != 0
    assert waves["door.o__payload"][moved].tolist() == seen["words"] and len(seen["words"]) > 100


def test_a_signal_that_is_not_there_or_too_wide(run):
    waves, _ = run
    assert "door.fsm_state" in waves and "door.nothing" not in waves and "door.fsm_state" in waves.names
    with pytest.raises(WavesError, match="has no signal door.nothing"):
        waves["door.nothing"]
    with pytest.raises(WavesError, match="signal wide has 80 bits, more than the 64"):
        waves["wide"]


def test_files_that_are_no_waves(run, tmp_path):
    waves, _ = run
    data, place = waves.path.read_bytes(), tmp_path / "bad.fst"
    for content in (b"", b"no waves", data[:400], data[:-7], bytes(len(data)), data[:9] + bytes(len(data) - 9)):
        place.write_bytes(content)
        with pytest.raises(WavesError, match="no FST file|holds no values"):
            Waves(place)


def test_damaged_files_end_in_their_own_error(run, tmp_path, seed):
    waves, _ = run
    data, place, draw = waves.path.read_bytes(), tmp_path / "bad.fst", random.Random(seed)
    for _ in range(300):
        changed = bytearray(data)
        for _ in range(draw.randint(1, 4)):
            changed[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        place.write_bytes(changed)
        try:
            opened = Waves(place)
            for name in opened.names[:40]:
                opened[name]
        except WavesError:
            continue


def blocks(path):
    """Type and bytes of each block of an FST file."""
    data, place = path.read_bytes(), 0
    while place < len(data):
        size = int.from_bytes(data[place + 1:place + 9], "big")
        yield data[place], data[place:place + 1 + size]
        place += 1 + size


def test_a_long_file_is_written_in_stretches(library, tmp_path, seed):
    """A writer ends a stretch when it has much in memory: as two files of one run, one behind the other."""
    paths, levels, draw = [tmp_path / "a.fst", tmp_path / "b.fst"], [], random.Random(seed)
    with Simulation(library, seed=seed) as simulation:
        simulation.stream("net_tx").stall(0.5)
        for path in paths:
            simulation.trace(path)
            for _ in range(80):
                if draw.random() < 0.5:
                    simulation.stream("net_rx").push([draw.getrandbits(24)])
                simulation.run(1)
                levels.append(simulation.peek("level"))
        simulation.trace(None)
    (head, changes, *rest), (_, more, *_) = (list(blocks(path)) for path in paths)
    assert (head[0], changes[0], more[0]) == (0, 8, 8) and {kind for kind, _ in rest} == {3, 6}
    whole = tmp_path / "whole.fst"
    whole.write_bytes(b"".join(content for _, content in (head, changes, more, *rest)))
    waves = Waves(whole)
    assert (waves.first, waves.cycles) == (0, 160)
    assert waves["level"][1:].tolist() == levels[:-1] and len(set(levels)) > 2


def test_spans_agree_with_a_count_by_hand(run):
    waves, seen = run
    queue_in, queue_out, state, out, entry = rows(waves, CHAIN, parts(_Chain()), 37, 637)
    assert (state.name, state.rests, state.source) == ("state", "OPEN", f"{__name__}._Door")
    assert state.meaning == "Let three payloads pass, then none for two cycles"
    assert [(out.stage, out.name, out.carries, out.place)] == [("door", "o", "number", "door")]
    assert out.cycles("moves") == len(seen["words"])
    assert state.totals() == {"SHUT": state.cycles("SHUT"), "OPENING": state.cycles("OPENING")}
    assert len(seen["words"]) // 3 - 1 <= state.cycles("SHUT") <= len(seen["words"]) // 3
    assert all(span.cycles == 1 for span in state.spans)
    assert queue_in.spans == entry.spans and queue_in.cycles("moves") - queue_out.cycles("moves") == seen["level"][-1]
    for row in (queue_in, queue_out, out):
        valid, ready = (waves[f"{row.place}.{row.name}__{end}"] != 0 for end in ("valid", "ready"))
        assert row.cycles("moves") == int((valid & ready).sum()) and row.cycles("waits") == int((valid & ~ready).sum())
        assert all(one.end <= other.begin for one, other in zip(row.spans, row.spans[1:], strict=False))
        for span in row.spans:
            assert all(valid[k - 37] and ready[k - 37] == (span.what == "moves") for k in range(span.begin, span.end))
    assert out.cycles("waits") > 20


def test_a_machine_may_rest_in_another_state(run):
    waves, _ = run
    door = Stage("door", "door", {}, "fsm", "SHUT")
    (row,) = rows(waves, (door,), parts(_Chain()), 37, 637)
    assert row.rests == "SHUT" and set(row.totals()) == {"OPEN", "OPENING"}


def test_a_window_cuts_spans(run):
    waves, _ = run
    whole, part = (rows(waves, CHAIN, parts(_Chain()), *ends)[1] for ends in ((37, 637), (100, 200)))
    cut = [(s.what, max(s.begin, 100), min(s.end, 200)) for s in whole.spans if s.end > 100 and s.begin < 200]
    assert [(s.what, s.begin, s.end) for s in part.spans] == cut
    for ends in ((36, 40), (40, 40), (600, 638)):
        with pytest.raises(ValueError, match=f"must be cycles of the waves, 37 to 637, not {ends[0]} and {ends[1]}"):
            rows(waves, CHAIN, parts(_Chain()), *ends)


@pytest.mark.parametrize("stage, message", [
    (Stage("a", "cellar", {}), "stage a: the device has no part cellar"),
    (Stage("a", "queue", {}, "fsm"), "stage a: rackgate.stream.queue.Queue has no state machine fsm"),
    (Stage("a", "door", {}, "fsm", "AJAR"), "stage a: .*_Door has states OPEN, SHUT, OPENING, not AJAR"),
    (Stage("a", "queue", {"x": ""}), "stage a: rackgate.stream.queue.Queue has no stream x"),
])
def test_stages_that_the_device_has_not(run, stage, message):
    with pytest.raises(WavesError, match=message):
        rows(run[0], (stage,), parts(_Chain()), 37, 637)


@pytest.mark.parametrize("device", sorted(STAGES))
def test_every_stage_is_in_its_device(device):
    known = parts(component(device))
    names = [stage.name for stage in stages(device)]
    assert names and len(set(names)) == len(names)
    for stage in stages(device):
        part = known[stage.place]
        assert set(stage.streams) <= set(part.streams), f"{stage.name}: {part.source} has {sorted(part.streams)}"
        assert part.meaning
        if stage.machine:
            assert (stage.rests or part.machines[stage.machine].states[0]) in part.machines[stage.machine].states


def test_a_device_without_a_timeline():
    with pytest.raises(ValueError, match=f"device must be one of {', '.join(STAGES)}, not 'iaa'"):
        stages("iaa")
