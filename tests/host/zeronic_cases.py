# SPDX-License-Identifier: Apache-2.0
"""What programs do with sockets: `python zeronic_cases.py {server|client} ADDRESS PORT CASE MEBIBYTES`.

Streams that are to be long have so many MiB. Both sides know the stream: byte k of it is a function of k and of the
direction. A side ends with code 0 if all that it got was right. Nothing of Rackgate is imported: these are unmodified
programs.
"""

import ctypes
import errno
import fcntl
import mmap
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable

_FIONREAD = 0x541B
_SIOCOUTQ = 0x5411
mebibytes = 1
_BLOCK = bytes((k * k + 7 * k + (k >> 8)) & 0xFF for k in range(65521))


def stream(begin: int, size: int, way: int = 0) -> bytes:
    """``size`` bytes of the stream from ``begin`` on."""
    begin = (begin + 7919 * way) % len(_BLOCK)
    return (_BLOCK * (size // len(_BLOCK) + 2))[begin:begin + size]


def check(got: bytes, begin: int, way: int = 0) -> None:
    """End the program if the bytes are not those of the stream."""
    wanted = stream(begin, len(got), way)
    if bytes(got) != wanted:
        at = next(k for k in range(len(got)) if got[k] != wanted[k])
        raise SystemExit(f"byte {begin + at} is {got[at]:#x}, not {wanted[at]:#x} (of {begin} + {len(got)})")


def equal(found: object, wanted: object) -> None:
    if found != wanted:
        raise SystemExit(f"{found!r}, not {wanted!r}")


def receive(sock: socket.socket, size: int) -> bytes:
    """Exactly so many bytes."""
    parts = []
    while size:
        part = sock.recv(min(size, 1 << 18))
        if not part:
            raise SystemExit(f"the stream ends {size} bytes early")
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def ended(sock: socket.socket) -> None:
    equal(sock.recv(100), b"")


def bulk_client(sock: socket.socket) -> None:
    size = mebibytes << 20
    content = stream(0, size)

    def push() -> None:
        sock.sendall(content)
        sock.shutdown(socket.SHUT_WR)

    thread = threading.Thread(target=push)
    thread.start()
    check(receive(sock, size), 0)
    ended(sock)
    thread.join()


def bulk_server(sock: socket.socket) -> None:
    while part := sock.recv(100_000):
        sock.sendall(part)


def small_client(sock: socket.socket) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    at = 0
    for size in [1, 2, 3, 7, 64, 1000, 1448, 1449, 5000, 16383, 16384, 16385, 70000] * 3:
        sock.sendall(stream(at, size))
        check(receive(sock, size), at)
        at += size


small_server = bulk_server


def calls_client(sock: socket.socket) -> None:
    """Every call of Python's that sends; the server uses each that receives."""
    fd, at = sock.fileno(), 0
    ways: list[Callable[[bytes], int]] = [
        sock.send,
        lambda b: os.write(fd, b),
        lambda b: os.writev(fd, [b[:10], b[10:10], b[10:11], b[11:]]),
        lambda b: sock.sendmsg([b[:100], b[100:]]),
        lambda b: sock.send(b, socket.MSG_NOSIGNAL),
        lambda b: sock.send(b, socket.MSG_DONTWAIT),
    ]
    for size in (1, 200, 1448, 40000):
        for way in ways:
            left = stream(at, size)
            while left:
                left = left[way(left):]
            at += size
            equal(receive(sock, 1), b"k")
    with tempfile.TemporaryFile() as file:
        file.write(stream(at, 500_000))
        file.flush()
        done = 0
        while done < 300_000:
            done += os.sendfile(fd, file.fileno(), done, 300_000 - done)
        file.seek(done)
        while done < 500_000:
            done += os.sendfile(fd, file.fileno(), None, 1 << 20)
        equal(file.tell(), 500_000)
        equal(os.sendfile(fd, file.fileno(), None, 100), 0)
    equal(receive(sock, 1), b"k")
    try:
        sock.send(b"x", socket.MSG_OOB)
        raise SystemExit("urgent data was taken")
    except OSError as error:
        equal(error.errno, errno.EOPNOTSUPP)
    reader, writer = os.pipe()
    os.write(writer, b"pipe")
    try:
        os.splice(reader, fd, 4)
        raise SystemExit("splice was taken")
    except OSError as error:
        equal(error.errno, errno.EINVAL)
    sock.shutdown(socket.SHUT_WR)
    ended(sock)


def calls_server(sock: socket.socket) -> None:
    fd, at = sock.fileno(), 0
    buffer = bytearray(1 << 17)

    def into(n: int) -> bytes:
        return bytes(buffer[:sock.recv_into(buffer, n)])

    def vector(n: int) -> bytes:
        parts = [bytearray(min(n, 5)), bytearray(0), bytearray(max(0, n - 5))]
        got = os.readv(fd, parts)
        return b"".join(parts)[:got]

    ways: list[Callable[[int], bytes]] = [
        sock.recv, lambda n: os.read(fd, n), vector, into, lambda n: sock.recvfrom(n)[0], lambda n: sock.recvmsg(n)[0],
        lambda n: sock.recv(n, socket.MSG_WAITALL), lambda n: bytes(buffer[:sock.recvmsg_into([buffer], 0)[0]][:n]),
    ]
    turn = 0
    for size in (1, 200, 1448, 40000):
        for _ in range(6):
            left = size
            while left:
                way = ways[turn % len(ways)]
                turn += 1
                got = way(left)
                if not got or len(got) > left:
                    raise SystemExit(f"call {turn} gave {len(got)} bytes, of {left}")
                check(got, at)
                at += len(got)
                left -= len(got)
            sock.sendall(b"k")
    end = at + 500_000
    while at < end:
        got = ways[turn % 7](min(100_000, end - at))
        turn += 1
        check(got, at)
        at += len(got)
    sock.sendall(b"k")
    ended(sock)


def peek_client(sock: socket.socket) -> None:
    for at in range(0, 200_000, 50_000):
        sock.sendall(stream(at, 50_000))
        equal(receive(sock, 1), b"k")


def peek_server(sock: socket.socket) -> None:
    """Looking without taking, counting, and throwing away."""
    at = 0
    ready = struct.Struct("i")
    for end in range(50_000, 250_000, 50_000):
        while ready.unpack(fcntl.ioctl(sock, _FIONREAD, bytes(4)))[0] < end - at:
            time.sleep(0.001)
        for size in (1, 100, 20_000, 50_000):
            check(sock.recv(size, socket.MSG_PEEK), at)
        got = sock.recv(10, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        equal(len(got), 10)
        check(got, at)
        equal(len(sock.recv(1000, socket.MSG_TRUNC)), 1000)
        at += 1000
        check(receive(sock, end - at - 1), at)
        at = end - 1
        check(sock.recv(1000), at)
        at = end
        try:
            sock.recv(1, socket.MSG_DONTWAIT)
            raise SystemExit("there is more than was sent")
        except BlockingIOError:
            pass
        sock.sendall(b"k")


def wait_client(sock: socket.socket) -> None:
    """Time-outs, polls and signals."""
    sock.settimeout(0.05)
    try:
        sock.recv(1)
        raise SystemExit("nothing was sent")
    except TimeoutError:
        pass
    sock.settimeout(None)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, 50_000))
    try:
        sock.recv(1)
        raise SystemExit("nothing was sent")
    except BlockingIOError:
        pass
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, 0))
    equal(select.select([sock], [], [], 0)[0], [])
    poll, epoll = select.poll(), select.epoll()
    poll.register(sock, select.POLLIN)
    epoll.register(sock, select.EPOLLIN | select.EPOLLET)
    equal(poll.poll(0), [])
    sock.sendall(b"a")
    equal(poll.poll(5000), [(sock.fileno(), select.POLLIN)])
    equal(epoll.poll(5), [(sock.fileno(), select.EPOLLIN)])
    equal(select.select([sock], [sock], [], 5)[:2], ([sock], [sock]))
    check(receive(sock, 1000), 0, 1)
    equal(select.select([sock], [], [], 0)[0], [])
    # A handler that runs while we wait; the call goes on.
    seen: list[int] = []
    signal.signal(signal.SIGALRM, lambda number, frame: seen.append(number))
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    sock.sendall(b"b")
    check(receive(sock, 1000), 1000, 1)
    equal(seen, [signal.SIGALRM])
    # More than the buffers hold, to a reader who waits.
    sock.setblocking(False)
    content, at = stream(0, mebibytes << 20), 0
    while at < len(content):
        try:
            at += sock.send(content[at:at + (1 << 20)])
        except BlockingIOError:
            equal(select.select([], [sock], [], 20)[1], [sock])
    if struct.unpack("i", fcntl.ioctl(sock, _SIOCOUTQ, bytes(4)))[0] < 0:
        raise SystemExit("SIOCOUTQ")
    sock.setblocking(True)
    equal(receive(sock, 1), b"k")


