# SPDX-License-Identifier: Apache-2.0
"""The golden model against zlib on generated streams, and the tools for that."""

import hashlib
import zlib
from dataclasses import replace
from fractions import Fraction

import pytest

from rackgate.inflate.abi import Format
from rackgate_sim.inflate import corpus, pages
from rackgate_sim.inflate.assembler import (
    Assembler,
    canonical_codes,
    distance_symbol,
    length_symbol,
    lengths_for,
    limited_lengths,
    run_lengths,
)
from rackgate_sim.inflate.corpus import Case, Outcome, case, cases, compressors, verdict_zlib
from rackgate_sim.inflate.differential import compare, compare_batches, decode_model


@pytest.mark.thorough
def test_model_has_zlibs_verdict(seed, tmp_path):
    report = compare(decode_model, seed, 2000, directory=tmp_path)
    report.check()
    assert report.count == 2000 and 800 < report.accepted < 1400


@pytest.mark.soak
def test_model_has_zlibs_verdict_on_many(seed, tmp_path):
    compare(decode_model, seed, 50_000, start=2000, directory=tmp_path).check()


# Comparison


def _broken(case: Case) -> Outcome:
    outcome = decode_model(case)
    if case.index == 3 and outcome.output:
        return replace(outcome, output=outcome.output[:-1] + bytes([outcome.output[-1] ^ 1]))
    if case.index == 5:
        return replace(outcome, accepted=not outcome.accepted)
    if case.index == 8:
        raise RuntimeError("stuck")
    if outcome.accepted and case.index > 20:
        return replace(outcome, consumed=(outcome.consumed or 0) + 1)
    return outcome


def test_compare_reports_what_differs(tmp_path):
    report = compare(_broken, 1, 100, directory=tmp_path, most_mismatches=6)
    found = {mismatch.case.index: mismatch for mismatch in report.mismatches}
    assert len(found) == 6 and {3, 5, 8} < set(found) and report.count < 100
    assert "first difference at byte" in str(found[3])
    assert "raised RuntimeError: stuck" in str(found[8])
    for index, mismatch in found.items():
        assert f"seed 1 case {index} " in str(mismatch) and str(tmp_path / f"1-{index}.hex") in str(mismatch)
        digits = [line for line in mismatch.file.read_text().splitlines() if not line.startswith("#")]
        assert bytes.fromhex("".join(digits)) == case(1, index).data == mismatch.case.data
    with pytest.raises(AssertionError, match="6 mismatches"):
        report.check()


def test_compare_batches_sees_every_case_once(tmp_path):
    sizes, indices = [], []

    def decode(batch):
        sizes.append(len(batch))
        indices.extend(one.index for one in batch)
        return [decode_model(one) for one in batch]

    report = compare_batches(decode, 1, 25, start=40, batch=10, directory=tmp_path)
    report.check()
    assert sizes == [10, 10, 5] and indices == list(range(40, 65)) and list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="batch must be at least 1, not 0"):
        compare_batches(decode, 1, 1, batch=0)


def test_unknown_output_is_not_held_against_a_decoder(tmp_path):
    assert not compare(lambda one: replace(decode_model(one), output=None), 1, 20, directory=tmp_path).mismatches


# Cases


def test_cases_follow_from_seed_and_index():
    first = list(cases(7, 30))
    assert first == list(cases(7, 30)) and first[20] == case(7, 20)
    assert first[5:] == list(cases(7, 25, start=5))
    assert first != list(cases(8, 30))


def test_cases_are_of_all_kinds():
    made = list(cases(1, 600))
    names = " ".join(one.name for one in made)
    for word in (*compressors(), "assembled", "noise", "members", "flip", "flip at end", "truncate", "overwrite",
                 "insert", "delete", "splice", "garbage after", "strategy 4", "level 0", "level 9"):
        assert word in names, word
    assert {one.format for one in made} == set(Format)
    assert any(one.dictionary for one in made) and any(one.multi for one in made)
    assert 0.4 < sum(verdict_zlib(one).accepted for one in made) / len(made) < 0.7
    sizes = sorted(len(one.data) for one in made)
    assert sizes[300] < 1000 and sizes[-1] > 10_000


def test_all_compressors_are_installed():
    assert set(compressors()) == {"zlib", "zlib-ng", "isal", "libdeflate", "zopfli"}


