# SPDX-License-Identifier: Apache-2.0
"""Unmodified programs on simulated hosts: their payload goes through the NIC alone, and all of it is right."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import zeronic_cases
import zeronic_redis
from _pytest.mark import ParameterSet
from zeronic_hosts import need_hosts

from rackgate_host.device import open_device
from rackgate_host.zeronic.hosts import Hosts, HostsConfig
from rackgate_host.zeronic.wire import Conditions

BAD = Conditions(loss=0.005, duplicate=0.01, reorder=0.02)
WORSE = Conditions(loss=0.02, duplicate=0.05, reorder=0.3, corrupt=0.01)
pytestmark = [pytest.mark.thorough, pytest.mark.timeout(1500)]
_LIMIT = 1300
_PYTHON = sys.executable
_STRICT = {**os.environ, "RACKGATE_ZERONIC_STRICT": "1"}


def on_gateware(value: int) -> ParameterSet:
    """Parameters (device, value) for the verilated NIC."""
    marks = [pytest.mark.cosim, pytest.mark.xdist_group("zeronic")]
    return pytest.param("sim:zeronic", value, marks=marks, id=f"gateware-{value}")


def need(*programs: str) -> None:
    """Skip the test where one of them is not installed."""
    packages = {"redis-server": "redis-server", "redis-benchmark": "redis-tools", "iperf3": "iperf3"}
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not there: apt-get install {packages[program]}")


@contextmanager
def hosts_up(folder: Path, device: str, conditions: Conditions | None = None) -> Iterator[Hosts]:
    need_hosts()
    if not (shutil.which("gcc") or shutil.which("cc")):
        pytest.skip("there is no C compiler for the sockets shim: apt-get install gcc libc6-dev")
    if device.startswith("sim:"):
        open_device(device, memory="1M").close()  # build it here, where the time for it is known
    seed = int.from_bytes(os.urandom(3), "little")
    print(f"seed {seed}")
    both = {} if conditions is None else dict.fromkeys("ab", conditions)
    with Hosts.start(HostsConfig(device, both, seed), folder / "hosts") as hosts:
        yield hosts
        for host in "ab":
            print(host, hosts.status(host))


@contextmanager
def running(hosts: Hosts, host: str, *program: str, folder: Path, cwd: Path | None = None) -> Iterator[Path]:
    """A program in the background; the file with what it tells."""
    log = folder / f"{Path(program[0]).name}.log"
    with log.open("w") as file:
        process = hosts.popen(host, program, env=_STRICT, stdout=file, stderr=subprocess.STDOUT, cwd=cwd or folder)
    try:
        yield log
        assert process.poll() is None, log.read_text()
    finally:
        process.terminate()
        try:
            process.wait(20)
        finally:
            process.kill()
            process.wait()


def run(hosts: Hosts, host: str, *program: str, timeout: float = _LIMIT, split: bool = True) -> str:
    """A program to its end, and what it said."""
    process = hosts.popen(host, program, split=split, env=_STRICT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True)
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.terminate()
        raise AssertionError(f"{program[0]} has not ended after {timeout} s: {process.communicate()}") from None
    assert process.returncode == 0, (out, err)
    return out


def wait_for_port(hosts: Hosts, host: str, port: int, timeout: float = 20) -> None:
    """Until somebody listens there."""
    script = ("import socket, sys, time\n"
              "for _ in range(int(sys.argv[3])):\n"
              "    try:\n        socket.create_connection((sys.argv[1], int(sys.argv[2])), 1).close()\n        break\n"
              "    except OSError:\n        time.sleep(.05)\nelse:\n    sys.exit('nobody listens')\n")
    other = "b" if host == "a" else "a"
    run(hosts, other, _PYTHON, "-c", script, hosts.address(host), str(port), str(int(timeout / 0.05)))


def assert_split(hosts: Hosts, least: int) -> None:
    """At least so many bytes of payload went through the NICs, and next to none through the kernel."""
    for host in "ab":
        stack = hosts.status(host)["stack"]
        assert stack["payload_up"] + stack["payload_down"] >= least
        assert stack["whole_bytes"] < 10_000, stack


def run_case(hosts: Hosts, case: str, mebibytes: int = 1, split: str = "ab") -> None:
    """Both sides of a case of zeronic_cases; ``split`` has the hosts where the program is split."""
    program = (_PYTHON, zeronic_cases.__file__)
    arguments = (hosts.address("b"), "7000", case, str(mebibytes))
    server = hosts.popen("b", (*program, "server", *arguments), split="b" in split, env=_STRICT,
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        assert server.stdout is not None
        assert server.stdout.readline() == "listening\n"
        run(hosts, "a", *program, "client", *arguments, split="a" in split)
        out, _ = server.communicate(timeout=_LIMIT)
        assert server.returncode == 0, out
    finally:
        server.terminate()
        server.communicate()


def redis(hosts: Hosts, folder: Path, count: int) -> None:
    need("redis-server")
    seed = int.from_bytes(os.urandom(3), "little")
    print(f"values' seed {seed}")
    server = ("redis-server", "--bind", hosts.address("b"), "--port", "6379", "--save", "", "--protected-mode", "no")
    with running(hosts, "b", *server, folder=folder):
        wait_for_port(hosts, "b", 6379)
        size = int(run(hosts, "a", _PYTHON, zeronic_redis.__file__, hosts.address("b"), "6379", str(seed), str(count)))
    assert_split(hosts, size)


@pytest.mark.parametrize("split", ["a", "b", ""])
def test_ends_need_not_agree(tmp_path: Path, split: str) -> None:
    """Payload is on the wire as ever: an end whose program is not split has it from its kernel."""
    with hosts_up(tmp_path, "model:zeronic", BAD) as hosts:
        for case in ("calls", "wait") if split == "a" else ("small", "bulk"):
            run_case(hosts, case, split=split)
        for host in "ab":
            stack = hosts.status(host)["stack"]
            assert (stack["payload_down"] > 100_000) == (host in split), stack
            assert (stack["whole_bytes"] > 100_000) == (host not in split), stack


def redis_benchmark(hosts: Hosts, folder: Path, requests: int) -> None:
    need("redis-server", "redis-benchmark")
    server = ("redis-server", "--bind", hosts.address("b"), "--port", "6379", "--save", "", "--protected-mode", "no")
    with running(hosts, "b", *server, folder=folder):
        wait_for_port(hosts, "b", 6379)
        told = run(hosts, "a", "redis-benchmark", "-h", hosts.address("b"), "-t", "set,get,lpush,lpop", "-c", "4",
                   "-n", str(requests), "-d", "3000", "-P", "2", "--csv")
    rows = [line.split(",") for line in told.splitlines() if line.startswith('"') and not line.startswith('"test"')]
    assert {row[0].strip('"').split()[0] for row in rows} >= {"SET", "GET", "LPUSH", "LPOP"}, told
    assert all(float(row[1].strip('"')) > 0 for row in rows), told
    assert_split(hosts, requests * 4 * 3000)


def iperf3(hosts: Hosts, folder: Path, size: int) -> None:
    """One stream each way, and four at once. When the sender has sent, iperf3 throws away what is under way."""
    need("iperf3")
    with running(hosts, "b", "iperf3", "--server", "--forceflush", folder=folder) as log:
        for number, options in enumerate(([], ["--reverse"], ["--parallel", "4"]), 1):
            # Until the server is done with the client before, it turns others away.
            end = time.monotonic() + 20
            while log.read_text().count("listening") < number:
                assert time.monotonic() < end, log.read_text()
                time.sleep(0.02)
            told = run(hosts, "a", "iperf3", "--client", hosts.address("b"), "--bytes", str(size), "--json", *options)
            assert "error" not in json.loads(told), told  # its exit code is 0 even so
            ends = json.loads(told)["end"]
            assert ends["sum_sent"]["bytes"] >= size and ends["sum_received"]["bytes"] > 0, told
    assert_split(hosts, size)


@pytest.mark.parametrize(("device", "count"), [("model:zeronic", 100), on_gateware(400)])
@pytest.mark.parametrize("conditions", [None, BAD], ids=["clean", "perturbed"])
def test_redis_keeps_values(tmp_path: Path, device: str, count: int, conditions: Conditions | None) -> None:
    with hosts_up(tmp_path, device, conditions) as hosts:
        redis(hosts, tmp_path, count)


@pytest.mark.parametrize(("device", "conditions"), [
    pytest.param("model:zeronic", None, marks=pytest.mark.soak, id="clean"),
    pytest.param("model:zeronic", WORSE, id="perturbed"),
    pytest.param("sim:zeronic", WORSE, marks=[pytest.mark.soak, pytest.mark.cosim], id="gateware"),
])
def test_programs(tmp_path: Path, device: str, conditions: Conditions | None) -> None:
    with hosts_up(tmp_path, device, conditions) as hosts:
        for case in zeronic_cases.CASES:
            print(case, flush=True)
            run_case(hosts, case)
        assert_split(hosts, 1 << 20)


@pytest.mark.parametrize(("device", "mebibytes"), [
    ("model:zeronic", 1), on_gateware(2), pytest.param("sim:zeronic", 16, marks=[pytest.mark.soak, pytest.mark.cosim],
                                                       id="gateware-16"),
])
def test_python_echoes(tmp_path: Path, device: str, mebibytes: int) -> None:
    with hosts_up(tmp_path, device, BAD) as hosts:
        run_case(hosts, "bulk", mebibytes)
        assert_split(hosts, 2 * mebibytes << 20)


@pytest.mark.parametrize(("device", "requests"), [
    pytest.param("model:zeronic", 200, marks=pytest.mark.soak), on_gateware(200),
])
def test_redis_benchmark(tmp_path: Path, device: str, requests: int) -> None:
    with hosts_up(tmp_path, device) as hosts:
        redis_benchmark(hosts, tmp_path, requests)


@pytest.mark.parametrize(("device", "size"), [
    pytest.param("model:zeronic", 1 << 20, marks=pytest.mark.soak), on_gateware(1 << 20),
])
def test_iperf3(tmp_path: Path, device: str, size: int) -> None:
    with hosts_up(tmp_path, device) as hosts:
        iperf3(hosts, tmp_path, size)
