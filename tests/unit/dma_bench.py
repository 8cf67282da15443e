# SPDX-License-Identifier: Apache-2.0
"""What the tests of Fetcher and Placer share."""

from amaranth.hdl import Module
from amaranth.lib import data

from rackgate.verif.stream_rules import watch

BASE = 0x1000
WIDTHS = [4, 8, 16, 32, 64]
TAG = data.StructLayout({"lane": 3, "call": 6})


def watched(dut, *names):
    """The block with the stream rules on its outputs."""
    m = Module()
    m.submodules.dut = dut
    for name in names:
        watch(m, getattr(dut, name), name=name)
    return m


def tag_of(number):
    return {"lane": number % 8, "call": 5 * number % 64}


def commands_of(ranges):
    """Commands for (addr, size), each with a tag of its own."""
    return [{"addr": addr, "size": size, "tag": tag_of(number)} for number, (addr, size) in enumerate(ranges)]


def tags_of(ranges):
    return [tuple(tag_of(number).values()) for number in range(len(ranges))]


def words_of(addr, size, width):
    """Addresses of the words that hold a byte of the range."""
    return list(range(addr // width * width, addr + size, width)) if size else []


def every_alignment(rng, width):
    """(first, last) byte of ranges of up to three words of memory; a sample of them when words are long."""
    offsets = [(start, end) for start in range(width) for end in range(start, 3 * width)]
    return offsets if width <= 8 else rng.sample(offsets, 150)


def idle(cycles):
    """Cycles between the first and the last that are not among them."""
    return cycles[-1] - cycles[0] + 1 - len(cycles)
