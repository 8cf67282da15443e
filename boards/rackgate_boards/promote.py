# SPDX-License-Identifier: Apache-2.0
"""Resets and enables of thousands of flip-flops, put on global networks as clocks are.

nextpnr promotes clocks by itself, and leaves all else to the wires of the fabric. A reset of 16,000 flip-flops is then
a net over the whole device: what comes into conflict with it frees hundreds of its arcs, and router1 takes up as many
as it lays. A ``DCCA`` (global buffer) that stands in the netlist is taken as it is, and eight of the sixteen global
networks reach ``LSR`` and ``CE`` of slices (Lattice FPGA-TN-02200, nextpnr's ``ecp5/globals.cc``).
"""

import json
import operator
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["LOADS", "MOST_NETWORKS", "NETWORKS", "check_networks", "promote", "promote_file"]

#: From how many loads on a net is promoted.
LOADS = 2000
#: How many networks reach the fabric.
MOST_NETWORKS = 8
#: How many nets are promoted if it is not said: half of the networks are left to clocks that drive logic too.
NETWORKS = 4

_PORTS = ("LSR", "CE")


def check_networks(networks: int) -> None:
    """Raise ValueError unless so many nets can be promoted."""
    if not 0 <= operator.index(networks) <= MOST_NETWORKS:
        raise ValueError(f"networks must be 0 to {MOST_NETWORKS}, not {networks}")


def promote(module: dict[str, Any], networks: int = NETWORKS) -> dict[str, int]:
    """Put a global buffer between the nets of most ``LSR`` and ``CE`` loads and those loads.

    Other loads of such a net, of logic and of block RAM, stay where they are, before the buffer.

    Parameters
    ----------
    module:
        A mapped one as Yosys' ``write_json`` has it. It is changed.
    networks:
        How many nets at most, 0 to :data:`MOST_NETWORKS`.

    Returns
    -------
    Names of the nets that are on a network now, and how many loads went there.

    Raises
    ------
    ValueError
        ``networks`` is out of its range.
    """
    check_networks(networks)
    cells, nets = module["cells"], module["netnames"]
    loads: dict[int, list[tuple[dict[str, Any], str]]] = defaultdict(list)
    for cell in cells.values():
        if cell["type"] == "TRELLIS_FF":
            for port in _PORTS:
                bit, = cell["connections"].get(port) or [None]
                if isinstance(bit, int):  # constants are texts
                    loads[bit].append((cell["connections"], port))
    widest = sorted(loads, key=lambda bit: len(loads[bit]), reverse=True)[:networks]
    chosen = [bit for bit in widest if len(loads[bit]) >= LOADS]
    if not chosen:
        return {}
    named: dict[int, str] = {}
    for name, net in nets.items():
        for index, bit in enumerate(net["bits"]):
            if bit in chosen:
                one = name if len(net["bits"]) == 1 else f"{name}[{index}]"
                named[bit] = min(named.get(bit, one), one, key=len)
    fresh = 1 + max(bit for net in nets.values() for bit in net["bits"] if isinstance(bit, int))
    for out, bit in enumerate(chosen, fresh):
        for connections, port in loads[bit]:
            connections[port] = [out]
        name = f"{named[bit]}$global"
        nets[name] = {"hide_name": 1, "bits": [out], "attributes": {}}
        cells[f"{name}$buffer"] = {
            "hide_name": 1, "type": "DCCA", "parameters": {}, "attributes": {},
            "port_directions": {"CLKI": "input", "CLKO": "output"}, "connections": {"CLKI": [bit], "CLKO": [out]}}
    return {named[bit]: len(loads[bit]) for bit in chosen}


def promote_file(path: Path, report: Callable[[str], None], networks: int = NETWORKS) -> None:
    """:func:`promote` what is in the module ``top`` of the file at ``path``, and report what was."""
    netlist = json.loads(path.read_text())
    promoted = promote(netlist["modules"]["top"], networks)
    if promoted:
        path.write_text(json.dumps(netlist))
    for net, loads in promoted.items():
        report(f"{net} goes to {loads} flip-flops by a global network")
