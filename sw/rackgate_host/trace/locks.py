# SPDX-License-Identifier: Apache-2.0
"""Packets through the lock pipeline."""

from collections.abc import Callable

from rackgate.fisslock.abi import Flag, Message, Type
from rackgate.net.frames import Endpoint, split_udp_frame, udp_frame
from rackgate.net.hosts import HOSTS

from ..errors import RackgateError, UsageError
from ..switch import Switch
from .job import Job, opened, waves_path

__all__ = ["MOST", "run"]

_KINDS = ("fisslock",)
_SWITCH = Endpoint(0x02_00_00_00_00_FE, 0x0A_00_00_FE, 20001)
_MACS, _ADDRESSES = 0x02_00_00_00_00_00, 0x0A_00_00_00
_LOCK = 7

#: Packets at a time, at most: as many as the switch has slots for by default.
MOST = 32


def _request(host: int) -> bytes:
    """A frame in which ``host`` asks for the lock."""
    message = Message(Type.ACQUIRE, Flag.EXCLUSIVE, lock=_LOCK, machine_id=host, task_id=host, attempt=1)
    return udp_frame(Endpoint(_MACS | host, _ADDRESSES | host, 20002), _SWITCH, message.to_bytes())


def run(url: str, packets: int, seed: int, progress: Callable[[str], None] | None = None) -> Job:
    """``packets`` hosts ask for one lock, each with one frame, back to back: the first one gets it and is its agent."""
    if not 1 <= packets <= min(MOST, HOSTS - 2):
        raise UsageError(f"packets must be 1 to {MOST}, not {packets}")
    waves = waves_path("locks")
    with opened(url, _KINDS, waves, seed, progress) as device:
        switch = Switch(device)
        for host in range(1, packets + 1):
            switch.insert("hosts", host, "to_host", mac=_MACS | host, address=_ADDRESSES | host, server_port=20001,
                          client_port=20002)
        before, regs = switch.counters(), device.regs
        wanted = before["received"] + packets & 0xFFFFFFFF
        begin = device.cycles
        for host in range(1, packets + 1):
            switch.push(_request(host))
        device.wait(lambda _: regs.RECEIVED.value == wanted and bool(regs.STATUS.idle), cycles=100_000,
                    what="the end of the packets' processing")
        frames = [switch.pop() for _ in range(packets)]
        end = max(frame.cycle for frame in frames) + 1
        answers = [Message.from_bytes(split_udp_frame(frame)[2]) for frame in frames]
        kinds = [Type(answer.type).name for answer in answers]
        if kinds != ["GRANT_W_AGENT"] + ["ACQUIRE"] * (packets - 1) or answers[0].machine_id != 1:
            raise RackgateError(f"the switch answered {', '.join(kinds)}")
        words = -(-len(_request(1)) // device.parameters["width"])
        return Job.on(device, f"{packets} ACQUIRE of one lock" if packets > 1 else "one ACQUIRE", begin, end,
                      {"switch": waves}, frames=packets, words_in=words * packets,
                      words_out=sum(-(-len(frame) // device.parameters["width"]) for frame in frames),
                      cycles_from_first_word_to_last=end - begin)