def wait_server(sock: socket.socket) -> None:
    equal(receive(sock, 1), b"a")
    sock.sendall(stream(0, 1000, 1))
    equal(receive(sock, 1), b"b")
    time.sleep(0.2)
    sock.sendall(stream(1000, 1000, 1))
    time.sleep(0.2)
    check(receive(sock, mebibytes << 20), 0)
    sock.sendall(b"k")


def copies_client(sock: socket.socket) -> None:
    """Descriptors that are copied, inherited and passed on."""
    sock.sendall(stream(0, 1000))
    second = socket.socket(fileno=os.dup(sock.fileno()))
    second.sendall(stream(1000, 1000))
    third = fcntl.fcntl(sock, fcntl.F_DUPFD_CLOEXEC, 100)
    os.write(third, stream(2000, 1000))
    os.dup2(third, 200)
    os.close(third)
    os.write(200, stream(3000, 1000))
    os.close(200)
    if (child := os.fork()) == 0:
        second.sendall(stream(4000, 30_000))
        os._exit(0)
    equal(os.waitpid(child, 0)[1], 0)
    script = ("import os, sys\nfor k in range(3):\n    done = 0\n    while done < 10000:\n"
              "        done += os.write(int(sys.argv[1]), bytes.fromhex(sys.argv[2 + k])[done:])\n")
    parts = [stream(34_000 + 10_000 * k, 10_000).hex() for k in range(3)]
    done = subprocess.run([sys.executable, "-c", script, str(second.fileno()), *parts], pass_fds=[second.fileno()])
    equal(done.returncode, 0)
    second.close()
    ours, theirs = socket.socketpair()
    socket.send_fds(ours, [b"f"], [sock.fileno()])
    received = socket.recv_fds(theirs, 1, 1)[1][0]
    os.write(received, stream(64_000, 1000))
    os.close(received)
    sock.sendall(stream(65_000, 1000))
    check(receive(sock, 50_000), 0, 1)
    equal(receive(sock, 1), b"k")


