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


def register_array(geometry, *, control, lead=0, fault=None):
    """Any packets and accesses of the control plane at any distance, against one word, picked at the start.

    The shadow is changed when a packet is at ``i``, and tells then what the packet must find. Rows go by cycle, as in
    the array: with a ``lead`` the packet's index is there so many before, and what it does is not. In memory the word
    must be what the shadow was before the packets that are still on their way.
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
    m.submodules.dut = dut = RegisterArray(stage, layout, layout, geometry=geometry, known_ahead=lead)
    assert dut.lead == lead
    if isinstance(fault, int):
        dut._distances -= {fault}
    n, packet, access = dut.latency + lead, dut.i.payload, dut.access
    comes = dut.ahead if lead else dut.i

    def row(first, count):
        """A signal as it was 0, 1, ... cycles before."""
        signals = [first]
        for _ in range(count):
            later = Signal(len(signals[-1]))
            m.d.sync += later.eq(signals[-1])
            signals.append(later)
        return signals

    word = AnyConst(2)
    m.d.comb += [
        Assume(word < DEPTH),
        comes.valid.eq(AnySeq(1)),
        comes.payload.eq(AnySeq(len(comes.payload.as_value()))),
        Assume(dut.ready | ~comes.valid),
    ]
    if lead:
        then = Signal(comes.payload.shape())
        m.d.comb += [
            dut.i.valid.eq(row(comes.valid, lead)[-1]),
            then.as_value().eq(row(comes.payload.as_value(), lead)[-1]),
            packet.eq(AnySeq(len(packet.as_value()))),
            Assume((packet.h__index == then.h__index) & (packet.is_control == then.is_control)),
        ]
    # One access of the control plane at a time, and it stays as it is.
    under_way = Signal(n + 1)
    m.d.sync += under_way.eq(Cat(comes.valid & comes.payload.is_control, under_way))
    chosen = {name: Signal(len(signal), name=f"chosen_{name}") for name, signal in
              (("select", access.select), ("write", access.write), ("index", access.index), ("data", access.data))}
    for name, signal in chosen.items():
        m.d.comb += getattr(access, name).eq(signal)
        with m.If(~under_way.any() & ~(comes.valid & comes.payload.is_control)):
            m.d.sync += signal.eq(AnySeq(len(signal)))
    m.d.comb += Assume(~comes.payload.is_control | ~under_way.any() if control else ~comes.payload.is_control)

    # Who touches the word, in cycle 0.
    scrub, touch, is_defined = Signal(), Signal(), Signal()
    m.d.comb += [
        scrub.eq(~dut.ready & (dut._scrubbed == word)),
        touch.eq(scrub | comes.valid & Mux(comes.payload.is_control, access.select & (access.index == word),
                                           comes.payload.h__index == word)),
    ]
    with m.If(scrub):
        m.d.sync += is_defined.eq(1)

    # The shadow, in cycle `lead`.
    scrubs, touches, defined = row(scrub, lead), row(touch, 2 * n), row(is_defined, 2 * n)
    shadow, after, find, read = Signal(WIDTH), Signal(WIDTH), Signal(), Signal()
    m.d.comb += after.eq(shadow)
    with m.If(scrubs[lead]):
        m.d.comb += after.eq(INIT)
    with m.Elif(dut.i.valid & packet.is_control):
        m.d.comb += read.eq(touches[lead] & ~access.write)
        with m.If(access.select & access.write & (access.index == word)):
            m.d.comb += after.eq(access.data)
    with m.Elif(dut.i.valid & (packet.h__index == word)):
        m.d.comb += find.eq(packet.h__op != 0)
        with m.Switch(packet.h__op):
            with m.Case(1):
                m.d.comb += after.eq(shadow + packet.h__value[:WIDTH])
            with m.Case(3):
                m.d.comb += after.eq(shadow if fault == "shadow" else shadow ^ packet.h__value[:WIDTH])
    m.d.sync += shadow.eq(after)

    shadows, finds, reads, valid = (
        [None] * lead + row(first, 2 * n - lead) for first in (shadow, find, read, dut.i.valid))
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
        m.d.comb += [
            Assert(~defined[k] | defined[k - 1]),
            Assert(~touches[k] | defined[k - 1]),
            Assert(touches[k] | (defined[k] == defined[k - 1])),
        ]
        if k > lead:
            m.d.comb += Assert(touches[k] | (shadows[k] == shadows[k - 1]))
    for k in range(1, n + 1):
        is_here, writes = dut._index[k] == word, dut._writes[k]
        m.d.comb += Assert((dut._accesses[k] & is_here) == touches[k])
        if k > lead:
            m.d.comb += [
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
@pytest.mark.parametrize("geometry,lead", [("flat", 0), ("flat", 1), ("banks", 0), ("banks", 3)])
def test_register_array(geometry, lead, control):
    prove(register_array(GEOMETRIES[geometry], control=control, lead=lead), f"pisa_array_{geometry}_{lead}_{control}",
          depth={"flat": 7, "banks": 9}[geometry])


def test_register_array_can_be_busy():
    prove(register_array(GEOMETRIES["flat"], control=True), "pisa_array_cover", mode="cover", depth=14)


@pytest.mark.parametrize("geometry,lead,distance", [*(("flat", 0, d) for d in range(1, 5)), ("banks", 0, 1),
                                                    ("banks", 3, 6)])
def test_each_path_of_forwarding_counts(geometry, lead, distance):
    with pytest.raises(ProofFailed, match="test_pisa_proofs.py"):
        prove(register_array(GEOMETRIES[geometry], control=False, lead=lead, fault=distance),
              f"pisa_array_fault_{geometry}_{distance}", mode="bmc", depth=20)


def test_the_shadow_counts():
    with pytest.raises(ProofFailed, match="test_pisa_proofs.py"):
        prove(register_array(GEOMETRIES["flat"], control=False, fault="shadow"), "pisa_array_fault_shadow",
              mode="bmc", depth=14)
