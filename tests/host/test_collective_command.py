# SPDX-License-Identifier: Apache-2.0
"""`rackgate collectives` as a user calls it."""

import json

import pytest
from typer.testing import CliRunner

from rackgate_host.cli import app, exit_code
from rackgate_host.collective.bounds import OPERATIONS, bound
from rackgate_host.collective.errors import WrongResult

RUNNER = CliRunner()


def call(*arguments):
    return RUNNER.invoke(app, ["collectives", *arguments])


def run(*arguments):
    result = call("run", *arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_operation_runs_and_is_right(operation):
    said = run(operation, "--ranks", "3", "--bytes", "12K")
    assert (said["operation"], said["ranks"], said["type"]) == (operation, 3, "float32")
    row, = said["runs"]
    assert row["right"] and row["cycles"] > 0
    assert row["busiest_link_bytes"] == row["bound_bytes"]
    assert row["fraction_of_bound"] is None  # a model's cycles mean nothing


def test_repeated_runs_have_data_of_their_own_and_are_told_apart():
    said = run("allreduce", "--ranks", "2", "--bytes", "1K", "--type", "int64", "--op", "max", "--repeat", "3")
    assert [row["greatest_error"] for row in said["runs"]] == [0.0] * 3


def test_floats_travel_compressed():
    said = run("allreduce", "--ranks", "4", "--bytes", "16K", "--wire", "float16")
    row, = said["runs"]
    assert row["busiest_link_bytes"] == 2 * 3 * 16384 // 4 // 2
    assert 0 < row["greatest_error"] < 0.01


def test_a_table_is_shown():
    result = call("run", "bcast", "--ranks", "2", "--bytes", "64")
    assert result.exit_code == 0
    assert "bcast, 2 ranks, 64 bytes of float32" in result.stdout and "yes" in result.stdout


@pytest.mark.parametrize(("arguments", "said"), [
    (["--bytes", "10"], "multiple of 4"),
    (["--bytes", "many"], "--bytes must be an integer"),
    (["--root", "8"], "--root must be a rank from 0 to 7, not 8"),
    (["--type", "int32", "--wire", "float16"], "needs --type float32"),
    (["--device", "model:inflate"], "no links"),
    (["--device", "paper"], "unknown scheme 'paper'"),
    (["--device", "model:collective?slots=17"], "slots must be a power of two"),
])
def test_wrong_options_are_usage_errors(arguments, said):
    result = call("run", "allreduce", *arguments)
    assert result.exception is not None and exit_code(result.exception) == 2
    assert said in str(result.exception)


def test_a_wrong_result_is_a_failure(monkeypatch):
    monkeypatch.setattr("rackgate_host.collective.trial._Case.error", lambda case: 1.0)
    result = call("run", "allreduce", "--ranks", "2", "--bytes", "64")
    assert isinstance(result.exception, WrongResult) and exit_code(result.exception) == 1
    assert "allreduce gave something else than NumPy in run 1" in str(result.exception)


def test_programs_are_listed_and_shown():
    listed = json.loads(call("list", "--json").stdout)
    assert {"allreduce", "barrier", "nop"} <= {row["name"] for row in listed}
    assert "allreduce" in call("list").stdout
    shown = json.loads(call("show", "barrier", "--json").stdout)
    assert len(shown["words"]) == next(row["instructions"] for row in listed if row["name"] == "barrier")
    assert "go" in call("show", "barrier").stdout
    assert call("show", "allgather").stdout != call("show", "allgather", "--credits", "1").stdout
    result = call("show", "sort")
    assert exit_code(result.exception) == 2 and "no program 'sort': there are allgather" in str(result.exception)


def test_bounds():
    assert bound("allreduce", 4, 1000).bytes == 1500
    assert bound("alltoall", 4, 1000).bytes == 3000
    assert bound("bcast", 8, 1000) == (1000, 3)
    assert bound("barrier", 5, 0).cycles(8, 1024, 50) == 150
    assert bound("bcast", 2, 8192).cycles(8, 1024, 50) == pytest.approx(8192 / 8 * 1056 / 1024 + 50)
    assert bound("bcast", 1, 8192).cycles(8, 1024, 50) == 0
    with pytest.raises(ValueError, match="operation must be one of"):
        bound("sort", 2, 1)
