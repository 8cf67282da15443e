# SPDX-License-Identifier: Apache-2.0
"""The first and only program of a guest: it runs one function when it is told to, and tells about its memory.

It lies as /init in the initramfs of :mod:`~rackgate_host.sabre.corpora.initramfs`, with
:mod:`~rackgate_host.sabre.corpora.functions` beside it, and knows nothing else of this package. It talks by lines on
the console that begin with ``rackgate``; function and seed come with the kernel's command line.
"""

import base64
import ctypes
import os
import struct
import sys
import zlib

__all__ = ["classify", "main"]

_KINDS = b"?afkz"
"""Letters of page kinds: unknown, anonymous, file, kernel, free."""

# Bits of /proc/kpageflags.
_LRU, _SLAB, _BUDDY, _MMAP, _ANON, _NOPAGE, _PGTABLE = (1 << bit for bit in (5, 7, 10, 11, 12, 20, 26))


def classify(flags: int) -> int:
    """The letter of a page by its flags in /proc/kpageflags."""
    if flags & _ANON:
        return _KINDS[1]
    if flags & (_LRU | _MMAP):
        return _KINDS[2]
    if flags & _BUDDY:
        return _KINDS[4]
    if flags & (_SLAB | _PGTABLE):
        return _KINDS[3]
    return _KINDS[0] if flags & _NOPAGE else _KINDS[3]


def _say(*words: object) -> None:
    print("rackgate", *words, flush=True)


def _wait() -> None:
    """Until the host writes a line."""
    sys.stdin.readline()


def _page_kinds() -> bytes:
    data, descriptor = bytearray(), os.open("/proc/kpageflags", os.O_RDONLY)
    while piece := os.read(descriptor, 1 << 14):  # only whole entries can be asked for
        data += piece
    return bytes(classify(flags) for flags, in struct.iter_unpack("<Q", data))


def main() -> None:
    """The guest's life."""
    os.makedirs("/proc", exist_ok=True)
    if ctypes.CDLL(None, use_errno=True).mount(b"proc", b"/proc", b"proc", 0, None):
        _say("failed: /proc cannot be mounted:", os.strerror(ctypes.get_errno()))
    with open("/proc/cmdline") as file:
        words = dict(word.split("=", 1) for word in file.read().split() if word.startswith("rackgate."))
    name, seed = words["rackgate.function"], int(words["rackgate.seed"])
    functions = __import__("functions")
    warm = functions.run(name, seed)[1]
    _say("ready", warm)
    _wait()
    held, result = functions.run(name, seed + 1)
    _say("done", result)
    _wait()
    packed = base64.b64encode(zlib.compress(_page_kinds(), 9)).decode()
    for start in range(0, len(packed), 4000):
        _say("kinds", packed[start:start + 4000])
    _say("end")
    del held
    _wait()


if __name__ == "__main__":
    try:
        main()
    except BaseException as error:
        _say("failed:", repr(error))
        raise
