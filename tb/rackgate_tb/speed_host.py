# SPDX-License-Identifier: Apache-2.0
"""A host and a memory in Python for the inflate device at its pins, for whatever simulator calls it every cycle.

The traffic of ``rackgate bench cosim``: raw streams of memory pages over and over, a few jobs in flight, every output
compared.
"""

import itertools
import time
import zlib
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from rackgate.inflate.abi import COMPLETION_SIZE, DESCRIPTOR_SIZE, REGISTERS, Control, Descriptor, Flag, Status
from rackgate.inflate.task import ADDR_WIDTH

__all__ = ["IN_FLIGHT", "INPUTS", "LATENCY", "OUTPUTS", "WRITE_LATENCY", "Host", "compress"]

IN_FLIGHT = 2
LATENCY, WRITE_LATENCY = 20, 4
#: Pins that the host reads, and those it drives, as Amaranth's Verilog names them.
INPUTS = ("mem__ar__valid", "mem__ar__payload", "mem__aw__valid", "mem__aw__payload", "mem__w__valid",
          "mem__w__payload", "mem__r__ready", "mem__b__ready", "csr__aw__ready", "csr__w__ready", "csr__b__valid")
OUTPUTS = ("mem__ar__ready", "mem__aw__ready", "mem__w__ready", "mem__r__valid", "mem__r__payload", "mem__b__valid",
           "mem__b__payload", "csr__aw__valid", "csr__aw__payload", "csr__w__valid", "csr__w__payload",
           "csr__b__ready", "csr__ar__valid", "csr__r__ready")
_BASE = 0x1000_0000
_RING = 16
_SLOT = 8192
_NO_JOB_LIMIT = 200_000  # cycles


def compress(page: bytes) -> bytes:
    """A page as the device gets it."""
    deflate = zlib.compressobj(6, zlib.DEFLATED, -15)
    return deflate.compress(page) + deflate.flush()


