# SPDX-License-Identifier: Apache-2.0
"""Collectives that a user loads into running engines."""

from typing import TYPE_CHECKING, Any

import numpy as np

from rackgate.arith.abi import Function
from rackgate.collective.abi import NODES
from rackgate.collective.programs.contract import Case
from rackgate.collective.programs.program import Program, build

from ..errors import UsageError
from .calls import Arguments
from .constants import InPlace
from .engine import Engine

if TYPE_CHECKING:
    from .communicator import Communicator

__all__ = ["load", "plan"]

#: Programs of collectives that have been checked, so that each rank need not do it again.
_built: dict[int, tuple[Any, Program]] = {}


def _program(collective: Any) -> Program:
    if isinstance(collective, Program):
        return collective
    known = _built.get(id(collective))
    if known is None:
        known = _built[id(collective)] = collective, build(collective, ranks=range(1, NODES + 1))
    return known[1]


def load(engine: Engine, collective: Any, name: str | None) -> str:
    """:meth:`.Communicator.load_collective`. A name that is taken gets the new program."""
    program = _program(collective)
    name = program.name if name is None else name
    if name in engine.names:
        engine.replace(engine.names[name], program)
    else:
        engine.names[name] = engine.load(program)
    return name


def plan(comm: "Communicator", name: str, operand: Any, result: Any, *, root: int, op: Function, count: int | None,
         wire: str | None) -> Arguments:
    """A call of a loaded collective, checked against its contract."""
    engine = comm.engine
    if name not in engine.names:
        known = ", ".join(engine.names) or "none"
        raise UsageError(f"rank {comm.rank} has no collective {name!r}: loaded are {known}")
    scenario = engine.names[name]
    contract = engine.program(scenario).contract
    one = Case(comm.size, 1, root)
    units = {"operand": contract.operand(one, comm.rank), "result": contract.result(one, comm.rank)}
    is_in_place = isinstance(operand, InPlace)
    given = {"operand": None if is_in_place else operand, "result": result}
    if count is None:
        count = next((array.size // units[what] for what, array in given.items()
                      if isinstance(array, np.ndarray) and units[what]), 0)
    case = Case(comm.size, count, root)
    wanted = {"operand": contract.operand(case, comm.rank), "result": contract.result(case, comm.rank)}
    in_place = None
    if is_in_place:
        if contract.in_place is None:
            raise ValueError(f"{name}: operand and result must not overlap")
        in_place = contract.in_place(case, comm.rank)
        wanted["result"] = max(wanted["result"], in_place + wanted["operand"])
    for what, array in given.items():
        length = array.size if isinstance(array, np.ndarray) else 0
        if length != wanted[what] and not (is_in_place and what == "operand"):
            raise ValueError(f"{name}: rank {comm.rank} needs {what} of {wanted[what]} elements, not {length} "
                             f"(count {count}, {comm.size} ranks, root {root})")
    return Arguments(
        name, scenario, operand=given["operand"] if wanted["operand"] else None,
        result=result if wanted["result"] else None, count=count, in_place=in_place, peer=root, function=op, wire=wire,
        scratch=contract.scratch(case, comm.rank), scratch_1=contract.operand_1(case, comm.rank))
