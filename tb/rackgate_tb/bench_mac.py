# SPDX-License-Identifier: Apache-2.0
"""Bench of :class:`rackgate.mac.mac.Mac` between a model of a PHY and packet streams, with three clocks.

It draws frames of all sizes, idle cycles and back-pressure at random, and checks contents, order, number, what the
frames are on the wire (the PHY's model does), gaps at line rate, and that nothing is left at the end.
"""

from collections import deque

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ReadOnly, RisingEdge, with_timeout

from rackgate.mac.abi import GAP
from rackgate_sim.phy import NO_FAULTS, ByteTime, Faults, Phy

from . import session

#: Periods in ps: a system of 50 MHz, and the PHY's clocks, which are not quite the same.
PERIODS = {"clk": 20_000, "eth_rx_clk": 8_000, "eth_tx_clk": 7_998}
LIMIT_US = 20_000
SMALLEST, LARGEST = 60, 1518


class Bench:
    """The MAC's two sides.

    ``taken`` are frames that came out of it, each with whether it is damaged; ``idle`` and ``stall`` are probabilities
    in each cycle of the system's.
    """

    def __init__(self, dut, purpose, *, idle=0.0, stall=0.0, faults=NO_FAULTS):
        self.dut, self.rng, self.idle, self.stall = dut, session.rng(purpose), idle, stall
        self.width = session.parameters()["width"]
        self.phy = Phy(rng=session.rng(f"{purpose} cable"), faults=faults)
        self.waiting: deque[int] = deque()
        self.taken: list[tuple[bytes, bool]] = []
        self.on_wire: list[bool] = []
        self._coming, self._offers = bytearray(), False

    async def start(self):
        """Clocks and resets, and models on all ports."""
        dut = self.dut
        for name in ("i__valid", "o__ready", "csr__aw__valid", "csr__w__valid", "csr__ar__valid", "csr__b__ready",
                     "csr__r__ready", "gmii__rx_valid", "gmii__rx_error", "gmii__rx_data", "gmii__link"):
            getattr(dut, name).value = 0
        dut.gmii__rx_strobe.value = 1
        dut.gmii__tx_strobe.value = 1
        for name, period in PERIODS.items():
            Clock(getattr(dut, name), period, unit="ps").start()
        await self.reset()
        for model in (self._send, self._take, self._receive, self._transmit):
            cocotb.start_soon(model())

    async def reset(self):
        """All domains together."""
        for level in (1, 0):
            for name in ("rst", "eth_rx_rst", "eth_tx_rst"):
                getattr(self.dut, name).value = level
            for _ in range(4):
                await RisingEdge(self.dut.clk)

    def forget(self):
        """What has come out and gone in, whole or in part."""
        self.phy = Phy()
        self.phy.send_bytes([ByteTime()] * GAP)
        self.taken.clear()
        self._coming.clear()

    def put(self, frame, *, is_damaged=False):
        """A frame for the MAC to send."""
        width, count_bits = self.width, self.width.bit_length()
        for place in range(0, len(frame), width):
            part = frame[place:place + width]
            last = place + width >= len(frame)
            self.waiting.append(int.from_bytes(part, "little") | len(part) << 8 * width
                                | last << 8 * width + count_bits | (last and is_damaged) << 8 * width + count_bits + 1)

    async def _send(self):
        dut = self.dut
        while True:
            self._offers = bool(self.waiting) and self.rng.random() >= self.idle
            dut.i__valid.value = self._offers
            if self._offers:
                dut.i__payload.value = self.waiting.popleft()
            taken = False
            while not taken:
                await ReadOnly()
                taken = not self._offers or bool(dut.i__ready.value)
                await RisingEdge(dut.clk)

    async def _take(self):
        dut, width, count_bits = self.dut, self.width, self.width.bit_length()
        while True:
            ready = self.rng.random() >= self.stall
            dut.o__ready.value = ready
            await ReadOnly()
            if ready and dut.o__valid.value:
                word = int(dut.o__payload.value)
                count = word >> 8 * width & (1 << count_bits) - 1
                last, error = word >> 8 * width + count_bits & 1, word >> 8 * width + count_bits + 1
                assert 1 <= count <= width and (last or count == width and not error), "a word of no packet"
                self._coming += (word & (1 << 8 * width) - 1).to_bytes(width, "little")[:count]
                if last:
                    self.taken.append((bytes(self._coming), bool(error)))
                    self._coming.clear()
            await RisingEdge(dut.clk)

    async def _receive(self):
        dut = self.dut
        while True:
            now = self.phy.to_mac()
            dut.gmii__rx_data.value, dut.gmii__rx_valid.value, dut.gmii__rx_error.value = now
            await RisingEdge(dut.eth_rx_clk)

    async def _transmit(self):
        dut = self.dut
        while True:
            await ReadOnly()
            now = ByteTime(int(dut.gmii__tx_data.value), bool(dut.gmii__tx_enable.value),
                           bool(dut.gmii__tx_error.value))
            self.on_wire.append(now.valid)
            self.phy.from_mac(now)
            await RisingEdge(dut.eth_tx_clk)

    async def settle(self):
        """Until nothing is under way, and has not been for a while."""
        async def quiet():
            cycles = 0
            while cycles < 100:
                await RisingEdge(self.dut.clk)
                cycles = cycles + 1 if self.phy.is_idle and not self.waiting and not self._offers else 0
        await with_timeout(quiet(), LIMIT_US, "us")
        assert not self._coming, "a frame has no end"

    def frame(self, size=None):
        """A random frame, of any size unless told."""
        return self.rng.randbytes(self.rng.randint(SMALLEST, LARGEST) if size is None else size)


