# SPDX-License-Identifier: Apache-2.0
"""Any Deflate decoder against zlib, on the cases of ``rackgate_sim.inflate.corpus``.

    report = compare(decode_model, seed=1, count=1000)
    report.check()
"""

import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rackgate.inflate.abi import Completion, Descriptor, ErrorCode, Flag, Opcode, Status
from rackgate_sim.inflate.corpus import MAX_OUTPUT, Case, Outcome, cases, verdict_zlib
from rackgate_sim.inflate.model import Engine, JobMemory

__all__ = ["DIRECTORY", "Mismatch", "Report", "compare", "compare_batches", "decode_model", "describe_stop"]

#: Where the inputs of mismatches are written, from the working directory.
DIRECTORY = Path("build/differential")
_LINE = 64  # characters


@dataclass(frozen=True)
class Mismatch:
    """A case on which a decoder and zlib differ. ``file`` holds it in hexadecimal."""

    case: Case
    expected: Outcome
    actual: Outcome | Exception
    file: Path

    def __str__(self) -> str:
        case = self.case
        return (f"seed {case.seed} case {case.index} ({case.name}; {case.format.name}, {len(case.data)} bytes, "
                f"{self.file}):\n"
                f"  zlib     {_text(self.expected)}\n  decoder  {_text(self.actual)}{self._first_difference()}")

    def _first_difference(self) -> str:
        if isinstance(self.actual, Exception) or self.expected.output is None or self.actual.output is None:
            return ""
        pairs = zip(self.expected.output, self.actual.output, strict=False)
        for position, (want, got) in enumerate(pairs):
            if want != got:
                return f"\n  first difference at byte {position}: {want:#04x}, got {got:#04x}"
        return ""


def _text(outcome: Outcome | Exception) -> str:
    if isinstance(outcome, Exception):
        return f"raised {type(outcome).__name__}: {outcome}"
    verdict = f"accepts, {outcome.consumed} bytes consumed" if outcome.accepted else "rejects"
    output = "output not known" if outcome.output is None else (
        f"{len(outcome.output)} bytes out, CRC {zlib.crc32(outcome.output):08x}")
    return f"{verdict}, {output} ({outcome.detail})"


@dataclass
class Report:
    """Outcome of a comparison. ``seconds`` are of the decoder alone."""

    seed: int
    count: int = 0
    accepted: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    seconds: float = 0.0
    mismatches: list[Mismatch] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"seed {self.seed}: {self.count} streams ({self.bytes_in} bytes), {self.accepted} accepted by zlib, "
                 f"{self.bytes_out} bytes out, {len(self.mismatches)} mismatches, {self.seconds:.1f} s"]
        return "\n".join([*lines, *map(str, self.mismatches)])

    def check(self) -> None:
        """Raise ``AssertionError`` with the whole report if there was a mismatch."""
        if self.mismatches:
            raise AssertionError(str(self))


def agree(expected: Outcome, actual: Outcome) -> bool:
    """Whether two outcomes are the same; output that one side does not know is not held against it."""
    if expected.output is None or actual.output is None:
        return (expected.accepted, expected.consumed) == (actual.accepted, actual.consumed)
    return expected == actual


def _save(case: Case, directory: Path) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{case.seed}-{case.index}.hex"
    digits = case.data.hex()
    lines = [f"# {case.name}", f"# {case.format.name}{' multi' * case.multi}"]
    if case.dictionary is not None:
        lines.append(f"# dictionary {case.dictionary.hex()}")
    lines += [digits[start:start + _LINE] for start in range(0, len(digits), _LINE)]
    path.write_text("\n".join(lines) + "\n")
    return path


def compare_batches(decode: Callable[[Sequence[Case]], Sequence[Outcome]], seed: int, count: int, *, start: int = 0,
                    batch: int = 64, most_mismatches: int = 10, directory: Path = DIRECTORY) -> Report:
    """Compare a decoder that takes up to ``batch`` cases at a time with zlib, from case ``start`` of ``seed`` on.

    Stops after a batch that brings the mismatches to ``most_mismatches``. An exception from ``decode`` counts
    as a mismatch of every case in its batch. Each mismatch's input is written into ``directory``.
    """
    if batch < 1:
        raise ValueError(f"batch must be at least 1, not {batch}")
    report = Report(seed)
    for first in range(start, start + count, batch):
        chosen = list(cases(seed, min(batch, start + count - first), first))
        expected = [verdict_zlib(case) for case in chosen]
        begin = time.perf_counter()
        try:
            actual: Sequence[Outcome | Exception] = decode(chosen)
        except Exception as error:  # a decoder's crash is a finding to be reported with its input
            actual = [error] * len(chosen)
        report.seconds += time.perf_counter() - begin
        for case, want, got in zip(chosen, expected, actual, strict=True):
            report.count += 1
            report.accepted += want.accepted
            report.bytes_in += len(case.data)
            report.bytes_out += len(want.output or b"")
            if isinstance(got, Exception) or not agree(want, got):
                report.mismatches.append(Mismatch(case, want, got, _save(case, directory)))
        if len(report.mismatches) >= most_mismatches:
            break
    return report


def compare(decode: Callable[[Case], Outcome], seed: int, count: int, *, start: int = 0, most_mismatches: int = 10,
            directory: Path = DIRECTORY) -> Report:
    """Compare a decoder with zlib, case by case; else as :func:`compare_batches`."""
    return compare_batches(lambda batch: [decode(case) for case in batch], seed, count, start=start, batch=1,
                           most_mismatches=most_mismatches, directory=directory)


def describe_stop(completion: Completion) -> str:
    """Status and error of a completion by name."""
    status = Status(completion.status)
    if status != Status.ANALYTICS_ERROR:
        return status.name
    return f"{status.name} {ErrorCode(completion.error).name}"


def decode_model(case: Case) -> Outcome:
    """The golden model as a decoder, with all of the input at once and room for all of the output."""
    engine, dictionary, data = Engine(1), case.dictionary, case.data
    flags = Flag.LAST | (Flag.MULTI if case.multi else 0)

    def run(source: bytes, opcode: Opcode, flags: int) -> tuple[Completion, bytes]:
        memory = JobMemory(source)
        result = engine.run(Descriptor(0, len(source), 0, MAX_OUTPUT, 0, opcode, case.format, flags), memory)
        return result, memory.written

    if dictionary is not None and case.wbits < 0:
        run(dictionary, Opcode.LOAD, 0)
        flags |= Flag.RESUME
    result, output = run(data, Opcode.INFLATE, flags)
    before = 0
    if result.status == Status.NEED_DICTIONARY and dictionary is not None:
        if zlib.adler32(dictionary) == result.dictionary:
            run(dictionary, Opcode.LOAD, 0)
            before = result.consumed
            result, output = run(data[before:], Opcode.INFLATE, flags | Flag.RESUME)
    accepted = result.status == Status.SUCCESS
    return Outcome(accepted, output, before + result.consumed if accepted else None, describe_stop(result))
