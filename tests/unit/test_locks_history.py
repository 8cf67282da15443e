# SPDX-License-Identifier: Apache-2.0
"""The checker of histories, on histories that are right and on those with one thing wrong."""

import pytest

from rackgate.fisslock.abi import Mode
from rackgate_sim.locks.history import History, Kind, check

S, X = Mode.SHARED, Mode.EXCLUSIVE


def history(text):
    """``AX`` asks as A exclusively for lock 0, ``a`` is granted, ``-a`` released, ``~a`` withdrawn, ``!a`` refused,
    ``?a`` seen; ``a7`` is granted with token 7."""
    out, known = History(), {}
    for time, word in enumerate(text.split()):
        if word[0].isupper():
            known[word[0].lower()] = out.request(time, 0, X if word[1:] == "X" else S)
        elif word[0] in "-~!?":
            kind = {"-": Kind.RELEASE, "~": Kind.WITHDRAWN, "!": Kind.REFUSED, "?": Kind.SEEN}[word[0]]
            out.add(time, kind, known[word[1]])
        else:
            out.add(time, Kind.GRANT, known[word[0]], int(word[1:] or 0))
    return out


@pytest.mark.parametrize("text", [
    "", "AX a -a", "AX BX a -a b -b", "AS BS a b -a -b", "AX ~a", "AX !a",
    "AX BS a ?b -a b CS c -b -c DX d -d",
])
def test_nothing_is_wrong(text):
    assert check(history(text), most_bypasses=0) == []


@pytest.mark.parametrize(("text", "message"), [
    ("AX BX a b -a -b", "lock 0 was granted to request 1 (exclusive) at 3 while request 0 held it (exclusive)"),
    ("AS BX a b -a -b", "lock 0 was granted to request 1 (exclusive) at 3 while request 0 held it (shared)"),
    ("AX BS a b -a -b", "lock 0 was granted to request 1 (shared) at 3 while request 0 held it (exclusive)"),
    ("AX", "request 0 of lock 0 waits for ever"),
    ("AX a", "request 0 of lock 0 was never given back"),
])
def test_one_thing_is_wrong(text, message):
    assert check(history(text)) == [message]


def test_locks_do_not_exclude_each_other():
    out = History()
    for lock in (3, 4):
        out.add(lock, Kind.GRANT, out.request(0, lock, X))
    assert len(check(out)) == 2 and all("never given back" in line for line in check(out))


@pytest.mark.parametrize(("text", "wrong"), [
    ("AX a1 -a BX b2 -b", []),
    ("AS BS a1 b1 -a -b CS c2 -c", []),
    ("AX a1 -a BX b1 -b", ["lock 0: request 1 got fencing token 1 after 1"]),
    ("AX a2 -a BX b1 -b", ["lock 0: request 1 got fencing token 1 after 2"]),
    ("AS a1 -a BS b1 -b", []),
    ("AX a1 -a BS b1 -b", ["lock 0: request 1 got fencing token 1 after 1"]),
    ("AS a1 -a BX b1 -b", ["lock 0: request 1 got fencing token 1 after 1"]),
    ("AS BS a2 b1 -a -b", []),
    ("AS BS a2 b1 -a -b CX c2 -c", ["lock 0: request 2 got fencing token 2 after 2"]),
    ("AX a1 -a BS CS b3 c2 -b -c", []),
    ("AX a1 -a BS CS b2 c1 -b -c", ["lock 0: request 2 got fencing token 1 after 1"]),
    ("AX a7 -a BX b0 -b CX c4 -c", []),
    ("AX a7 -a BX b4 -b", ["lock 0: request 1 got fencing token 4 after 7"]),
])
def test_fencing_tokens_grow_modulo_eight(text, wrong):
    assert check(history(text), token_bits=3) == wrong
    assert check(history(text)) == []


def test_bypasses_are_counted():
    text = "AS a BX CS c DS d -a -c -d b -b"
    assert check(history(text), most_bypasses=2) == []
    assert check(history(text), most_bypasses=1) == [
        "request 1 of lock 0 was overtaken by 2 later ones, 1 may"]
    assert check(history("AS a BX CS c ?b DS d -a -c -d b -b"), most_bypasses=1) == [], "C came before B was seen"
    assert check(history("AS CS a BX c -a -c b -b"), most_bypasses=0) == [], "C asked before B"


@pytest.mark.parametrize("text", ["AX a a", "AX -a", "AX ~a a", "AX a ~a", "AX a -a -a", "AX !a ~a"])
def test_what_no_recorder_may_say(text):
    with pytest.raises(ValueError, match="cannot follow on request"):
        history(text)
