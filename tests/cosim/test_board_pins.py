# SPDX-License-Identifier: Apache-2.0
"""Driver tests, unchanged, on a simulated board at its pins: through a pseudo-terminal, and through a UDP socket."""

import json
import random
import zlib

import pytest
from test_echo_driver import (
    test_copies,
    test_memory_that_is_not_there,
    test_nothing,
    test_nothing_else_is_touched,
    test_refused,
    test_registers,
)
from test_inflate_driver import test_one_job, test_statuses, test_tags_and_ring_wrap

import rackgate_host
from rackgate.board.device import board_device
from rackgate.board.links import Uart, Udp
from rackgate.net.frames import Endpoint, udp_frame
from rackgate_host import DeviceMismatch, inflate
from rackgate_host.echo import EchoDriver
from rackgate_host.inflate import InflateDriver
from rackgate_host.transcript import Divergence, compare, record
from rackgate_sim.board.datagrams import HOST_ADDRESS, HOST_MAC, Datagrams
from rackgate_sim.board.ethernet import UdpBoard
from rackgate_sim.board.serve import CLOCK_HZ, serve
from rackgate_sim.board.worlds import EthernetWorld, SerialWorld

__all__ = ["test_copies", "test_memory_that_is_not_there", "test_nothing", "test_nothing_else_is_touched",
           "test_one_job", "test_refused", "test_registers", "test_statuses", "test_tags_and_ring_wrap"]

pytestmark = [pytest.mark.cosim, pytest.mark.thorough, pytest.mark.xdist_group("native")]

SMALL = {"contexts": 1, "window": 4096, "lanes": 8}
MEMORY = 64 << 10


@pytest.fixture
def board():
    """Serve boards and open their devices; both end with the test."""
    ends = []

    def open_board(system, link, **parameters):
        served = serve(system, link, parameters)
        ends.append(served.close)
        device = rackgate_host.open(served.url)
        ends.append(device.close)
        return device

    yield open_board
    for end in reversed(ends):
        end()


@pytest.fixture
def echo(board):
    """What the tests of the echo driver ask for."""
    return EchoDriver(board("echo", "uart", memory=1 << 20))


@pytest.fixture
def device(board):
    """What the tests of the inflate driver ask for: the smallest engine, at a serial line."""
    return board("inflate", "uart", **SMALL, memory=MEMORY)


@pytest.fixture
def driver(device):
    return InflateDriver(device, ring_size=8, verify=True)


def work_of_echo(device):
    """A bit of everything that the echo driver does."""
    echo, rng = EchoDriver(device), random.Random(7)
    for words in (1, 8, 33):
        echo.echo(rng.randbytes(8 * words), change=rng.getrandbits(32))
    with pytest.raises(rackgate_host.UsageError):
        echo.copy(device.transport.memory_base + 1, device.transport.memory_base, 8)
    with pytest.raises(rackgate_host.DeviceFault):
        echo.copy(device.transport.memory_base, 0, 8)


def work_of_inflate(device):
    """Whole streams, one in pieces, and a damaged one."""
    text = b"".join(b"%d bottles of beer on the wall\n" % n for n in range(40))
    assert inflate.decompress(zlib.compress(text, wbits=12), 12, device=device) == text
    decoder, stream = inflate.decompressobj(28, device=device), zlib.compress(text, wbits=28)
    assert b"".join(decoder.decompress(stream[at:at + 150]) for at in range(0, len(stream), 150)) == text
    with pytest.raises(inflate.InflateError):
        inflate.decompress(stream[:100] + b"\xff" * 50, 28, device=device)


@pytest.mark.parametrize(("system", "link", "work", "parameters"), [
    ("echo", "uart", work_of_echo, {}), ("echo", "udp", work_of_echo, {}),
    ("inflate", "uart", work_of_inflate, SMALL),
])
def test_transcripts(board, tmp_path, system, link, work, parameters):
    """Transaction by transaction the driver does the same to the simulated board and to the native simulation."""
    native = f"sim:{system}?memory={MEMORY}&variant=brief"
    places = tmp_path / "sim.jsonl", tmp_path / "board.jsonl"
    with rackgate_host.open(native, **parameters) as device, record(device, places[0]):
        work(device)
    device = board(system, link, **parameters, memory=MEMORY)
    with record(device, places[1]):
        work(device)
    assert compare(*places) > 20


def test_a_difference_is_told_with_its_transaction(board, tmp_path):
    """The board is made to differ from the native simulation in the second of three jobs."""
    places = tmp_path / "sim.jsonl", tmp_path / "board.jsonl"

    def work(device, second):
        echo = EchoDriver(device)
        for change in (1, second, 3):
            echo.echo(bytes(range(64)), change=change)

    with rackgate_host.open(f"sim:echo?memory={MEMORY}&variant=brief") as device, record(device, places[0]):
        work(device, 2)
    device = board("echo", "uart", memory=MEMORY)
    with record(device, places[1]):
        work(device, 6)
    native, pins = ([json.loads(line) for line in place.read_text().splitlines()[1:]] for place in places)
    first = next(number for number, (one, other) in enumerate(zip(native, pins, strict=True), 1)
                 if {**one, "c": 0} != {**other, "c": 0})
    with pytest.raises(Divergence, match=f"differs at transaction {first} ") as caught:
        compare(*places)
    assert caught.value.transaction == first > 1 and caught.value.expected["v"] == 2
    assert caught.value.actual["v"] == 6


