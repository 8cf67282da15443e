# SPDX-License-Identifier: Apache-2.0
"""A simulated IAA device, with a queue of physical and one of virtual addresses, held against the golden model."""

import numpy as np
from test_iaa_model import writes_aecs

from rackgate.iaa.abi import (
    PAGE_SIZE,
    PORTAL_SIZE,
    PORTALS,
    REGISTERS,
    WRITE_FAULT,
    Command,
    CommandError,
    Completion,
    Descriptor,
    Opcode,
    PageResponse,
    PageTableEntry,
    Status,
)
from rackgate_sim.iaa.model import Rules, difference, is_record_due, is_saved, perform, run
from rackgate_sim.iaa.pagetable import PageTable
from rackgate_sim.inflate.model import FlatMemory
from rackgate_sim.native import Library, RegisterError, Simulation

__all__ = ["MEMORY", "PHYSICAL", "VIRTUAL", "IaaBench", "Stuck"]

#: Bytes that descriptors may use. The translation tables lie where no address gets to by a flipped bit.
MEMORY = 0x110000
_TABLES, _TABLES_SIZE = 0x2A50_0000, 64 * PAGE_SIZE
PHYSICAL, VIRTUAL = 0, 1
_QUEUE_SIZE = 16
_SHIFT = 21
_POLL = 64


class Stuck(Exception):
    """A descriptor did not complete."""


