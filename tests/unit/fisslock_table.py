# SPDX-License-Identifier: Apache-2.0
"""What the published lock switch answers, as the table that describes it, row by row; no code is shared with it."""

from typing import NamedTuple

ACQUIRE, GRANT_W_AGENT, GRANT_WO_AGENT, RELEASE, TRANSFER, FREE = range(1, 7)
SHARED, EXCLUSIVE = 0, 1
AGENT, CLIENT = 20001, 20002


class Words(NamedTuple):
    """A lock's count, acquired bit, mode and agent."""

    count: int = 0
    acquired: int = 0
    mode: int = SHARED
    agent: int = 0


class Packet(NamedTuple):
    """A lock header, without the fields that nobody looks at."""

    type: int
    mode: int = SHARED
    old_mode: int = SHARED
    machine_id: int = 0
    agent: int = 0
    ncnt: int = 0
    multicasted: int = 0
    granted: int = 0
    transferred: int = 0


def one_copy(packet, group, port, client=None):
    """The copy for a multicast group, as (host, port, packet); none if the group does not exist."""
    if not (1 <= group <= 127 or 129 <= group <= 191):
        return []
    host, is_client = group & 127, group > 128
    if packet.multicasted:
        if is_client:
            return [(host, CLIENT, packet._replace(type=GRANT_WO_AGENT))]
        return [(host, AGENT, packet._replace(type=ACQUIRE, granted=1))]
    return [(host, port, packet)]


def row(words, packet, port, in_range):
    """The words afterwards, and the copies as (host, port, packet)."""
    if not in_range:
        return words, one_copy(packet, packet.agent, CLIENT if packet.type == GRANT_WO_AGENT else port)
    if packet.type == GRANT_WO_AGENT:
        return words, one_copy(packet, packet.machine_id, port)

    # The counter comes first.
    if packet.type == ACQUIRE and packet.mode == SHARED:
        words = words._replace(count=(words.count + 1) % 256)
    if packet.type in (TRANSFER, FREE):
        if packet.old_mode == SHARED and words.count != packet.ncnt:
            return words, one_copy(packet, packet.agent, port)
        words = words._replace(count=0)

    if packet.type == ACQUIRE:
        if not words.acquired:
            answer = packet._replace(type=GRANT_W_AGENT, transferred=0, agent=packet.machine_id)
            return (words._replace(acquired=1, mode=packet.mode, agent=packet.machine_id),
                    one_copy(answer, packet.machine_id, CLIENT))
        answer = packet._replace(agent=words.agent)
        if packet.mode == SHARED and words.mode == SHARED:
            both = answer._replace(multicasted=1)
            return words, (one_copy(both, words.agent, AGENT)
                           + one_copy(both, 128 + packet.machine_id, CLIENT))
        return words, one_copy(answer, words.agent, port)
    if packet.type == RELEASE and words.acquired:
        return words, one_copy(packet._replace(agent=words.agent), words.agent, port)
    if packet.type == TRANSFER and words.acquired:
        answer = packet._replace(type=GRANT_W_AGENT, transferred=1, agent=packet.machine_id)
        return (words._replace(mode=packet.mode, agent=packet.machine_id),
                one_copy(answer, packet.machine_id, CLIENT))
    if packet.type == FREE:
        if words.acquired:
            return Words(), []
        return words, one_copy(packet, packet.agent, port)
    # Whatever else: the free bit becomes acquired, and the packet goes where it says.
    return words._replace(acquired=1), one_copy(packet, packet.agent, port)
