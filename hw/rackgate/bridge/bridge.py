# SPDX-License-Identifier: Apache-2.0
"""A host's messages in, accesses to a device's registers and memory out."""

import operator

from amaranth.hdl import Array, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from rackgate.axi.bus import AXI4LiteSignature, AXI4Signature
from rackgate.bridge import abi
from rackgate.bridge.abi import StatusFlag, StatusWord
from rackgate.bridge.absent import AbsentUnit
from rackgate.bridge.executor import Executor
from rackgate.bridge.header import HeaderReader
from rackgate.bridge.operations import Opcode
from rackgate.bridge.range import MemoryRange
from rackgate.bridge.reader import MemoryReadUnit
from rackgate.bridge.registers import RegisterUnit
from rackgate.bridge.responses import ResponseStore
from rackgate.bridge.sender import Sender
from rackgate.bridge.session import Session, Verdict
from rackgate.bridge.store import MessageStore
from rackgate.bridge.words import IdentityUnit, StatusUnit
from rackgate.bridge.writer import MemoryWriteUnit
from rackgate.stream.packet import PacketSignature

__all__ = ["Bridge"]


class Bridge(wiring.Component):
    """Carry out what a host asks for in messages (:mod:`rackgate.bridge.abi`), each request once.

    One message at a time: the first word of the next is taken when the last word of this one's answer has been, or when
    it is known that there is none. So a link needs no more than to remember who sent the message that it gave last.
    Where requests wait is the link's affair.

    A message needs about 20 cycles, one for each word of it and of its answer, and what its operations need: a cycle
    for each word of memory, 5 for each register. So a bridge at 50 MHz moves 90 MB/s of memory either way.

    Reset: no session is open; nothing of the responses counts. Reset what is behind ``csr`` and ``mem`` with it.

    Parameters
    ----------
    identity:
        What READ_IDENTITY reads (:meth:`rackgate.bridge.identity.Identity.pack`).
    window:
        Responses that are kept: 1, 2, 4 or 8. Each costs 2 KB of block RAM.
    csr_addr_width:
        Address bits of the device's registers.
    mem_addr_width, mem_id_width:
        Of the bus to memory.
    memory_base, memory_size:
        Memory that may be accessed, in bytes: multiples of 8. No address outside is ever sent. With size 0, ``mem`` is
        silent, and the bridge is a quarter smaller.
    timeout:
        Cycles that a bus may let pass before the operation fails, at least 16.

    Members
    -------
    i:
        Messages; ``error`` on the last word drops one.
    o:
        Answers, in the order of the messages.
    csr, mem:
        The device's registers, and its memory: AXI4-Lite, and AXI4 with 64 bits of data.
    irq:
        The device's interrupt, which READ_STATUS shows.
    link_errors:
        What the link has dropped, for READ_STATUS.
    """

    def __init__(self, identity: bytes, *, window: int = abi.WINDOW, csr_addr_width: int = 16,
                 mem_addr_width: int = 40, mem_id_width: int = 4, memory_base: int = abi.MEMORY_BASE,
                 memory_size: int = 0, timeout: int = 65536):
        bus = {"addr_width": operator.index(mem_addr_width), "id_width": operator.index(mem_id_width)}
        self.memory_base, self.memory_size = MemoryRange.of(memory_base, memory_size, addr_width=bus["addr_width"])
        read = MemoryReadUnit(memory_base, memory_size, **bus) if memory_size else AbsentUnit()
        write = MemoryWriteUnit(memory_base, memory_size, **bus) if memory_size else AbsentUnit()
        self._units = {
            "registers": (RegisterUnit(csr_addr_width), (Opcode.READ_REGISTERS, Opcode.WRITE_REGISTERS)),
            "read": (read, (Opcode.READ_MEMORY,)),
            "write": (write, (Opcode.WRITE_MEMORY,)),
            "status": (StatusUnit(), (Opcode.READ_STATUS,)),
            "identity": (IdentityUnit(identity), (Opcode.READ_IDENTITY,)),
        }
        self._session = Session(window)
        self._executor = Executor([opcodes for _, opcodes in self._units.values()], timeout=timeout)
        self.identity, self.window, self.timeout = bytes(identity), self._session.window, self._executor.timeout
        super().__init__({
            "i": In(PacketSignature(4)), "o": Out(PacketSignature(4)),
            "csr": Out(AXI4LiteSignature(addr_width=csr_addr_width)), "mem": Out(AXI4Signature(**bus)),
            "irq": In(1), "link_errors": In(32),
        })
    def elaborate(self, platform):
        m = Module()
        store, header, session, executor = MessageStore(), HeaderReader(), self._session, self._executor
        responses, sender = ResponseStore(self.window), Sender()
        for name, part in (("store", store), ("header", header), ("session", session), ("executor", executor),
                           ("responses", responses), ("sender", sender)):
            m.submodules[name] = part
        self._connect_units(m)
        wiring.connect(m, wiring.flipped(self.i), store.i)
        wiring.connect(m, header.o, session.i)
        wiring.connect(m, sender.o, wiring.flipped(self.o))
        verdict = Signal(Verdict)
        m.d.comb += [
            header.is_held.eq(store.is_held), header.words.eq(store.words),
            header.i.payload.eq(store.o.payload), executor.i.payload.eq(store.o.payload),
            executor.words.eq(header.o.payload.body_words),
            responses.slot.eq(session.slot), responses.w_en.eq(executor.w_en), responses.w_addr.eq(executor.w_addr),
            responses.w_data.eq(executor.w_data), responses.finish.eq(executor.done),
            responses.length.eq(executor.length),
        ]
        with m.FSM():
            with m.State("HEADER"):
                m.d.comb += [header.i.valid.eq(store.o.valid), store.o.ready.eq(header.i.ready), session.o.ready.eq(1),
                             store.release.eq(header.foreign)]
                m.d.sync += verdict.eq(session.o.payload)
                with m.If(session.o.valid):
                    m.next = "ANSWER"
                    with m.Switch(session.o.payload):
                        with m.Case(Verdict.STRAY):
                            m.d.comb += store.release.eq(1)
                            m.next = "HEADER"
                        with m.Case(Verdict.EXECUTE):
                            m.d.comb += executor.start.eq(1)
                            m.next = "EXECUTE"
                        with m.Case(Verdict.REPEAT):
                            m.next = "FETCH"
            with m.State("EXECUTE"):
                m.d.comb += [executor.i.valid.eq(store.o.valid), store.o.ready.eq(executor.i.ready)]
                with m.If(executor.done):
                    m.next = "FETCH"
            with m.State("FETCH"):
                m.d.comb += responses.fetch.eq(1)
                m.next = "ANSWER"
            with m.State("ANSWER"):
                m.d.comb += sender.i.valid.eq(1)
                with m.If(sender.i.ready):
                    m.d.comb += store.release.eq(1)
                    m.next = "HEADER"
        self._answer(m, header.o.payload, verdict, sender, responses)
        self._count(m, executor.done, session.o, store.damaged | (store.release & header.foreign))
        return m

    def _connect_units(self, m):
        for number, (name, (unit, _)) in enumerate(self._units.items()):
            m.submodules[name] = unit
            wiring.connect(m, self._executor.units[number], unit.i)
        wiring.connect(m, self._units["registers"][0].o, wiring.flipped(self.csr))
        if not self.memory_size:
            return
        mem = wiring.flipped(self.mem)
        for name, channels in (("read", ("ar", "r")), ("write", ("aw", "w", "b"))):
            for channel in channels:
                wiring.connect(m, getattr(self._units[name][0], channel), getattr(mem, channel))

    def _answer(self, m, header, verdict, sender, responses):
        """Envelope and body of the answer that a verdict asks for."""
        envelope, note = sender.i.payload, Signal(range(len(abi.Terms._fields)))
        terms = abi.Terms(self.window, abi.MESSAGE_BYTES, self.memory_base, self.memory_size, len(self.identity) // 4)
        reason = Mux(verdict == Verdict.WRONG_VERSION, abi.Refusal.VERSION, abi.Refusal.SESSION)
        refusal = Array([reason, self._session.open_session])
        m.d.comb += [envelope.session.eq(header.session), envelope.sequence.eq(header.sequence)]
        with m.If(sender.body.valid & sender.body.ready):
            m.d.sync += note.eq(note + 1)
        with m.If(sender.i.ready):
            m.d.sync += note.eq(0)
        with m.Switch(verdict):
            with m.Case(Verdict.OPENED):
                m.d.comb += [envelope.kind.eq(abi.Kind.OPENED), envelope.words.eq(len(terms)),
                             sender.body.valid.eq(1), sender.body.payload.eq(Array(terms)[note])]
            with m.Case(Verdict.WRONG_SESSION, Verdict.WRONG_VERSION):
                m.d.comb += [envelope.kind.eq(abi.Kind.REFUSED), envelope.words.eq(len(refusal)),
                             sender.body.valid.eq(1), sender.body.payload.eq(refusal[note])]
            with m.Default():
                m.d.comb += [envelope.kind.eq(abi.Kind.RESPONSE), envelope.words.eq(responses.words),
                             sender.body.valid.eq(responses.o.valid), sender.body.payload.eq(responses.o.payload),
                             responses.o.ready.eq(sender.body.ready)]

    def _count(self, m, is_executed, verdict, is_damaged):
        words = self._units["status"][0].words
        is_judged = {one: verdict.valid & (verdict.payload == one) for one in Verdict}
        m.d.comb += [words[StatusWord.FLAGS].eq(Mux(self.irq, int(StatusFlag.INTERRUPT), 0)),
                     words[StatusWord.LINK].eq(self.link_errors)]
        for word, event in (
            (StatusWord.EXECUTED, is_executed), (StatusWord.REPEATED, is_judged[Verdict.REPEAT]),
            (StatusWord.REFUSED, is_judged[Verdict.WRONG_SESSION] | is_judged[Verdict.WRONG_VERSION]),
            (StatusWord.STRAY, is_judged[Verdict.STRAY]), (StatusWord.DAMAGED, is_damaged),
        ):
            counter = Signal(32, name=word.name.lower())
            m.d.comb += words[word].eq(counter)
            with m.If(event):
                m.d.sync += counter.eq(counter + 1)
