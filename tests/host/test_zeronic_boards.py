# SPDX-License-Identifier: Apache-2.0
"""The NIC's driver behind a bridge: its rings where host and device share no memory."""

import pytest
from bridged import open_bridged

from rackgate_host import OutOfDeviceMemory, Unavailable
from rackgate_host.zeronic.nic import Nic


@pytest.mark.thorough
def test_rings_wrap_behind_a_bridge(seed):
    """Commands go down and answers come up, each once and in order, on a link with faults."""
    told = []
    with open_bridged("udp:zeronic?memory=64K&cycles_per_message=2000", seed, {}) as device:
        nic = Nic(device, command_bytes=1 << 12, entry_bytes=1 << 12)
        for number in range(150):
            nic.move_cursor(0, number)
            nic.fence(lambda number=number: told.append(number))
            if number % 10 == 9:
                nic.settle()
                assert not list(nic.entries())  # fences are not shown
        assert told == list(range(150))
        assert nic.command_bytes > 4096 and nic.entry_bytes > 2048 and not nic.counters()["bad_command"]
        with pytest.raises(Unavailable, match="packets of net_rx come and go at the board's network port"):
            nic.receive(bytes(60))


def test_rings_must_fit_a_boards_memory(seed):
    with open_bridged("udp:zeronic?memory=64K", seed, {}) as device:
        with pytest.raises(OutOfDeviceMemory, match="262144 bytes of device memory were asked for"):
            Nic(device)
