# SPDX-License-Identifier: Apache-2.0
"""The accelerator with Intel IAA's interface: jobs, queues, canned tables, page faults, and software in its place.

>>> import zlib
>>> from rackgate_host.iaa import IaaDriver
>>> with IaaDriver.open("model:iaa") as iaa:
...     iaa.decompress(zlib.compress(b"abc" * 5, wbits=-15))
b'abcabcabcabcabc'
"""

from rackgate.iaa.abi import Completion, DecompressFlag, Descriptor, Framing, Status

from .driver import ENVIRONMENT, IaaDriver
from .errors import ChecksumMismatch, IaaError, InvalidData, describe
from .fallback import SoftwareIaa
from .jobs import Handle, Job, StreamState, Table
from .pager import FaultLatency, Pager
from .queues import QueueConfig

__all__ = ["ENVIRONMENT", "ChecksumMismatch", "Completion", "DecompressFlag", "Descriptor", "FaultLatency", "Framing",
           "Handle", "IaaDriver", "IaaError", "InvalidData", "Job", "Pager", "QueueConfig", "SoftwareIaa", "Status",
           "StreamState", "Table", "describe"]
