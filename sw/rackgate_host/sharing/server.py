# SPDX-License-Identifier: Apache-2.0
"""A server that has a board's cable, and shares it with clients over TCP."""

import contextlib
import ipaddress
import socket
import threading
from collections import deque
from collections.abc import Callable

from ..errors import OutOfDeviceMemory, RackgateError, UsageError
from ..memory import Allocator
from ..transport.remote import RemoteTransport
from .connection import Connection

__all__ = ["Server"]

#: Seconds between two looks at whether to end.
_TICK = 0.2
#: Clients at a time.
_MOST_CLIENTS = 64


class _Turns:
    """A lock that is had in the order in which it was asked for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_taken = False
        self._waiting: deque[threading.Event] = deque()

    def __enter__(self) -> None:
        with self._lock:
            if not self._is_taken:
                self._is_taken = True
                return
            turn = threading.Event()
            self._waiting.append(turn)
        turn.wait()

    def __exit__(self, *error: object) -> None:
        with self._lock:
            if self._waiting:
                self._waiting.popleft().set()
            else:
                self._is_taken = False


class Server:
    """Shares the device behind ``transport``. Listens from the start; a context, or :meth:`close` it.

    Each client has a part of the device's memory for itself, until its connection ends; what it asks for outside is
    answered as an address that there is not. The first client to write a register drives the device until its
    connection ends: registers of others can only be read. Messages are executed one after the other, in the order
    they came, those of several clients in turn; what is in one message is not interrupted.

    Parameters
    ----------
    transport:
        The board. Closed with the server, once that has begun.
    url:
        Where it is, for messages.
    address:
        Where to listen; port 0 takes any.
    token:
        What clients must know. May be "" only if none but this machine's programs can connect.
    is_shared:
        Every client may write registers: they must know how not to disturb each other.
    report:
        Called with a line whenever a client comes or goes.

    Attributes
    ----------
    address:
        Host and port where it listens.
    failure:
        What ended it, if something did.
    """

    def __init__(self, transport: RemoteTransport, url: str, address: tuple[str, int] = ("127.0.0.1", 0), *,
                 token: str = "", is_shared: bool = False, report: Callable[[str], None] = lambda line: None):
        self.url, self.token, self.report = url, token, report
        self.is_shared = is_shared
        self.session = transport.session
        self.allocator = Allocator(transport.memory_base, transport.memory_size)
        self.failure: RackgateError | None = None
        self._transport = transport
        self._lock = threading.Lock()  # of allocator and driver
        self._driver: Connection | None = None
        self._cable = _Turns()
        self.ends = threading.Event()
        self._socket = _listen(address, token)
        self.address: tuple[str, int] = self._socket.getsockname()[:2]
        self._threads: list[threading.Thread] = []
        self._accepting = threading.Thread(target=self._accept, name="accept", daemon=True)
        self._accepting.start()

    def _accept(self) -> None:
        self._socket.settimeout(_TICK)
        while not self.ends.is_set():
            try:
                connection, (host, port, *_) = self._socket.accept()
            except TimeoutError:
                continue
            self._threads = [thread for thread in self._threads if thread.is_alive()]
            client = Connection(self, connection, f"{host}:{port}")
            serve = client.serve if len(self._threads) < _MOST_CLIENTS else client.turn_away
            self._threads.append(threading.Thread(target=serve, name=client.name, daemon=True))
            self._threads[-1].start()

    def take_memory(self, wanted: int | None) -> tuple[int, int]:
        """A part of the device's memory: address and size. By default half of the largest piece that is left."""
        with self._lock:
            page = 4096 if self.allocator.size >= 1 << 16 else 64
            if wanted is None:
                wanted = self.allocator.largest_hole // 2 // page * page
            if not self.allocator.size:
                return self.allocator.base, 0
            size = -(-wanted // page) * page
            if size < page:
                raise OutOfDeviceMemory(f"{wanted} bytes of device memory cannot be had: {self.allocator.free_bytes} "
                                        "are left")
            return self.allocator.allocate(size, page), size

    def give_back(self, address: int, size: int, client: Connection) -> None:
        """A client has gone."""
        with self._lock:
            if size:
                self.allocator.free(address)
            if self._driver is client:
                self._driver = None

    def may_write(self, client: Connection) -> bool:
        """Whether ``client`` may write registers: it drives the device then."""
        with self._lock:
            if self._driver is None:
                self._driver = client
            return self.is_shared or self._driver is client

    def execute(self, bodies: list[bytes], name: str) -> list[bytes]:
        """Have the board execute requests. Raises what the session raises."""
        with self._cable:
            return self.session.exchange(bodies, f"a request of {name}")

    def fail(self, error: RackgateError) -> None:
        """The board is ours no more, or the cable has gone: end."""
        self.failure = error
        self.ends.set()

    def close(self) -> None:
        """End all connections, and let go of the board. A second call does nothing."""
        self.ends.set()
        self._accepting.join()
        for thread in self._threads:
            thread.join()
        self._socket.close()
        self._transport.close()

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _listen(address: tuple[str, int], token: str) -> socket.socket:
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(*address, type=socket.SOCK_STREAM)[0]
        if not token and not ipaddress.ip_address(str(place[0]).partition("%")[0]).is_loopback:
            raise UsageError(f"a server that others reach at {address[0]} needs a token: --token-file FILE")
        with contextlib.ExitStack() as stack:
            listening = stack.enter_context(socket.socket(family, kind, protocol))
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(place)
            listening.listen()
            stack.pop_all()
    except OSError as error:
        raise UsageError(f"nobody can listen at {address[0]}:{address[1]}: {error.strerror or error}") from None
    return listening
