# SPDX-License-Identifier: Apache-2.0
"""How a host's kernel and its NIC are connected."""

import contextlib

from . import namespaces
from .errors import NoHosts
from .ports import PacketPort, Port, TapPort

__all__ = ["CABLES", "plug_in"]

#: Virtual Ethernet with a packet socket, which leaves payload alone; an interface of the TUN/TAP driver.
CABLES = ("veth", "tap")
#: Name of virtual Ethernet's end on the side of the NIC.
_OUTER = "cable"


def plug_in(applications: int, interface: namespaces.Interface, cable: str = "") -> tuple[Port, str]:
    """Give applications their interface: the port to it, for the caller's namespace, and which cable it is.

    ``cable`` is one of :data:`CABLES`; by default the first that can be had. Raises
    :class:`~rackgate_host.zeronic.errors.NoHosts`, which says why there is none.
    """
    why = ""
    if cable != "tap":
        try:
            return _veth(applications, interface), "veth"
        except (NoHosts, OSError) as error:
            if cable:
                raise NoHosts(f"no virtual Ethernet can be had: {error}") from None
            why = f"no virtual Ethernet can be had: {error}; "
    with namespaces.within(applications):
        try:
            port = TapPort(interface.name)
        except OSError as error:
            raise NoHosts(f"{why}no TAP interface can be had: {error.strerror} (/dev/net/tun)") from None
        namespaces.set_up(interface)
    return port, "tap"


def _veth(applications: int, interface: namespaces.Interface) -> Port:
    try:
        first, rest = interface.mac.split(":", 1)
        namespaces.connect(applications, interface, outer=_OUTER, outer_mac=f"{int(first, 16) | 4:02x}:{rest}")
        return PacketPort(_OUTER)
    except (NoHosts, OSError):
        with contextlib.suppress(NoHosts):
            namespaces.run_ip("link", "delete", _OUTER)
        raise
