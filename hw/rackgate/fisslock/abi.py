# SPDX-License-Identifier: Apache-2.0
"""What lock packets look like: both headers, their codes, ports and limits. Plain Python.

A lock packet is Ethernet, IPv4, UDP, a lock header, and in some messages a list of waiters behind it. Everything is
big-endian. The *faithful* header (17 bytes) is the published design's, the *hardened* one (24 bytes) is what users
run; a pipeline understands one of them. Hosts have numbers from 1 on, 0 is nobody.

Names: the *requester* asks for a lock on behalf of a task; the *agent* is the host that knows the holders and queues
the waiters of a lock; the *switch* knows for each lock whether it is held, how, and who the agent is.

Source: FissLock (OSDI 2024), described from the outside in the manual's page on it.
"""

import enum
import struct
from typing import NamedTuple

__all__ = [
    "AGENT_PORT", "CLIENT_PORT", "FAITHFUL_SIZE", "HARDENED_SIZE", "LARGEST_DATAGRAM", "LARGEST_HOST",
    "LARGEST_NUMBER", "VERSION", "WORD_FORMATS", "Entry", "FaithfulMessage", "Flag", "Listed", "Message", "Mode",
    "State", "Type", "Waiter", "WordFormat",
]

#: UDP destination ports: what is meant for a lock's agent (or server), and what is meant for the requester.
#: A network may reorder the one against the other.
AGENT_PORT, CLIENT_PORT = 20001, 20002

#: Bytes of a UDP payload that an Ethernet frame of 1500 bytes carries.
LARGEST_DATAGRAM = 1472

#: Hosts have 8 bits in either header; the hardened pipeline's 18-bit word has room for 63, see :data:`WORD_FORMATS`.
LARGEST_HOST = 255

#: Locks, tasks, epochs and attempts have 32 bits (tasks 30 in a faithful :class:`Waiter`).
LARGEST_NUMBER = (1 << 32) - 1


class Mode(enum.IntEnum):
    """How a lock is held: by any number of tasks together, or by one alone."""

    SHARED = 0
    EXCLUSIVE = 1


class Type(enum.IntEnum):
    """What a message is. From :attr:`ACK` on: in the hardened protocol only.

    ==================  =======================================================================================
    ``ACQUIRE``         requester to switch; from there to the agent, either because it has to decide (not
                        granted) or to tell it of a holder that the switch has let in (granted)
    ``GRANT_W_AGENT``   to a requester that now holds the lock and is its agent
    ``GRANT_WO_AGENT``  to a requester that now holds the lock, shared, beside others
    ``RELEASE``         requester to agent by way of the switch: the task does not hold the lock any more
    ``TRANSFER``        agent to switch: the next holder, which becomes the agent, and the queue behind it
    ``FREE``            agent to switch: nobody holds the lock, nobody waits
    ``MEM_DIFF``        reserved by the published header; no pipeline acts on it
    ``CLEAR_SEQ``       used between hosts of the published library only; no pipeline acts on it
    ``ACK``             switch to agent: the epoch that its FREE, TRANSFER or RENEW was to end is over
    ``REJECT``          switch to agent: it was not accepted, the switch has let in other holders (``count``)
    ``WAITING``         agent to requester, in answer to an ACQUIRE with RETRY: the task is in the queue
    ``REFUSE``          agent to requester: an ACQUIRE with TRY would have to wait (BUSY), or the queue is full
    ``QUERY``           agent to a host: which of your tasks hold the lock?
    ``REPORT``          the answer, with a list
    ``RENEW``           agent to switch: another epoch, with the same agent and the same holders, and a count of 0
    ==================  =======================================================================================
    """

    ACQUIRE = 1
    GRANT_W_AGENT = 2
    GRANT_WO_AGENT = 3
    RELEASE = 4
    TRANSFER = 5
    FREE = 6
    MEM_DIFF = 7
    CLEAR_SEQ = 8
    ACK = 9
    REJECT = 10
    WAITING = 11
    REFUSE = 12
    QUERY = 13
    REPORT = 14
    RENEW = 15


# The faithful header -----------------------------------------------------------------------------------------------

_FAITHFUL = struct.Struct(">BBIBIBIB")
FAITHFUL_SIZE = _FAITHFUL.size


class Waiter(NamedTuple):
    """A waiter behind a faithful header, 5 bytes: ``mode`` 2 bits, ``task`` 30 bits, ``host`` 8 bits."""

    mode: int
    task: int
    host: int

    SIZE = 5
    #: Waiters that fit a frame of 1500 bytes.
    MOST = (LARGEST_DATAGRAM - FAITHFUL_SIZE) // 5


