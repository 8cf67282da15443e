# SPDX-License-Identifier: Apache-2.0
"""The accelerator on a simulated board, at its serial line: driver tests, unchanged, and a transcript."""

import random
import zlib

import pytest
from test_iaa_driver import (
    ECMA,
    deflate,
    put,
    test_crc32c_and_suppressed_output,
    test_damaged_memory_is_noticed,
    test_drain_and_list,
    test_errors_are_told,
    test_fill,
    test_one_job,
    test_refused_commands_and_software_errors,
    test_seeds_of_a_table,
    test_wrong_states,
    text,
)

import rackgate_host
from rackgate_host.iaa import Framing, IaaDriver, InvalidData, Job, Status
from rackgate_host.transcript import compare, record
from rackgate_sim.board.serve import serve

# Those that move a few KB: a simulated serial line takes minutes for more.
__all__ = ["test_crc32c_and_suppressed_output", "test_damaged_memory_is_noticed", "test_drain_and_list",
           "test_errors_are_told", "test_fill", "test_one_job", "test_refused_commands_and_software_errors",
           "test_seeds_of_a_table", "test_wrong_states"]

pytestmark = [pytest.mark.cosim, pytest.mark.thorough, pytest.mark.xdist_group("native")]

#: The smallest accelerator there is.
SMALL = {"engines": 1, "queues": 1, "entries": 8, "contexts": 1, "window": 4096, "lanes": 8, "memory": 1 << 20}


@pytest.fixture(scope="module")
def board():
    with serve("iaa", "uart", SMALL) as served:
        yield served


@pytest.fixture
def device(board):
    with rackgate_host.open(board.url) as device:
        yield device


@pytest.fixture
def driver(device):
    return IaaDriver(device)


def work(device):
    """A bit of everything that the driver does, but for what depends on time."""
    rng = random.Random(7)
    driver = IaaDriver(device)
    content = text(rng, 1500)
    for framing in Framing:
        assert driver.decompress(deflate(content, framing), framing, size=len(content)) == content
    assert driver.decompress(deflate(content)) == content
    assert driver.decompress_many([deflate(content[:at]) for at in (1, 90, 700)], 1024) == [
        content[:at] for at in (1, 90, 700)]
    with pytest.raises(InvalidData):
        driver.decompress(deflate(content)[:-20])
    table = driver.load_table(b"", crc=zlib.crc32(b"before"))
    job = Job.decompress(put(device, deflate(content)), device.allocate(2000), table=table)
    completion = driver.submit(job).wait()
    assert (completion.status, completion.crc) == (Status.SUCCESS, zlib.crc32(b"before" + content))
    assert driver.crc64(content[:100], ECMA)
    buffer = device.allocate(100)
    driver.fill(buffer, 5)
    assert driver.fallbacks == 1 and device.regs.COMPLETED.value > 8  # software has looked at what was cut


def test_transcripts(board, tmp_path):
    """Transaction by transaction the driver does the same to the simulated board and to the native simulation."""
    places = tmp_path / "sim.jsonl", tmp_path / "board.jsonl"
    with rackgate_host.open("sim:iaa?variant=brief", **SMALL) as device, record(device, places[0]):
        work(device)
    with rackgate_host.open(board.url) as device, record(device, places[1]):
        work(device)
    assert compare(*places) > 50
