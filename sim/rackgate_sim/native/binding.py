# SPDX-License-Identifier: Apache-2.0
"""The C interface of a built library (``harness/api.cpp``) by ctypes, which lets go of the GIL in each call."""

import ctypes
import functools
import os
import weakref
from collections.abc import Callable
from ctypes import POINTER, c_char_p, c_double, c_int, c_int64, c_uint32, c_uint64, c_void_p
from pathlib import Path
from typing import Any

__all__ = ["freed_with", "load"]

_H = c_void_p
_FUNCTIONS = {
    "new": (_H, c_uint64),
    "free": (None, _H),
    "reset": (None, _H, c_uint32),
    "cycle": (c_uint64, _H),
    "run": (c_uint32, _H, c_uint64, c_uint32),
    "events": (c_uint32, _H),
    "clear_events": (None, _H, c_uint32),
    "failure": (c_char_p, _H),
    "printed": (c_char_p, _H),
    "log": (c_uint64, _H),
    "evaluations": (c_uint64, _H),
    "skipped": (c_uint64, _H),
    "peek": (c_uint64, _H, c_uint32),
    "poke": (None, _H, c_uint32, c_uint64),
    "irq": (c_int, _H),
    "trace": (c_int, _H, c_char_p),
    "coverage": (c_int, _H, c_char_p),
    "state": (c_char_p, _H, c_uint32),
    "busy": (c_int, _H, c_uint32),
    "access": (None, _H, c_uint32, c_int, c_uint64, c_uint32),
    "transfer": (c_uint64, _H, c_uint32, c_int, c_uint64, c_uint32, c_uint64),
    "value": (c_uint32, _H, c_uint32),
    "response": (c_uint32, _H, c_uint32),
    "push": (None, _H, c_uint32, c_char_p, c_uint64, c_int),
    "push_elements": (None, _H, c_uint32, c_char_p, c_uint64, c_uint64),
    "input_size": (c_uint64, _H, c_uint32),
    "output_size": (c_uint64, _H, c_uint32),
    "front": (c_int64, _H, c_uint32, POINTER(c_uint64), POINTER(c_int)),
    "pop": (None, _H, c_uint32, c_void_p),
    "stall_input": (None, _H, c_uint32, c_double),
    "stall_output": (None, _H, c_uint32, c_double),
    "attach": (None, _H, c_uint32, c_void_p, c_uint64, c_uint64),
    "detach": (None, _H, c_uint32, c_uint64),
    "configure": (None, _H, c_uint32, c_uint32, c_uint32, c_uint32, c_uint32, c_uint64, c_int, c_int),
    "stall_memory": (None, _H, c_uint32, c_uint32, c_double),
    "inject": (None, _H, c_uint32, c_uint64, c_uint64, c_uint32, c_int, c_int, c_uint64, c_uint64),
    "clear_faults": (None, _H, c_uint32),
    "watch": (None, _H, c_uint32, c_uint64, c_uint64),
    "clear_watches": (None, _H, c_uint32),
    "statistics": (None, _H, c_uint32, POINTER(c_uint64)),
    "cluster_new": (_H,),
    "cluster_free": (None, _H),
    "cluster_add": (None, _H, _H),
    "cluster_threads": (None, _H, c_uint32),
    "cluster_connect": (
        c_uint32,
        _H,
        _H,
        c_uint32,
        c_uint64,
        c_uint64,
        c_uint64,
        c_double,
        c_double,
        c_double,
        c_double,
        c_int,
    ),
    "cluster_receiver": (None, _H, c_uint32, _H, c_uint32),
    "cluster_route": (None, _H, c_uint32, c_uint32, c_uint32, c_uint32, c_uint64, c_int, c_uint64),
    "cluster_map": (None, _H, c_uint32, c_uint64, c_uint32),
    "cluster_advance": (c_uint32, _H, _H, c_uint64, c_uint32),
    "cluster_run": (c_uint32, _H, c_uint64, c_uint32),
    "cluster_cycle": (c_uint64, _H),
    "cluster_horizon": (c_uint64, _H),
    "cluster_log": (c_uint64, _H),
    "cluster_race": (None, _H, POINTER(c_uint64), POINTER(c_uint32), POINTER(c_uint32), c_uint64),
    "cluster_link": (None, _H, c_uint32, POINTER(c_uint64)),
    "cluster_port": (None, _H, c_uint32, POINTER(c_uint64)),
    "cluster_traffic": (None, _H, c_uint32, POINTER(c_uint64)),
}


@functools.cache
def load(path: Path) -> ctypes.CDLL:
    """Return a library with its functions' types declared."""
    library = ctypes.CDLL(str(path))
    for name, (result, *arguments) in _FUNCTIONS.items():
        function = getattr(library, f"rg_{name}")
        function.restype, function.argtypes = result, arguments
    return library


def freed_with(owner: object, free: Callable[[Any], None], handle: Any) -> weakref.finalize:
    """Call ``free(handle)`` when ``owner`` goes, or the process ends, in the process that made this.

    A fork of it has a copy of the memory but none of the threads, for which ``free`` would wait for ever.
    """
    return weakref.finalize(owner, _free_at_home, os.getpid(), free, handle)


def _free_at_home(home: int, free: Callable[[Any], None], handle: Any) -> None:
    if os.getpid() == home:
        free(handle)