class FaithfulMessage(NamedTuple):
    """A message with the published header, 17 bytes, and the waiters behind it.

    ================  ====  =====================================================================================
    ``type``          8     :class:`Type`
    ``multicasted``   1     the copies of it are made out for their receivers at the egress
    ``granted``       1     ACQUIRE to an agent: the switch has let the requester in
    ``transferred``   1     GRANT_W_AGENT: made of a TRANSFER, waiters follow
    (reserved)        3     0
    ``old_mode``      1     TRANSFER, FREE: how the lock was held, as :class:`Mode`
    ``mode``          1     how it is asked for or held from now on
    ``id``            32    number of the lock; the only field of several bytes that the switch interprets
    ``machine_id``    8     requester; in TRANSFER the next holder's host
    ``task_id``       32    requester's task; opaque to the switch
    ``agent``         8     routing target; hosts fill in their own number, so that a bounce comes back to them
    (``wq_size``)     32    number of waiters in ``queue``; opaque to the switch
    ``ncnt``          8     notifications of shared grants that the agent has seen
    ``queue``         40n   :class:`Waiter` behind the header
    ================  ====  =====================================================================================
    """

    type: int
    multicasted: int = 0
    granted: int = 0
    transferred: int = 0
    old_mode: int = 0
    mode: int = 0
    id: int = 0
    machine_id: int = 0
    task_id: int = 0
    agent: int = 0
    ncnt: int = 0
    queue: tuple[Waiter, ...] = ()

    def to_bytes(self) -> bytes:
        """The UDP payload. Raises ValueError when the waiters do not fit a frame."""
        if len(self.queue) > Waiter.MOST:
            raise ValueError(f"a frame has room for {Waiter.MOST} waiters, not {len(self.queue)}")
        flags = (self.multicasted << 7 | self.granted << 6 | self.transferred << 5 | self.old_mode << 1 | self.mode)
        return _FAITHFUL.pack(self.type, flags, self.id, self.machine_id, self.task_id, self.agent, len(self.queue),
                              self.ncnt) + b"".join(
            ((item.mode << 30 | item.task) << 8 | item.host).to_bytes(Waiter.SIZE, "big") for item in self.queue)

    @classmethod
    def from_bytes(cls, content: bytes) -> "FaithfulMessage":
        """The message in a UDP payload. Raises ValueError if it is too short for its header or its waiters."""
        if len(content) < FAITHFUL_SIZE:
            raise ValueError(f"a faithful lock header has {FAITHFUL_SIZE} bytes, not {len(content)}")
        kind, flags, lock, machine, task, agent, size, ncnt = _FAITHFUL.unpack_from(content)
        end = FAITHFUL_SIZE + size * Waiter.SIZE
        if len(content) < end:
            raise ValueError(f"{size} waiters need {size * Waiter.SIZE} bytes, not {len(content) - FAITHFUL_SIZE}")
        queue = []
        for place in range(FAITHFUL_SIZE, end, Waiter.SIZE):
            value = int.from_bytes(content[place:place + Waiter.SIZE], "big")
            queue.append(Waiter(value >> 38, value >> 8 & (1 << 30) - 1, value & 255))
        return cls(kind, flags >> 7, flags >> 6 & 1, flags >> 5 & 1, flags >> 1 & 1, flags & 1, lock, machine, task,
                   agent, ncnt, tuple(queue))


# The hardened header -----------------------------------------------------------------------------------------------

#: First byte of the hardened header. Packets with another one are dropped by the parser.
VERSION = 2

_HARDENED = struct.Struct(">BBBBIIBBHII")
HARDENED_SIZE = _HARDENED.size
_ENTRY = struct.Struct(">BBII")


class Flag(enum.IntFlag):
    """Third byte of the hardened header."""

    EXCLUSIVE = 0x01  # ACQUIRE, GRANT_W_AGENT, TRANSFER: the mode, as Mode
    CANCEL = 0x02  # RELEASE: the task stops waiting; it knows no epoch. RENEW: no exclusive request waits any more
    WRITER = 0x04  # TRANSFER: an exclusive request is in the queue behind the next holder
    TRY = 0x08  # ACQUIRE: refuse rather than queue
    RETRY = 0x10  # ACQUIRE: not the first transmission: the switch lets nobody in beside others on account of it
    TRANSFERRED = 0x20  # GRANT_W_AGENT: made of a TRANSFER, waiters follow
    GRANTED = 0x40  # ACQUIRE to an agent: the switch has let the requester in; `count` is the number of the grant
    VOID = 0x80  # QUERY, REPORT: grants of the switch up to `count` that are not in the list will never be used
    FULL = 0x80  # REFUSE: the queue is full


class Listed(enum.IntEnum):
    """What an :class:`Entry` of a REPORT says of a task."""

    HELD = 0
    WAITING = 1  # a shared request that has not been granted, as far as its host knows


