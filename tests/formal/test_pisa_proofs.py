# SPDX-License-Identifier: Apache-2.0
"""Proofs about the blocks of a pipeline: register arrays, copies, credits.

Each is also shown to be able to fail.
"""

import pytest
from amaranth.asserts import AnyConst, AnySeq
from amaranth.hdl import Assert, Assume, Cat, Cover, Mux, Signal
from runner import ProofFailed, prove, specification

from rackgate.pisa.bankedmemory import Geometry
from rackgate.pisa.declare import (
    Access,
    Header,
    Register,
    RegisterAction,
    assign,
)
from rackgate.pisa.layout import carried_layout
from rackgate.pisa.registerarray import RegisterArray

pytestmark = pytest.mark.formal

header = Header("h", op=2, index=2, value=4)
WIDTH, DEPTH, INIT = 2, 3, 2


def register_array(geometry, *, control, fault=None):
    """Any packets and accesses of the control plane at any distance, against one word, picked at the start.

    The shadow is changed when a packet enters, and tells then what the packet must find. In memory the word must be
    what the shadow was before the packets that are still on their way.
    """
    m = specification()
    words = Register("words", DEPTH, init=INIT, w=WIDTH)
    value = header.value[0:WIDTH]
    stage = Access(words, header.index, [
        RegisterAction("add", header.op == 1, update={"w": words.word.w + value},
                       out=[assign(header.value, words.word.w.resize(4))]),
        RegisterAction("look", header.op == 2, out=[assign(header.value, words.word.w.resize(4))]),
        RegisterAction("turn", header.op == 3, update={"w": words.word.w ^ value},
                       out=[assign(header.value, words.word.w.resize(4))]),
    ])
    layout = carried_layout(header.fields.values())
    m.submodules.dut = dut = RegisterArray(stage, layout, layout, geometry=geometry)
    if isinstance(fault, int):
        dut._distances -= {fault}
    n, packet, access = dut.latency, dut.i.payload, dut.access

    word = AnyConst(2)
    m.d.comb += [
        Assume(word < DEPTH),
        dut.i.valid.eq(AnySeq(1)),
        packet.eq(AnySeq(len(packet.as_value()))),
        Assume(dut.ready | ~dut.i.valid),
    ]
    # One access of the control plane at a time, and it stays as it is.
    under_way = Signal(n + 1)
    m.d.sync += under_way.eq(Cat(dut.i.valid & packet.is_control, under_way))
    chosen = {name: Signal(len(signal), name=f"chosen_{name}") for name, signal in
              (("select", access.select), ("write", access.write), ("index", access.index), ("data", access.data))}
    for name, signal in chosen.items():
        m.d.comb += getattr(access, name).eq(signal)
        with m.If(~under_way.any() & ~(dut.i.valid & packet.is_control)):
            m.d.sync += signal.eq(AnySeq(len(signal)))
    m.d.comb += Assume(~packet.is_control | ~under_way.any() if control else ~packet.is_control)

    # The shadow.
    shadow, is_defined = Signal(WIDTH), Signal()
    after, find, read, touch = Signal(WIDTH), Signal(), Signal(), Signal()
    m.d.comb += after.eq(shadow)
    accesses = dut.i.valid & ~packet.is_control & (packet.h__index == word)
    with m.If(~dut.ready):
        with m.If(dut._scrubbed == word):
            m.d.comb += [after.eq(INIT), touch.eq(1)]
            m.d.sync += is_defined.eq(1)
    with m.Elif(dut.i.valid & packet.is_control):
        m.d.comb += [
            touch.eq(access.select & (access.index == word)),
            read.eq(touch & ~access.write),
        ]
        with m.If(access.select & access.write & (access.index == word)):
            m.d.comb += after.eq(access.data)
    with m.Elif(accesses):
        m.d.comb += [find.eq(packet.h__op != 0), touch.eq(find)]
        with m.Switch(packet.h__op):
            with m.Case(1):
                m.d.comb += after.eq(shadow + packet.h__value[:WIDTH])
            with m.Case(3):
                m.d.comb += after.eq(shadow if fault == "shadow" else shadow ^ packet.h__value[:WIDTH])
    m.d.sync += shadow.eq(after)

    shadows, finds, reads, defined, valid, touches = [shadow], [find], [read], [is_defined], [dut.i.valid], [touch]
    for _ in range(2 * n):
        for row in (shadows, finds, reads, defined, valid, touches):
            later = Signal(len(row[-1]))
            m.d.sync += later.eq(row[-1])
            row.append(later)
    m.d.comb += Assert(dut.o.valid == valid[n], "a packet is lost or made up")
    with m.If(finds[n]):
        m.d.comb += Assert(dut.o.payload.h__value == shadows[n], "a packet does not find the word")
    with m.If(reads[n + 1]):
        m.d.comb += Assert(dut.found == shadows[n + 1], "the control plane does not find the word")

    # What an induction needs to know of the state.
    cells = []
    for number in range(dut.geometry.banks * dut.geometry.rows):
        bank, row = divmod(number, dut.geometry.rows)
        memory = dut.memory.rows.get((bank, row))
        if memory is not None:
            port = memory.read_port(domain="comb")
            m.d.comb += port.addr.eq(word)
            cells.append((number, port.data))
    place = word >> (dut.geometry.row_depth - 1).bit_length()
    here = Signal(WIDTH)
    for number, data in cells:
        with m.If(place == number):
            m.d.comb += here.eq(data)
    written = n + dut.geometry.tree_registers
    m.d.comb += [
        Assert(dut._scrubbed <= DEPTH),
        Assert(is_defined == (dut._scrubbed > word)),
        Assert(~defined[written] | (here == shadows[written]), "memory is not what it must be"),
    ]
    for k in range(1, 2 * n + 1):
        m.d.comb += Assert(~defined[k] | defined[k - 1])
        m.d.comb += Assert(Mux(touches[k], defined[k - 1], shadows[k] == shadows[k - 1]))
        m.d.comb += Assert(touches[k] | (defined[k] == defined[k - 1]))
    for k in range(1, n + 1):
        is_here, writes = dut._index[k] == word, dut._writes[k]
        m.d.comb += [
            Assert((dut._accesses[k] & is_here) == touches[k]),
            Assert(~(writes & is_here) | touches[k]),
            Assert(writes | (shadows[k] == shadows[k - 1]) & (defined[k] == defined[k - 1])),
        ]
    for k, result in enumerate(dut._results, n):
        m.d.comb += Assert(~touches[k] | (result == shadows[k - 1]), "a result is not what it must be")
    m.d.comb += Cover(finds[n] & finds[n - 1] & finds[n - 2] & (shadows[n] != shadows[n - 1]))
    return m


