# SPDX-License-Identifier: Apache-2.0
"""The client that docs/bridge.md shows, as it is there, against the golden bridge behind a network that loses."""

import random
import re
import socket
import threading
from pathlib import Path

import pytest
from bridge_rig import IDENTITY, Device

from rackgate.bridge.abi import Status
from rackgate_sim.bridge import GoldenBridge

PAGE = Path(__file__).parents[2] / "docs" / "bridge.md"


@pytest.mark.thorough
def test_client(seed, capsys):
    bridge, rng, lost = GoldenBridge(Device(), IDENTITY), random.Random(seed), []
    code, = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as device:
        device.bind(("127.0.0.1", 0))

        def serve():
            while (datagram := device.recvfrom(2048))[0]:
                answer = bridge.answer(datagram[0]) if rng.random() > 0.3 else None
                if answer is None or rng.random() < 0.3:
                    lost.append(datagram)
                else:
                    device.sendto(answer, datagram[1])

        server = threading.Thread(target=serve)
        server.start()
        names = {}
        try:
            exec(code.replace('("192.0.2.10", abi.UDP_PORT)', repr(device.getsockname())), names)
        finally:
            if wire := names.get("wire"):
                wire.send(b"")  # ends the server
                wire.close()
            server.join(10)
    results = names["operations"].unpack_results(names["answer"].body)
    assert [one.status for one in results] == [Status.OK] * 3
    assert results[1].data[3:] == b"hello" and "hello" in capsys.readouterr().out
    assert bridge.device.registers.log == [0], "the register was read more than once"
