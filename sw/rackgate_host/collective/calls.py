# SPDX-License-Identifier: Apache-2.0
"""From arrays and ranks to a call of the engine, and back to arrays and ranks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rackgate.arith.abi import ElementType, Function
from rackgate.collective.abi import Call, CallFlag, Completion, Scenario, StreamFlag

from .buffers import Operands, check_array, element_type
from .constants import Stream
from .engine import Engine
from .errors import failure
from .requests import Claim, Kind, Request

__all__ = ["Arguments", "Argument", "start"]

Argument = np.ndarray | Stream | None


@dataclass
class Arguments:
    """What a call is made with, checked.

    Parameters
    ----------
    name:
        The method, for errors.
    scenario:
        What to do, and ``program`` the scenario of the program that does it.
    operand, operand_1, result:
        Arrays; ``None``: this rank has none.
    count:
        Elements, as the call counts them.
    in_place:
        The operand is in the result's buffer, so many elements behind its start; ``None``: it is not.
    result_is_read, operand_is_written:
        The call begins with what is in the result's buffer, or leaves something in the operand's.
    scratch:
        Elements that the program wants in place of a result.
    peer, tag, function, wire:
        As the call's.
    told:
        More for the text.
    """

    name: str
    scenario: int
    operand: Argument = None
    result: Argument = None
    operand_1: Argument = None
    count: int = 0
    dtype: Any = np.uint8
    in_place: int | None = None
    operand_is_written: bool = False
    scratch: int = 0
    scratch_1: int = 0
    peer: int = 0
    tag: int = 0
    function: Function = Function.SUM
    is_reduced: bool = False
    wire: str | None = None
    kind: Kind = Kind.COLLECTIVE
    claim: Claim | None = None
    told: str = ""
    program: int = field(init=False)
    element: ElementType = field(init=False)

    def __post_init__(self) -> None:
        self.program = self.scenario
        for name in ("operand", "operand_1", "result"):
            array = getattr(self, name)
            if isinstance(array, Stream) or array is None:
                continue
            check_array(f"{self.name}: the {_CALLED[name]}", array, is_written=name == "result")
        given = [array for array in (self.operand, self.operand_1, self.result) if array is not None]
        dtypes = [np.dtype(array.dtype) for array in given]
        if any(dtype != dtypes[0] for dtype in dtypes):
            raise TypeError(f"{self.name}: all arrays must have one type, not {' and '.join(map(str, dtypes))}")
        dtype = dtypes[0] if dtypes else np.dtype(np.int32)
        self.element = element_type(dtype)
        self.dtype = dtype
        self._check_overlap()
        try:
            self.function = Function(self.function)
        except ValueError:
            raise ValueError(f"{self.name}: op must be SUM, MAX or MIN, not {self.function!r}") from None
        if self.wire not in (None, "float16"):
            raise ValueError(f"{self.name}: wire must be 'float16' or None, not {self.wire!r}")
        if self.wire and self.element != ElementType.FLOAT32:
            raise TypeError(f"{self.name}: wire='float16' needs float32 elements, not {dtype}")

    def _check_overlap(self) -> None:
        arrays = [array for array in (self.operand, self.operand_1) if isinstance(array, np.ndarray)]
        if isinstance(self.result, np.ndarray):
            for array in arrays:
                if array is not self.result and self.in_place is None and np.may_share_memory(array, self.result):
                    raise ValueError(f"{self.name}: the {_CALLED['result']} and an operand overlap: give IN_PLACE for "
                                     "the operand, or another array")


_CALLED = {"operand": "send buffer", "operand_1": "second operand", "result": "receive buffer"}


def start(engine: Engine, arguments: Arguments, *, communicator: int, rank: int, nodes: Sequence[int],
          finish: Callable[[Request, Completion], None] | None = None) -> Request:
    """Place the arrays and make the call on a communicator with these ``nodes``.

    ``finish`` is called with the request and its completion when it has ended well.
    """
    what = f"{arguments.name} of {arguments.count} {arguments.element.dtype}{arguments.told}"
    if not engine.supports(arguments.element, is_reduced=arguments.is_reduced, is_compressed=bool(arguments.wire)):
        raise TypeError(f"rank {rank}: {what}: node {engine.node} was built without this type")
    operands = Operands(engine.device)
    try:
        call = _placed(engine, operands, arguments, communicator)
    except BaseException:
        operands.release()
        raise

    def ended(completion: Completion) -> None:
        if arguments.scenario == Scenario.RECV:
            size = completion.bytes * (2 if arguments.wire else 1)
            request.status.bytes, request.status.source = size, arguments.peer
            if arguments.peer == Call.ANY_SOURCE:
                request.status.source = nodes.index(completion.node) if completion.node in nodes else None
            request.status.tag = completion.tag
            operands.fetch(size)
        else:
            operands.fetch()
        if finish is not None:
            finish(request, completion)

    def fail(completion: Completion) -> Any:
        node = completion.node
        peer = f"rank {nodes.index(node)} (node {node})" if node in nodes else f"node {node}"
        if arguments.scenario == Scenario.RECV and arguments.peer == Call.ANY_SOURCE:
            peer = "any rank"
        return failure(completion.status, completion.cause, node, rank=rank, size=len(nodes),
                       operation=arguments.name, what=what, peer=peer, timeout=engine.timeout)

    request = Request(engine, call, kind=arguments.kind, claim=arguments.claim, what=what, finish=ended, fail=fail,
                      release=operands.release)
    engine.submit(request)
    return request


def _placed(engine: Engine, operands: Operands, arguments: Arguments, communicator: int) -> Call:
    streams = 0
    result = operand = operand_1 = 0
    size = arguments.element.size
    if isinstance(arguments.result, Stream):
        streams |= StreamFlag.RESULT
    elif arguments.result is not None:
        result = operands.place(arguments.result, is_read=arguments.in_place is not None, is_written=True)
    elif arguments.scratch:
        result = operands.scratch(arguments.scratch, np.dtype(arguments.dtype)).device_address
    if isinstance(arguments.operand, Stream):
        streams |= StreamFlag.OPERAND_0
    elif arguments.in_place is not None and arguments.operand is None:
        operand = result + arguments.in_place * size
    elif arguments.operand is not None:
        operand = operands.place(arguments.operand, is_read=True, is_written=arguments.operand_is_written)
    if arguments.result is None and arguments.in_place is not None:
        result = operand + arguments.in_place * size
    if isinstance(arguments.operand_1, np.ndarray):
        operand_1 = operands.place(arguments.operand_1, is_read=True, is_written=False)
    elif arguments.scratch_1:
        operand_1 = operands.scratch(arguments.scratch_1, np.dtype(arguments.dtype)).device_address
    return Call(arguments.program, arguments.count, communicator, arguments.peer & 0xFFFFFFFF, arguments.function,
                arguments.tag & 0xFFFFFFFF, arguments.element, CallFlag.WIRE if arguments.wire else 0, streams,
                operand, operand_1, result)
