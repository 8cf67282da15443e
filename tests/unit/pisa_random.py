# SPDX-License-Identifier: Apache-2.0
"""Random declarations: expressions first, and of them stages and pipelines."""

from rackgate.pisa.declare import (
    ACCEPT,
    Access,
    Action,
    Compute,
    Copy,
    Entry,
    Header,
    Key,
    Metadata,
    Parser,
    Pipeline,
    Register,
    RegisterAction,
    State,
    Table,
    assign,
    standard,
)
from rackgate.pisa.expr import Const, as_expr, cat, crc32, mux, sat_add

__all__ = ["access", "expression", "pipeline", "vectors"]


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


def _assigns(rng, targets, fields, most, depth=2):
    chosen = rng.sample(targets, rng.randint(1, min(most, len(targets))))
    return [assign(item, expression(rng, fields, item.width, depth)) for item in chosen]


def _fields(rng, most):
    """Names and widths of the fields of a header: whole bytes."""
    left, widths = 8 * rng.randint(1, most), {}
    while left:
        width = min(left, rng.choice([1, 1, 3, 8, 16, 20, 32]))
        widths[f"f{len(widths)}"] = width
        left -= width
    return widths


def _compute(rng, name, readable, writable):
    when = rng.choice([Const(1, 1), expression(rng, readable, 1, 2)])
    return Compute(name, _assigns(rng, writable, readable, 3), when)


def _action(rng, name, readable, writable):
    targets = rng.sample(writable, rng.randint(1, min(3, len(writable))))
    if rng.random() < 0.4:
        return Action.of(name, *(assign(item, expression(rng, readable, item.width, 1)) for item in targets))
    widths = {f"a{k}": item.width for k, item in enumerate(targets)}
    return Action.with_parameters(name, widths, lambda given: [
        assign(item, rng.choice([given[f"a{k}"], given[f"a{k}"] + expression(rng, readable, item.width, 1)]))
        for k, item in enumerate(targets)])


def _table(rng, name, readable, writable):
    keys = [expression(rng, readable, rng.choice([1, 2, 4]), rng.choice([0, 1])) for _ in range(rng.randint(1, 3))]
    actions = [_action(rng, f"{name}_{k}", readable, writable) for k in range(rng.randint(1, 4))]
    ternary, entries = rng.random() < 0.3, []
    for _ in range(rng.choice([1, 4, 8, 30])):
        action = rng.choice(actions)
        arguments = {key: rng.getrandbits(item.width) for key, item in action.parameters.fields.items()} \
            if action.parameters else {}
        key = tuple(None if rng.random() < 0.15 else
                    (rng.getrandbits(part.width), rng.getrandbits(part.width)) if ternary else
                    rng.getrandbits(part.width) for part in keys)
        entries.append(Entry(key, action, arguments))
    default = rng.choice([None, actions[0], _action(rng, f"{name}_default", readable, [*writable])])
    if default is not None and default.parameters:
        default = None
    return Table(name, keys, entries, default, Key.TERNARY if ternary else Key.EXACT,
                 when=rng.choice([Const(1, 1), expression(rng, readable, 1, 1)]))


def access(rng, name, readable, writable, depths=(1, 2, 5, 16, 300, 9000, 20000)):
    """A random access to a register of its own, mostly to a handful of its words."""
    widths = {f"w{k}": rng.choice([1, 2, 6, 8, 20]) for k in range(rng.randint(1, 4))}
    depth = rng.choice(depths)
    total = sum(widths.values())
    register = Register(name, depth, init=rng.choice([0, rng.getrandbits(total)]), **widths)
    parts = list(register.word.fields.values())
    bits = max(1, (depth - 1).bit_length())
    index = rng.choice([lambda: expression(rng, readable, 2, 0).resize(max(bits, 2)),
                        lambda: expression(rng, readable, bits, 1),
                        lambda: expression(rng, readable, bits + 2, 1)])()
    actions = []
    for number in range(rng.randint(1, 4)):
        updated = rng.sample(parts, rng.randint(0, len(parts)))
        both = [*readable, *parts, *parts]
        actions.append(RegisterAction(
            f"{name}_{number}", rng.choice([True, expression(rng, readable, 1, 2), expression(rng, readable, 1, 0)]),
            update={item.name: expression(rng, rng.choice([both, parts]), item.width, 2) for item in updated},
            out=_assigns(rng, writable, both, 3) if rng.random() < 0.8 else []))
    return Access(register, index, actions, when=rng.choice([Const(1, 1), expression(rng, readable, 1, 1)]))


def pipeline(rng, *, stages=6, recirculates=None):
    """A random pipeline: stages of all kinds, up to three copies, one of which may recirculate a few times."""
    headers = [Header(f"h{k}", **_fields(rng, 12)) for k in range(rng.randint(1, 3))]
    own = Metadata("own", a=1, b=8, c=16, d=4)
    rounds = Metadata("rounds", count=2)
    recirculates = rng.random() < 0.5 if recirculates is None else recirculates
    fields = [item for header in headers for item in (header.is_valid, *header.fields.values())]
    writable = [*fields, *own.fields.values(), standard.egress_port]
    readable = [*writable, standard.ingress_port]
    ingress = []
    for number in range(rng.randint(1, stages)):
        make = rng.choice([_compute, _table, access, access])
        ingress.append(make(rng, f"s{number}", readable, writable))
    egress = [rng.choice([_compute, _table])(rng, f"e{number}", readable, [*writable, standard.drop])
              for number in range(rng.choice([0, 0, 1, 2]))]
    copies = [Copy(f"c{number}", expression(rng, readable, 1, rng.choice([0, 2])),
                   _assigns(rng, writable, readable, 2) if rng.random() < 0.7 else [], payload=rng.random() < 0.8)
              for number in range(rng.randint(0, 3))]
    if recirculates:
        copies.insert(rng.randint(0, len(copies)), Copy(
            "again", (rounds.count != rng.randint(1, 3)) & expression(rng, readable, 1, 1),
            [*_assigns(rng, writable, readable, 2), assign(rounds.count, rounds.count + 1)],
            payload=rng.random() < 0.8, recirculate=True))
    names = [f"s{k}" for k in range(len(headers))]
    states = {name: State(header, default=following) for name, header, following in
              zip(names, headers, [*names[1:], ACCEPT], strict=True)}
    return Pipeline("random", Parser(states, "s0"), ingress, copies, rng.sample(headers, rng.randint(1, len(headers))),
                    egress, metadata=[own, rounds])


def vectors(rng, pipeline):
    """Endless header vectors, in which few values occur, so that packets meet in registers."""
    fields = {item for metadata in pipeline.metadata for item in metadata.fields.values()}
    few = [[rng.choice([0, 1, 2, 3, (1 << item.width) - 1, rng.getrandbits(item.width)]) & ((1 << item.width) - 1)
            for _ in range(3)] for item in pipeline.phv]
    cleared = [item in fields or item is standard.drop for item in pipeline.phv]
    while True:
        vector = [0 if clear else rng.choice(values) for values, clear in zip(few, cleared, strict=True)]
        for _ in range(rng.choice([1, 1, 2, 5])):
            yield list(vector)
