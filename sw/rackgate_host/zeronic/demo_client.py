# SPDX-License-Identifier: Apache-2.0
"""An unmodified program: a client of Redis, ``python demo_client.py ADDRESS PORT SEED COUNT``.

It stores values of 1 byte to 64 KB and reads each back over another connection. Prints JSON: how many there were,
their bytes, and how many came back as they were.
"""

import json
import random
import socket
import sys
import time

__all__ = ["Client", "main"]

_MOST = 64 << 10
_LIMIT = 60.0


class Client:
    """As much of Redis' protocol as storing values needs."""

    def __init__(self, address: str, port: int):
        end = time.monotonic() + _LIMIT
        while True:
            try:
                self._socket = socket.create_connection((address, port), _LIMIT)
                break
            except ConnectionRefusedError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.02)
        self._file = self._socket.makefile("rb")

    def ask(self, *parts: bytes) -> bytes | None:
        """A command and its answer."""
        self._socket.sendall(b"".join((b"*%d\r\n" % len(parts), *(b"$%d\r\n%s\r\n" % (len(part), part)
                                                                  for part in parts))))
        head = self._file.readline()
        if head[:1] != b"$":
            return head.strip()
        size = int(head[1:])
        return None if size < 0 else self._file.read(size + 2)[:-2]


def main() -> None:
    """Store and read."""
    address, port, seed, count = sys.argv[1], *map(int, sys.argv[2:])
    draw = random.Random(seed)
    writer, reader = Client(address, port), Client(address, port)
    sizes = [1, _MOST, *(round(_MOST ** draw.random()) for _ in range(count - 2))][:count]
    equal = 0
    for number, size in enumerate(sizes):
        key, value = b"key %d" % number, draw.randbytes(size)
        writer.ask(b"SET", key, value)
        equal += reader.ask(b"GET", key) == value
    print(json.dumps({"values": count, "bytes": sum(sizes), "equal": equal}))


if __name__ == "__main__":
    main()
