# SPDX-License-Identifier: Apache-2.0
"""The sockets shim under unmodified programs, over a control stack that has no NIC: see zeronic_stand_in."""

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import zeronic_cases
from zeronic_stand_in import RELAY, StandIn

from rackgate_host.zeronic import shim

pytestmark = [
    pytest.mark.thorough,
    pytest.mark.skipif(sys.platform != "linux", reason="the shim is for Linux"),
    pytest.mark.skipif(not (shutil.which("gcc") or shutil.which("cc")), reason="there is no C compiler"),
]
_CASES = Path(zeronic_cases.__file__)


def free_port() -> int:
    """A port that is free and whose relay is, too."""
    while True:
        with socket.socket() as one, socket.socket() as two:
            one.bind(("127.0.0.1", 0))
            port = one.getsockname()[1]
            if port + RELAY > 65535:
                continue
            try:
                two.bind(("127.0.0.1", port + RELAY))
            except OSError:
                continue
            return port


def run_case(stand_in: StandIn, program: list[str], *rest: str, timeout: float = 60) -> None:
    """Two programs, one as server and one as client: `PROGRAM {server|client} ADDRESS PORT REST`."""
    port = free_port()
    server = subprocess.Popen([*program, "server", "127.0.0.1", str(port), *rest], env=stand_in.environment,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    client = None
    try:
        assert server.stdout is not None
        line = server.stdout.readline()
        assert line == "listening\n", (line, server.communicate())
        client = subprocess.Popen([*program, "client", "127.0.0.1", str(port + RELAY), *rest], env=stand_in.environment,
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        told = [*client.communicate(timeout=timeout), *server.communicate(timeout=timeout)]
        assert client.returncode == 0 and server.returncode == 0 and not stand_in.errors, (told, stand_in.errors)
    finally:
        for process in (server, client):
            if process:
                process.kill()
                process.communicate()


@pytest.fixture(scope="module")
def library() -> Path:
    return shim.library()


@pytest.mark.parametrize("deferred", [0.0, 0.4])
@pytest.mark.parametrize("case", zeronic_cases.CASES)
def test_program(tmp_path: Path, library: Path, case: str, deferred: float) -> None:
    seed = int.from_bytes(os.urandom(4), "little")
    print(f"seed {seed}")
    with StandIn(tmp_path, library, deferred, seed) as stand_in:
        run_case(stand_in, [sys.executable, str(_CASES)], case, "16")
        found = stand_in.statistics()
        print(found)
        assert found["sent"] > 0 and found["received"] > 0


@pytest.mark.parametrize("deferred", [0.0, 0.4])
def test_program_in_c(tmp_path: Path, library: Path, deferred: float) -> None:
    program = tmp_path / "calls"
    subprocess.run(["cc", "-O2", "-D_GNU_SOURCE", "-D_FORTIFY_SOURCE=2", "-Wall", "-Wextra", "-Werror",
                    str(_CASES.with_name("zeronic_calls.c")), "-o", str(program)], check=True)
    with StandIn(tmp_path, library, deferred) as stand_in:
        run_case(stand_in, [str(program)])
