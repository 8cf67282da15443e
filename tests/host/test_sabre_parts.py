# SPDX-License-Identifier: Apache-2.0
"""Small parts of recording and restoring: messages, the throttle, reading files, records of touches."""

import mmap
import os
import socket
import struct
import threading

import numpy as np
import pytest

from rackgate_host.sabre.channel import Channel, ChannelClosed, SabreTimeout
from rackgate_host.sabre.errors import SabreError
from rackgate_host.sabre.storage import Storage, drop_cache, resident_fraction
from rackgate_host.sabre.throttle import Throttle
from rackgate_host.sabre.touches import Stability, Touches, working_set

PAGE = 4096


@pytest.fixture
def ends():
    pair = Channel.pair()
    yield pair
    for end in pair:
        end.close()


def test_messages_arrive_in_order_with_their_descriptors(ends):
    here, there = ends
    read, write = os.pipe()
    here.send({"kind": "first", "text": "x" * 10_000})
    here.send({"kind": "second"}, [write])
    os.close(write)
    assert there.receive(5, "the first")[0]["text"] == "x" * 10_000
    message, (descriptor,) = there.receive(5, "the second")
    assert message == {"kind": "second"} and not os.get_inheritable(descriptor)
    os.write(descriptor, b"!")
    assert os.read(read, 1) == b"!"
    os.close(read)
    os.close(descriptor)


def test_a_message_in_pieces_is_taken_when_it_is_whole(ends):
    here, there = ends
    text = b'{"kind":"x"}'
    data = struct.pack("<II", len(text), 0) + text
    for byte in data[:-1]:
        here._socket.send(bytes([byte]))
        there.read_ready("x")
        assert there.take() is None
    there.read_ready("nothing")
    here._socket.send(data[-1:])
    there.read_ready("x")
    assert there.take() == ({"kind": "x"}, [])


def test_waits_end_with_what_was_waited_for(ends):
    here, there = ends
    with pytest.raises(SabreTimeout, match="waited 0.02 s for the moon") as caught:
        here.receive(0.02, "the moon")
    assert caught.value.exit_code == 4 and isinstance(caught.value, TimeoutError)
    with pytest.raises(SabreTimeout, match="sent a big message for 0.05 s: nobody reads"):
        here.send({"kind": "big", "text": "x" * 10_000_000}, timeout=0.05)


def test_a_closed_channel_is_no_endless_wait(ends):
    here, there = ends
    there.close()
    with pytest.raises(ChannelClosed, match="closed the channel; the answer was awaited"):
        here.receive(5, "the answer")
    with pytest.raises(ChannelClosed, match="cannot send x"):
        for _ in range(3):
            here.send({"kind": "x"})


@pytest.mark.parametrize("head, message", [
    (struct.pack("<II", 1 << 29, 0), "a message of 536870912 bytes came"),
    (struct.pack("<II", 2, 1) + b"{}", "1 descriptors were announced, 0 came"),
])
def test_messages_that_cannot_be(ends, head, message):
    here, there = ends
    here._socket.send(head)
    with pytest.raises(SabreError, match=message):
        there.receive(5, "x")


def test_descriptors_that_nobody_took_are_closed():
    first, second = socket.socketpair()
    here, there = Channel(first), Channel(second)
    read, write = os.pipe()
    here.send({"kind": "x"}, [write])
    os.close(write)
    there.read_ready("x")
    there.close()
    assert os.read(read, 1) == b"", "the last writer is gone"
    os.close(read)
    here.close()


class Clock:
    def __init__(self):
        self.now = 10.0
        self.slept = []

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds


def test_requests_come_one_after_the_other_at_the_rate():
    clock = Clock()
    throttle = Throttle(1000, clock=clock, sleep=clock.sleep)
    assert [throttle.reserve(500), throttle.reserve(250)] == [10.5, 10.75]
    throttle.wait(10.75)
    assert clock.slept == [0.75]
    clock.now = 20
    assert throttle.reserve(1000) == 21, "idle time is not saved up"
    throttle.wait(19)
    assert clock.slept == [0.75], "what is there is not waited for"


def test_latency_runs_beside_the_transfer():
    clock = Clock()
    throttle = Throttle(1000, latency=0.3, clock=clock, sleep=clock.sleep)
    assert [throttle.reserve(100), throttle.reserve(100), throttle.reserve(500)] == pytest.approx([10.3, 10.3, 10.7])
    assert Throttle(None, latency=0.5, clock=clock).reserve(10**9) == 10.5


@pytest.mark.parametrize("rate, latency, message", [
    (0, 0, "rate must be above 0 bytes/s, not 0"), (-1, 0, "not -1"), (float("nan"), 0, "not nan"),
    (float("inf"), 0, "not inf"), (1, -1, "latency must be 0 s or more, not -1")])
