# SPDX-License-Identifier: Apache-2.0
"""Golden models behind golden bridges, for tests that take a device by its world: ``udp:inflate``, ``uart:inflate``."""

from collections.abc import Mapping

import numpy as np

import rackgate_host
from rackgate.bridge.abi import MEMORY_BASE
from rackgate.bridge.identity import Identity
from rackgate_host.devices import DEVICES
from rackgate_host.url import DeviceURL, number
from rackgate_sim.bridge import GoldenBridge, ModelDevice
from rackgate_sim.bridge_links import Faults, PtyBridge, UdpBridge
from rackgate_sim.devices import model
from rackgate_sim.inflate.model import FlatMemory

__all__ = ["FAULTY", "LINKS", "golden_bridge", "open_bridged"]

LINKS = {"udp": UdpBridge, "uart": PtyBridge}
#: A link that is worse than any that a board has.
FAULTY = {"loss": 0.01, "duplicate": 0.03, "reorder": 0.03, "corrupt": 0.01}


def golden_bridge(system: str = "inflate", memory: int = 16 << 20, *, identity: Mapping[str, object] | None = None,
                  window: int = 8, cycles_per_message: int = 512, **parameters: int) -> GoldenBridge:
    """A bridge before the model of a system."""
    if not DEVICES[system].has_memory:
        memory = 0
    storage = FlatMemory(np.zeros(memory, np.uint8), MEMORY_BASE) if memory else None
    said = {"system": system, "board": "golden", "clock_khz": 50_000, "memory_base": MEMORY_BASE,
            "memory_size": memory, "release": (0, 1, 0), "parameters": parameters, "build": bytes(range(32))}
    return GoldenBridge(ModelDevice(model(system, storage, **parameters), storage),
                        Identity(**{**said, **(identity or {})}), window=window, cycles_per_message=cycles_per_message)


def open_bridged(url: str, seed: int, options: Mapping[str, object]) -> rackgate_host.Device:
    """Open ``udp:SYSTEM?parameter=...`` or ``uart:...``, behind a link with faults. It ends with the device."""
    parsed = DeviceURL.parse(url)
    wanted = {name: number(name, value) for name, value in {**parsed.options, **options}.items()}
    serving = LINKS[parsed.scheme](golden_bridge(parsed.name, **wanted), Faults(**FAULTY, seed=seed))
    try:
        device = rackgate_host.open(serving.url)
    except BaseException:
        serving.close()
        raise
    close = device.transport.close

    def close_both() -> None:
        close()
        serving.close()

    device.transport.close = close_both
    return device
