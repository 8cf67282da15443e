# SPDX-License-Identifier: Apache-2.0
"""What the daemon of a simulated host and the applications on it share: pages in memory, and messages on a socket.

This module is the only place where that layout stands; :func:`c_header` makes the shim's C declarations from it.

**Memory.** The NIC's memory is one file without a name, which an application maps whole. Places are offsets in it. Each
flow has a :class:`FlowPage`, a ring for what it receives, a ring for what it sends, and a side store
(:mod:`rackgate.zeronic.sidestore`). Here, and in the side store, a byte of a stream is named by its *position*: how
many bytes of data stand before it, modulo 2**32. An application so needs no sequence numbers, which are not known
before the connection is there. The byte at a position is at offset ``position % ring_size`` of its ring.

**Socket.** Of type SOCK_SEQPACKET, its path in the environment variable :data:`SOCKET_VARIABLE`. An application sends a
:class:`Request` and gets a :class:`Reply`, one after the other. What a connection has listened for, claimed and
allocated is given back when it is closed. A process that is forked must open one of its own, and claim again what it
goes on to use.
"""

import ctypes
import enum

__all__ = ["PAGE_SIZE", "SOCKET_VARIABLE", "VERSION", "FlowFlag", "FlowPage", "FlowState", "Operation", "Reply",
           "Request", "c_header"]

#: Version of this layout: an application of another version is refused.
VERSION = 2
#: Names the socket in the environment of applications.
SOCKET_VARIABLE = "RACKGATE_ZERONIC_SOCKET"
#: Bytes from one flow's page to the next.
PAGE_SIZE = 4096


class FlowState(enum.IntEnum):
    """``state`` of a flow's page."""

    FREE = 0
    OPENING = 1  # one of the two SYNs has not been seen: positions are not known
    OPEN = 2
    CLOSED = 3  # the transport's connection is over; what was received can still be read


class FlowFlag(enum.IntFlag):
    """What an application asks for with LISTEN and CONNECT, and finds in its flow's page."""

    POSTED_RECEIVE = 1  # no ring: the application posts the segments that it receives into
    POSTED_SEND = 2  # no ring: it posts the segments that it sends from
    DATAGRAM = 4  # with CONNECT: pieces of a stream that come in UDP datagrams (rackgate_host.zeronic.datagrams)


class Operation(enum.IntEnum):
    """What a :class:`Request` asks for, and what of it and of the :class:`Reply` counts.

    An operation that cannot be done is answered with a ``status`` that is not 0, an ``errno``.
    """

    # `length`: VERSION. Reply: memory's file (SCM_RIGHTS), `length` its bytes, `place` the host's IPv4 address. EPROTO
    HELLO = 1
    LISTEN = 2  # `local_port`, `flags`: split connections that come in to this port, from now on
    UNLISTEN = 3  # `local_port`
    # Both ends, `flags`: split the connection whose SYN will leave; anew if there is one that is over or never was
    # established. Reply as CLAIM. ENOSPC: no flow is free. EADDRNOTAVAIL: it would not go through the NIC. EISCONN
    CONNECT = 4
    CLAIM = 5  # both ends. Reply: `flow`, `generation`, `place` of its page, `flags`. ENOENT: it is not split
    RELEASE = 6  # `flow`, `generation`: this connection makes no use of it any more
    SETTLE = 7  # `flow`, `generation`, `position`: reply when the NIC no longer writes before it
    ALLOCATE = 8  # `length`. Reply: `region`, `place`. ENOMEM
    FREE = 9  # `region`
    # `flow`, `generation`, `direction` (abi.Direction), `position`, `length`, `region`, `place`. Reply when the NIC has
    # taken it. EINVAL; ENOSPC: too many are posted; ENOTCONN: state OPENING
    POST = 10
    RETIRE = 11  # `flow`, `generation`, `direction`, `position`: segments that end there or before are not needed


