# SPDX-License-Identifier: Apache-2.0
import json
import random
import zlib

import pytest

from rackgate_host import TranscriptError, inflate
from rackgate_host.transcript import Divergence, compare, record, replay


def work(device, seed=5):
    """A bit of everything that a driver does."""
    rng = random.Random(seed)
    text = b"".join(b"%d bottles of beer on the wall\n" % n for n in range(99)) + rng.randbytes(500)
    assert inflate.decompress(zlib.compress(text), device=device) == text
    decoders = [inflate.decompressobj(31, device=device) for _ in range(3)]  # more than contexts
    stream = zlib.compress(text, wbits=31)
    outputs = [b""] * 3
    for at in range(0, len(stream), 300):
        for k, decoder in enumerate(decoders):
            outputs[k] += decoder.decompress(stream[at : at + 300])
    assert outputs == [text] * 3
    with pytest.raises(inflate.InflateError):
        inflate.decompress(stream[:200] + b"\xff" * 100, 31, device=device)


@pytest.fixture
def transcript(model, tmp_path):
    path = tmp_path / "model.jsonl"
    with record(model, path):
        work(model)
    return path


def test_a_transcript_of_one_world_holds_in_another(transcript, connect, world, tmp_path):
    """The same driver does the same to the model and to the gateware, transaction by transaction."""
    device = connect(f"{world}:inflate?memory=16M")
    with record(device, tmp_path / "other.jsonl"):
        work(device)
    count = compare(transcript, tmp_path / "other.jsonl")
    assert count > 50
    assert replay(transcript, connect(f"{world}:inflate?memory=16M")) == count


def test_a_transcript_of_slow_memory_is_the_same(transcript, connect, world, tmp_path):
    options = "&latency=90&jitter=30&stall=0.2&reorder=1&seed=9" if world == "sim" else ""
    assert replay(transcript, connect(f"{world}:inflate?memory=16M{options}")) > 50


def altered(path, number, **changes):
    lines = path.read_text().splitlines()
    entry = json.loads(lines[number])
    entry.update(changes)
    lines[number] = json.dumps(entry)
    path.write_text("\n".join(lines) + "\n")


def find(path, kind, nth=0):
    return [n for n, line in enumerate(path.read_text().splitlines()) if json.loads(line).get("k") == kind][nth]


def test_the_first_difference_is_shown(transcript, connect, tmp_path):
    number = find(transcript, "mr", 2)
    original = tmp_path / "original.jsonl"
    original.write_text(transcript.read_text())
    altered(transcript, number, h="0123456789abcdef")
    altered(transcript, find(transcript, "mr", 5), h="0123456789abcdef")
    with pytest.raises(
        Divergence,
        match=rf"differs at transaction {number} .cycle \d+.: expected mr a=0x.* h=0123456789abcdef.*, got mr",
    ) as caught:
        replay(transcript, connect("model:inflate?memory=16M"))
    assert caught.value.transaction == number and caught.value.cycle > 0
    with pytest.raises(Divergence, match=f"differs at transaction {number}"):
        compare(original, transcript)


def test_what_the_device_is_told_differently_shows_in_memory(transcript, connect):
    """Replaying against a device with another window, a long match is refused: the completion record differs."""
    number = find(transcript, "rw", 3)
    altered(transcript, number, v=32)  # a smaller ring
    with pytest.raises(Divergence, match="the register|timeout=it never came|differs at transaction"):
        replay(transcript, connect("model:inflate?memory=16M&contexts=1"))


def test_one_that_ends_early(transcript, tmp_path):
    lines = transcript.read_text().splitlines()
    short = tmp_path / "short.jsonl"
    short.write_text("\n".join(lines[:-2]) + "\n")
    with pytest.raises(Divergence, match=f"differs at transaction {len(lines) - 2}: expected m.*, got the end"):
        compare(transcript, short)
    with pytest.raises(Divergence, match="expected the end, got m"):
        compare(short, transcript)


def test_volatile_values_do_not_count(model, connect, tmp_path):
    path = tmp_path / "counter.jsonl"
    with record(model, path):
        assert model.regs.CYCLES_LO.value >= 0
        assert model.regs.PARAM_WINDOW.value == 32768
    other = connect("model:inflate?memory=16M")
    other.run(1000)
    assert replay(path, other) == 2
    with pytest.raises(
        Divergence, match="differs at transaction 2.*expected rr a=0x24 v=0x8000, got rr a=0x24 v=0x1000"
    ):
        replay(path, connect("model:inflate?memory=16M&window=4096"))


def test_waits_are_one_transaction(model, tmp_path):
    path = tmp_path / "wait.jsonl"
    with record(model, path):
        model.wait_register("RING_HEAD", 0xFFFF, 0)
        model.regs.snapshot()
        model.wait(lambda device: True)
    kinds = [json.loads(line)["k"] for line in path.read_text().splitlines()[1:]]
    assert kinds == ["until"]


def test_without_data(model, connect, tmp_path):
    path = tmp_path / "small.jsonl"
    with record(model, path, data=False):
        work(model)
    assert compare(path, path) > 50
    with pytest.raises(TranscriptError, match="recorded without data"):
        replay(path, connect("model:inflate?memory=16M"))


def test_one_recorder_at_a_time(model, tmp_path):
    with record(model, tmp_path / "a.jsonl"), pytest.raises(Exception, match="being recorded already"):
        with record(model, tmp_path / "b.jsonl"):
            pass
    with record(model, tmp_path / "c.jsonl"):
        pass


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "first line does not say so"),
        ("{}\n", "first line does not say so"),
        ("nonsense\n", "is no transcript: Expecting value"),
        ('{"transcript":99}\n', "has transcript format 99, this package reads 1"),
        ('{"transcript":1,"device":"inflate"}\n{"a":1}\n', "a line has no key 'k'"),
        ('{"transcript":1,"device":"lock"}\n', "was recorded on lock, this device is inflate"),
        ('{"transcript":1,"device":"inflate"}\n{"k":"zz"}\n', "unknown transaction kind 'zz'"),
        (
            '{"transcript":1,"device":"inflate"}\n{"k":"mw","a":0,"n":1,"h":"00","d":"eAEDAAAAAAE="}\n',
            "does not have the hash it should",
        ),
    ],
)
def test_what_is_no_transcript(model, tmp_path, text, message):
    path = tmp_path / "wrong.jsonl"
    path.write_text(text)
    with pytest.raises(TranscriptError, match=message):
        replay(path, model)
