# SPDX-License-Identifier: Apache-2.0
"""Functions such as serverless platforms run, in pure Python: their memory is what snapshots of them hold.

They stand for those of FaaS workbench, SeBS and vSwarm that Sabre's paper restores. The module needs the standard
library only, so that it can be put into a guest by itself. A function is called twice: once to be warm, as it is when
its snapshot is taken, and once to serve a request. Each gives a result that follows from its seed alone.
"""

import binascii
import collections
import html
import json
import random
import string
import zlib
from collections.abc import Callable
from typing import Any

__all__ = ["FUNCTIONS", "run"]

_WORDS = [f"{first}{second}" for first in ("me", "sna", "pa", "ser", "ver", "fun", "lan", "rack", "de", "fla")
          for second in ("mory", "pshot", "ge", "vice", "less", "ction", "guage", "gate", "flate", "te")]


def _python_list(dice: random.Random) -> Any:
    """Lists of numbers and of strings: grown, sorted, cut and joined."""
    numbers = [dice.randrange(1 << 30) for _ in range(60_000)]
    kept: list[list[Any]] = [numbers, sorted(numbers), [number * 3 % 65_521 for number in numbers]]
    names = [f"item-{number:08d}" for number in numbers[:20_000]]
    kept.append(names + sorted(names))
    return kept, sum(kept[2]) + len(set(names))


def _json(dice: random.Random) -> Any:
    """Records to text and back."""
    records = [{"id": number, "name": " ".join(dice.choices(_WORDS, k=3)), "price": round(dice.uniform(1, 500), 2),
                "tags": dice.sample(_WORDS, 4), "stock": {"here": dice.randrange(50), "there": dice.randrange(500)}}
               for number in range(6_000)]
    text = json.dumps(records)
    back = json.loads(text)
    return (records, text, back), round(sum(record["price"] for record in back), 2)


def _matmul(dice: random.Random) -> Any:
    """A product of two matrices of floating point numbers, row by row."""
    size = 96
    left, right = ([[dice.random() for _ in range(size)] for _ in range(size)] for _ in range(2))
    columns = list(zip(*right, strict=True))
    product = [[sum(a * b for a, b in zip(row, column, strict=True)) for column in columns] for row in left]
    return (left, columns, product), round(sum(map(sum, product)), 6)


def _chameleon(dice: random.Random) -> Any:
    """A page of a table, rendered from templates with escapes."""
    cell = string.Template('<td class="column-$column" title="$title">$text</td>')
    row = string.Template('<tr id="row-$number">$cells</tr>')
    pages = []
    for _ in range(3):
        rows = []
        for number in range(400):
            cells = "".join(cell.substitute(column=column, title=dice.choice(_WORDS), text=html.escape(
                f"<{dice.choice(_WORDS)} & {number * column}>")) for column in range(10))
            rows.append(row.substitute(number=number, cells=cells))
        pages.append((rows, "\n".join(rows)))
    return pages, sum(len(text) for _, text in pages)


def _zlib(dice: random.Random) -> Any:
    """Texts compressed, kept, and decompressed again."""
    texts = [" ".join(dice.choices(_WORDS, k=20_000)).encode() for _ in range(12)]
    packed = [zlib.compress(text, 6) for text in texts]
    back = [zlib.decompress(data) for data in packed]
    return (texts, packed, back), sum(map(len, packed)) + sum(map(len, back))


def _image(dice: random.Random) -> Any:
    """A picture, blurred, made grey and made smaller."""
    side = 160
    picture = bytearray(side * side * 3)
    for y in range(side):
        for x in range(side):
            place = 3 * (y * side + x)
            picture[place:place + 3] = (x * 255 // side, y * 255 // side, (x * y + dice.randrange(16)) & 255)
    blurred = bytearray(picture)
    for y in range(1, side - 1):
        for place in range(3 * (y * side + 1), 3 * (y * side + side - 1)):
            blurred[place] = (picture[place - 3] + picture[place + 3] + picture[place - 3 * side]
                              + picture[place + 3 * side]) >> 2
    grey = bytes((77 * blurred[place] + 150 * blurred[place + 1] + 29 * blurred[place + 2]) >> 8
                 for place in range(0, len(blurred), 3))
    small = [grey[y * side:(y + 1) * side:2] for y in range(0, side, 2)]
    pixels = [tuple(picture[place:place + 3]) for place in range(0, len(picture), 3)]
    return (picture, blurred, grey, small, pixels), binascii.crc32(grey)


def _graph(dice: random.Random, nodes: int, degree: int) -> dict[int, list[int]]:
    return {node: [dice.randrange(nodes) for _ in range(degree)] for node in range(nodes)}


def _bfs(dice: random.Random) -> Any:
    """Distances in a graph."""
    graph = _graph(dice, 20_000, 6)
    distance, parent = {0: 0}, {}
    queue = collections.deque([0])
    while queue:
        node = queue.popleft()
        for other in graph[node]:
            if other not in distance:
                distance[other], parent[other] = distance[node] + 1, node
                queue.append(other)
    return (graph, distance, parent), sum(distance.values())


def _pagerank(dice: random.Random) -> Any:
    """Ranks of the nodes of a graph, by iteration."""
    nodes = 8_000
    graph = _graph(dice, nodes, 8)
    rank = dict.fromkeys(graph, 1 / nodes)
    for _ in range(6):
        following = dict.fromkeys(graph, 0.15 / nodes)
        for node, others in graph.items():
            share = 0.85 * rank[node] / len(others)
            for other in others:
                following[other] += share
        rank = following
    return (graph, rank), round(max(rank.values()), 9)


#: By name: gives what it holds and its result.
FUNCTIONS: dict[str, Callable[[random.Random], Any]] = {
    "python-list": _python_list, "json": _json, "matmul": _matmul, "chameleon": _chameleon, "zlib": _zlib,
    "image": _image, "bfs": _bfs, "pagerank": _pagerank,
}


def run(name: str, seed: int) -> tuple[Any, Any]:
    """Call a function; what it holds, to be kept while its memory is of interest, and its result."""
    return FUNCTIONS[name](random.Random(f"{name} {seed}"))
