# SPDX-License-Identifier: Apache-2.0
"""A descriptor as the device's parts hand it around."""

from amaranth.lib import data

from rackgate.inflate.task import ADDR_WIDTH

__all__ = ["ErrorReport", "RawDescriptor", "Space", "Work"]


class RawDescriptor(data.Struct):
    """The 64 bytes of ``abi.Descriptor``, first field at the lowest address."""

    pasid_priv: 32
    flags: 24
    opcode: 8
    completion: 64
    source: 64
    destination: 64
    source_size: 32
    interrupt_handle: 16
    operation_flags: 16
    source2: 64
    destination_size: 32
    source2_size: 32
    filter_flags: 32
    elements: 32


class Space(data.Struct):
    """The address space that a descriptor's addresses are of.

    Without ``translate`` they are the memory's own. ``table`` is the address of the level-4 table divided by 4096.
    ``block``: a page fault waits for the host rather than ending the descriptor.
    """

    translate: 1
    block: 1
    table: ADDR_WIDTH - 12
    queue: 3


class Work(data.Struct):
    """A descriptor off its queue.

    ``space.block`` says what the queue allows; the descriptor must ask for it too. ``max_transfer_shift`` bounds
    its sizes. ``aborted``: it was still queued when an abort command came; it gets a completion record with
    Status.ABORTED and nothing else. ``listed``: it was a LIST's, not a queue's.
    """

    descriptor: RawDescriptor
    space: Space
    max_transfer_shift: 5
    aborted: 1
    listed: 1


class ErrorReport(data.Struct):
    """An error of a descriptor that no completion record can tell, for SWERR. ``write``: a write failed."""

    status: 8
    queue: 3
    opcode: 8
    pasid: 20
    write: 1
    address: 64
