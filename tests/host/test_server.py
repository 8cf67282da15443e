# SPDX-License-Identifier: Apache-2.0
"""One board, many clients."""

import contextlib
import json
import os
import random
import socket
import threading
import time
import zlib

import pytest
from bridged import FAULTY, golden_bridge
from typer.testing import CliRunner

import rackgate_host
from rackgate.bridge import abi
from rackgate.bridge.abi import Kind, Message, pack_message
from rackgate_host import DeviceFault, DeviceTimeout, OutOfDeviceMemory, Unavailable, UsageError, inflate
from rackgate_host.cli import app
from rackgate_host.sharing.hello import frame, proof, read_line, write_line
from rackgate_host.sharing.server import Server
from rackgate_host.transport.remote import RemoteTransport
from rackgate_host.transport.udp import UdpLink
from rackgate_sim.bridge_links import Faults, UdpBridge

MEMORY = 1 << 20
TOKEN = "correct horse battery staple"


@pytest.fixture
def board(seed):
    with UdpBridge(golden_bridge(memory=MEMORY), Faults(**FAULTY, seed=seed)) as serving:
        yield serving


@pytest.fixture
def start(board):
    """Start servers that end with the test."""
    servers = []

    def start(**options):
        lines = []
        transport = RemoteTransport(UdpLink(*board.address), timeout=1.0)
        try:
            servers.append(Server(transport, board.url, report=lines.append, **options))
        except BaseException:
            transport.close()
            raise
        servers[-1].lines = lines
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def url(server, **options):
    query = "&".join(f"{name}={value}" for name, value in options.items())
    return "tcp:{}:{}".format(*server.address) + (f"?{query}" if query else "")


def settle(condition):
    """Wait for what happens in another thread."""
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_driver_works_through_a_server(start):
    content = b"".join(b"%d words\n" % k for k in range(2000))
    with rackgate_host.open(url(start())) as device:
        assert device.name == "inflate" and device.transport.identity.board == "golden"
        assert inflate.decompress(zlib.compress(content), device=device) == content


def test_clients_have_memory_of_their_own(start, seed):
    server = start()
    rng = random.Random(seed)
    clients = [rackgate_host.open(url(server, memory=size)) for size in ("64K", "128K", 5000)]
    clients.append(rackgate_host.open(url(server)))
    parts = sorted((one.transport.memory_base, one.transport.memory_size) for one in clients)
    assert [size for _, size in parts] == [64 << 10, 128 << 10, 8192, 421888]
    assert all(base + size <= other for (base, size), (other, _) in zip(parts, parts[1:], strict=False))
    buffers = []
    for one in clients:
        buffer = one.allocate(one.transport.memory_size)
        buffer[:] = list(rng.randbytes(buffer.size))
        buffers.append((buffer, buffer.tobytes()))
        buffer.sync_to_device()
    for one in clients:
        one.regs.snapshot()
    for buffer, content in buffers:
        buffer[:] = 0
        buffer.sync_from_device()
        assert buffer.tobytes() == content
    base, size = parts[0]
    for address in (base - 4, base + size):
        with pytest.raises(DeviceFault, match="read of device memory at .*: there is nothing at this address"):
            clients[0].transport.read_memory(address, 4)
    for one in clients:
        one.close()
    settle(lambda: server.allocator.free_bytes == MEMORY)


def test_a_client_that_dies_frees_its_memory(start):
    server = start()
    device = rackgate_host.open(url(server, memory=MEMORY))
    with pytest.raises(Unavailable, match="4096 bytes of device memory were asked for: 0 of 1048576 are left"):
        rackgate_host.open(url(server, memory=100))
    device.regs.RING_SIZE.value = 32
    device.transport.session.link._socket.shutdown(socket.SHUT_RDWR)
    settle(lambda: server.allocator.free_bytes == MEMORY)
    assert any("went" in line for line in server.lines)
    with rackgate_host.open(url(server, memory=MEMORY)) as other:
        other.regs.RING_SIZE.value = 64
        assert other.regs.RING_SIZE.value == 64
    with pytest.raises(DeviceFault, match="the server has gone|the connection is over"):
        _ = device.regs.RING_SIZE.value
    device.close()


