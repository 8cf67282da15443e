# SPDX-License-Identifier: Apache-2.0
"""The judge against the same rules in Python, on any inputs; whole descriptors are in test_iaa_lane.py."""

import random

import pytest
from iaa_stage import Stage

from rackgate.iaa.abi import (
    WRITE_FAULT,
    Completion,
    DecompressFlag,
    Descriptor,
    ErrorCode,
    Framing,
    Opcode,
    Status,
    WriteSource2,
)
from rackgate.iaa.judge import Judge, Subject
from rackgate.iaa.tasks import LaneTask
from rackgate.inflate.abi import ResultFlag
from rackgate.inflate.abi import Status as Inflate

STAGE = Stage(Judge, [])
BUS_ERRORS = (Inflate.READ_ERROR, Inflate.WRITE_ERROR)


def any_case(rng):
    """Inputs as they can come together."""
    subject = rng.choice(list(Subject))
    opcode = {Subject.LIST: Opcode.LIST, Subject.UTILITY: rng.choice([Opcode.CRC64, Opcode.FILL, Opcode.DECOMPRESS])
              }.get(subject, Opcode.DECOMPRESS)
    size = rng.choice([1, 64, rng.getrandbits(20)]) + 1
    raw = Descriptor(opcode, rng.randrange(4) << 18, 64, rng.getrandbits(47), rng.getrandbits(47), size, 0,
                     rng.getrandbits(16) & 0x7FFF, destination_size=rng.getrandbits(20))
    consumed = rng.choice([size - 1, max(0, size - 2), rng.randrange(size)])
    done = {"status": rng.choice([*BUS_ERRORS, Inflate.SUCCESS, Inflate.NEED_INPUT, Inflate.OUTPUT_OVERFLOW,
                                  Inflate.ANALYTICS_ERROR, Inflate.NEED_INPUT]),
            "error": rng.choice([0, 3, 9]), "flags": rng.choice([0, ResultFlag.BLOCK]), "consumed": consumed,
            "consumed_bit": rng.choice([0, rng.randrange(8)]), "produced": rng.getrandbits(32),
            "crc32": rng.getrandbits(32), "adler32": rng.getrandbits(32), "members": rng.getrandbits(16)}
    if 8 * (size - consumed) - done["consumed_bit"] < raw.operation_flags >> 6 & 7:
        done["consumed_bit"] = 0  # no more is done with than there is
    begins = {0: raw.source, 1: raw.destination}
    faults = [{"valid": rng.randrange(2), "write": (write := rng.randrange(2)), "timeout": rng.randrange(2),
               "address": begins[write] + rng.randrange(20_000)} for _ in range(2)]
    return {"subject": subject, "raw": raw, "outcome": done, "xor_checksum": rng.getrandbits(16),
            "result": {"failed": rng.randrange(2), "value": rng.getrandbits(64)},
            "list_result": {"count": rng.getrandbits(26), "member_failed": rng.randrange(2),
                            "failed": rng.randrange(2)},
            "kind": rng.choice(list(LaneTask)),
            "aecs": {"size": rng.choice([consumed & 0x1FF, rng.randrange(257)]), "saved": {
                "header_bits": rng.choice([8 * consumed + done["consumed_bit"], rng.getrandbits(12)]) & 0xFFFF}},
            "fault": faults[0], "utility_fault": faults[1], "aborted": rng.random() < 0.1}


def is_prepared(case):
    """Whether a task before the source's went well."""
    done, kind = case["outcome"], case["kind"]
    position = 8 * done["consumed"] + done["consumed_bit"]
    if kind in (LaneTask.TABLES, LaneTask.HISTORY):
        is_whole = kind == LaneTask.HISTORY or position == 8 * case["aecs"]["size"]
        return done["status"] == Inflate.SUCCESS and is_whole
    return (done["status"] == Inflate.NEED_INPUT and done["flags"] & ResultFlag.BLOCK != 0
            and position == case["aecs"]["saved"]["header_bits"])


def saves(case):
    """Whether the state is to be written."""
    write, status = case["raw"].flags >> 18 & 3, verdict(case, False).status
    if case["subject"] != Subject.DECOMPRESS or write not in (WriteSource2.ALWAYS, WriteSource2.ON_OVERFLOW):
        return False
    if status == Status.PAGE_FAULT and case["outcome"]["status"] == Inflate.WRITE_ERROR:
        return False  # nothing is known of what was done
    return status == Status.OUTPUT_OVERFLOW or write == WriteSource2.ALWAYS and status in (
        Status.SUCCESS, Status.PAGE_FAULT)


