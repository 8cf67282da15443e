# SPDX-License-Identifier: Apache-2.0
"""Proofs that Fetcher and Placer stay within their commands, and lose nothing.

By induction, so for all time: the bursts of Cutter, from which both take every address; that Fetcher's FIFO never
overflows and its accounts balance. Bounded, for some cycles after reset: every address of Fetcher; every byte of
Packer and Unpacker; every answer of Answers; every byte address, burst and answer of Placer.
"""

import pytest
from amaranth.asserts import AnyConst, AnySeq
from amaranth.hdl import Array, Assert, Assume, Cat, Cover, Mux, Signal
from axi_memory import answer_reads
from runner import ProofFailed, drive, prove, specification, stall

from rackgate.dma.answers import Answers
from rackgate.dma.cutter import Cutter
from rackgate.dma.fetcher import Fetcher
from rackgate.dma.packer import Packer
from rackgate.dma.placer import Placer
from rackgate.dma.unpacker import Unpacker

pytestmark = pytest.mark.formal

ADDR_WIDTH = 14  # four pages of 4 KiB
WIDTH = 4
WORD_BITS = ADDR_WIDTH - 2
PAGE_WORDS = 1024


def behind(addr, size):
    """The word behind a range's last one."""
    return (addr + size + WIDTH - 1) >> 2