class Entry(NamedTuple):
    """A task in a list behind a hardened header, 10 bytes.

    In TRANSFER and GRANT_W_AGENT: a waiter's ``kind`` (:class:`Mode`), ``host``, ``task`` and ``attempt``. In REPORT:
    ``kind`` is :class:`Listed`, and in the place of ``host`` is the number of the switch's grant, 0 if it has none in
    this epoch.
    """

    kind: int
    host: int
    task: int
    attempt: int

    SIZE = _ENTRY.size
    #: Entries that fit a frame of 1500 bytes.
    MOST = (LARGEST_DATAGRAM - HARDENED_SIZE) // _ENTRY.size


class Message(NamedTuple):
    """A message with the hardened header, version 2, 24 bytes, and the list behind it.

    ==============  ====  =======================================================================================
    (``version``)   8     :data:`VERSION`
    ``type``        8     :class:`Type`
    ``flags``       8     :class:`Flag`
    ``count``       8     of the shared grants that the switch has made in this epoch: which one (GRANT_WO_AGENT,
                          ACQUIRE with GRANTED, RELEASE; 0: the agent made the grant), how many the agent knows of
                          (TRANSFER, FREE, RENEW), how many there are (REJECT, QUERY, REPORT)
    ``lock``        32    number of the lock
    ``epoch``       32    number of the agentship; the switch fills it in in what it sends. The fencing token
    ``machine_id``  8     requester; in TRANSFER the next holder's host; destination of what hosts send each other
    ``agent``       8     sender of TRANSFER, FREE, RENEW and of what hosts send each other; the lock's agent in what
                          the switch sends
    (``waiters``)   16    number of ``entries``
    ``task_id``     32    requester's task; opaque to the switch. In ACK: the epoch that the lock is in
    ``attempt``     32    tells a host's requests apart: a later one has a larger number, modulo 2**32. Opaque to the
                          switch. In REPORT: the host has used smaller ones only
    ``entries``     80n   :class:`Entry` behind the header
    ==============  ====  =======================================================================================
    """

    type: int
    flags: int = 0
    count: int = 0
    lock: int = 0
    epoch: int = 0
    machine_id: int = 0
    agent: int = 0
    task_id: int = 0
    attempt: int = 0
    entries: tuple[Entry, ...] = ()

    def to_bytes(self) -> bytes:
        """The UDP payload. Raises ValueError when the entries do not fit a frame."""
        if len(self.entries) > Entry.MOST:
            raise ValueError(f"a frame has room for {Entry.MOST} entries, not {len(self.entries)}")
        return _HARDENED.pack(VERSION, self.type, self.flags, self.count, self.lock, self.epoch, self.machine_id,
                              self.agent, len(self.entries), self.task_id, self.attempt) + b"".join(
            _ENTRY.pack(*item) for item in self.entries)

    @classmethod
    def from_bytes(cls, content: bytes) -> "Message":
        """The message in a UDP payload. Raises ValueError if it is too short, or of another version."""
        if len(content) < HARDENED_SIZE:
            raise ValueError(f"a lock header has {HARDENED_SIZE} bytes, not {len(content)}")
        version, kind, flags, count, lock, epoch, machine, agent, size, task, attempt = _HARDENED.unpack_from(content)
        if version != VERSION:
            raise ValueError(f"the version of a lock header must be {VERSION}, not {version}")
        end = HARDENED_SIZE + size * Entry.SIZE
        if len(content) < end:
            raise ValueError(f"{size} entries need {size * Entry.SIZE} bytes, not {len(content) - HARDENED_SIZE}")
        entries = tuple(Entry._make(item) for item in _ENTRY.iter_unpack(content[HARDENED_SIZE:end]))
        return cls(kind, flags, count, lock, epoch, machine, agent, task, attempt, entries)


# The hardened pipeline's word --------------------------------------------------------------------------------------


class State(enum.IntEnum):
    """What the switch knows of a lock, 2 bits."""

    FREE = 0
    SHARED = 1
    SHARED_WRITER = 2  # shared, and an exclusive request waits: later shared ones are the agent's business
    EXCLUSIVE = 3


class WordFormat(NamedTuple):
    """Bits of the fields of a lock's word, the first in the lowest bits."""

    state: int
    agent: int
    count: int
    epoch: int

    @property
    def width(self) -> int:
        """Bits of the word."""
        return sum(self)

    @property
    def hosts(self) -> int:
        """The largest number of a host."""
        return (1 << self.agent) - 1


#: By the width of the word. 18 bits: an ECP5 block RAM holds 1,024 locks, and no packet may outlive 127 changes of a
#: lock's agent; 36 bits: 512 locks, 1,048,575 changes.
WORD_FORMATS = {18: WordFormat(2, 6, 3, 7), 36: WordFormat(2, 8, 6, 20)}
