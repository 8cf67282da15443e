# SPDX-License-Identifier: Apache-2.0
"""Small devices that the native simulation is tested on."""

from amaranth.hdl import Assert, Cat, Format, Module, Mux, Print, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rackgate.axi.bus import AXI4LiteSignature, AXI4Signature, Burst, Response
from rackgate.stream.packet import PacketSignature, packet_layout

__all__ = ["Asserting", "Bridge", "Copier", "CopierRegister", "Forwarder", "Station"]


class CopierRegister:
    """Register addresses of :class:`Copier`."""

    SOURCE = 0x20
    DESTINATION = 0x24
    WORDS = 0x28
    STATUS = 0x2C  # bit 0: done, bit 1: a read failed, bit 2: a write failed; writing anything clears it
    ABSENT = 0x40  # answered with SLVERR


class Copier(wiring.Component):
    """Copies WORDS 64-bit words from SOURCE to DESTINATION, one burst at a time, each on an id of its own.

    Bursts have 8 words, or fewer at the end; addresses must be multiples of 64. Writing WORDS starts a copy; the
    interrupt is the done bit.
    """

    csr: In(AXI4LiteSignature())
    mem: Out(AXI4Signature(addr_width=32))
    irq: Out(1)

    def elaborate(self, platform):
        m = Module()
        source, destination, words = Signal(32), Signal(32), Signal(32)
        done, read_failed, write_failed = Signal(), Signal(), Signal()
        left, index = Signal(32), Signal(3)
        buffer = [Signal(64, name=f"buffer_{k}") for k in range(8)]
        ar, r, aw, w, b = (getattr(self.mem, channel) for channel in ("ar", "r", "aw", "w", "b"))
        beats = Mux(left < 8, left[:3], 8)
        m.d.comb += self.irq.eq(done)
        for channel, address in ((ar, source), (aw, destination)):
            m.d.comb += [
                channel.payload.addr.eq(address),
                channel.payload.len.eq(beats - 1),
                channel.payload.size.eq(3),
                channel.payload.burst.eq(Burst.INCR),
                channel.payload.id.eq(source[6:10]),
            ]
        m.d.comb += [w.payload.strb.eq(0xFF), w.payload.last.eq(index == beats - 1)]
        with m.Switch(index):
            for k in range(8):
                with m.Case(k):
                    m.d.comb += w.payload.data.eq(buffer[k])
        start = self._registers(m, source, destination, words, done, read_failed, write_failed)
        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += left.eq(words)
                with m.If(start):
                    m.next = "NEXT"
            with m.State("NEXT"):
                m.d.sync += index.eq(0)
                m.next = "READ"
                with m.If(left == 0):
                    m.d.sync += done.eq(1)
                    m.next = "IDLE"
            with m.State("READ"):
                m.d.comb += ar.valid.eq(1)
                with m.If(ar.ready):
                    m.next = "DATA"
            with m.State("DATA"):
                m.d.comb += r.ready.eq(1)
                with m.If(r.valid):
                    m.d.sync += index.eq(index + 1)
                    with m.Switch(index):
                        for k in range(8):
                            with m.Case(k):
                                m.d.sync += buffer[k].eq(r.payload.data)
                    with m.If(r.payload.resp != Response.OKAY):
                        m.d.sync += read_failed.eq(1)
                    with m.If(r.payload.last):
                        m.d.sync += Assert(index == beats - 1, "the read burst has another length than asked")
                        m.d.sync += index.eq(0)
                        m.next = "WRITE"
            with m.State("WRITE"):
                m.d.comb += aw.valid.eq(1)
                with m.If(aw.ready):
                    m.next = "SEND"
            with m.State("SEND"):
                m.d.comb += w.valid.eq(1)
                with m.If(w.ready):
                    m.d.sync += index.eq(index + 1)
                    with m.If(w.payload.last):
                        m.next = "ANSWER"
            with m.State("ANSWER"):
                m.d.comb += b.ready.eq(1)
                with m.If(b.valid):
                    with m.If(b.payload.resp != Response.OKAY):
                        m.d.sync += write_failed.eq(1)
                    m.d.sync += [
                        left.eq(left - beats),
                        source.eq(source + 64),
                        destination.eq(destination + 64),
                    ]
                    m.next = "NEXT"
        return m

    def _registers(self, m, source, destination, words, done, read_failed, write_failed):
        """A bank that takes one access at a time. Returns the strobe that starts a copy."""
        aw, w, b, ar, r = (getattr(self.csr, channel) for channel in ("aw", "w", "b", "ar", "r"))
        start = Signal()
        m.d.sync += start.eq(0)
        take = Signal()
        m.d.comb += [
            take.eq(aw.valid & w.valid & ~b.valid),
            aw.ready.eq(take),
            w.ready.eq(take),
            ar.ready.eq(~r.valid),
        ]
        with m.If(b.ready):
            m.d.sync += b.valid.eq(0)
        with m.If(r.ready):
            m.d.sync += r.valid.eq(0)
        with m.If(take):
            m.d.sync += [b.valid.eq(1), b.payload.resp.eq(Response.OKAY)]
            with m.Switch(aw.payload.addr):
                with m.Case(CopierRegister.SOURCE):
                    m.d.sync += source.eq(w.payload.data)
                with m.Case(CopierRegister.DESTINATION):
                    m.d.sync += destination.eq(w.payload.data)
                with m.Case(CopierRegister.WORDS):
                    m.d.sync += [words.eq(w.payload.data), start.eq(1)]
                with m.Case(CopierRegister.STATUS):
                    m.d.sync += [done.eq(0), read_failed.eq(0), write_failed.eq(0)]
                with m.Default():
                    m.d.sync += b.payload.resp.eq(Response.SLVERR)
        with m.If(ar.valid & ar.ready):
            m.d.sync += [r.valid.eq(1), r.payload.resp.eq(Response.OKAY)]
            with m.Switch(ar.payload.addr):
                with m.Case(CopierRegister.SOURCE):
                    m.d.sync += r.payload.data.eq(source)
                with m.Case(CopierRegister.DESTINATION):
                    m.d.sync += r.payload.data.eq(destination)
                with m.Case(CopierRegister.WORDS):
                    m.d.sync += r.payload.data.eq(words)
                with m.Case(CopierRegister.STATUS):
                    m.d.sync += r.payload.data.eq(done | read_failed << 1 | write_failed << 2)
                with m.Default():
                    m.d.sync += r.payload.resp.eq(Response.SLVERR)
        return start


