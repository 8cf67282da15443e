# SPDX-License-Identifier: Apache-2.0
"""Streams between arrays in NIC memory."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import zeronic_allreduce
from test_zeronic_apps import BAD, hosts_up

from rackgate_host.zeronic.wire import Conditions


@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize("conditions", [None, BAD], ids=["clean", "perturbed"])
def test_ring_allreduce(tmp_path: Path, conditions: Conditions | None, size: int) -> None:
    seed = int.from_bytes(os.urandom(3), "little")
    print(f"values' seed {seed}")
    with hosts_up(tmp_path, "model:zeronic", conditions) as hosts:
        ranks = []
        for rank in range(size):
            arguments = [rank, size, hosts.address("ba"[rank % 2]), 7100, 50_000, seed]
            ranks.append(hosts.popen("ab"[rank % 2], [sys.executable, zeronic_allreduce.__file__, *map(str, arguments)],
                                     stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        told = [rank.communicate(timeout=120) for rank in ranks]
        assert [rank.returncode for rank in ranks] == [0] * size, told
        print(told)
        if conditions is None:
            assert [int(out) for out, _ in told] == [0] * size