#: A memory of one row, and one of three banks, with registers in its trees.
GEOMETRIES = {"flat": Geometry(WIDTH, DEPTH), "banks": Geometry(WIDTH, DEPTH, row_depth=1, rows_in_bank=1)}


@pytest.mark.parametrize("control", [False, True])
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_register_array(geometry, control):
    prove(register_array(GEOMETRIES[geometry], control=control), f"pisa_array_{geometry}_{control}",
          depth={"flat": 7, "banks": 9}[geometry])


def test_register_array_can_be_busy():
    prove(register_array(GEOMETRIES["flat"], control=True), "pisa_array_cover", mode="cover", depth=14)


@pytest.mark.parametrize("geometry,distance", [*(("flat", d) for d in range(1, 5)), ("banks", 1), ("banks", 6)])
def test_each_path_of_forwarding_counts(geometry, distance):
    with pytest.raises(ProofFailed, match="test_pisa_proofs.py"):
        prove(register_array(GEOMETRIES[geometry], control=False, fault=distance),
              f"pisa_array_fault_{geometry}_{distance}", mode="bmc", depth=20)


def test_the_shadow_counts():
    with pytest.raises(ProofFailed, match="test_pisa_proofs.py"):
        prove(register_array(GEOMETRIES["flat"], control=False, fault="shadow"), "pisa_array_fault_shadow",
              mode="bmc", depth=14)
