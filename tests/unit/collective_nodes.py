# SPDX-License-Identifier: Apache-2.0
"""Nodes of the engine model at their registers, with programs in assembly."""

import numpy as np

from rackgate.arith.abi import ElementType
from rackgate.collective.abi import REGISTERS, Call, Completion, ConfigSpace, Counter
from rackgate.collective.isa import Local, MoveControl, Other, Target
from rackgate.collective.programs.assembler import assemble
from rackgate_sim.collective.fabric import Fabric
from rackgate_sim.inflate.model import FlatMemory

BASE = 0x1000_0000
SIZE = 1 << 20
SEND = MoveControl(local=Local.MEMORY, send=True).to_int()
RECEIVE = MoveControl(other=Other.RECEIVE, target=Target.MEMORY).to_int()
COPY = MoveControl(local=Local.MEMORY, target=Target.MEMORY).to_int()
REDUCE = MoveControl(local=Local.MEMORY, other=Other.RECEIVE, target=Target.MEMORY, reduce=True).to_int()
STORE_AND_FORWARD = MoveControl(other=Other.RECEIVE, target=Target.MEMORY, send=True).to_int()
REDUCE_AND_FORWARD = MoveControl(local=Local.MEMORY, other=Other.RECEIVE, target=Target.MEMORY, send=True,
                                 reduce=True).to_int()

#: A program of one move with the fields of the call, which has the move's control in word 15 (id), bits 8:0.
ONE_MOVE = """
    ldd r1, 15
    and r1, r1, 511
    mv CONTROL, r1
    ldd r1, 1
    mv COUNT, r1
    lda r1, 9
    mv LOCAL, r1
    lda r1, 11
    mv OTHER, r1
    lda r1, 13
    mv RESULT, r1
    ldd r1, 3
    mv SOURCE, r1
    ldd r2, 4
    ldd r1, 5
    mv TAG, r1
    lds r2, SIZE
    ldd r1, 3
    mv DESTINATION, r1
    go
    ret
"""


class Nodes:
    """``count`` nodes with one communicator 0 of all of them and the program ONE_MOVE as scenarios 40 (send and
    receive) and 41 (collective)."""

    def __init__(self, count, *, credits=8, timeout=0, program=ONE_MOVE, **parameters):
        self.memories = [np.zeros(SIZE, np.uint8) for _ in range(count)]
        self.fabric = Fabric([FlatMemory(memory, BASE) for memory in self.memories], **parameters)
        self.count = count
        words = assemble(program)
        for number in range(count):
            self.write(number, NODE=number, TIMEOUT=timeout, CONTROL=1, IRQ_ENABLE=1)
            self.config(number, ConfigSpace.PROGRAM, words)
            self.config(number, ConfigSpace.ENTRY + 40, [1 << 31])
            self.config(number, ConfigSpace.ENTRY + 41, [1 << 31 | 1 << 30])
            self.open(number, 0, list(range(count)), credits)

    def write(self, number, **registers):
        for name, value in registers.items():
            assert self.fabric.nodes[number].write_register(REGISTERS[name].offset, value)

    def read(self, number, name):
        return self.fabric.nodes[number].read_register(REGISTERS[name].offset)

    def count_of(self, number, counter):
        return self.read(number, f"COUNT_{Counter(counter).name}")

    def config(self, number, address, words):
        self.write(number, CONFIG_ADDRESS=address)
        for word in words:
            self.write(number, CONFIG_DATA=word)

    def open(self, number, communicator, nodes, credits):
        base = ConfigSpace.COMMUNICATOR + 32 * communicator
        self.config(number, base + 16, nodes)
        self.config(number, base, [len(nodes) | nodes.index(number) << 8 | 1 << 31, credits])

    def call(self, number, control, count, *, scenario=40, element=ElementType.INT32, number_of_call=0, **fields):
        call = Call(scenario, count, element=element, id=control | number_of_call << 9, **fields)
        for word in call.words():
            self.write(number, CALL_WORD=word)

    def array(self, number, offset, values=None, *, count=0, dtype=None):
        """Elements in a node's memory from byte ``offset`` on; written if given."""
        if values is not None:
            count, dtype = len(values), values.dtype
        size = np.dtype(dtype).itemsize * count
        view = self.memories[number][offset:offset + size].view(dtype)
        if values is not None:
            view[:] = values
        return view

    def completion(self, number):
        """The oldest, popped."""
        assert self.read(number, "COMPLETIONS"), f"nothing has ended at node {number}"
        completion = Completion.from_words(tuple(self.read(number, f"COMPLETION_{k}") for k in range(4)))
        self.write(number, COMPLETION_POP=0)
        return completion

    def run(self, cycles=1_000_000):
        self.fabric.run(cycles)