class FlowPage(ctypes.LittleEndianStructure):
    """What daemon and application know of a flow. The daemon writes all up to ``store_size``, the application the rest;
    the daemon sets all to zero when the flow begins. ``mark`` is of datagrams: see
    :class:`~rackgate_host.zeronic.datagramstack.DatagramStack`.

    ``receive_begin`` and ``send_begin``: sequence numbers of position 0 each way, from state OPEN on. How far the
    application has read stands in the side store's ``consumed``: it is moved after the bytes have been copied, and the
    NIC may overwrite what is before it. ``written``: position of the next byte that the application will write; bytes
    before it that the transport has not seen acknowledged must stay in the ring. ``locks_made`` and the two locks are
    the application's own, for processes that share a socket; so is ``counted_before``, what the kernel counts as
    acknowledged beside data. ``received`` and ``sent`` count bytes of data,
    ``copied_*`` those that the CPU has copied between rings, side store and the program's buffers, ``tags_read`` the
    placeholder bytes that were looked at; they are for statistics only.
    """

    _fields_ = [
        ("generation", ctypes.c_uint32),
        ("state", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("flow", ctypes.c_uint32),
        ("local_address", ctypes.c_uint32),
        ("remote_address", ctypes.c_uint32),
        ("local_port", ctypes.c_uint16),
        ("remote_port", ctypes.c_uint16),
        ("receive_begin", ctypes.c_uint32),
        ("send_begin", ctypes.c_uint32),
        ("ring_size", ctypes.c_uint32),
        ("receive_ring", ctypes.c_uint64),
        ("send_ring", ctypes.c_uint64),
        ("store", ctypes.c_uint64),
        ("store_size", ctypes.c_uint32),
        ("mark", ctypes.c_uint32),
        ("_daemon", ctypes.c_uint8 * 56),
        ("written", ctypes.c_uint32),
        ("locks_made", ctypes.c_uint32),
        ("received", ctypes.c_uint64),
        ("sent", ctypes.c_uint64),
        ("copied_received", ctypes.c_uint64),
        ("copied_sent", ctypes.c_uint64),
        ("tags_read", ctypes.c_uint64),
        ("counted_before", ctypes.c_uint32),
        ("_application", ctypes.c_uint8 * 12),
        ("receive_lock", ctypes.c_uint8 * 64),
        ("send_lock", ctypes.c_uint8 * 64),
    ]


class Request(ctypes.LittleEndianStructure):
    """From an application: see :class:`Operation`. Addresses and ports are numbers, not in network order."""

    _fields_ = [
        ("operation", ctypes.c_uint32),
        ("flow", ctypes.c_uint32),
        ("generation", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("local_address", ctypes.c_uint32),
        ("remote_address", ctypes.c_uint32),
        ("local_port", ctypes.c_uint16),
        ("remote_port", ctypes.c_uint16),
        ("direction", ctypes.c_uint32),
        ("position", ctypes.c_uint32),
        ("region", ctypes.c_uint32),
        ("length", ctypes.c_uint64),
        ("place", ctypes.c_uint64),
        ("_spare", ctypes.c_uint64),
    ]


class Reply(ctypes.LittleEndianStructure):
    """To an application, for each :class:`Request` one, in their order."""

    _fields_ = [
        ("operation", ctypes.c_uint32),
        ("status", ctypes.c_int32),
        ("flow", ctypes.c_uint32),
        ("generation", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("region", ctypes.c_uint32),
        ("length", ctypes.c_uint64),
        ("place", ctypes.c_uint64),
        ("_spare", ctypes.c_uint64 * 3),
    ]


_C_TYPES = {ctypes.c_uint8: "uint8_t", ctypes.c_uint16: "uint16_t", ctypes.c_uint32: "uint32_t",
            ctypes.c_int32: "int32_t", ctypes.c_uint64: "uint64_t"}


def _c_field(name: str, kind: type) -> str:
    if issubclass(kind, ctypes.Array):
        return f"    {_C_TYPES[kind._type_]} {name}[{kind._length_}];"
    return f"    {_C_TYPES[kind]} {name};"


def c_header() -> str:
    """Declarations of all this in C (C11), with an assertion for the size of each structure."""
    lines = ["/* Made by rackgate_host.zeronic.shared: do not edit. */", "#pragma once", "#include <stdint.h>", "",
             f"#define ZN_VERSION {VERSION}", f"#define ZN_PAGE_SIZE {PAGE_SIZE}",
             f'#define ZN_SOCKET_VARIABLE "{SOCKET_VARIABLE}"']
    for prefix, names in (("ZN_STATE", FlowState), ("ZN_FLAG", FlowFlag), ("ZN_OP", Operation)):
        lines += [f"#define {prefix}_{item.name} {item.value}" for item in names]
    for name, structure in (("zn_page", FlowPage), ("zn_request", Request), ("zn_reply", Reply)):
        fields = [_c_field(field[0], field[1]) for field in structure._fields_]
        lines += ["", f"struct {name} {{", *fields, "};",
                  f'_Static_assert(sizeof(struct {name}) == {ctypes.sizeof(structure)}, "{name}");']
    return "\n".join(lines) + "\n"
