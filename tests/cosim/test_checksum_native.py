# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""CRC32 and Adler32 against zlib over megabytes, which Amaranth's simulator is too slow for."""

import random
import zlib

import pytest

from rackgate.checksum.adler32 import Adler32
from rackgate.checksum.crc32 import CRC32
from rackgate_sim.native import Simulation, build

pytestmark = pytest.mark.cosim

KINDS = {"crc32": (CRC32, zlib.crc32, 0), "adler32": (Adler32, zlib.adler32, 1)}
ROUNDS, SIZE = 16, 1 << 17


@pytest.fixture(scope="module", params=KINDS)
def kind(request):
    """Model, reference and first value of a checksum."""
    block, reference, first = KINDS[request.param]
    return build(block(), name=request.param, key=()), reference, first


def settle(simulation, words):
    """Let the device take all words; return its value."""
    simulation.run(4 * words + 20)
    assert simulation.stream("i").pending == 0
    assert not simulation.peek("busy")
    return simulation.peek("value")


def test_megabytes(kind, seed):
    """Whole words of random data and of the largest bytes, in rounds; each goes on from the last."""
    library, reference, value = kind
    rng = random.Random(seed)
    with Simulation(library, seed=seed) as simulation:
        for index in range(ROUNDS):
            raw = b"\xff" * SIZE if index % 4 == 3 else rng.randbytes(SIZE)
            simulation.stream("i").push(8 << 64 | int.from_bytes(raw[k:k + 8], "little") for k in range(0, SIZE, 8))
            value = reference(raw, value)
            assert settle(simulation, SIZE // 8) == value, f"round {index}"


def test_counts_and_restarts(kind, seed):
    """Random counts, and restarts from random values in between, checked every 500 words."""
    library, reference, value = kind
    first, rng = value, random.Random(seed)
    with Simulation(library, seed=seed) as simulation:
        simulation.stream("i").stall(0.2)
        for index in range(100):
            words = []
            for _ in range(500):
                raw = rng.randbytes(rng.choice([8, 8, rng.randrange(9)]))
                restart = rng.random() < 0.1
                start = rng.choice([first, reference(rng.randbytes(9))]) if restart else rng.getrandbits(32)
                value = reference(raw, start if restart else value)
                data = int.from_bytes(raw + rng.randbytes(8 - len(raw)), "little")
                words.append({"data": data, "count": len(raw), "restart": restart, "value": start})
            simulation.stream("i").push(words)
            assert settle(simulation, len(words)) == value, f"after {500 * (index + 1)} words"
