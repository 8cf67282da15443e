# SPDX-License-Identifier: Apache-2.0
"""What is said of a collective that cannot work, and of which line of it."""

import contextlib
import os
import sys
from types import FrameType, TracebackType

__all__ = ["CollectiveError", "author_line", "line_of"]

_HERE = os.path.dirname(os.path.abspath(__file__))
#: Files whose lines are the language's and not an author's.
_LANGUAGE = {contextlib.__file__, *(os.path.join(_HERE, f"{name}.py") for name in (
    "buffers", "error", "expression", "language", "rank", "scopes"))}


class CollectiveError(ValueError):
    """A collective that cannot work: the message says where, at which ranks, and which rule it breaks."""


def _text(frame: FrameType, line: int) -> str:
    return f"{os.path.basename(frame.f_code.co_filename)}:{line}"


def author_line() -> str:
    """Where the author is: the innermost line outside the language."""
    frame = sys._getframe(1)
    while frame.f_back is not None and os.path.abspath(frame.f_code.co_filename) in _LANGUAGE:
        frame = frame.f_back
    return _text(frame, frame.f_lineno)


def line_of(error: BaseException) -> str:
    """The innermost line of the author's that an exception came through."""
    place = "?"
    here: TracebackType | None = error.__traceback__
    while here is not None:
        if os.path.abspath(here.tb_frame.f_code.co_filename) not in _LANGUAGE:
            place = _text(here.tb_frame, here.tb_lineno)
        here = here.tb_next
    return place