def copies_server(sock: socket.socket) -> None:
    check(receive(sock, 66_000), 0)
    # Several processes that read one stream, one after the other.
    if (child := os.fork()) == 0:
        sock.sendall(stream(0, 20_000, 1))
        sock.close()
        os._exit(0)
    equal(os.waitpid(child, 0)[1], 0)
    sock.sendall(stream(20_000, 30_000, 1))
    sock.sendall(b"k")


def threads_client(sock: socket.socket) -> None:
    """Several threads and processes that write one socket: messages of 4 bytes, each whole."""
    def write(number: int) -> None:
        for _ in range(200):
            sock.sendall(struct.pack("<HH", number, 0xA55A))

    children = []
    for number in range(4):
        if (child := os.fork()) == 0:
            write(number)
            os._exit(0)
        children.append(child)
    threads = [threading.Thread(target=write, args=(number,)) for number in range(4, 8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for child in children:
        equal(os.waitpid(child, 0)[1], 0)
    equal(receive(sock, 1), b"k")


def threads_server(sock: socket.socket) -> None:
    counts = [0] * 8
    lock = threading.Lock()

    def read() -> None:
        while True:
            with lock:
                if sum(counts) == 1600:
                    return
                number, mark = struct.unpack("<HH", sock.recv(4, socket.MSG_WAITALL))
                equal(mark, 0xA55A)
                counts[number] += 1

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    equal(counts, [200] * 8)
    sock.sendall(b"k")


def end_client(sock: socket.socket) -> None:
    """Half closed, closed with unread data, and reset."""
    sock.sendall(stream(0, 100_000))
    sock.shutdown(socket.SHUT_WR)
    time.sleep(0.2)  # the server has closed: what it sent is read afterwards
    check(receive(sock, 30_000), 0, 1)
    ended(sock)
    ended(sock)


def end_server(sock: socket.socket) -> None:
    sock.sendall(stream(0, 30_000, 1))
    check(receive(sock, 100_000), 0)
    ended(sock)


def broken_client(sock: socket.socket) -> None:
    sock.sendall(b"a")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    equal(receive(sock, 1), b"k")
    sock.close()  # a reset


def broken_server(sock: socket.socket) -> None:
    equal(receive(sock, 1), b"a")
    sock.sendall(b"k")
    for call in (lambda: sock.recv(1), lambda: [sock.send(b"x" * 1000) for _ in range(1000)]):
        try:
            call()
            raise SystemExit("the connection is still there")
        except (ConnectionResetError, BrokenPipeError):
            pass


def killed_client(sock: socket.socket) -> None:
    """A process that shares the socket is killed while it writes: who remains knows how much was sent."""
    if (child := os.fork()) == 0:
        os._exit(_write_for_ever(sock))
    time.sleep(0.3)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    # What the kernel has taken is known to the server alone, who tells where the stream stands.
    sock.sendall(b"\xff" * 16)
    sock.shutdown(socket.SHUT_WR)
    ended(sock)


def _write_for_ever(sock: socket.socket) -> int:
    at = 0
    while True:
        at += sock.send(bytes(65536))
    return at


def killed_server(sock: socket.socket) -> None:
    time.sleep(0.5)
    content = b""
    while part := sock.recv(1 << 20):
        content = (content + part)[-1000:]
    equal(content[-16:], b"\xff" * 16)
    equal(content[:-16].strip(b"\0"), b"")


def mapped_client(sock: socket.socket) -> None:
    """From and into memory that is a file's, and read-only memory."""
    with tempfile.TemporaryFile() as file:
        file.write(stream(0, 100_000))
        file.flush()
        with mmap.mmap(file.fileno(), 100_000, access=mmap.ACCESS_READ) as view:
            sock.sendall(view)
    equal(receive(sock, 1), b"k")


def mapped_server(sock: socket.socket) -> None:
    with mmap.mmap(-1, 100_000) as view:
        at = 0
        while at < 100_000:
            at += sock.recv_into(memoryview(view)[at:])
        check(view[:], 0)
    sock.sendall(b"k")


def refused_client(sock: socket.socket) -> None:
    """Encryption and signatures by the kernel, which has no payload."""
    libc = ctypes.CDLL(None, use_errno=True)
    for option, value in ((31, b"tls"), (14, bytes(216))):
        equal(libc.setsockopt(sock.fileno(), socket.IPPROTO_TCP, option, value, len(value)), -1)
        equal(ctypes.get_errno(), errno.ENOPROTOOPT)
    sock.sendall(b"a")
    equal(receive(sock, 1), b"k")


def refused_server(sock: socket.socket) -> None:
    equal(receive(sock, 1), b"a")
    sock.sendall(b"k")


CASES = sorted(name.removesuffix("_client") for name in globals() if name.endswith("_client"))


def main() -> None:
    global mebibytes
    side, address, port, case = sys.argv[1:5]
    mebibytes = int(sys.argv[5])
    work = globals()[f"{case}_{side}"]
    if side == "server":
        with socket.create_server((address, int(port))) as listener:
            print("listening", flush=True)
            listener.settimeout(60)
            sock = listener.accept()[0]
            sock.settimeout(None)
    else:
        sock = socket.socket()
        sock.connect((address, int(port)))
    with sock:
        work(sock)


if __name__ == "__main__":
    main()
