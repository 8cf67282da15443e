# SPDX-License-Identifier: Apache-2.0
"""The lock protocols that hosts speak, each with the participant that speaks it and the switch that it needs."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from rackgate.fisslock import abi as fisslock
from rackgate.fisslock.effects import Participant
from rackgate.fisslock.participant import HardenedParticipant
from rackgate.netlock import abi as netlock
from rackgate.netlock.participant import Participant as NetLockParticipant

__all__ = ["PROTOCOLS", "SERVER_HOST", "Protocol"]

#: The host that is the server, where a protocol has one.
SERVER_HOST = 1

#: Attempts between two lives of a host with the same number, see :class:`rackgate.fisslock.record.Core`.
_ATTEMPTS = 1 << 24


#: Seconds until what was not answered is sent again, at first and at most: a service that is a simulation, with all
#: its hosts in one process, needs milliseconds.
_TIMEOUT, _LONGEST = 0.03, 0.5


@dataclass(frozen=True)
class Protocol:
    """A protocol.

    Parameters
    ----------
    name:
        What it is called.
    about:
        What it is, in a line.
    device:
        The switch's name in the catalogue of pipelines; None: it needs none.
    port:
        UDP port of the switch.
    largest_host:
        Hosts are numbered from 1 to this, if the switch has room for all of them.
    has_server:
        Whether host :data:`SERVER_HOST` must be there before others ask.
    resends:
        Whether what is lost is sent again.
    participant:
        Makes the participant of a host: its number, all hosts' numbers, and how many lives of it there were before.
    """

    name: str
    about: str
    device: str | None
    port: int
    largest_host: int
    has_server: bool
    resends: bool
    participant: Callable[[int, Iterable[int], int], Participant]


def _hardened(host: int, hosts: Iterable[int], lives: int) -> Participant:
    return HardenedParticipant(host, hosts, timeout=_TIMEOUT, longest=_LONGEST,
                               first_attempt=lives * _ATTEMPTS % fisslock.LARGEST_NUMBER + 1)


#: By name.
PROTOCOLS = {protocol.name: protocol for protocol in (
    Protocol("fisslock", "FissLock, hardened: the switch decides, hosts queue; lost packets are sent again", "fisslock",
             fisslock.AGENT_PORT, fisslock.LARGEST_HOST, False, True, _hardened),
    Protocol("netlock", "NetLock: the switch queues, a server takes what does not fit; a lost packet is lost",
             "netlock", netlock.PORT, 255, True, False,
             lambda host, hosts, lives: NetLockParticipant(host)),
    Protocol("server", "one server decides and queues, the switch does nothing; a lost packet is lost", None,
             netlock.PORT, 255, True, False,
             lambda host, hosts, lives: NetLockParticipant(host, server=SERVER_HOST)),
)}