def test_a_board_says_what_it_is():
    with serve("echo", "udp", {"memory": MEMORY}) as served:
        with rackgate_host.open(f"{served.url}&system=echo") as device:
            identity = device.transport.identity
            assert (identity.system, identity.board, identity.clock_khz) == ("echo", "simulation", 50_000)
            assert (device.transport.memory_base, device.transport.memory_size) == (0x1000_0000, MEMORY)
            assert identity.build != bytes(32)
        with pytest.raises(DeviceMismatch, match="inflate"):
            rackgate_host.open(f"{served.url}&system=inflate")


def test_a_board_of_its_own_addresses():
    """It takes frames for the MAC and the IPv4 address that it was built with, and answers from them."""
    link = Udp(mac=0x0252_4700_000A, address=0x0A01_0203)
    board = board_device("echo", {}, board="simulation", link=link, clock_hz=CLOCK_HZ, memory=MEMORY)
    with UdpBoard(board) as served, rackgate_host.open(f"{served.url}&system=echo") as device:
        assert EchoDriver(device).echo(b"at 10.1 ") == b"at 10.1 "


def test_builds_have_different_hashes():
    def build(**changes):
        options = {"board": "x", "link": Uart(), "clock_hz": 50_000_000, "memory": 4096, **changes}
        return board_device("echo", {}, **options).identity.build

    assert build() == build()
    others = [build(**change) for change in ({"board": "y"}, {"link": Uart(115200)}, {"clock_hz": 25_000_000},
                                             {"memory": 8192}, {"link": Udp()})]
    assert len({build(), *others}) == 6


@pytest.mark.parametrize(("system", "link", "parameters", "message"), [
    ("echo", "usb", {}, "link must be uart or udp, not 'usb'"),
    ("deflate", "uart", {}, "name must be one of .*, not 'deflate'"),
    ("balancer", "uart", {}, "system balancer has packet streams: its link must be Udp, not a UART"),
    ("inflate", "uart", {"contexts": 9}, "contexts must be 1 to 8, not 9"),
])
def test_what_cannot_be_served(system, link, parameters, message):
    with pytest.raises(ValueError, match=message):
        serve(system, link, parameters)


def test_links_of_worlds():
    boards = [board_device("echo", {}, board="x", link=link, clock_hz=50_000_000, memory=4096)
              for link in (Uart(), Udp())]
    with pytest.raises(TypeError, match="board must have a UART, not Udp"):
        SerialWorld(boards[1])
    with pytest.raises(TypeError, match="board must have Ethernet, not Uart"):
        EthernetWorld(boards[0])
    with pytest.raises(ValueError, match="baud must be at most a quarter of the clock"):
        board_device("echo", {}, board="x", link=Uart(20_000_000), clock_hz=50_000_000, memory=4096)
    with pytest.raises(TypeError, match="link must be Uart or Udp, not 1"):
        board_device("echo", {}, board="x", link=1, clock_hz=50_000_000, memory=4096)


@pytest.mark.parametrize(("options", "message"), [
    ({"mac": 1 << 48}, "mac must be the address of one station"), ({"mac": 1 << 40}, "mac must be the address of one"),
    ({"address": 0}, "address must be the IPv4 address of one station, not 0.0.0.0"),
    ({"address": 0xE0000001}, "address must be the IPv4 address of one station, not 224.0.0.1"),
])
def test_addresses(options, message):
    with pytest.raises(ValueError, match=message):
        Udp(**options)


def test_datagrams():
    link = Udp()
    datagrams = Datagrams(link)
    board, host = Endpoint(link.mac, link.address, 21074), Endpoint(HOST_MAC, HOST_ADDRESS, 5000)
    system = board._replace(port=20001)
    assert datagrams.pack(b"ask", ("127.0.0.1", 5000)) == udp_frame(host, board, b"ask")
    assert datagrams.pack(b"lock", ("127.0.0.2", 5001), 20001) == udp_frame(host._replace(port=5001), system, b"lock")
    answer = udp_frame(board, host, b"answer").ljust(60, b"\0")
    assert datagrams.unpack(answer) == (21074, b"answer", ("127.0.0.1", 5000))
    for port, receiver in ((5001, ("127.0.0.2", 5001)), (5002, ("127.0.0.1", 5002))):
        assert datagrams.unpack(udp_frame(system, host._replace(port=port), b"x")) == (20001, b"x", receiver)
    assert datagrams.unpack(udp_frame(board, host._replace(mac=5), b"other")) is None
    with pytest.raises(ValueError, match="is none of the bridge's answers"):
        datagrams.unpack(udp_frame(board, host._replace(port=6000), b"x"))
    for wrong in (udp_frame(system._replace(mac=5), host, b"x"), udp_frame(system, host._replace(address=5), b"x")):
        with pytest.raises(ValueError, match="is not from the board to its host"):
            datagrams.unpack(wrong)
