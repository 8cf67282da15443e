# SPDX-License-Identifier: Apache-2.0
"""Distributed vector-matrix multiplication against NumPy's product of the whole."""

import json

import numpy as np
import pytest
from collective_ranks import DTYPES, LATENCY
from typer.testing import CliRunner

from rackgate_host.cli import app, exit_code
from rackgate_host.collective import multiply as module
from rackgate_host.collective.errors import WrongResult
from rackgate_host.collective.multiply import multiply, rows_of, run_product

RUNNER = CliRunner()


@pytest.mark.parametrize("root", [None, 2])
@pytest.mark.parametrize("dtype", sorted(DTYPES))
@pytest.mark.parametrize("ranks", [3, 8])
def test_the_product_is_numpy_s(clusters, seed, ranks, dtype, root):
    """Whole numbers, so that the product is exact in any order; parts of unequal size."""
    draw = np.random.default_rng([seed, ranks])
    rows, columns = int(draw.integers(ranks, 60)), int(draw.integers(1, 700))
    most = 4 if dtype == "float16" else 100
    vector = draw.integers(-most, most, rows).astype(dtype)
    matrix = draw.integers(-most, most, (rows, columns)).astype(dtype)
    if dtype == "float16":
        matrix[:, :] = np.sign(matrix)  # sums below 2**11

    def program(comm):
        own = rows_of(rows, comm.rank, comm.size)
        return multiply(comm, vector[own], matrix[own], root=root)

    products = clusters.get("model", ranks).run(program)
    for rank, product in enumerate(products):
        if root is None or rank == root:
            assert product.dtype == dtype and np.array_equal(product, vector @ matrix)
        else:
            assert product is None


def test_parts_are_disjoint_and_whole():
    for rows in (1, 7, 16, 100):
        for ranks in (1, 3, 16):
            parts = [np.arange(rows)[rows_of(rows, rank, ranks)] for rank in range(ranks)]
            assert np.array_equal(np.concatenate(parts), np.arange(rows))
            assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_what_does_not_fit_is_refused(clusters):
    comm = clusters.get("model", 3).comms[0]
    with pytest.raises(ValueError, match="as many elements as the matrix has rows"):
        multiply(comm, np.zeros(3, np.float32), np.zeros((4, 5), np.float32))
    with pytest.raises(TypeError, match="one type, not float32 and float64"):
        multiply(comm, np.zeros(4, np.float32), np.zeros((4, 5)))


def call(*arguments):
    return RUNNER.invoke(app, ["collectives", "multiply", *arguments])


@pytest.mark.parametrize(("arguments", "busiest"), [
    (["--sum", "allreduce"], 2 * 3 * 4 * 2048 // 4), (["--root", "3"], 4 * 2048),
    (["--sum", "allreduce", "--wire", "float16"], 2 * 3 * 2 * 2048 // 4), (["--type", "int64"], 8 * 2048)])
def test_command(arguments, busiest):
    result = call("--ranks", "4", "--rows", "130", "--columns", "2048", "--repeat", "2", *arguments, "--json")
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert (said["ranks"], said["rows"], said["columns"]) == (4, 130, 2048)
    assert len(said["runs"]) == 2
    for row in said["runs"]:
        assert row["right"] and row["cycles"] > 0
        assert row["busiest_link_bytes"] == row["bound_bytes"] == busiest
    errors = [row["greatest_error"] for row in said["runs"]]
    assert (errors == [0, 0]) == ("int64" in arguments)


def test_a_table_is_shown():
    result = call("--ranks", "2", "--rows", "8", "--columns", "8")
    assert result.exit_code == 0 and "8 x 8 float32 on 2 ranks, reduce" in result.stdout


@pytest.mark.parametrize(("arguments", "said"), [
    (["--root", "8"], "--root must be a rank from 0 to 7, not 8"),
    (["--type", "int32", "--wire", "float16"], "needs --type float32"),
    (["--device", "model:inflate"], "no links")])
def test_wrong_options_are_usage_errors(arguments, said):
    result = call(*arguments)
    assert result.exception is not None and exit_code(result.exception) == 2
    assert said in str(result.exception)


def test_a_wrong_product_is_a_failure(monkeypatch):
    monkeypatch.setattr(module, "_error", lambda *arrays: 1.0)
    result = call("--ranks", "2", "--rows", "8", "--columns", "8", "--type", "int32")
    assert isinstance(result.exception, WrongResult) and exit_code(result.exception) == 1
    assert "the product was another than NumPy's in run 1" in str(result.exception)


@pytest.mark.cosim
@pytest.mark.xdist_group("native")
def test_on_the_gateware(clusters):
    """End to end: NumPy at four ranks, the sum on the engines."""
    cluster = clusters.get("sim", 4)
    for root in (None, 1):
        product = run_product(cluster, 50, 600, np.dtype(np.float32), root=root, seed=3)
        assert product.is_right and product.cycles > LATENCY