class Host:
    """What stands around the device.

    Parameters
    ----------
    id_width:
        Of the device's memory port.
    pages:
        Contents; each is one job, again and again.
    seconds:
        Wall-clock time after which no more jobs are submitted.
    get, put:
        Read a pin as it was before the clock edge; drive one from now on.
    """

    def __init__(self, id_width: int, pages: Sequence[bytes], seconds: float, get: Callable[[str], int],
                 put: Callable[[str, int], None]):
        self.id_width, self.pages, self.seconds = id_width, pages, seconds
        self.get, self.put = get, put
        self.streams = [compress(page) for page in pages]
        self.memory = bytearray((len(pages) + 2 + _RING) * _SLOT)
        for index, stream in enumerate(self.streams):
            self.memory[self._source(index):self._source(index) + len(stream)] = stream
        self.cycle = self.jobs = self.tail = 0
        self.end_cycle = 0
        self.begin = self.end = self.limit = self.cpu = self._cpu_begin = 0.0
        self._next = itertools.cycle(range(len(pages)))
        self._flying: deque[tuple[int, int]] = deque()
        self._reads: deque[tuple[int, int]] = deque()  # cycle, payload
        self._writes: deque[list[int]] = deque()  # address, id
        self._words: deque[int] = deque()
        self._answers: deque[tuple[int, int]] = deque()
        self._registers: deque[tuple[int, int]] = deque()
        self._r_valid = self._b_valid = self._r_driven = self._b_driven = False
        self._csr = [False, False]  # aw and w offered
        self._csr_busy = False

    def _source(self, index: int) -> int:
        return (2 + _RING + index) * _SLOT

    def start(self) -> None:
        """Drive what does not change, set the ring up and submit the first jobs. To be called in reset."""
        for name in OUTPUTS:
            self.put(name, int(name in ("mem__ar__ready", "mem__aw__ready", "mem__w__ready", "csr__b__ready",
                                        "csr__r__ready")))
        for name, value in (("RING_BASE_LO", _BASE), ("RING_BASE_HI", 0), ("RING_SIZE", _RING),
                            ("CONTROL", int(Control.ENABLE))):
            self._registers.append((REGISTERS[name].offset, value))
        for _ in range(IN_FLIGHT):
            self._submit()

    def _submit(self) -> None:
        index, slot = next(self._next), self.tail % _RING
        descriptor = Descriptor(_BASE + self._source(index), len(self.streams[index]), _BASE + (2 + slot) * _SLOT,
                                len(self.pages[index]), _BASE + _SLOT + slot * COMPLETION_SIZE, flags=Flag.LAST,
                                tag=self.tail)
        self.memory[_SLOT + slot * COMPLETION_SIZE + 60] = 0
        self.memory[slot * DESCRIPTOR_SIZE:(slot + 1) * DESCRIPTOR_SIZE] = descriptor.pack()
        self.tail = (self.tail + 1) & 0xFFFF
        self._flying.append((index, slot))
        self._registers.append((REGISTERS["RING_TAIL"].offset, self.tail))

    @property
    def done(self) -> bool:
        """Whether time is up and all jobs have ended."""
        return not self._flying

    def result(self) -> Mapping[str, float]:
        """Cycles, wall-clock and CPU seconds from the start to the last job's end, and how many jobs that were."""
        return {"cycles": self.end_cycle, "seconds": self.end - self.begin, "cpu_seconds": self.cpu, "jobs": self.jobs}

    def step(self) -> None:
        """Do a cycle. To be called after each clock edge."""
        if not self.cycle:
            self.begin = time.perf_counter()
            self.limit = self.begin + self.seconds
            self._cpu_begin = time.process_time()
        self.cycle += 1
        if self.cycle - self.end_cycle > _NO_JOB_LIMIT:
            raise RuntimeError(f"no job has ended in {_NO_JOB_LIMIT} cycles")
        self._read()
        self._write()
        if self._registers or self._csr_busy:
            self._access()

    def _read(self) -> None:
        get, put = self.get, self.put
        if self._r_valid and get("mem__r__ready"):
            self._reads.popleft()
            self._r_valid = False
        if get("mem__ar__valid"):
            raw = get("mem__ar__payload")
            start = (raw & (1 << ADDR_WIDTH) - 1) - _BASE & ~7
            tag = raw >> ADDR_WIDTH & (1 << self.id_width) - 1
            beats = (raw >> ADDR_WIDTH + self.id_width & 255) + 1
            for beat in range(beats):
                place = start + 8 * beat
                word = int.from_bytes(self.memory[place:place + 8], "little")
                self._reads.append((self.cycle + LATENCY, word | tag << 64 | (beat == beats - 1) << 66 + self.id_width))
        if not self._r_valid:
            if self._reads and self._reads[0][0] <= self.cycle:
                put("mem__r__payload", self._reads[0][1])
                put("mem__r__valid", 1)
                self._r_valid = self._r_driven = True
            elif self._r_driven:
                put("mem__r__valid", 0)
                self._r_driven = False

    def _write(self) -> None:
        get, put = self.get, self.put
        if self._b_valid and get("mem__b__ready"):
            self._answers.popleft()
            self._b_valid = False
        if get("mem__aw__valid"):
            raw = get("mem__aw__payload")
            address = (raw & (1 << ADDR_WIDTH) - 1) - _BASE & ~7
            self._writes.append([address, raw >> ADDR_WIDTH & (1 << self.id_width) - 1])
        if get("mem__w__valid"):
            self._words.append(get("mem__w__payload"))
        while self._words and self._writes:
            self._store(self._words.popleft())
        if not self._b_valid:
            if self._answers and self._answers[0][0] <= self.cycle:
                put("mem__b__payload", self._answers[0][1])
                put("mem__b__valid", 1)
                self._b_valid = self._b_driven = True
            elif self._b_driven:
                put("mem__b__valid", 0)
                self._b_driven = False

    def _store(self, raw: int) -> None:
        place, tag = self._writes[0]
        word = (raw & (1 << 64) - 1).to_bytes(8, "little")
        strobes = raw >> 64 & 255
        for lane in range(8):
            if strobes >> lane & 1:
                self.memory[place + lane] = word[lane]
        self._writes[0][0] += 8
        if raw >> 72 & 1:
            self._writes.popleft()
            self._answers.append((self.cycle + WRITE_LATENCY, tag))
            self._look()

    def _look(self) -> None:
        """Take the jobs that have ended, and submit as many."""
        while self._flying:
            index, slot = self._flying[0]
            status = self.memory[_SLOT + slot * COMPLETION_SIZE + 60]
            if not status:
                return
            page = self.pages[index]
            if status != Status.SUCCESS or self.memory[(2 + slot) * _SLOT:][:len(page)] != page:
                raise RuntimeError(f"job {self.jobs} ended with status {status:#x} or another output than its page")
            self._flying.popleft()
            self.jobs += 1
            self.end, self.end_cycle = time.perf_counter(), self.cycle
            self.cpu = time.process_time() - self._cpu_begin
            if self.end < self.limit:
                self._submit()

    def _access(self) -> None:
        get, put = self.get, self.put
        for place, name in enumerate(("csr__aw", "csr__w")):
            if self._csr[place] and get(f"{name}__ready"):
                put(f"{name}__valid", 0)
                self._csr[place] = False
        if self._csr_busy:
            if get("csr__b__valid"):
                self._csr_busy = False
            return
        offset, value = self._registers.popleft()
        put("csr__aw__payload", offset)
        put("csr__w__payload", value | 15 << 32)
        put("csr__aw__valid", 1)
        put("csr__w__valid", 1)
        self._csr, self._csr_busy = [True, True], True
