# SPDX-License-Identifier: Apache-2.0
"""What software has set for a work queue, gathered from its registers."""

from amaranth.hdl import Cat
from amaranth.lib import data

from rackgate.iaa.abi import REGISTERS, queue_register
from rackgate.iaa.work import ADDR_WIDTH

__all__ = ["QueueSettings", "settings_from"]


class QueueSettings(data.Struct):
    """A queue's registers: fields as ``abi.REGISTERS`` has them, ``table`` divided by 4096."""

    size: 16
    threshold: 16
    dedicated: 1
    block: 1
    priority: 4
    pasid: 20
    pasid_enable: 1
    privileged: 1
    max_transfer_shift: 5
    limit: 16
    limit_enable: 1
    table: ADDR_WIDTH - 12


#: Register, its field (or the field that is all of it), and the field here.
_FIELDS = (
    ("SIZE", "SIZE", "size"), ("THRESHOLD", "THRESHOLD", "threshold"), ("MODE", "DEDICATED", "dedicated"),
    ("MODE", "BOF", "block"), ("MODE", "PRIORITY", "priority"), ("MODE", "PASID", "pasid"),
    ("MODE", "PASID_ENABLE", "pasid_enable"), ("MODE", "PRIVILEGED", "privileged"),
    ("LIMITS", "MAX_TRANSFER_SHIFT", "max_transfer_shift"), ("OCCUPANCY_LIMIT", "LIMIT", "limit"),
    ("OCCUPANCY_LIMIT", "ENABLE", "limit_enable"),
)


def settings_from(bank, queue, settings):
    """Assignments that make ``settings`` of the registers of ``queue`` in ``bank``."""
    def value(name):
        return getattr(bank, queue_register(queue, name).lower())

    for register, field_name, ours in _FIELDS:
        field, = (f for f in REGISTERS[queue_register(queue, register)].fields if f.name == field_name)
        yield settings[ours].eq(value(register)[field.lsb:field.lsb + field.width])
    yield settings.table.eq(Cat(value("TABLE_LO"), value("TABLE_HI"))[12:ADDR_WIDTH])