def cutter(fault=None):
    """A cutter with free ranges. Its bursts are looked at before they enter the skid buffer, which is proved apart."""
    m = specification()
    m.submodules.dut = dut = Cutter(WIDTH, addr_width=ADDR_WIDTH, burst=4)
    drive(m, dut.i, name="i")
    stall(m, dut.o, name="o")
    wanted, burst, moves = dut.i.payload, dut._skid.i.payload, dut._skid.i.valid & dut._skid.i.ready
    # What is left of the range: from the word of its next byte to behind that of the last.
    expected, end, after = Signal(WORD_BITS + 1), Signal(WORD_BITS + 1), Signal(WORD_BITS + 1)
    page = 2 if fault == "small page" else PAGE_WORDS
    m.d.comb += [
        Assume(wanted.addr + wanted.size <= 1 << ADDR_WIDTH),
        after.eq(expected + burst.beats - (1 if fault == "overlap" else 0)),
    ]
    with m.If(dut._skid.i.valid):
        m.d.comb += [
            Assert(burst.word == expected, "a word is skipped or cut twice"),
            Assert((burst.beats != 0) & (burst.beats <= 4), "a burst of no legal length"),
            Assert(after <= end, "a burst outside the range"),
            Assert(burst.last == (after == end), "last is misplaced"),
            Assert(burst.word // page == (burst.word + burst.beats - 1) // page, "a burst crosses a page"),
        ]
    with m.If(moves):
        m.d.sync += expected.eq(after)
    with m.If(dut.i.valid & dut.i.ready):
        m.d.comb += Assert(~dut._is_busy | moves & (after == end), "a range begins before the last one is cut")
        m.d.sync += [
            expected.eq(wanted.addr >> 2),
            end.eq(Mux(wanted.size == 0, wanted.addr >> 2, behind(wanted.addr, wanted.size))),
        ]
    m.d.comb += [
        Assert(dut._is_busy | (expected == end), "words are missing"),
        Cover(moves & burst.last & (burst.word == PAGE_WORDS) & (burst.beats == 3)),
    ]
    return m, dut, expected, end


def test_cutter():
    m, dut, expected, end = cutter()
    with m.If(dut._is_busy):
        m.d.comb += [
            Assert(expected == Cat(dut._start, dut._block)),
            Assert(end == Cat(dut._stop, dut._block + dut._left) + 1),
            Assert((dut._left != 0) | (dut._start <= dut._stop)),
            Assert(end <= 1 << WORD_BITS),
        ]
    prove(m, "cutter", depth=2)


@pytest.mark.parametrize("fault", ["small page", "overlap"])
def test_cutter_fault(fault):
    with pytest.raises(ProofFailed, match="test_dma_range_proofs.py"):
        prove(cutter(fault)[0], f"cutter_fault_{fault.replace(' ', '_')}", mode="bmc", depth=6)


def test_cutter_can_end():
    prove(cutter()[0], "cutter_cover", mode="cover", depth=6)


def fetcher(fault=None):
    """A fetcher with free commands, and a memory that answers what was asked, when it likes."""
    m = specification()
    m.submodules.dut = dut = Fetcher(WIDTH, tag=1, addr_width=ADDR_WIDTH, id_width=1, fifo_depth=6, burst=4,
                                     outstanding=2)
    drive(m, dut.i, name="i")
    stall(m, dut.ar, name="ar")
    stall(m, dut.o, name="o")
    command, address = dut.i.payload, dut.ar.payload
    m.d.comb += Assume(command.addr + command.size <= 1 << ADDR_WIDTH)
    count, beats = answer_reads(m, dut.ar, dut.r, bursts=2)

    # What may be read: the words of the commands that are not empty, each once, in order.
    firsts, ends = (Array(Signal(WORD_BITS + 1, name=f"{name}_{k}") for k in range(4)) for name in ("first", "end"))
    accepted, index, is_inside, expected, after = (
        Signal(3), Signal(3), Signal(), Signal(WORD_BITS + 1), Signal(WORD_BITS + 1))
    with m.If(dut.i.valid & dut.i.ready & (command.size != 0)):
        m.d.sync += [
            firsts[accepted[:2]].eq(command.addr >> 2),
            ends[accepted[:2]].eq(behind(command.addr, command.size) - (1 if fault == "ends early" else 0)),
            accepted.eq(accepted + 1),
        ]
        m.d.comb += Assume(accepted < 4)
    page = 2 if fault == "small page" else PAGE_WORDS
    m.d.comb += after.eq((address.addr >> 2) + address.len + 1)
    with m.If(dut.ar.valid):
        m.d.comb += [
            Assert(index < accepted, "an address of no command"),
            Assert(address.addr >> 2 == Mux(is_inside, expected, firsts[index[:2]]), "a word is skipped or read twice"),
            Assert(after <= ends[index[:2]], "an address outside the command"),
            Assert((address.addr >> 2) // page == (after - 1) // page, "a burst crosses a page"),
            Assert((address.addr[:2] == 0) & (address.size == 2)),
        ]
    with m.If(dut.ar.valid & dut.ar.ready):
        m.d.sync += [
            is_inside.eq(after != ends[index[:2]]),
            expected.eq(after),
            index.eq(index + (after == ends[index[:2]])),
        ]
    m.d.comb += Cover(dut.o.valid & dut.o.payload.last & (index == 2) & is_inside)
    return m, dut, count, beats


def test_fetcher_addresses():
    prove(fetcher()[0], "fetcher", mode="bmc", depth=9)


def test_fetcher_can_end():
    prove(fetcher()[0], "fetcher_cover", mode="cover", depth=16)


@pytest.mark.parametrize("fault", ["ends early", "small page"])
def test_fetcher_fault(fault):
    with pytest.raises(ProofFailed, match="test_dma_range_proofs.py"):
        prove(fetcher(fault)[0], f"fetcher_fault_{fault.replace(' ', '_')}", mode="bmc", depth=9)


def fetcher_accounts(fault=None):
    """Every word asked for has a place, and every burst is counted: this induction needs no addresses."""
    m = specification()
    m.submodules.dut = dut = Fetcher(WIDTH, tag=1, addr_width=ADDR_WIDTH, id_width=1, fifo_depth=6, burst=4,
                                     outstanding=2)
    drive(m, dut.i, name="i")
    stall(m, dut.ar, name="ar")
    command, cutter = dut.i.payload, dut._planner._cutter
    m.d.comb += [
        dut.o.ready.eq(AnySeq(1)),
        Assume(command.addr + command.size <= 1 << ADDR_WIDTH),
    ]
    count, beats = answer_reads(m, dut.ar, dut.r, bursts=2)
    under_way = Mux(count > 0, beats[0], 0) + Mux(count > 1, beats[1], 0)
    asked = Mux(dut.ar.valid, dut.ar.payload.len + 1, 0)
    places = 5 if fault == "a place less" else 6
    m.d.comb += [
        Assert(dut._room + dut._is_freed + dut._queue.level + under_way + asked == places, "places are lost or made"),
        Assert(~dut.r.valid | dut._queue.i.ready, "a word comes for which there is no place"),
        Assert(dut._lasts.level == count + dut.ar.valid, "a burst is not counted"),
        # What the induction must know of lengths.
        Assert((count < 1) | (beats[0] >= 1) & (beats[0] <= 4)),
        Assert((count < 2) | (beats[1] >= 1) & (beats[1] <= 4)),
        Assert(dut._lasts.level <= 2),
        Assert(~dut.ar.valid | (dut.ar.payload.len < 4)),
        Assert(~cutter.o.valid | (cutter.o.payload.beats >= 1) & (cutter.o.payload.beats <= 4)),
        Assert(~cutter._skid._is_skidded
               | (cutter._skid._skidded.beats >= 1) & (cutter._skid._skidded.beats <= 4)),
        Assert(~cutter._is_busy | (cutter._left != 0) | (cutter._start <= cutter._stop)),
    ]
    return m


def test_fetcher_accounts():
    prove(fetcher_accounts(), "fetcher_accounts", depth=2)


def test_fetcher_accounts_fault():
    with pytest.raises(ProofFailed, match="test_dma_range_proofs.py"):
        prove(fetcher_accounts("a place less"), "fetcher_accounts_fault", mode="bmc", depth=2)


def packer(fault=None):
    """Follow one byte of one command: it comes out once, at its place, and each command has its bytes and its end."""
    m = specification()
    m.submodules.dut = dut = Packer(WIDTH, tag=2)
    drive(m, dut.plans, name="plans")
    drive(m, dut.i, name="i")
    stall(m, dut.o, name="o")
    plan, word, out = dut.plans.payload, dut.i.payload, dut.o.payload
    is_taken, is_popped, is_out = (port.valid & port.ready for port in (dut.i, dut.plans, dut.o))
    tracked, number = AnyConst(4), AnyConst(2)  # byte, counted from that word's start; command
    popped, given = Signal(4), Signal(4)  # commands; words of the current one
    m.d.comb += [
        Assume(~dut.i.valid | dut.plans.valid),
        Assume(~(is_taken & word.last & (given == 0)) | (plan.end >= plan.shift)),
    ]
    with m.If(is_taken):
        m.d.sync += given.eq(Mux(word.last, 0, given + 1))
    m.d.sync += popped.eq(popped + is_popped)
    is_ours = is_taken & (popped == number)
    shift, size, byte, is_given, is_bad, tag = Signal(2), Signal(6), Signal(8), Signal(), Signal(), Signal(2)
    with m.If(is_ours):
        m.d.sync += [shift.eq(plan.shift), is_bad.eq(is_bad | word.error), tag.eq(plan.tag)]
        with m.If(word.last):
            m.d.sync += size.eq(WIDTH * given + plan.end - plan.shift + 1)
        with m.If((given == tracked[2:]) & (tracked >= plan.shift) & (~word.last | (tracked[:2] <= plan.end))):
            m.d.sync += [is_given.eq(1), byte.eq(word.data.word_select(tracked[:2], 8))]
    with m.If(is_popped & (popped == number) & plan.is_empty):
        m.d.sync += tag.eq(plan.tag)

    ended, packed = Signal(4), Signal(4)  # commands; words of the current one
    place, is_seen, hit = Signal(6), Signal(), Signal()
    m.d.comb += [
        place.eq(tracked - shift),
        hit.eq((packed == place[2:]) & (place[:2] < out.count) & (tracked >= shift)),
    ]
    with m.If(is_out):
        m.d.sync += [packed.eq(Mux(out.last, 0, packed + 1)), ended.eq(ended + out.last)]
        m.d.comb += [
            Assert(out.last | (out.count == WIDTH) & ~out.error, "a word is not full before the last"),
            Assert(~out.last | (ended < popped), "an end of no command"),
        ]
    with m.If(is_out & (ended == number)):
        m.d.comb += Assert(out.tag == tag, "a wrong tag comes out")
        with m.If(hit):
            m.d.sync += is_seen.eq(1)
            m.d.comb += [
                Assert(is_given, "a byte comes out that was not given"),
                Assert(out.data.word_select(place[:2], 8) == (~byte if fault == "data" else byte), "a wrong byte"),
            ]
        with m.If(out.last):
            m.d.comb += [
                Assert(WIDTH * packed + out.count == size + (1 if fault == "size" else 0), "a wrong number of bytes"),
                Assert(~is_given | is_seen | hit, "a byte is lost"),
                Assert(out.error == is_bad, "an error is lost or made up"),
            ]
    m.d.comb += Cover(is_out & out.last & (ended == 2) & (number == 2) & is_given & (size > 4) & (shift != 0))
    return m


def test_packer():
    prove(packer(), "packer", mode="bmc", depth=9)


@pytest.mark.parametrize("fault", ["data", "size"])
def test_packer_fault(fault):
    with pytest.raises(ProofFailed, match="test_dma_range_proofs.py"):
        prove(packer(fault), f"packer_fault_{fault}", mode="bmc", depth=9)


def test_packer_can_end():
    prove(packer(), "packer_cover", mode="cover", depth=14)


def unpacker(fault=None):
    """Follow one byte of one command: it comes out once, at its place, with its strobe."""
    m = specification()
    m.submodules.dut = dut = Unpacker(WIDTH, tag=2)
    drive(m, dut.plans, name="plans")
    drive(m, dut.i, name="i")
    stall(m, dut.o, name="o")
    plan, word, out = dut.plans.payload, dut.i.payload, dut.o.payload
    is_taken, is_popped, is_out = (port.valid & port.ready for port in (dut.i, dut.plans, dut.o))
    tracked, number = AnyConst(4), AnyConst(2)  # byte of the range; command
    popped, given = Signal(4), Signal(4)
    count = Mux(word.last, Mux(plan.is_empty, 0, (plan.end - plan.shift)[:2] + 1), WIDTH)
    m.d.comb += [
        Assume(~is_taken | (word.count == count)),
        Assume(~(is_taken & plan.is_empty) | word.last & (given == 0)),
    ]
    with m.If(is_taken):
        m.d.sync += given.eq(Mux(word.last, 0, given + 1))
    m.d.sync += popped.eq(popped + is_popped)
    shift, size, byte, is_given, is_bad, tag = Signal(2), Signal(6), Signal(8), Signal(), Signal(), Signal(2)
    with m.If(is_taken & (popped == number)):
        m.d.sync += [shift.eq(plan.shift), is_bad.eq(word.last & word.error), tag.eq(plan.tag)]
        m.d.sync += size.eq(WIDTH * given + word.count)
        with m.If((given == tracked[2:]) & (tracked[:2] < word.count)):
            m.d.sync += [is_given.eq(1), byte.eq(word.data.word_select(tracked[:2], 8))]

    ended, index = Signal(4), Signal(4)
    place, is_seen, hit, written = Signal(6), Signal(), Signal(), Signal(6)
    m.d.comb += [
        place.eq(tracked + shift + (1 if fault == "place" else 0)),
        hit.eq((index == place[2:]) & out.strobe.bit_select(place[:2], 1)),
    ]
    strobes = sum(out.strobe[k] for k in range(WIDTH))
    with m.If(is_out):
        m.d.sync += [index.eq(Mux(out.last, 0, index + 1)), ended.eq(ended + out.last)]
        m.d.comb += [
            Assert(out.has_bytes == (out.strobe != 0), "an element with bytes and without strobes, or the reverse"),
            Assert(out.has_bytes | out.last, "an empty element within a command"),
            Assert(~out.last | (ended < popped), "an end of no command"),
        ]
    with m.If(is_out & (ended == number)):
        m.d.sync += written.eq(written + strobes)
        m.d.comb += Assert(out.tag == tag, "a wrong tag comes out")
        with m.If(hit):
            m.d.sync += is_seen.eq(1)
            m.d.comb += [
                Assert(is_given & ~is_seen, "a byte comes out that was not given, or twice"),
                Assert(out.data.word_select(place[:2], 8) == (~byte if fault == "data" else byte), "a wrong byte"),
            ]
        with m.If(out.last):
            m.d.comb += [
                Assert(written + strobes == size, "a wrong number of bytes"),
                Assert(~is_given | is_seen | hit, "a byte is lost"),
                Assert(out.error == is_bad, "an error is lost or made up"),
            ]
    m.d.comb += Cover(is_out & out.last & (ended == 2) & (number == 2) & is_given & (size > 4) & (shift != 0))
    return m


def test_unpacker():
    prove(unpacker(), "unpacker", mode="bmc", depth=9)


@pytest.mark.parametrize("fault", ["data", "place"])
def test_unpacker_fault(fault):
    with pytest.raises(ProofFailed, match="test_dma_range_proofs.py"):
        prove(unpacker(fault), f"unpacker_fault_{fault}", mode="bmc", depth=9)


def test_unpacker_can_end():
    prove(unpacker(), "unpacker_cover", mode="cover", depth=14)


def answers(fault=None):
    """Follow one command: it is done when all its bursts are answered and not before, with their errors."""
    m = specification()
    m.submodules.dut = dut = Answers(tag=2, id_width=1, outstanding=3)
    stall(m, dut.done, name="done")
    element, had_room = dut.i.payload, Signal()
    m.d.sync += had_room.eq(dut.has_room)
    answered, sent, ended, done = Signal(4), Signal(4), Signal(4), Signal(4)
    m.d.comb += [
        element.eq(AnySeq(len(element.as_value()))),
        dut.i.valid.eq(AnySeq(1)),
        Assume(~dut.i.valid | had_room),
        Assume(~element.error | element.last),
        dut.b.payload.eq(AnySeq(len(dut.b.payload.as_value()))),
        dut.b.valid.eq(AnySeq(1)),
        Assume(~dut.b.valid | (answered < sent)),
        Assume(sent < 8),
    ]
    number, is_inside = AnyConst(2), Signal()
    owners = Array(Signal(4, name=f"owner_{k}") for k in range(8))  # commands that bursts belong to
    tag, bursts, answers_seen, is_bad = Signal(2), Signal(4), Signal(4), Signal()
    is_answered = dut.b.valid & dut.b.ready
    # A command without bursts is an element of its own.
    m.d.comb += Assume(~dut.i.valid | element.is_burst | element.last & ~is_inside)
    answer_errs = is_answered & (owners[answered[:3]] == number) & dut.b.payload.resp.as_value()[1]
    with m.If(dut.i.valid):
        m.d.sync += [is_inside.eq(~element.last), ended.eq(ended + element.last)]
        with m.If(element.is_burst):
            m.d.sync += [owners[sent[:3]].eq(ended), sent.eq(sent + 1)]
        with m.If(ended == number):
            m.d.sync += [tag.eq(element.tag), bursts.eq(bursts + element.is_burst)]
    m.d.sync += answered.eq(answered + is_answered)
    m.d.sync += answers_seen.eq(answers_seen + (is_answered & (owners[answered[:3]] == number)))
    m.d.sync += is_bad.eq(is_bad | answer_errs | dut.i.valid & (ended == number) & element.error)
    with m.If(dut.done.valid):
        m.d.comb += Assert(done < ended, "an answer to no command")
        with m.If(done == number):
            m.d.comb += [
                Assert(answers_seen == bursts + (1 if fault == "early" else 0), "done before all writes are answered"),
                Assert(dut.done.payload.tag == tag, "a wrong tag"),
                Assert(dut.done.payload.error == (0 if fault == "error" else is_bad), "an error is lost or made up"),
            ]
    with m.If(dut.done.valid & dut.done.ready):
        m.d.sync += done.eq(done + 1)
    # An element without a burst is done by itself, and a response is never kept waiting by anything else.
    m.d.comb += [
        Assert(dut.b.ready | (ended != done), "a response waits for nothing"),
        Cover(dut.done.valid & dut.done.ready & (done == 2) & (number == 2) & (bursts == 2)),
    ]
    return m


def test_answers():
    prove(answers(), "answers", mode="bmc", depth=9)


@pytest.mark.parametrize("fault", ["early", "error"])
def test_answers_fault(fault):
    with pytest.raises(ProofFailed, match="test_dma_range_proofs.py"):
        prove(answers(fault), f"answers_fault_{fault}", mode="bmc", depth=9)


def test_answers_can_end():
    prove(answers(), "answers_cover", mode="cover", depth=14)


def placer(fault=None):
    """Follow one byte address through two commands: written only if it was given, once, and before ``done``.

    What is written there is left to the proof of Unpacker.
    """
    m = specification()
    m.submodules.dut = dut = Placer(WIDTH, tag=1, addr_width=ADDR_WIDTH, id_width=1, burst=2, fifo_depth=3,
                                    outstanding=2)
    for name in ("i", "words"):
        drive(m, getattr(dut, name), name=name)
    for name in ("aw", "w", "done"):
        stall(m, getattr(dut, name), name=name)
    command, word, tracked = dut.i.payload, dut.words.payload, AnyConst(ADDR_WIDTH)
    accepted, sizes = Signal(2), Array(Signal(ADDR_WIDTH + 1, name=f"size_{k}") for k in range(2))
    start = command.addr + (1 if fault == "shifted" else 0)
    covers = dut.i.valid & dut.i.ready & (tracked >= start) & (tracked < command.addr + command.size)
    is_given, owner = Signal(), Signal()
    m.d.comb += [
        Assume(command.addr + command.size <= 1 << ADDR_WIDTH),
        Assume(~(dut.i.valid & dut.i.ready) | (accepted < 2)),
        Assume(~(covers & is_given)),
    ]
    with m.If(dut.i.valid & dut.i.ready):
        m.d.sync += [sizes[accepted[0]].eq(command.size), accepted.eq(accepted + 1)]
    with m.If(covers):
        m.d.sync += [is_given.eq(1), owner.eq(accepted[0])]

    # The words agree with their command, and come after it.
    current, begun = Signal(2), Signal(ADDR_WIDTH + 1)
    left = sizes[current[0]] - begun
    m.d.comb += [
        Assume(~dut.words.valid | (current < accepted)),
        Assume(word.count == Mux(left <= WIDTH, left, WIDTH)),
        Assume(word.last == (left <= WIDTH)),
    ]
    with m.If(dut.words.valid & dut.words.ready):
        m.d.sync += [begun.eq(Mux(word.last, 0, begun + WIDTH)), current.eq(current + word.last)]

    # The n-th address belongs to the n-th run of data up to LAST; the bench looks at data once it knows the address.
    heads, lengths = ([Signal(WORD_BITS, name=f"{name}_{k}") for k in range(4)] for name in ("head", "length"))
    asked, runs, beat, answered = Signal(3), Signal(3), Signal(9), Signal(3)
    page = 1 if fault == "small page" else PAGE_WORDS
    with m.If(dut.aw.valid):
        first = dut.aw.payload.addr >> 2
        m.d.comb += Assert(first // page == (first + dut.aw.payload.len) // page, "a burst crosses a page")
    with m.If(dut.aw.valid & dut.aw.ready):
        m.d.sync += [
            Array(heads)[asked[:2]].eq(dut.aw.payload.addr >> 2),
            Array(lengths)[asked[:2]].eq(dut.aw.payload.len),
            asked.eq(asked + 1),
        ]
    is_beat = dut.w.valid & dut.w.ready
    m.d.comb += Assume(~is_beat | (asked > runs))
    with m.If(is_beat):
        m.d.sync += [beat.eq(Mux(dut.w.payload.last, 0, beat + 1)), runs.eq(runs + dut.w.payload.last)]
        m.d.comb += Assert(dut.w.payload.last == (beat == Array(lengths)[runs[:2]]), "LAST is misplaced")
    hit = is_beat & dut.w.payload.strb.bit_select(tracked[:2], 1) & (
        (Array(heads)[runs[:2]] + beat)[:WORD_BITS] == tracked >> 2)
    is_written, burst = Signal(), Signal(3)
    with m.If(hit):
        m.d.sync += [is_written.eq(1), burst.eq(runs)]
        m.d.comb += [
            Assert(is_given, "a byte is written that was not given"),
            Assert(~is_written, "a byte is written twice"),
        ]
    done = Signal(2)
    m.d.comb += [
        dut.b.payload.eq(AnySeq(len(dut.b.payload.as_value()))),
        dut.b.valid.eq(AnySeq(1)),
        Assume(~dut.b.valid | (answered < runs)),
        Assume((asked < 4) | ~dut.aw.valid),
    ]
    m.d.sync += [answered.eq(answered + (dut.b.valid & dut.b.ready)), done.eq(done + (dut.done.valid & dut.done.ready))]
    with m.If(dut.done.valid):
        m.d.comb += Assert(done < accepted, "an answer to no command")
        with m.If(is_given & (owner == done)):
            m.d.comb += Assert(is_written & (answered > burst), "done before a byte is written and answered")
    m.d.comb += Cover(is_written & dut.done.valid & (owner == done) & (burst == 1))
    return m


def test_placer():
    prove(placer(), "placer", mode="bmc", depth=9)


@pytest.mark.parametrize("fault", ["small page", "shifted"])
def test_placer_fault(fault):
    with pytest.raises(ProofFailed, match="test_dma_range_proofs.py"):
        prove(placer(fault), f"placer_fault_{fault.replace(' ', '_')}", mode="bmc", depth=9)


def test_placer_can_end():
    prove(placer(), "placer_cover", mode="cover", depth=14)
