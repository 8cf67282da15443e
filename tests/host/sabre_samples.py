# SPDX-License-Identifier: Apache-2.0
"""Memory for the tests of snapshots."""

import functools
import random

import numpy as np

from rackgate_sim.inflate.pages import anonymous_pages, code_pages

__all__ = ["PAGE", "anonymous", "as_array", "code", "memory", "page"]

PAGE = 4096


@functools.cache
def anonymous():
    """Anonymous pages of a Python process: the odd ones to train with, the even ones to measure."""
    return anonymous_pages(480)


@functools.cache
def code():
    """Pages of library code."""
    return code_pages(480)


def page(dice):
    """A page of some sort: zero, noise, text, a repeated byte, records, few symbols, or one of a few fixed pages."""
    match dice.randrange(8):
        case 0 | 1:
            return bytes(PAGE)
        case 2:
            return dice.randbytes(PAGE)
        case 3:
            words = [dice.randbytes(dice.randrange(2, 9)).hex().encode() for _ in range(40)]
            return b" ".join(dice.choice(words) for _ in range(PAGE))[:PAGE]
        case 4:
            return bytes([dice.randrange(1, 256)]) * PAGE
        case 5:
            return b"".join(n.to_bytes(4, "little") + dice.randbytes(1) + bytes(3) for n in range(PAGE // 8))
        case 6:
            return bytes(dice.choices(range(256), [1 / (n + 1) ** 2 for n in range(256)], k=PAGE))
        case _:
            return random.Random(dice.randrange(3)).randbytes(64) * (PAGE // 64)


def memory(dice, pages):
    """So many pages."""
    return b"".join(page(dice) for _ in range(pages))


def as_array(data):
    """Bytes as the writer takes them."""
    return np.frombuffer(data, np.uint8)