def test_rates_that_make_no_sense(rate, latency, message):
    with pytest.raises(ValueError, match=message):
        Throttle(rate, latency)


@pytest.mark.parametrize("direct", [True, False])
def test_files_are_read_from_any_block(tmp_path, direct):
    path = tmp_path / "file"
    data = np.random.default_rng(1).bytes(5 * PAGE)
    path.write_bytes(data)
    storage = Storage(path, direct=direct)
    assert storage.size == 5 * PAGE and not (storage.direct and not direct)
    aligned = memoryview(mmap.mmap(-1, 3 * PAGE))
    storage.read(PAGE, aligned, 3 * PAGE)
    assert bytes(aligned) == data[PAGE:4 * PAGE]
    assert storage.bytes_read == 3 * PAGE and storage.busy > 0
    storage.read(4 * PAGE, aligned, PAGE)
    assert bytes(aligned[:PAGE]) == data[4 * PAGE:]
    with pytest.raises(SabreError, match=rf"file: the file ends at {5 * PAGE}, {PAGE} bytes short"):
        storage.read(3 * PAGE, aligned, 3 * PAGE)
    storage.close()
    with pytest.raises(SabreError, match="cannot read 12288 bytes at 0: Bad file descriptor"):
        storage.read(0, aligned, PAGE)


def test_the_page_cache_is_dropped_and_that_is_checked(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(bytes(range(256)) * 16 * 50)
    with open(path, "rb") as file:
        os.fdatasync(file.fileno())
        file.read()
        assert resident_fraction(file.fileno()) == 1.0
        left = drop_cache(file.fileno())
        assert left == resident_fraction(file.fileno())
        if left:
            pytest.skip("this file system keeps its pages in memory")
    (tmp_path / "empty").touch()
    with open(tmp_path / "empty", "rb") as file:
        assert resident_fraction(file.fileno()) == 0.0


def touches(*pages, times=None):
    return Touches(np.zeros(len(pages), np.int64), np.array(pages), np.array(times or range(len(pages))))


def test_stability_of_runs():
    runs = [touches(1, 2, 3, 4), touches(4, 3, 2, 1), touches(1, 2, 9)]
    stability = Stability.of(runs)
    assert (stability.runs, stability.union, stability.intersection) == (3, 5, 2)
    assert stability.least == 0.4 and stability.mean == pytest.approx((1 + 0.4 + 0.4) / 3)
    assert Stability.of(runs[:1]).mean == 1.0 and Stability.of([touches(), touches()]).least == 1.0
    with pytest.raises(ValueError, match="at least one run"):
        Stability.of([])


def test_the_working_set_is_in_the_order_of_first_touches():
    first, second = touches(5, 1, 3), touches(5, 3, 7)
    assert working_set([first]) == [(0, 5), (0, 1), (0, 3)]
    assert working_set([first, second]) == [(0, 5), (0, 3), (0, 1), (0, 7)]
    assert working_set([first, second], at_least=2) == [(0, 5), (0, 3)]
    assert working_set([]) == []
    with pytest.raises(ValueError, match="at_least must be 1 to 2, the number of runs, not 3"):
        working_set([first, second], at_least=3)


def test_records_survive_their_file(tmp_path):
    runs = [Touches(np.array([0, 1]), np.array([7, 8]), np.array([10, 2000]), repeated=3, removed=1), touches()]
    Touches.save(tmp_path / "t.json", runs)
    back = Touches.load(tmp_path / "t.json")
    assert [run.as_json() for run in back] == [run.as_json() for run in runs]
    assert back[0].order == [(0, 7), (1, 8)] and len(back[0]) == 2 and len(back[1]) == 0


@pytest.mark.parametrize("text, message", [
    ("{", "no JSON"), ("[]", "no record of touches of version 1"), ('{"rackgate-touches": 2}', "of version 1"),
    ('{"rackgate-touches": 1, "runs": [{}]}', "no recorded run"),
    ('{"rackgate-touches": 1, "runs": [{"touches": [[0, -1, 0]], "repeated": 0, "removed": 0}]}', "below 0"),
    ('{"rackgate-touches": 1, "runs": [{"touches": [[0, 1]], "repeated": 0, "removed": 0}]}', "no recorded run"),
    ('{"rackgate-touches": 1, "runs": [{"touches": [["a", 1, 2]], "repeated": 0, "removed": 0}]}', "no recorded run"),
])
def test_files_that_are_no_records(tmp_path, text, message):
    path = tmp_path / "t.json"
    path.write_text(text)
    with pytest.raises(SabreError, match=message):
        Touches.load(path)


def test_a_throttle_is_shared_by_threads():
    throttle = Throttle(1e9)
    ends = []
    threads = [threading.Thread(target=lambda: ends.extend(throttle.reserve(1000) for _ in range(200)))
               for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(ends)) == 800
