# amaranth: UnusedElaboratable=no
# SPDX-License-Identifier: Apache-2.0
"""The kernel's own ARP, ICMP and UDP against a station behind a MAC, byte by byte at the PHY's pins."""

import os
import random
import shutil
import socket
import struct
import subprocess
import threading
import time
from pathlib import Path

import pytest
from ethernet_bench import drive_receive, drive_transmit
from ethernet_port import EthernetPort

from rackgate.net.frames import internet_checksum
from rackgate.verif.stimulus import send, simulate
from rackgate_host.zeronic import namespaces
from rackgate_host.zeronic.errors import NoHosts
from rackgate_sim.phy import Phy
from rackgate_sim.tap import Tap

ADDRESS, PORT = "192.0.2.10", 21074
#: Seconds of wall-clock time without a sign of life.
LIMIT = 60


def serve(cable, until):
    """Run a port whose bridge sends messages back, with its PHY plugged into ``cable``, until ``until()`` is true."""
    dut, phy = EthernetPort(), Phy()

    async def testbench(ctx):
        end = time.monotonic() + LIMIT
        while not until():
            assert time.monotonic() < end, f"the board has sent nothing for {LIMIT} s"
            while (frame := cable.receive()) is not None:
                phy.send(frame)
            if phy.is_idle:
                time.sleep(0.002)
            await ctx.tick().repeat(100)
            while phy.taken:
                cable.send(phy.taken.popleft())
                end = time.monotonic() + LIMIT

    async def receive(ctx):
        await drive_receive(ctx, dut.gmii, phy)

    async def transmit(ctx):
        await drive_transmit(ctx, dut.gmii, phy)

    async def bridge(ctx):
        ctx.set(dut.system_rx.ready, 1)
        message = []
        while True:
            ctx.set(dut.o_message.ready, 1)
            _, _, valid, word = await ctx.tick().sample(dut.o_message.valid, dut.o_message.payload)
            if valid:
                message.append(word)
            if valid and word.last:
                ctx.set(dut.o_message.ready, 0)
                await send(ctx, dut.i_answer, message)
                message = []

    simulate(dut, testbench, models=[receive, transmit, bridge], limit=100_000_000,
             clocks={"eth_rx": 0.4, "eth_tx": 0.4001})


class Namespace:
    """A network namespace, and actions of a thread in it; what they open stays in it. The calling thread stays out."""

    def __init__(self):
        self._file = None
        self._file = self.run(self._make)

    @staticmethod
    def _make():
        os.close(namespaces.make())  # of the process, not of this thread
        return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)

    def run(self, action):
        """What ``action()`` returns."""
        found, failed = [], []

        def inside():
            try:
                if self._file is not None:
                    namespaces.enter(self._file)
                found.append(action())
            except BaseException as error:
                failed.append(error)

        thread = threading.Thread(target=inside)
        thread.start()
        thread.join()
        if failed:
            raise failed[0]
        return found[0]

    def close(self):
        os.close(self._file)


@pytest.fixture
def host():
    """A namespace with a TAP in it, where the kernel is 192.0.2.1."""
    try:
        namespaces.check_possible()
    except NoHosts as error:
        pytest.skip(str(error))
    if not Path("/dev/net/tun").exists():
        pytest.skip("there is no /dev/net/tun")

    def make():
        tap = Tap("board")
        for kind in ("mcast", "ucast"):  # a simulated board is slow, and the kernel asks three times only
            Path(f"/proc/sys/net/ipv4/neigh/{tap.name}/{kind}_solicit").write_text("60")
        namespaces.run_ip("address", "add", "192.0.2.1/24", "dev", tap.name)
        namespaces.run_ip("link", "set", tap.name, "up")
        return tap

    namespace = Namespace()
    tap = namespace.run(make)
    yield namespace, tap
    tap.close()
    namespace.close()


def received(sock):
    """A datagram, or None."""
    try:
        return sock.recv(65535)
    except BlockingIOError:
        return None


@pytest.mark.thorough
def test_kernel(host, seed):
    """The kernel asks who has the address, then its echo requests and datagrams are answered."""
    rng, (namespace, tap) = random.Random(seed), host
    icmp, udp = namespace.run(lambda: [socket.socket(socket.AF_INET, *kind) for kind in (
        (socket.SOCK_RAW, socket.IPPROTO_ICMP), (socket.SOCK_DGRAM,))])
    with icmp, udp:
        ask(rng, tap, icmp, udp)


def ask(rng, tap, icmp, udp):
    """Echo requests and datagrams in turn, each when the one before is answered."""
    for sock in (icmp, udp):
        sock.setblocking(False)
    datas = [rng.randbytes(size) for size in (0, 1, 56)]
    echoes, answers = [], []

    def until():
        if (packet := received(icmp)) and packet[20] == 0:
            echoes.append(packet[28:])
            assert not internet_checksum(packet[20:])
        if answer := received(udp):
            answers.append(answer)
        if len(echoes) + len(answers) == asked[0] and asked[0] < 2 * len(datas):
            data = datas[asked[0] // 2]
            if asked[0] % 2:
                udp.sendto(data + b"!", (ADDRESS, PORT))
            else:
                head = struct.pack(">BBHHH", 8, 0, 0, 77, asked[0])
                head = head[:2] + internet_checksum(head + data).to_bytes(2, "big") + head[4:]
                icmp.sendto(head + data, (ADDRESS, 0))
            asked[0] += 1
        return len(echoes) + len(answers) == 2 * len(datas)

    asked = [0]
    serve(tap, until)
    assert echoes == datas and answers == [data + b"!" for data in datas]


@pytest.mark.thorough
@pytest.mark.skipif(shutil.which("ping") is None, reason="there is no ping: install iputils-ping")
def test_ping(host):
    namespace, tap = host
    ping = namespace.run(lambda: subprocess.Popen(["ping", "-c", "2", "-W", str(LIMIT), ADDRESS], text=True,
                                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT))
    serve(tap, lambda: ping.poll() is not None)
    assert "2 received" in ping.communicate()[0] and ping.returncode == 0


def test_a_tap_has_a_short_name():
    with pytest.raises(ValueError, match="name must have 1 to 15 bytes, not ''"):
        Tap("")
