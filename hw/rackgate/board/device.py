# SPDX-License-Identifier: Apache-2.0
"""A system by name, ready for a board, with an identity that says what it was built from."""

import hashlib
import json
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version

from rackgate.board.links import Uart, Udp
from rackgate.board.top import BoardTop
from rackgate.bridge.abi import MEMORY_BASE
from rackgate.bridge.identity import Identity
from rackgate.provenance import sources
from rackgate.systems import component

__all__ = ["board_device"]


def _release() -> tuple[int, int, int]:
    try:
        major, minor, patch = (int(part) for part in version("rackgate").split(".")[:3])
    except (PackageNotFoundError, ValueError):
        return 0, 0, 0
    return major, minor, patch


def board_device(system: str, parameters: Mapping[str, int], *, board: str, link: Uart | Udp, clock_hz: int,
                 memory: int) -> BoardTop:
    """System ``system`` with ``parameters`` on a board of name ``board`` (``simulation`` for none).

    Parameters
    ----------
    system, parameters:
        As for :func:`rackgate.systems.component`.
    board:
        Name of the board, for the identity.
    link:
        How the host reaches it.
    clock_hz:
        Frequency of ``sync``.
    memory:
        Bytes of on-chip memory; of no effect for a system that works on none.

    Raises
    ------
    ValueError
        When a value is wrong.
    """
    top = component(system, **parameters)
    files = {**sources(BoardTop.__module__), **sources(type(top).__module__)}
    text = json.dumps([sorted((name, source.digest) for name, source in files.items()), system, board, repr(link),
                       clock_hz, memory, sorted(parameters.items()), top.build])
    has_memory = "mem" in top.signature.members
    identity = Identity(
        system=system, board=board, clock_khz=clock_hz // 1000, memory_base=MEMORY_BASE if has_memory else 0,
        memory_size=memory if has_memory else 0, release=_release(), parameters=dict(parameters),
        build=hashlib.sha256(text.encode()).digest())
    return BoardTop(top, identity=identity, link=link)
