# SPDX-License-Identifier: Apache-2.0
"""The pages of the report, one module each: what of the records they show."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ..plots import Section
from ..records import Results
from . import area, collectives, fisslock, sabre, simulator, zeronic

__all__ = ["PAGES", "Page"]


@dataclass(frozen=True)
class Page:
    """A page of a system: its file's name without suffix, its titles, whose records it shows, and what of them.

    ``paper`` is the key of the paper whose headlines it repeats, if it has one.
    """

    name: str
    title: str
    about: str
    benches: Sequence[str]
    sections: Callable[[Results], Sequence[Section]]
    paper: str | None = None


PAGES: Mapping[str, Page] = {page.name: page for page in (
    Page("sabre", "Inflate, IAA and Sabre", "Deflate in gateware, Intel IAA's interface in front of it, and memory "
         "snapshots that are restored through it.", ("inflate", "iaa", "sabre"), sabre.sections, "sabre"),
    Page("fisslock", "FissLock", "Locks that a switch decides on, with NetLock and a lock server beside it.",
         ("locks",), fisslock.sections, "fisslock"),
    Page("collectives", "Collectives", "ACCL+: collectives between nodes, on an engine that runs them as programs.",
         ("collectives",), collectives.sections, "accl"),
    Page("zeronic", "ZeroNIC", "A NIC that moves payload while Linux' TCP sees headers.", ("zeronic",),
         zeronic.sections, "zeronic"),
    Page("simulator", "Simulator speed", "Simulated cycles a second of one design under one traffic. They say how long "
         "one waits for a simulation, nothing of the hardware.", ("cosim",), simulator.sections),
    Page("area", "Area and clock", "Engines placed and routed for a Lattice ECP5 with open tools.", ("area",),
         area.sections),
)}
