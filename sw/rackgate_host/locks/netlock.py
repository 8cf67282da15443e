# SPDX-License-Identifier: Apache-2.0
"""NetLock's control plane: which locks the switch has, and who serves the others."""

from rackgate.netlock.pipeline import LOCAL, PARTITIONS, SERVER
from rackgate.netlock.placement import uniform

from ..errors import UsageError
from ..switch import Switch

__all__ = ["place_locks"]

#: Slots that each lock in the switch gets.
_SLOTS = 8


def place_locks(switch: Switch, count: int, server: int) -> None:
    """Give the switch the locks 0 to ``count`` - 1, with 8 slots each, and ``server`` all others.

    Raises :class:`UsageError` if the switch has not so many.
    """
    most = switch.device.parameters["locks"]
    if not 0 <= count <= most:
        raise UsageError(f"placed must be 0 to {most}, as the switch has so many locks, not {count}")
    for partition in range(PARTITIONS):
        switch.insert("servers", partition, SERVER, host=server)
    for one in uniform(range(count), _SLOTS):
        for register, fields in one.registers.items():
            switch.write(register, one.index, **fields)
        switch.insert("locks", one.lock, LOCAL, index=one.index)
