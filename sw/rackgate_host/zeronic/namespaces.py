# SPDX-License-Identifier: Apache-2.0
"""Network namespaces without a name, and the cable between two of them.

A namespace lives as long as a process is in it or holds its descriptor, so none is left behind by a process that dies.
"""

import contextlib
import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from .errors import NoHosts

__all__ = ["MTU", "SYSCTLS", "Interface", "check_possible", "connect", "enter", "make", "run_ip", "set_up", "within"]

#: Bytes of an IPv4 packet on the cable, unless asked otherwise.
MTU = 1500

#: What is set in the namespace of applications. Buffers are bounded so that a window fits into a flow's ring.
SYSCTLS = {
    "ipv4/tcp_rmem": "4096 131072 1048576",
    "ipv4/tcp_wmem": "4096 131072 1048576",
    "ipv4/tcp_fastopen": "0",  # data in a SYN would go before the flow is known
    "ipv4/tcp_fin_timeout": "10",
    "ipv6/conf/all/disable_ipv6": "1",
}

_CLONE_NEWNET = 0x4000_0000

_libc = ctypes.CDLL(None, use_errno=True)


def _call(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise NoHosts(f"{what}: {os.strerror(number)}: simulated hosts need root (CAP_SYS_ADMIN and CAP_NET_ADMIN) and "
                      "a kernel that allows network namespaces")


def check_possible() -> None:
    """Raise :class:`~rackgate_host.zeronic.errors.NoHosts`, saying why, where simulated hosts cannot be."""
    if os.geteuid() != 0:
        raise NoHosts("simulated hosts need root, for network namespaces and packet sockets: try sudo")
    if shutil.which("ip") is None:
        raise NoHosts("the command ip is not there: install iproute2")
    child = os.fork()
    if child == 0:
        os._exit(0 if _libc.unshare(_CLONE_NEWNET) == 0 else 1)
    if os.waitpid(child, 0)[1] != 0:
        raise NoHosts("this machine allows no network namespaces (unshare failed), as in many containers: run it "
                      "where CAP_SYS_ADMIN is given")


def make() -> int:
    """A new network namespace, which the calling process is in from now on: its descriptor."""
    _call(_libc.unshare(_CLONE_NEWNET), "unshare")
    return os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def enter(namespace: int) -> None:
    """Bring the calling thread into a namespace."""
    _call(_libc.setns(namespace, _CLONE_NEWNET), "setns")


def run_ip(*arguments: str, pass_fds: Sequence[int] = ()) -> None:
    """Run ``ip`` in the namespace of the caller. Raises :class:`~rackgate_host.zeronic.errors.NoHosts`."""
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, pass_fds=pass_fds, timeout=30)
    if done.returncode != 0:
        raise NoHosts(f"ip {' '.join(arguments)}: {done.stderr.strip() or f'exit code {done.returncode}'}")


class Interface(NamedTuple):
    """What applications see of the NIC.

    ``address`` is with its prefix length; ``neighbours`` maps addresses to MACs, which are known for good: no ARP takes
    part.
    """

    name: str
    mac: str
    address: str
    mtu: int
    neighbours: dict[str, str]


@contextlib.contextmanager
def within(namespace: int) -> Iterator[None]:
    """The calling thread is in a namespace, and in its own again at the end."""
    own = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        enter(namespace)
        yield
    finally:
        enter(own)
        os.close(own)


def connect(applications: int, interface: Interface, *, outer: str, outer_mac: str) -> None:
    """Lay a cable from the caller's namespace (interface ``outer``) to that of ``applications``, and set both up."""
    mtu = str(interface.mtu)
    run_ip("link", "add", outer, "address", outer_mac, "mtu", mtu, "type", "veth",
           "peer", "name", interface.name, "address", interface.mac, "mtu", mtu)
    run_ip("link", "set", interface.name, "netns", f"/proc/self/fd/{applications}", pass_fds=[applications])
    _set("ipv6/conf/all/disable_ipv6", "1")
    run_ip("link", "set", outer, "up")
    with within(applications):
        set_up(interface)


def set_up(interface: Interface) -> None:
    """Set up the caller's namespace for applications; the interface is there."""
    for key, value in SYSCTLS.items():
        _set(key, value)
    name = interface.name
    run_ip("link", "set", "lo", "up")
    run_ip("link", "set", name, "address", interface.mac, "mtu", str(interface.mtu), "txqueuelen", "10000")
    run_ip("address", "add", interface.address, "dev", name)
    run_ip("link", "set", name, "up")
    for neighbour, place in interface.neighbours.items():
        run_ip("neighbour", "replace", neighbour, "lladdr", place, "dev", name, "nud", "permanent")


def _set(key: str, value: str) -> None:
    path = Path("/proc/sys/net") / key
    if path.exists():  # a kernel may be built without IPv6
        path.write_text(value)
