# SPDX-License-Identifier: Apache-2.0
"""Native co-simulation: a device's Verilated model as a shared library, driven from Python.

``build`` makes the library from any component whose signature follows the device contract; ``Simulation``
drives one device.
"""

from .build import Library, build
from .cluster import Cluster, LinkInfo, LinkStatistics
from .coverage import Coverage, Tally
from .crossbar import Crossbar, PortStatistics, Route, Traffic
from .errors import (
    AssertionFailure,
    ProtocolError,
    RegisterError,
    SimulationError,
    SimulationTimeout,
    ToolError,
)
from .fabric import Fabric
from .memory import MemoryPort, MemoryStatistics
from .simulation import Event, Simulation
from .streams import InputStream, OutputStream, Packet
from .timetravel import TimeTravel

__all__ = [
    "AssertionFailure",
    "Cluster",
    "Coverage",
    "Crossbar",
    "Event",
    "Fabric",
    "InputStream",
    "Library",
    "LinkInfo",
    "LinkStatistics",
    "MemoryPort",
    "MemoryStatistics",
    "OutputStream",
    "Packet",
    "PortStatistics",
    "ProtocolError",
    "RegisterError",
    "Route",
    "Simulation",
    "SimulationError",
    "SimulationTimeout",
    "Tally",
    "TimeTravel",
    "ToolError",
    "Traffic",
    "build",
]