class Forwarder(wiring.Component):
    """Sends each packet on, one word a cycle, with every byte one higher when ``step`` is set.

    ``cycles`` counts clock cycles when ``counting`` is set, so that the device is never still.
    """

    net_rx: In(PacketSignature(4))
    net_tx: Out(PacketSignature(4))
    number_in: In(stream.Signature(70))
    number_out: Out(stream.Signature(70))
    step: In(1)
    counting: In(1)
    cycles: Out(32)

    def elaborate(self, platform):
        m = Module()
        rx, tx = self.net_rx, self.net_tx
        m.d.comb += rx.ready.eq(~tx.valid | tx.ready)
        with m.If(rx.ready):
            m.d.sync += [tx.valid.eq(rx.valid), tx.payload.eq(rx.payload)]
            for k in range(4):
                byte = rx.payload.data[8 * k : 8 * k + 8]
                m.d.sync += tx.payload.data[8 * k : 8 * k + 8].eq(byte + self.step)
        m.d.comb += [
            self.number_out.valid.eq(self.number_in.valid),
            self.number_in.ready.eq(self.number_out.ready),
            self.number_out.payload.eq(self.number_in.payload + 1),
        ]
        with m.If(self.counting):
            m.d.sync += self.cycles.eq(self.cycles + 1)
        return m


