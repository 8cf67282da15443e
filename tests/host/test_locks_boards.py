# SPDX-License-Identifier: Apache-2.0
"""Locks of a switch on a board: where its hosts are, and what a service refuses."""

import asyncio
import socket

import pytest
from bridged import open_bridged

from rackgate_host.device import open_device
from rackgate_host.errors import UsageError
from rackgate_host.locks import NoService
from rackgate_host.locks import neighbours as module
from rackgate_host.locks.neighbours import find, hardware_address, is_loopback
from rackgate_host.locks.protocols import PROTOCOLS
from rackgate_host.locks.server import Service
from rackgate_host.switch import Switch

PROTOCOL = PROTOCOLS["fisslock"]
TABLE = """\
IP address       HW type     Flags       HW address            Mask     Device
192.0.2.10       0x1         0x2         02:52:47:00:00:01     *        eth0
192.0.2.11       0x1         0x0         00:00:00:00:00:00     *        eth0
"""


def test_neighbours_are_the_kernels(tmp_path):
    table = tmp_path / "arp"
    table.write_text(TABLE)
    assert hardware_address("192.0.2.10", table) == 0x0252_4700_0001
    assert hardware_address("192.0.2.11", table) is None and hardware_address("192.0.2.1", table) is None
    assert hardware_address("192.0.2.10", tmp_path / "none") is None


def test_this_machine_is_its_own_neighbour(tmp_path):
    assert "lo" in {name for _, name in socket.if_nameindex()}
    assert hardware_address("127.0.0.1", tmp_path / "none") == 0  # the loopback interface has that
    assert is_loopback("127.0.0.7") and is_loopback("localhost")
    assert not is_loopback("192.0.2.1") and not is_loopback("host.example")


def test_a_newcomer_is_asked_for(monkeypatch):
    sent = []
    monkeypatch.setattr(module, "_AGAIN", 0)
    monkeypatch.setattr(module, "hardware_address", lambda address: 5 if len(sent) == 3 else None)
    assert asyncio.run(find("192.0.2.7", lambda: sent.append(1))) == 5 and len(sent) == 3
    monkeypatch.setattr(module, "hardware_address", lambda address: None)
    assert asyncio.run(find("192.0.2.7", lambda: sent.append(1))) is None and len(sent) == 3 + module._LOOKS


def test_a_board_has_an_address_of_its_own(seed):
    with open_device("model:fisslock?locks=64") as device:
        with pytest.raises(UsageError, match="board must be given for a switch on a board, and for no other"):
            Service(PROTOCOL, Switch(device), board=("192.0.2.10", 20001))
    device = open_bridged("udp:fisslock?locks=64", seed, {})
    with device:
        switch = Switch(device)
        with pytest.raises(UsageError, match="board must be given for a switch on a board, and for no other"):
            Service(PROTOCOL, switch)
        service = Service(PROTOCOL, switch, board=("192.0.2.10", 20001))
        with pytest.raises(NoService, match=r"127.0.0.1:0: hosts send to the board at 192.0.2.10 from the address by "
                                            "which they reach the service: listen in the board's network"):
            asyncio.run(service.start(("127.0.0.1", 0)))
