# SPDX-License-Identifier: Apache-2.0
"""Decompression on an inflate device, with the names and argument meanings of :mod:`zlib` and :mod:`gzip`.

>>> import zlib
>>> from rackgate_host import inflate
>>> inflate.decompress(zlib.compress(b"abc" * 5), device="model:inflate")
b'abcabcabcabcabc'

A call that names no ``device=`` uses the process-wide one: that of :func:`set_default_device`, else the URL in the
environment variable RACKGATE_DEVICE, else ``sim:inflate``.
"""

from .batch import Outcome, inflate_all
from .driver import Handle, InflateDriver, Job
from .errors import InflateError, InvalidInput
from .objects import (
    DEF_BUF_SIZE,
    MAX_WBITS,
    Decompress,
    decompress,
    decompressobj,
    default_device,
    set_default_device,
)
from .reader import GzipReader, open

__all__ = ["DEF_BUF_SIZE", "MAX_WBITS", "Decompress", "GzipReader", "Handle", "InflateDriver", "InflateError",
           "InvalidInput", "Job", "Outcome", "decompress", "decompressobj", "default_device", "error", "inflate_all",
           "open", "set_default_device"]

#: zlib's name for it.
error = InflateError
