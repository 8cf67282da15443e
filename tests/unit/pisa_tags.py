# SPDX-License-Identifier: Apache-2.0
"""A pipeline that has whatever is hard at the rim: headers of odd sizes that come and go, checksums over them."""

import random

from rackgate.pisa.declare import (
    ACCEPT,
    REJECT,
    Access,
    Action,
    Checksum,
    Compute,
    Copy,
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
from rackgate.pisa.expr import mux
from rackgate_sim.pisa.wire import checksum_of

outer = Header("outer", kind=8, length=16)
tag = Header("tag", identifier=12, next=4)
wide = Header("wide", first=64, second=64, third=8)
inner = Header("inner", what=8, check=16, flags=16)
meta = Metadata("meta", mark=8)

WRITE = Action.with_parameters("write", {"value": 64}, lambda p: [
    assign(wide.first, p.value), assign(wide.is_valid, 1)])
POP = Action.of("pop", assign(tag.is_valid, 0))
MARK = Action.with_parameters("mark", {"mark": 8}, lambda p: [assign(meta.mark, p.mark)])
KEEP = Action.of("keep")
LOSE = Action.of("lose", assign(standard.drop, 1))
FLAG = Action.with_parameters("flag", {"flags": 16}, lambda p: [assign(inner.flags, inner.flags ^ p.flags)])

seen = Register("seen", 16, count=8, last=64)


def check(*headers, zero_is_none=False):
    return Checksum(inner.check, headers, pseudo=[outer.kind], payload=True, zero_is_none=zero_is_none)


def tags(length=True, zero_is_none=True):
    """``length``: the packet's end stands in a header. ``zero_is_none``: as in UDP."""
    return Pipeline(
        "tags",
        parser=Parser(
            start="outer", length=outer.length if length else None,
            verify=[check(wide, tag, inner, zero_is_none=zero_is_none)],
            states={
                "outer": State(outer, [outer.kind], {1: "tag", 2: "wide", 3: "inner", 4: ACCEPT}, REJECT),
                "tag": State(tag, [tag.next, outer.kind], {(1, 1): "wide", (2, 1): "inner", (3, 1): ACCEPT}, REJECT),
                "wide": State(wide, [wide.third], {0: "inner"}, ACCEPT),
                "inner": State(inner),
            }),
        metadata=[meta],
        ingress=[
            Table("identifiers", [tag.identifier], kind=Key.EXACT, size=64, actions=[WRITE, POP, MARK], default=KEEP,
                  when=tag.is_valid),
            Table("masks", [wide.second, outer.kind], kind=Key.TERNARY, size=5, actions=[MARK, POP]),
            Access(seen, meta.mark[0:4], [RegisterAction(
                "note", outer.kind != 4, update={"count": seen.word.count + 1, "last": wide.second},
                out=[assign(wide.second, seen.word.last)])]),
            Compute("odd", [assign(outer.kind, mux(meta.mark[7], outer.kind + 1, outer.kind))]),
        ],
        copies=[
            Copy("whole", meta.mark != 1),
            Copy("bare", meta.mark[1] & inner.is_valid, [assign(wide.is_valid, 0), assign(standard.egress_port, 3)],
                 payload=False),
            Copy("naked", meta.mark[2], [assign(item.is_valid, 0) for item in (outer, tag, wide, inner)],
                 payload=True),
        ],
        egress=[
            Table("flags", [meta.mark[0:4]], kind=Key.INDEX, size=16, actions=[FLAG, LOSE], default=KEEP),
        ],
        emit=[wide, outer, tag, inner],
        checksums=[check(outer, wide, inner, zero_is_none=zero_is_none)],
    )


def packet(model, rng):
    """A frame of it, most often a good one."""
    kind = rng.choice((1, 1, 1, 2, 3, 4, 9))
    phv = [0] * len(model.fields)

    def put(header, **values):
        for item in header.fields.values():
            phv[model._place[id(item)]] = values.get(item.name, rng.getrandbits(item.width))
        phv[model._place[id(header.is_valid)]] = 1

    ways = {1: [(tag, wide, inner), (tag, inner), (tag,)], 2: [(wide, inner), (wide,)], 3: [(inner,)], 4: [()], 9: [()]}
    way = rng.choice(ways[kind])
    payload = rng.randbytes(rng.choice((0, 1, 2, 3, rng.randrange(200))))
    size = 3 + sum(header.size for header in way) + len(payload)
    put(outer, kind=kind, length=size)
    if tag in way:
        put(tag, identifier=rng.randrange(8), next={wide: 1, inner: 2, None: 3}[(*way, None)[1]])
    if wide in way:
        put(wide, second=rng.randrange(3), third=0 if inner in way else rng.randrange(1, 256))
    if inner in way:
        put(inner)
        item, = model.pipeline.parser.verify
        right = checksum_of(model.codec, item, phv, payload)
        phv[model._place[id(inner.check)]] = rng.choice((right, right, 0, 0xFFFF))
    content = b"".join(model.codec.bytes_of(header, phv) for header in (outer, *way)) + payload
    return content + rng.randbytes(rng.choice((0, 0, 0, 5)))


def fill_tables(switch, rng):
    """Entries for a switch, or for the tables of a model."""
    for identifier in range(6):
        action, arguments = rng.choice([("write", {"value": rng.getrandbits(64)}), ("pop", {}),
                                        ("mark", {"mark": rng.getrandbits(8)}), ("mark", {"mark": 6})])
        switch.insert("identifiers", identifier, action, **arguments)
    full = (1 << 64) - 1
    for key in (((1, full), (2, 255)), ((0, full), (0, 1)), ((2, full), (0, 0)), ((0, 0), (3, 255))):
        switch.insert("masks", key, "mark", mark=rng.getrandbits(8))
    for place in range(0, 16, 2):
        switch.insert("flags", place, *(("lose",) if place == 6 else ("flag",)),
                      **({} if place == 6 else {"flags": rng.getrandbits(16)}))


def seeded(seed):
    return random.Random(f"tags {seed}")