class Station(wiring.Component):
    """Sends what it is to say in the same cycle, and tells of every word that passes, and when it did.

    With ``slow`` it hears in a quarter of all cycles only, irregularly. The interrupt is the last bit of the first byte
    of the last packet that was heard.
    """

    def __init__(self, width):
        told = data.StructLayout({"word": packet_layout(width), "cycle": 32})
        super().__init__({
            "say": In(PacketSignature(width)), "net_tx": Out(PacketSignature(width)),
            "net_rx": In(PacketSignature(width)),
            "said": Out(stream.Signature(told)), "heard": Out(stream.Signature(told)),
            "irq": Out(1), "slow": In(1),
        })

    def elaborate(self, platform):
        m = Module()
        cycle, noise, first = Signal(32), Signal(16, init=1), Signal(init=1)
        m.d.sync += [cycle.eq(cycle + 1), noise.eq(Cat(noise[15] ^ noise[13] ^ noise[12] ^ noise[10], noise))]
        m.d.comb += [
            self.net_tx.valid.eq(self.say.valid), self.say.ready.eq(self.net_tx.ready),
            self.net_tx.payload.eq(self.say.payload),
            self.said.valid.eq(self.net_tx.valid & self.net_tx.ready), self.said.payload.word.eq(self.net_tx.payload),
            self.net_rx.ready.eq(~self.slow | noise[:2].all()),
            self.heard.valid.eq(self.net_rx.valid & self.net_rx.ready),
            self.heard.payload.word.eq(self.net_rx.payload),
        ]
        for told in (self.said, self.heard):
            m.d.comb += told.payload.cycle.eq(cycle)
        with m.If(self.net_rx.valid & self.net_rx.ready):
            m.d.sync += first.eq(self.net_rx.payload.last)
            with m.If(first):
                m.d.sync += self.irq.eq(self.net_rx.payload.data[0])
        return m


class Asserting(wiring.Component):
    """Fails an assertion in a submodule when ``sync_value`` is 7, one of its own when ``comb_value`` is 9."""

    sync_value: In(8)
    comb_value: In(8)
    count: Out(8)

    def elaborate(self, platform):
        m = Module()
        m.submodules.inner = inner = _Inner()
        m.d.comb += inner.value.eq(self.sync_value)
        m.d.sync += self.count.eq(self.count + 1)
        m.d.comb += Assert(self.comb_value != 9, Format("comb_value is {:d}", self.comb_value))
        return m


class _Inner(wiring.Component):
    value: In(8)

    def elaborate(self, platform):
        m = Module()
        with m.If(self.value == 3):
            m.d.sync += Print("value is three")
        m.d.sync += Assert(self.value != 7, "value must not be seven")
        return m


_ADDRESS = AXI4Signature(addr_width=32).members["aw"].signature.members["payload"].shape
_WRITE = AXI4Signature(addr_width=32).members["w"].signature.members["payload"].shape
_DONE = AXI4Signature(addr_width=32).members["b"].signature.members["payload"].shape
_READ = AXI4Signature(addr_width=32).members["r"].signature.members["payload"].shape


class Bridge(wiring.Component):
    """Hands AXI channels and packet words through unchanged, so that a test can say anything on them.

    ``mute`` takes back the valid of ``ar`` and ``net_tx``, and ``twist`` changes the address on ``ar``: both
    break the rules of streams when used in the middle of a transfer.
    """

    i_aw: In(stream.Signature(_ADDRESS))
    i_w: In(stream.Signature(_WRITE))
    o_b: Out(stream.Signature(_DONE))
    i_ar: In(stream.Signature(_ADDRESS))
    o_r: Out(stream.Signature(_READ))
    mem: Out(AXI4Signature(addr_width=32))
    i_word: In(stream.Signature(39))
    net_tx: Out(PacketSignature(4))
    mute: In(1)
    twist: In(32)
    beat: Out(1)

    def elaborate(self, platform):
        m = Module()
        for i, o in ((self.i_aw, self.mem.aw), (self.i_w, self.mem.w), (self.i_ar, self.mem.ar),
                     (self.mem.b, self.o_b), (self.mem.r, self.o_r), (self.i_word, self.net_tx)):
            m.d.comb += [o.valid.eq(i.valid), i.ready.eq(o.ready), Value.cast(o.payload).eq(i.payload)]
        with m.If(self.mute):
            m.d.comb += [self.mem.ar.valid.eq(0), self.net_tx.valid.eq(0)]
        m.d.comb += self.mem.ar.payload.addr.eq(self.i_ar.payload.addr ^ self.twist)
        m.d.sync += self.beat.eq(~self.beat)
        return m
