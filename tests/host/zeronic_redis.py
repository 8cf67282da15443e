# SPDX-License-Identifier: Apache-2.0
"""A client of Redis: `python zeronic_redis.py ADDRESS PORT SEED COUNT` stores random values and reads them back.

Nothing of Rackgate is imported: this is an unmodified program.
"""

import random
import socket
import sys


def sizes(choice: random.Random, count: int, most: int = 300 << 10) -> list[int]:
    """Sizes of values: the least, the most, and others of every order of magnitude."""
    return [1, most, *(round(most ** choice.random()) for _ in range(count - 2))]


class Client:
    """Redis' protocol, as much as is needed."""

    def __init__(self, address: str, port: int):
        self._socket = socket.create_connection((address, port), timeout=60)
        self._file = self._socket.makefile("rb")

    def ask(self, *parts: bytes) -> bytes | None:
        """A command and its answer."""
        lines = [b"*%d\r\n" % len(parts), *(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)]
        self._socket.sendall(b"".join(lines))
        head = self._file.readline()
        if head[:1] != b"$":
            return head.strip()
        size = int(head[1:])
        return None if size < 0 else self._file.read(size + 2)[:-2]


def main() -> None:
    address, port, seed, count = sys.argv[1], *map(int, sys.argv[2:5])
    choice = random.Random(seed)
    client, other = Client(address, port), Client(address, port)
    values = {}
    for k, size in enumerate(sizes(choice, count)):
        key = b"key %d" % choice.randrange(count * 3 // 4)
        values[key] = choice.randbytes(size)
        if client.ask(b"SET", key, values[key]) != b"+OK":
            raise SystemExit(f"value {k} was not stored")
        if other.ask(b"GET", key) != values[key]:
            raise SystemExit(f"value {k}, of {size} bytes, came back as another")
    for key, value in choice.sample(sorted(values.items()), count // 4):
        if client.ask(b"GET", key) != value:
            raise SystemExit(f"{key!r}, of {len(value)} bytes, came back as another")
    if client.ask(b"GET", b"no such key") is not None:
        raise SystemExit("there is a value for no key")
    print(sum(map(len, values.values())))


if __name__ == "__main__":
    main()