class IaaBench:
    """The device, its memory from address 0 on, and what is not mapped of it for the virtual queue."""

    def __init__(self, library: Library, *, seed: int = 1, window: int = 32768, memory: dict | None = None,
                 limit: int = 400_000):
        self.window, self.limit = window, limit
        self.array = np.zeros(_TABLES + _TABLES_SIZE, np.uint8)  # what is not touched takes no memory
        self.simulation = Simulation(library, seed=seed)
        self.port = self.simulation.memory("mem")
        self.port.attach(self.array[:MEMORY], 0)
        self.port.attach(self.array[_TABLES:], _TABLES)
        self.port.configure(**(memory or {}))
        frames = list(range(_TABLES, _TABLES + _TABLES_SIZE, PAGE_SIZE))
        self.table = PageTable(memoryview(self.array), frames)
        self.missing: set[int] = set()
        for page in range(0, MEMORY, PAGE_SIZE):
            self.map(page, page)
        self.setup()

    def setup(self) -> None:
        """Queues, group and device, after a reset."""
        for queue in (PHYSICAL, VIRTUAL):
            mode = 1 << 1 | 8 << 4 | (1 << 28 if queue == VIRTUAL else 0)
            for name, value in (("SIZE", _QUEUE_SIZE), ("THRESHOLD", _QUEUE_SIZE), ("MODE", mode),
                                ("LIMITS", _SHIFT), ("TABLE_LO", self.table.root), ("TABLE_HI", 0)):
                self.write(f"WQ{queue}_{name}", value)
        self.write("GRP0_WQS", 1 << PHYSICAL | 1 << VIRTUAL)
        self.write("GRP0_ENGINES", (1 << self.read("PARAM_ENGINES")) - 1)
        self.command(Command.ENABLE_DEVICE)
        for queue in (PHYSICAL, VIRTUAL):
            self.command(Command.ENABLE_WQ, queue)

    def read(self, name: str) -> int:
        """A register."""
        return self.simulation.read_register(REGISTERS[name].offset)

    def write(self, name: str, value: int) -> None:
        """Write a register."""
        self.simulation.write_register(REGISTERS[name].offset, value)

    def command(self, command: Command | int, operand: int = 0, *, error: CommandError = CommandError.NONE) -> None:
        """Carry out a command, which must end with ``error``."""
        self.write("CMD", command << 20 | operand)
        for _ in range(self.limit // _POLL):
            status = self.read("CMDSTS")
            if not status >> 31:
                assert status == error, f"{command!r} of {operand:#x}: {status:#x}"
                return
            self.simulation.run(_POLL)
        raise Stuck(f"{command!r} is still active")

    def map(self, page: int, frame: int) -> None:
        """Let a page of the virtual queue be there; what the device knows of it stays as it is."""
        self.table.write(self.table.place_of(page), frame | PageTableEntry.PRESENT | PageTableEntry.WRITABLE)

    def unmap(self, pages: set[int]) -> None:
        """Let these pages be missing for the virtual queue, and no others."""
        for page in self.missing - pages:
            self.map(page, page)
        for page in pages:
            self.table.write(self.table.place_of(page), 0)
        self.missing = set(pages)
        self.write("TLB_INVALIDATE", 1)

    def translate(self, page: int, write: bool) -> int | None:
        """The virtual queue's translation, for the model."""
        return None if page in self.missing or page >= MEMORY else page

    def submit(self, descriptor: Descriptor, queue: int = PHYSICAL) -> bool:
        """Write a descriptor to a portal; whether the queue took it."""
        raw, base = descriptor.pack(), PORTALS + PORTAL_SIZE * queue
        for word in range(15):
            self.simulation.write_register(base + 4 * word, int.from_bytes(raw[4 * word:4 * word + 4], "little"))
        try:
            self.simulation.write_register(base + 60, int.from_bytes(raw[60:], "little"))
        except RegisterError:
            return False
        return True

    def submit_when_taken(self, descriptor: Descriptor, queue: int = PHYSICAL) -> None:
        """Write a descriptor to a portal until the queue has room for it."""
        for _ in range(self.limit // _POLL):
            if self.submit(descriptor, queue):
                return
            self.simulation.run(_POLL)
        raise Stuck(f"queue {queue} takes no descriptor")

    def wait(self, completed: int) -> None:
        """Run until ``completed`` descriptors have, and refuse all page requests meanwhile."""
        begin = self.simulation.cycle
        while (self.read("COMPLETED") - completed) & 0x80000000:
            if self.simulation.cycle - begin > self.limit:
                raise Stuck(f"{self.read('COMPLETED')} of {completed} descriptors after {self.limit} cycles\n"
                            f"{self.simulation.state()}")
            if self.read("PAGE_REQUEST") & 1:
                self.write("PAGE_RESPONSE", PageResponse.INVALID)
            self.simulation.run(_POLL)

    def compare(self, descriptor: Descriptor, queue: int = PHYSICAL) -> Completion:
        """The model's record of a descriptor. The device's, and all of memory, must agree with the model's."""
        model = FlatMemory(self.array[:MEMORY].copy(), 0)
        translate = self.translate if queue == VIRTUAL else (lambda page, write: page)
        rules = Rules(self.window, _SHIFT, has_pasid=queue == VIRTUAL)
        members = len(perform(descriptor, model, translate, rules).members)  # they complete, too
        want = run(descriptor, model, translate, rules)
        completed = self.read("COMPLETED")
        assert self.submit(descriptor, queue), "the queue took no descriptor"
        self.wait((completed + 1 + members) & 0xFFFFFFFF)
        self._idle()
        self._compare_errors(descriptor, want)
        expected, actual = model.array, self.array[:MEMORY].copy()
        if is_record_due(descriptor, want) and want.status != Status.COMPLETION_FAULT:
            at = descriptor.completion
            got = Completion.unpack(actual[at:at + 64].tobytes())
            if not self._compare_saved(descriptor, want, got, expected, actual):
                assert not (text := difference(want, got)), f"{text}\n{descriptor}\n{want}\n{got}"
            expected[at:at + 64] = actual[at:at + 64] = 0
        elif writes_aecs(descriptor):
            self._forget(descriptor, 0, expected, actual)
        if want.status in (Status.WRITE_ERROR, Status.COMPLETION_FAULT):
            # What lies in the destination then is not told.
            low = min(descriptor.destination, MEMORY)
            expected[low:low + descriptor.destination_size] = actual[low:low + descriptor.destination_size] = 0
        if descriptor.opcode != Opcode.LIST:
            wrong = np.flatnonzero(expected != actual)
            assert not len(wrong), f"memory differs at {wrong[0]:#x} to {wrong[-1]:#x}\n{descriptor}\n{want}"
        self.array[:MEMORY] = model.array
        return want

    def _forget(self, descriptor: Descriptor, size: int, *memories: np.ndarray) -> None:
        """Leave out the AECS, and the destination from ``size`` bytes on."""
        for memory in memories:
            low = min(descriptor.source2, MEMORY)
            memory[low:low + 2 * descriptor.source2_size] = 0
            low = min(descriptor.destination, MEMORY)
            memory[min(low + size, MEMORY):low + descriptor.destination_size] = 0

    def _compare_saved(self, descriptor: Descriptor, want: Completion, got: Completion, expected: np.ndarray,
                       actual: np.ndarray) -> bool:
        """Compare where an AECS may have been written; whether that was so. What is in it the chains of jobs show.

        Of an output that does not fit the gateware has a step less than the model, of the history too; then the one or
        the other may not come to a page that is missing.
        """
        if not writes_aecs(descriptor):
            return False
        ends = (Status.OUTPUT_OVERFLOW, Status.PAGE_FAULT | WRITE_FAULT)
        is_open = want.status in ends and got.status in ends and want.status != got.status
        assert not is_open or self.missing
        assert is_open or not (text := difference(want, got, saved=is_saved(descriptor, want.status))), (
            f"{text}\n{descriptor}\n{want}\n{got}")
        is_short = is_open or want.status in ends
        self._forget(descriptor, min(got.output_size, want.output_size) if is_short else want.output_size, expected,
                     actual)
        return True

    def _idle(self) -> None:
        for _ in range(self.limit // _POLL):
            if not any(self.read(f"WQ{queue}_STATE") & 0xFFFF for queue in (PHYSICAL, VIRTUAL)):
                return
            self.simulation.run(_POLL)
        raise Stuck("descriptors stay in the queues")

    def _compare_errors(self, descriptor: Descriptor, want: Completion) -> None:
        """SWERR tells what no record can, and of lists also what their descriptors' records could not."""
        swerr = self.read("SWERR0")
        untold = want.status in (Status.COMPLETION_MISALIGNED, Status.COMPLETION_FAULT)
        if descriptor.opcode != Opcode.LIST or untold:
            assert bool(swerr & 1) == untold, f"SWERR {swerr:#x}\n{descriptor}\n{want}"
        if untold and descriptor.opcode != Opcode.LIST:
            assert swerr >> 8 & 0xFF == want.status, f"SWERR {swerr:#x}\n{descriptor}\n{want}"
        self.write("SWERR0", 1)