def test_one_client_drives_and_others_look(start):
    server = start()
    with rackgate_host.open(url(server)) as first, rackgate_host.open(url(server)) as second:
        first.regs.RING_SIZE.value = 32
        second.allocate(100).sync_to_device()
        with pytest.raises(Unavailable, match="write of register 0x4c: another client of the server drives the device"):
            second.regs.RING_SIZE.value = 64
        assert second.regs.RING_SIZE.value == first.regs.RING_SIZE.value == 32
        first.close()
        settle(lambda: server._driver is None)
        second.regs.RING_SIZE.value = 64
        assert second.regs.RING_SIZE.value == 64


def test_clients_that_agree_may_all_write(start):
    server = start(is_shared=True)
    with rackgate_host.open(url(server)) as first, rackgate_host.open(url(server)) as second:
        first.regs.RING_SIZE.value = 32
        second.regs.RING_TAIL.value = 0
        second.regs.RING_SIZE.value = 64
        assert first.regs.RING_SIZE.value == 64


@pytest.mark.thorough
def test_many_clients_at_a_time(start, board, seed):
    """Their requests are interleaved; each sees its own memory, and those of the driver are in order."""
    server = start(is_shared=True)
    failures = []

    def work(number):
        try:
            rng = random.Random(seed * 100 + number)
            with rackgate_host.open(url(server, memory="64K")) as device:
                buffer = device.allocate(50_000)
                for _ in range(5):
                    size = rng.randrange(1, 50_000)
                    content = rng.randbytes(size)
                    buffer[:size] = list(content)
                    buffer[:size].sync_to_device()
                    assert device.regs.MAGIC.value == int.from_bytes(b"RGAT", "little")
                    buffer[:] = 0
                    buffer.sync_from_device()
                    assert buffer[:size].tobytes() == content
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    settle(lambda: server.allocator.free_bytes == MEMORY)


def test_tokens(start, tmp_path, monkeypatch):
    with pytest.raises(UsageError, match="at 0.0.0.0 needs a token: --token-file"):
        start(address=("0.0.0.0", 0))
    server = start(token=TOKEN)
    monkeypatch.delenv("RACKGATE_TOKEN", raising=False)
    with pytest.raises(Unavailable, match="the server wants a token: set RACKGATE_TOKEN"):
        rackgate_host.open(url(server))
    file = tmp_path / "token"
    file.write_text("wrong" * 5)
    with pytest.raises(Unavailable, match="the token is wrong"):
        rackgate_host.open(url(server, token_file=file))
    file.write_text("short")
    with pytest.raises(UsageError, match="at least 16 letters, not 5"):
        rackgate_host.open(url(server, token_file=file))
    with pytest.raises(UsageError, match="file of the token cannot be read"):
        rackgate_host.open(url(server, token_file=tmp_path / "none"))
    file.write_text(TOKEN + "\n")
    with rackgate_host.open(url(server, token_file=file)) as device:
        assert device.regs.VERSION.MAJOR == 1
    monkeypatch.setenv("RACKGATE_TOKEN", TOKEN)
    with rackgate_host.open(url(server)) as device:
        assert device.regs.VERSION.MAJOR == 1
    server.close()
    with rackgate_host.open(url(start())) as device:  # a server that wants none does not mind
        assert device.regs.VERSION.MAJOR == 1


def test_a_board_that_does_not_answer(start, board):
    server = start()
    plain = board.bridge.answer
    with rackgate_host.open(url(server)) as device:
        board.bridge.answer = lambda message: None
        with pytest.raises(DeviceTimeout, match="no answer to a request of 127.0.0.1:"):
            _ = device.regs.RING_SIZE.value
        board.bridge.answer = plain
        with pytest.raises(DeviceFault, match="the server has gone|the connection is over"):
            _ = device.regs.RING_SIZE.value
    with rackgate_host.open(url(server)) as device:  # the server goes on
        assert device.regs.VERSION.MAJOR == 1
    assert not server.ends.is_set()