@pytest.mark.parametrize(("data", "format", "outcome"), [
    (zlib.compress(b"abc") + b"x", Format.ZLIB, Outcome(True, b"abc", len(zlib.compress(b"abc")))),
    (zlib.compress(b"abc")[:-1], Format.ZLIB, Outcome(False, b"abc", None)),
    (Assembler().fixed([*b"abc", (3, 9)], True).data(), Format.RAW, Outcome(False, b"abc", None)),
])
def test_verdict(data, format, outcome):
    assert verdict_zlib(Case(0, 0, "", format, data)) == outcome


def test_verdict_without_the_c_library(monkeypatch):
    monkeypatch.setattr(corpus, "_libz", lambda: None)
    data = Assembler().fixed([*b"abc", (3, 9)], True).data()
    assert verdict_zlib(Case(0, 0, "", Format.RAW, data)) == Outcome(False, None, None)
    assert verdict_zlib(Case(0, 0, "", Format.ZLIB, zlib.compress(b"abc"))).accepted


# Assembler


@pytest.mark.parametrize("limit", [4, 7, 15])
def test_limited_lengths_are_complete_and_short(limit):
    frequencies = [1, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 0, 144]
    lengths = limited_lengths(frequencies, limit)
    assert sum(Fraction(1, 1 << length) for length in lengths if length) == 1
    assert max(lengths) <= limit and lengths[11] == 0
    assert lengths[12] == min(length for length in lengths if length)
    if limit == 15:  # Fibonacci numbers make the deepest tree
        assert sorted(lengths)[1:] == [*range(1, 11), 11, 11]


def test_lone_and_missing_symbols():
    assert limited_lengths([0, 9, 0]) == [0, 1, 0]
    assert limited_lengths([0, 0]) == [0, 0]
    literals, distances = lengths_for([])
    assert sum(map(bool, literals)) == 2 and not any(distances)


def test_canonical_codes_are_those_of_the_rfc():
    assert canonical_codes([3, 3, 3, 3, 3, 2, 4, 4]) == [0b010, 0b011, 0b100, 0b101, 0b110, 0b00, 0b1110, 0b1111]


@pytest.mark.parametrize("runs", [True, False])
def test_run_lengths_stand_for_the_lengths(runs):
    lengths = [1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 2, 0, 0, 0, *[0] * 200, 5, 5, 5, 5]
    out = []
    for symbol, extra in run_lengths(lengths, runs):
        if symbol == 16:
            out += [out[-1]] * (3 + extra)
        else:
            out += {17: [0] * (3 + extra), 18: [0] * (11 + extra)}.get(symbol, [symbol])
    assert out == lengths
    assert runs == any(symbol > 15 for symbol, _ in run_lengths(lengths, runs))


@pytest.mark.parametrize(("call", "message"), [
    (lambda: length_symbol(2), "match length must be 3 to 258, not 2"),
    (lambda: length_symbol(259), "match length must be 3 to 258, not 259"),
    (lambda: distance_symbol(0), "distance must be 1 to 32768, not 0"),
    (lambda: distance_symbol(32769), "distance must be 1 to 32768, not 32769"),
    (lambda: limited_lengths([1] * 5, 2), "limit must allow for 5 symbols, not be 2"),
])
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# Pages


@pytest.mark.thorough
@pytest.mark.parametrize("take", [pages.anonymous_pages, pages.code_pages])
def test_pages(take):
    taken = take(100)
    assert len(taken) == 100 and {len(page) for page in taken} == {pages.PAGE_SIZE}
    assert all(any(page) for page in taken) and len(set(taken)) > 90
    ratio = sum(map(len, taken)) / sum(len(zlib.compress(page, 6)) for page in taken)
    assert 1.2 < ratio < 20
    with pytest.raises(ValueError, match="count must be at least 1, not 0"):
        take(0)


@pytest.mark.thorough
def test_more_pages_than_there_are():
    with pytest.raises(RuntimeError, match="no pages: .*the process has [0-9]+ code pages, not 1000000"):
        pages.code_pages(1_000_000)


@pytest.mark.thorough
def test_tar():
    tar = pages.tar_bytes(100_000)
    assert len(tar) == 100_000 and tar[257:262] == b"ustar" and tar[:5] == b"text/"
    assert hashlib.sha256(tar).digest() == hashlib.sha256(pages.tar_bytes(100_000)).digest()
