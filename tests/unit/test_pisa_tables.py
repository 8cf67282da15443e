# SPDX-License-Identifier: Apache-2.0
"""Tables that are filled at run time: their image, and the gateware against it while entries change."""

import random

import pytest

from rackgate.pisa.declare import Action, Key, Metadata, Table, assign
from rackgate.pisa.entries import BANKS, WAYS, EntryFormat, TableImage, hash_rows, key_hash
from rackgate.pisa.expr import Const
from rackgate.pisa.layout import carried_layout
from rackgate.pisa.tables import RuntimeTable
from rackgate.verif.stimulus import simulate
from rackgate_sim.pisa.evaluate import define, source

meta = Metadata("meta", key=9, other=3, a=16, b=8, on=1)
SET = Action.with_parameters("set", {"a": 16, "b": 8}, lambda p: [assign(meta.a, p.a), assign(meta.b, p.b)])
ADD = Action.with_parameters("add", {"a": 16}, lambda p: [assign(meta.a, meta.a + p.a)])
MISS = Action.of("miss", assign(meta.b, 0xEE))


def table_of(kind, size=None, keys=None):
    keys = keys or ([meta.other] if kind == Key.INDEX else [meta.key, meta.other])
    return Table("t", keys, kind=kind, size=size or (8 if kind == Key.INDEX else 6), actions=[SET, ADD, MISS],
                 default=MISS, when=meta.on)


KINDS = (Key.EXACT, Key.TERNARY, Key.INDEX)


def random_key(rng, kind):
    if kind == Key.INDEX:
        return rng.randrange(8)
    values = (rng.choice((3, 300, 511)), rng.randrange(8))
    if kind == Key.EXACT:
        return values
    return tuple((value, rng.choice((0, (1 << width) - 1, 5)))
                 for value, width in zip(values, (9, 3), strict=True))


def random_action(rng):
    return rng.choice([(SET, {"a": rng.getrandbits(16), "b": rng.getrandbits(8)}), (ADD, {"a": rng.getrandbits(16)}),
                       (MISS, {})])


# The image


@pytest.mark.parametrize("kind", KINDS)
def test_the_image_is_a_dictionary(kind, seed):
    rng, image, known = random.Random(seed), TableImage(table_of(kind)), {}
    for _ in range(400):
        key = random_key(rng, kind)
        if rng.random() < 0.4:
            if key in known:
                image.remove(key)
                del known[key]
            else:
                with pytest.raises(KeyError, match="has no entry"):
                    image.remove(key)
        else:
            action, arguments = random_action(rng)
            if key not in known and len(known) == image.table.size:
                with pytest.raises(ValueError, match="table t is full: it has 6 entries"):
                    image.insert(key, action, **arguments)
            else:
                image.insert(key, action, **arguments)
                known[key] = ([SET, ADD, MISS].index(action), list(arguments.values()))
        assert len(image) == len(known)
        for _ in range(4):
            look = (rng.randrange(8),) if kind == Key.INDEX else (rng.choice((3, 300, 511)), rng.randrange(8))
            if kind == Key.TERNARY:
                want = next((found for wants, found in known.items() if all(
                    (value ^ wanted) & mask == 0 for value, (wanted, mask) in zip(look, wants, strict=True))), None)
            else:
                want = known.get(look[0] if kind == Key.INDEX else look)
            assert image.find(look) == want


def test_writes_alone_rebuild_the_image_and_never_hide_an_entry(seed):
    """What a host writes, one word after the other: after each, every entry that stays is found."""
    rng, table = random.Random(seed), table_of(Key.EXACT, size=200)
    image, device, keys = TableImage(table), TableImage(table), []
    moves = 0
    while len(image) < 200:
        key = (rng.getrandbits(9), rng.getrandbits(3))
        writes = image.insert(key, SET, a=key[0], b=key[1])
        moves += len(writes) > 1
        for place, word in writes:
            device.write(place, word)
            for known in keys:
                assert device.find(known) == (0, [known[0], known[1]])
        keys.append(key)
        assert device.find(key) == (0, list(key))
    assert moves, "no insertion has moved an entry: this test tests nothing"


def test_a_hash_table_without_a_place_says_so():
    table = table_of(Key.EXACT, size=200, keys=[meta.key, meta.other, meta.a])
    image = TableImage(table)
    # Keys that share both rows: 4 places, and none for the fifth.
    first = image.places((0, 0, 0))
    same = [key for key in ((x, y, z) for x in range(512) for y in range(8) for z in range(64))
            if image.places(key) == first]
    for key in same[:4]:
        image.insert(key, MISS)
    before = dict(image.words)
    with pytest.raises(ValueError, match="finds no place for key .*: 4 of 200 entries are taken"):
        image.insert(same[4], MISS)
    assert image.words == before