@cocotb.test()
@cocotb.parametrize(idle=[0.0, 0.3], stall=[0.0, 0.3])
async def random_traffic(dut, idle, stall):
    """Frames of sizes all over the range, both ways at once."""
    bench = Bench(dut, f"traffic {idle} {stall}", idle=idle, stall=stall)
    await bench.start()
    sizes = [*range(SMALLEST, SMALLEST + 9), LARGEST - 1, LARGEST]
    there = [bench.frame(size) for size in sizes] + [bench.frame() for _ in range(8)]
    back = [bench.frame(size) for size in (1, 2, 3, 59, *sizes)] + [bench.frame() for _ in range(8)]
    bench.rng.shuffle(there)
    bench.rng.shuffle(back)
    for frame in there:
        bench.phy.send(frame)
    for frame in back:
        bench.put(frame)
    await bench.settle()
    assert bench.taken == [(frame, False) for frame in there]
    assert list(bench.phy.taken) == [frame.ljust(60, b"\0") for frame in back] and not bench.phy.broken


@cocotb.test()
async def line_rate(dut):
    """Frames of the least size back to back, both ways: none is lost, and no byte time is."""
    bench = Bench(dut, "line rate")
    await bench.start()
    there, back = [[bench.frame(SMALLEST) for _ in range(200)] for _ in range(2)]
    for frame in there:
        bench.phy.send(frame)
    for frame in back:
        bench.put(frame)
    await bench.settle()
    assert bench.taken == [(frame, False) for frame in there]
    assert list(bench.phy.taken) == back
    first, last = bench.on_wire.index(True), len(bench.on_wire) - bench.on_wire[::-1].index(True)
    assert last - first == 200 * 72 + 199 * 12


@cocotb.test()
async def faults(dut):
    """Damage and noise on the wire, and damaged frames to be sent: what is good passes, what is not is marked."""
    bench = Bench(dut, "faults", stall=0.2, faults=Faults(flip=0.2, cut=0.2, flag=0.2, noise=0.3, preamble=0.5))
    await bench.start()
    there, back = [[bench.frame(bench.rng.randint(SMALLEST, 300)) for _ in range(100)] for _ in range(2)]
    for frame in there:
        bench.phy.send(frame)
    marks = [bench.rng.random() < 0.3 for _ in back]
    for frame, mark in zip(back, marks, strict=True):
        bench.put(frame, is_damaged=mark)
    await bench.settle()
    good = [frame for frame, is_damaged in bench.taken if not is_damaged]
    assert good == [frame for frame in there if frame not in bench.phy.spoiled]
    assert len(good) < len(bench.taken) <= len(there)
    assert list(bench.phy.taken) == [frame for frame, mark in zip(back, marks, strict=True) if not mark]


@cocotb.test()
async def resets(dut):
    """A reset in the midst of traffic; what is sent after it passes."""
    bench = Bench(dut, "resets")
    await bench.start()
    for _ in range(4):
        bench.phy.send(bench.frame(300))
        bench.put(bench.frame(300))
    for _ in range(bench.rng.randint(150, 250)):
        await RisingEdge(dut.clk)
    bench.waiting.clear()
    bench.phy = Phy()
    await bench.reset()
    bench.forget()
    there, back = bench.frame(200), bench.frame(200)
    bench.phy.send(there)
    bench.put(back)
    await bench.settle()
    assert bench.taken == [(there, False)] and list(bench.phy.taken) == [back]
