# SPDX-License-Identifier: Apache-2.0
"""Random declarations: expressions first, and of them stages and pipelines."""

from rackgate.pisa.expr import Const, as_expr, cat, crc32, mux, sat_add

__all__ = ["expression"]


def expression(rng, fields, width, depth=3):
    """A random expression of ``width`` bits over ``fields``."""
    if depth == 0 or rng.random() < 0.1:
        return _leaf(rng, fields, width)

    def again(wanted=width):
        return expression(rng, fields, wanted, depth - 1)

    def other():
        return rng.choice([again, lambda: rng.getrandbits(width)])()

    kind = rng.choice(["+", "-", "&", "|", "^", "~", "mux", "cat", "slice", "sat_add", "compare", "crc32"])
    if kind == "compare" and width == 1:
        left = again(rng.randint(1, 20))
        right = rng.choice([expression(rng, fields, left.width, depth - 1), rng.getrandbits(left.width)])
        return rng.choice([lambda: left == right, lambda: left != right, lambda: left < right, lambda: left <= right,
                           lambda: left > right, lambda: left >= right])()
    if kind == "cat" and width > 1:
        cut = rng.randrange(1, width)
        return cat(again(cut), again(width - cut))
    if kind == "crc32" and rng.random() < 0.3:
        low = rng.randint(1, 15)
        whole = crc32(again(low), again(24 - low))
        return whole.resize(width)
    if kind == "slice":
        low = rng.randrange(8)
        return again(width + low + rng.randrange(3))[low:low + width]
    if kind == "mux":
        return mux(again(1), again(), other())
    if kind == "~":
        return ~again()
    if kind == "sat_add":
        return sat_add(again(), other())
    left, right = again(), other()
    return {"+": lambda: left + right, "-": lambda: left - right, "&": lambda: left & right, "|": lambda: left | right,
            }.get(kind, lambda: left ^ right)()


def _leaf(rng, fields, width):
    if not fields or rng.random() < 0.2:
        return Const(rng.getrandbits(width), width)
    return as_expr(rng.choice(fields).resize(width), width)