def test_a_board_that_is_lost(start, board):
    server = start()
    with rackgate_host.open(url(server)) as device, rackgate_host.open(url(server)) as other:
        board.bridge.session = abi.NO_SESSION
        with pytest.raises(DeviceFault, match="it was reset or programmed anew: open it again"):
            _ = device.regs.RING_SIZE.value
        settle(server.ends.is_set)
        with pytest.raises(DeviceFault, match="reset or programmed anew|has gone|is over"):
            _ = other.regs.RING_SIZE.value


def test_a_server_that_ends_says_so(start):
    server = start()
    with rackgate_host.open(url(server)) as device:
        server.close()
        with pytest.raises(DeviceFault, match="the server has been stopped|is over"):
            _ = device.regs.RING_SIZE.value


# Those who are no clients


def connected(server, memory=4096):
    connection = socket.create_connection(server.address, 5)
    challenge = read_line(connection)["challenge"]
    write_line(connection, {"rackgate": 1, "proof": proof("", challenge), "memory": memory})
    return connection, read_line(connection)


@pytest.mark.parametrize("hello", [b"", b"GET / HTTP/1.1\r\n\r\n", b"[]\n", b"x" * 5000, b'{"rackgate": 1, "proof": 3'])
def test_strange_greetings(start, hello):
    server = start()
    with socket.create_connection(server.address, 5) as connection:
        read_line(connection)
        connection.sendall(hello)
        with contextlib.suppress(OSError):  # the server may be gone by now
            connection.shutdown(socket.SHUT_WR)
        settle(lambda: any("no greeting" in line for line in server.lines))
    assert server.allocator.free_bytes == MEMORY
    with rackgate_host.open(url(server)) as device:
        assert device.regs.VERSION.MAJOR == 1


@pytest.mark.parametrize("memory", [0, -1, 1 << 33, "much", True, [1]])
def test_strange_wishes(start, memory):
    connection, answer = connected(start(), memory)
    assert "memory must be a number of bytes" in answer["error"]
    connection.close()


def test_another_version(start):
    with socket.create_connection(start().address, 5) as connection:
        read_line(connection)
        write_line(connection, {"rackgate": 9})
        assert "speaks version 1" in read_line(connection)["error"]


@pytest.mark.parametrize(
    "raw",
    [
        b"\xff\xff\xff\xff",
        frame(b"noise"),
        frame(b""),
        frame(pack_message(Message(Kind.OPEN, 7, 0, bytes(4))) + b"1234"),
        frame(pack_message(Message(Kind.OPEN, 7, 0, bytes(4)))) + frame(pack_message(Message(Kind.REQUEST, 7, 1))),
        os.urandom(3000),
    ],
)
def test_strange_frames_end_a_connection(start, raw):
    server = start()
    connection, answer = connected(server)
    assert "device" in answer
    connection.sendall(raw + b"\0" * 4)
    settle(lambda: server.allocator.free_bytes == MEMORY)
    connection.close()


def test_no_server(start):
    with pytest.raises(Unavailable, match="no server answers .*start one with `rackgate server`"):
        rackgate_host.open("tcp:127.0.0.1:9")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        place = f"tcp:127.0.0.1:{listening.getsockname()[1]}?timeout=0.3"
        with pytest.raises(DeviceTimeout, match="no greeting of the server within 0.3 s"):
            rackgate_host.open(place)
        listening.accept()[0].close()

        def answer(said):
            connection, _ = listening.accept()
            with connection:
                connection.sendall(said)
                connection.recv(1000)

        for said, message in ((b"SSH-2.0\r\n", "is no rackgate server"), (b'{"rackgate": 2}\n', "speaks version 2")):
            thread = threading.Thread(target=answer, args=(said,))
            thread.start()
            with pytest.raises(Unavailable, match=message):
                rackgate_host.open(place)
            thread.join()


