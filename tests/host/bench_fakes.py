# SPDX-License-Identifier: Apache-2.0
"""A bench for tests of what runs benches, also in the processes that measure: its points follow from its options."""

import os
import sys

import pytest

from rackgate_host.bench import benches

# In processes of their own the table of benches is made anew. They find this through their path. Workers believe that
# the sources are those that they are tested with, which somebody may be editing.
_SITE = '''
import sys
if any("multiprocessing" in word for word in sys.orig_argv):
    from rackgate_host.bench import store
    store.code = lambda: "tested"
if any(word == "rackgate_host.bench.apart" for word in sys.orig_argv):
    from rackgate_host.bench import benches
    benches.BENCHES["fake"] = benches.Bench("fake_bench:run", "nothing", units="fake_bench:units")
'''
_BENCH = '''
import os, pathlib, signal, sys, time

def units(*, count=3, only=None, wall=0, data=0, **options):
    for number in range(count) if only is None else [only]:
        where = "alone" if number < wall else "here" if number < wall + data else "anywhere"
        yield f"part {number}", {**options, "count": count, "wall": wall, "data": data, "only": number}, where

def run(*, seed, report, count=3, only=None, wall=0, data=0, seconds=0.0, folder="", die="", fails=-1, noise=False,
        floor=None):
    for number in range(count) if only is None else [only]:
        report(f"number {number}")
        if folder:
            path = pathlib.Path(folder) / f"{number}-{os.getpid()}"
            path.write_text(str(os.getppid()))
        if noise:
            print("{not JSON", flush=True)
        if die and os.path.exists(die):
            os.unlink(die)
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(seconds)
        if number == fails:
            raise ValueError("it cannot be")
        yield {"case": f"case-{number}", "metric": "cycles", "value": seed * 100 + number, "unit": "cycle",
               "floor": floor}
'''


@pytest.fixture(scope="module")
def fake(tmp_path_factory):
    """The bench "fake" is in the table, here and in processes that are started."""
    folder = tmp_path_factory.mktemp("fake")
    (folder / "sitecustomize.py").write_text(_SITE)
    (folder / "fake_bench.py").write_text(_BENCH)
    bench = benches.Bench("fake_bench:run", "nothing", units="fake_bench:units")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
        patch.setitem(benches.BENCHES, "fake", bench)
        yield


def values(record):
    """Figures by case and metric."""
    return {(result.case, result.metric): result.value for result in record.results}
