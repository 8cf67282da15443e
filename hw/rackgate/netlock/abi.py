# SPDX-License-Identifier: Apache-2.0
"""NetLock on the wire: the lock header, its operations, who sends what to whom. Plain Python, the single truth.

Everything goes to the switch's UDP port :data:`PORT`, but for what a server sends to a client: that goes to the client
directly. A host has two ports: one for its role as a server, one for its role as a client.

=====================  ======================  =====================================================================
operation              way                     meaning
=====================  ======================  =====================================================================
``ACQUIRE``            client, switch          a request; of a lock that the switch has not: on to its server
``ACQUIRE`` overflow   switch, server          it finds no slot: the server keeps it until it is asked for it
``RELEASE``            client, switch          the holder gives the lock back; on to the server as ACQUIRE
``RELEASE`` overflow   switch, server          the lock's queue in the switch is empty: push back what you keep of it
``PUSH_BACK``          server, switch          a request that was kept, as ACQUIRE
``DIRECT_GRANT``       switch, client          granted by the switch
``GRANT_FROM_SERVER``  server, client          granted by a server, of a lock that the switch has not
``REJECT``             server, client          the server keeps too many requests
=====================  ======================  =====================================================================

Source of the fields and their widths: NetLock's description, 20 bytes behind UDP. ``flags`` stands where NetLock marks
packets that go round in the switch: here that is metadata, and the byte tells the server which of its roles is meant.
"""

import enum
import struct
from typing import NamedTuple

__all__ = ["PORT", "SIZE", "Flag", "Message", "Op"]

#: UDP port of the switch.
PORT = 8888


class Op(enum.IntEnum):
    """Operations."""

    ACQUIRE = 0
    RELEASE = 1
    PUSH_BACK = 2
    GRANT_FROM_SERVER = 3
    REJECT = 4
    DIRECT_GRANT = 5


class Flag(enum.IntFlag):
    """Bits of ``flags`` in packets from the switch to a server."""

    NONE = 0
    OVERFLOW = 1  # the switch has the lock; the server only keeps requests for it
    EMPTY = 2  # the lock's queue in the switch is empty


_FORMAT = struct.Struct(">BBBBIIQ")

#: Bytes of the header.
SIZE = _FORMAT.size


class Message(NamedTuple):
    """The lock header.

    ``client`` is the host that asks, ``task`` its own number for the request. ``timestamp`` is the client's and comes
    back with the grant. In a RELEASE with OVERFLOW, ``task`` is the number of slots that the lock has, and
    ``timestamp`` how many requests the switch has sent to the server and not got back.
    """

    op: int
    mode: int
    client: int
    task: int
    lock: int
    timestamp: int = 0
    flags: int = 0

    def pack(self) -> bytes:
        """The header's bytes."""
        return _FORMAT.pack(self.flags, self.op, self.mode, self.client, self.task, self.lock, self.timestamp)

    @classmethod
    def unpack(cls, content: bytes) -> "Message | None":
        """The header at the begin of ``content``, or None if it is too short."""
        if len(content) < SIZE:
            return None
        flags, op, mode, client, task, lock, timestamp = _FORMAT.unpack_from(content)
        return cls(op, mode, client, task, lock, timestamp, flags)