def progress(case, saved):
    done, framing = case["outcome"], case["raw"].operation_flags >> 13 & 3
    partial = done["consumed_bit"] > 0 and not saved
    return {"completed": done["consumed"] + partial, "unused_bits": 8 - done["consumed_bit"] if partial else 0,
            "output_size": done["produced"], "xor_checksum": case["xor_checksum"], "crc": done["crc32"],
            "members": done["members"] if framing == Framing.GZIP else 0,
            "adler32": done["adler32"] if framing == Framing.ZLIB else 0}


def failure(case, saved):
    """The record after an access that failed."""
    subject, raw = case["subject"], case["raw"]
    is_utility = subject in (Subject.UTILITY, Subject.SAVE)
    fault = case["utility_fault" if is_utility else "fault"]
    if case["aborted"]:
        return Completion(Status.ABORTED)
    if not fault["valid"]:
        if is_utility or subject == Subject.LIST:
            writes = raw.opcode == Opcode.FILL or subject == Subject.SAVE
            return Completion(Status.WRITE_ERROR if writes else Status.READ_ERROR)
        return Completion(case["outcome"]["status"])
    page = fault["address"] & -4096
    status = Status.PAGE_REQUEST_TIMEOUT if fault["timeout"] else Status.PAGE_FAULT | (
        WRITE_FAULT if fault["write"] else 0)
    told = {}
    if subject == Subject.SAVE:
        pass
    elif fault["write"]:
        told["output_size"] = max(0, page - raw.destination)
    elif subject == Subject.LIST:
        told["completed"] = case["list_result"]["count"]
    elif is_utility and raw.opcode == Opcode.CRC64:
        told["completed"] = max(0, page - raw.source)
    elif subject == Subject.DECOMPRESS:
        told = progress(case, saved)
    return Completion(status, fault_address=page, **told)


def verdict(case, saved):
    """The record of a case; ``saved``: the state is to be written."""
    subject, raw, done = case["subject"], case["raw"], case["outcome"]
    if subject == Subject.LIST:
        if case["list_result"]["failed"]:
            return failure(case, saved)
        return Completion(Status.SUCCESS, case["list_result"]["member_failed"], completed=case["list_result"]["count"])
    if subject in (Subject.UTILITY, Subject.SAVE):
        if case["result"]["failed"]:
            return failure(case, saved)
        value = case["result"]["value"]
        return {Opcode.CRC64: Completion(Status.SUCCESS, completed=raw.source_size, maximum=value & 0xFFFFFFFF,
                                         sum=value >> 32),
                Opcode.FILL: Completion(Status.SUCCESS, output_size=raw.destination_size),
                }.get(raw.opcode, Completion(Status.ANALYTICS_ERROR, ErrorCode.BAD_AECS))
    if done["status"] in BUS_ERRORS:
        return failure(case, saved)
    if subject == Subject.TABLES:
        return Completion(Status.ANALYTICS_ERROR, done["error"] or ErrorCode.BAD_AECS)
    status, error = done["status"], done["error"]
    if status == Inflate.NEED_INPUT:
        left = 8 * (raw.source_size - done["consumed"]) - done["consumed_bit"] - (raw.operation_flags >> 6 & 7)
        status = Status.SUCCESS
        if raw.operation_flags & DecompressFlag.CHECK_FOR_EOB and (done["flags"] or left >= 8):
            status = Status.ANALYTICS_ERROR
            error = ErrorCode.END_OF_BLOCK_MISSING if done["flags"] else ErrorCode.HEADER_TRUNCATED
    return Completion(status, error, **progress(case, saved))


@pytest.mark.parametrize("part", range(4))
def test_verdicts(seed, part):
    rng = random.Random(f"{seed} {part}")
    seen = set()

    def scene(dut):
        async def play(ctx):
            for _ in range(250):
                case = any_case(rng)
                raw = int.from_bytes(case["raw"].pack(), "little")
                ctx.set(dut.raw, dut.raw.shape().from_bits(raw))
                ctx.set(dut.outcome, {"record": case["outcome"], "xor_checksum": case["xor_checksum"]})
                for name in ("subject", "result", "list_result", "kind", "aecs", "fault", "utility_fault",
                             "aborted"):
                    ctx.set(getattr(dut, name), case[name])
                assert ctx.get(dut.is_prepared) == is_prepared(case)
                # Two cycles, so that nothing is left of the case before.
                await ctx.tick()
                await ctx.tick()
                got = Completion.unpack(ctx.get(dut.o.as_value()).to_bytes(64, "little"))
                saved = saves(case)
                assert ctx.get(dut.saves) == saved, case
                want = verdict(case, saved)
                assert got == want, case
                seen.add((case["subject"], want.status))

        return [play], []

    STAGE.run(scene)
    assert len(seen) >= 20, seen
