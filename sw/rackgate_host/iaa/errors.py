# SPDX-License-Identifier: Apache-2.0
"""Errors of jobs on the accelerator."""

from rackgate.iaa.abi import Completion, ErrorCode, Status

from ..errors import RackgateError

__all__ = ["ChecksumMismatch", "IaaError", "InvalidData", "describe", "failed"]

_TEXTS = {
    Status.PAGE_FAULT: "a page was not there",
    Status.OUTPUT_OVERFLOW: "the output does not fit",
    Status.BAD_OPCODE: "the device has no such operation",
    Status.BAD_FLAGS: "flags that the operation does not have",
    Status.RESERVED_NONZERO: "a field that must be zero is not",
    Status.BAD_SIZE: "a size is zero or beyond the queue's limit",
    Status.OVERLAP: "source and destination overlap",
    Status.BAD_INTERRUPT_HANDLE: "there is no such interrupt handle",
    Status.AECS_MISALIGNED: "a structure is not aligned",
    Status.READ_ERROR: "the device could not read",
    Status.WRITE_ERROR: "the device could not write",
    Status.PAGE_REQUEST_TIMEOUT: "nobody answered a page request in time",
    Status.BAD_OPERATION_FLAGS: "operation flags that there are not",
    Status.NEED_DICTIONARY: "the stream needs a preset dictionary",
    Status.ABORTED: "the job was aborted",
}


def describe(completion: Completion) -> str:
    """What a completion record says, in words."""
    code = completion.status & 0x3F
    if code == Status.ANALYTICS_ERROR:
        known = completion.error in tuple(ErrorCode)
        error = ErrorCode(completion.error).name if known else f"error {completion.error:#x}"
        return f"{error} after {completion.completed} bytes of input and {completion.output_size} of output"
    if code not in tuple(Status):
        return f"unknown status {completion.status:#x}"
    text = _TEXTS.get(Status(code), Status(code).name)
    if code in (Status.BAD_FLAGS, Status.BAD_OPERATION_FLAGS):
        return f"{text} ({completion.invalid_flags:#x})"
    if code == Status.PAGE_FAULT:
        return f"{text} to {'write' if completion.status & 0x80 else 'read'} at {completion.fault_address:#x}"
    return text


class IaaError(RackgateError):
    """A job did not end well. ``completion`` is its record, ``None`` if software was at work."""

    def __init__(self, text: str, completion: Completion | None = None):
        super().__init__(text)
        self.completion = completion


class InvalidData(IaaError, ValueError):
    """The compressed data is wrong or not all there."""


class ChecksumMismatch(IaaError):
    """Bytes in memory are not those that the device computed its checksums of."""


def failed(completion: Completion) -> IaaError:
    """The error for a record that tells of no success."""
    kind = InvalidData if completion.status == Status.ANALYTICS_ERROR else IaaError
    return kind(describe(completion), completion)