# The commands


def run(*arguments):
    return CliRunner().invoke(app, list(arguments))


def test_server_command(board):
    result = run("server", board.url, "--listen", "127.0.0.1:0", "--seconds", "0", "--json")
    said = json.loads(result.stdout)
    assert result.exit_code == 0 and said.pop("client_url").startswith("tcp:127.0.0.1:")
    assert said == {"url": board.url, "system": "inflate", "memory_bytes": MEMORY, "token": False}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["model:inflate"], "shares a board at uart: or udp:"),
        (["udp:192.0.2.1", "--listen", "here:x"], "must look like 127.0.0.1 or"),
        (["BOARD?contexts=2"], "unknown option 'contexts'"),
        (["BOARD", "--listen", "0.0.0.0:0"], "needs a token"),
        (["BOARD", "--listen", "192.0.2.7:0", "--token-file", "TOKEN"], "nobody can listen at 192.0.2.7:0"),
    ],
)
def test_server_usage(board, tmp_path, monkeypatch, arguments, message):
    monkeypatch.delenv("RACKGATE_TOKEN", raising=False)
    (tmp_path / "token").write_text(TOKEN)
    names = {"TOKEN": str(tmp_path / "token"), "BOARD": board.url}
    result = run("server", *(names.get(one, one.replace("BOARD", board.url)) for one in arguments))
    assert isinstance(result.exception, UsageError) and message in str(result.exception)


def test_board_info(board, start):
    for place in (board.url, None):
        result = run("board", "info", place or url(start()), "--json")
        said = json.loads(result.stdout)
        assert result.exit_code == 0 and said["refusal"] is None
        assert (said["system"], said["board"], said["clock_khz"]) == ("inflate", "golden", 50000)
        assert said["release"] == "0.1.0"
        assert said["build"] == bytes(range(32)).hex() and said["parameters"] == {} and said["counters"]["executed"] > 0
        assert (said["memory_base"], said["memory_bytes"]) == (abi.MEMORY_BASE, MEMORY if place else MEMORY // 2)
    result = run("board", "info", board.url)
    assert result.exit_code == 0 and "50 MHz" in result.stdout and "1024 KiB at 0x10000000" in result.stdout


def test_board_info_of_another_device():
    with UdpBridge(golden_bridge(identity={"system": "sorter"})) as serving:
        result = run("board", "info", serving.url, "--json")
        assert result.exit_code == 3 and "'sorter', which this package does not" in json.loads(result.stdout)["refusal"]
    result = run("board", "info", "sim:inflate")
    assert isinstance(result.exception, UsageError) and "begins with uart:, udp: or tcp:" in str(result.exception)


@pytest.mark.parametrize("link", ["uart", "udp"])
def test_board_simulate(link):
    result = run("board", "simulate", "inflate", "--link", link, "--set", "contexts=1", "--seconds", "0", "--json")
    said = json.loads(result.stdout)
    assert said.pop("url").startswith("uart:/dev/" if link == "uart" else "udp:127.0.0.1:")
    assert said == {"system": "inflate", "link": link, "as": "model", "ports": {}}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sorter"], "name must be one of"),
        (["inflate", "--set", "contexts=9"], "contexts must be 1 to 8"),
        (["inflate", "--set", "memory=5"], "memory must be a multiple of 4096"),
        (["inflate", "--set", "x"], "must look like name=value"),
    ],
)
def test_board_simulate_usage(arguments, message):
    result = run("board", "simulate", *arguments)
    assert isinstance(result.exception, UsageError) and message in str(result.exception)


def test_out_of_memory_on_the_client(start):
    with rackgate_host.open(url(start(), memory=8192)) as device, pytest.raises(OutOfDeviceMemory, match="of 8192 are"):
        device.allocate(8193)