def test_the_hash_is_the_expression(seed):
    rng, table = random.Random(seed), table_of(Key.EXACT)
    image, places = TableImage(table), {id(meta.key): 0, id(meta.other): 1}
    compute = define("key_hash", "p", [f"return {source(key_hash(table), lambda item: f'p[{places[id(item)]}]')}"])
    for _ in range(50):
        key = (rng.getrandbits(9), rng.getrandbits(3))
        hashed, rows = compute(key), hash_rows(table)
        low, high = hashed % rows, rows + hashed // (1 << 32 - rows.bit_length() + 1)
        assert image.places(key) == [WAYS * row + way for row in (low, high) for way in range(WAYS)]


def test_wrong_entries_are_told():
    image = TableImage(table_of(Key.EXACT))
    for call, text in (
        (lambda: image.insert((1,), SET, a=1, b=1), r"key \(1,\) must have 2 values"),
        (lambda: image.insert((512, 0), SET, a=1, b=1), "must fit 9 bits"),
        (lambda: image.insert(((1, 1), 0), SET, a=1, b=1), "is not ternary: its keys have no masks"),
        (lambda: image.insert((1, 0), "drop"), "has no action drop: it has set, add, miss"),
        (lambda: image.insert((1, 0), SET, a=1), "action set takes a, b, not a"),
        (lambda: image.insert((1, 0), SET, a=1 << 16, b=0), "set.a must fit 16 bits, not 65536"),
        (lambda: image.read(image.capacity), "has places 0 to 255, not 256"),
        (lambda: TableImage(Table("c", [meta.key], kind=Key.EXACT, size=1 << 18, actions=[MISS])),
         "must have at most 222822 entries, not 262144"),
        (lambda: EntryFormat(Table("w", [Const(0, 500)], size=1, actions=[SET])), "at most 512 bits, not 526"),
    ):
        with pytest.raises(ValueError, match=text):
            call()
    assert image.capacity == BANKS * WAYS * 64


# The gateware


@pytest.mark.thorough
@pytest.mark.parametrize("kind", KINDS)
def test_gateware_and_image_agree_while_entries_change(kind, seed):
    rng = random.Random(seed)
    print(f"seed {seed}")
    fields = [meta.key, meta.other, meta.a, meta.b, meta.on]
    layout = carried_layout(fields)
    table, cycles = table_of(kind), 3000
    dut, image = RuntimeTable(table, layout, layout), TableImage(table)
    now, writes, packets, results = 0, [], [], []

    async def traffic(ctx):
        nonlocal now
        for _ in range(200):
            if ctx.get(dut.entries.ready):
                break
            await ctx.tick()
        for now in range(cycles + dut.latency):
            valid = now < cycles and rng.random() < (1.0 if now % 400 < 100 else 0.7)
            packet = {"meta__key": rng.choice((3, 300, 511)), "meta__other": rng.randrange(8),
                      "meta__a": rng.getrandbits(16), "meta__b": rng.getrandbits(8), "meta__on": rng.random() < 0.9,
                      "is_control": 0}
            ctx.set(dut.i.valid, valid)
            ctx.set(dut.i.payload, packet)
            if valid:
                packets.append((now, packet))
            _, _, is_out, out = await ctx.tick().sample(dut.o.valid, dut.o.payload)
            if is_out:
                results.append((now, out.meta__a, out.meta__b))

    async def control(ctx):
        port = dut.entries
        await ctx.tick().until(port.ready)
        while now < cycles:
            key = random_key(rng, kind)
            action, arguments = random_action(rng)
            try:
                changes = image.insert(key, action, **arguments) if rng.random() < 0.6 else image.remove(key)
            except (KeyError, ValueError):
                await ctx.tick()
                continue
            for place, word in changes:
                ctx.set(port.request, 1)
                ctx.set(port.write, 1)
                ctx.set(port.place, place)
                ctx.set(port.word, word)
                done = False
                while not done:
                    at = now
                    _, _, done = await ctx.tick().sample(port.done)
                writes.append((at, place, word))
                ctx.set(port.request, 0)
            if changes and rng.random() < 0.3:
                ctx.set(port.request, 1)
                ctx.set(port.write, 0)
                await ctx.tick().until(port.done)
                ctx.set(port.request, 0)
                assert ctx.get(port.found) == image.read(changes[-1][0])

    simulate(dut, traffic, control)
    assert len(results) == len(packets) and len(writes) > 60
    check, left = TableImage(table), list(writes)
    for (came, packet), (went, a, b) in zip(packets, results, strict=True):
        assert went == came + dut.latency
        while left and left[0][0] < came + (kind == Key.EXACT):
            _, place, word = left.pop(0)
            check.write(place, word)
        want = [packet["meta__a"], packet["meta__b"]]
        if packet["meta__on"]:
            key = (packet["meta__other"],) if kind == Key.INDEX else (packet["meta__key"], packet["meta__other"])
            match check.find(key):
                case (0, arguments):
                    want = arguments
                case (1, [number]):
                    want[0] = want[0] + number & 0xFFFF
                case _:
                    want[1] = 0xEE
        assert [a, b] == want, f"packet of cycle {came}"
