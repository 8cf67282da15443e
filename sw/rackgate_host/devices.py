# SPDX-License-Identifier: Apache-2.0
"""The devices that this package knows: what a driver needs to check and name them."""

from dataclasses import dataclass

from rackgate.collective import abi as collective
from rackgate.csr.map import RegisterMap
from rackgate.echo import abi as echo
from rackgate.iaa import abi as iaa
from rackgate.inflate import abi as inflate
from rackgate.pisa.abi import COUNTERS
from rackgate.pisa.catalogue import PIPELINES
from rackgate.zeronic import abi as zeronic

__all__ = ["DEVICES", "DeviceType"]


@dataclass(frozen=True)
class DeviceType:
    """A kind of device.

    ``parameters`` are the gateware's, settable in the URL of a simulated device. ``volatile`` registers may read
    differently on two backends that both work: a transcript does not compare them. ``has_memory``: it works on memory,
    of which the host may allocate. ``has_links``: several can be joined by their packet streams
    (:func:`rackgate_host.world.open_world`).
    """

    name: str
    map: RegisterMap
    parameters: tuple[str, ...]
    volatile: frozenset[str]
    has_memory: bool = True
    has_links: bool = False


_TIMING = frozenset({"BUILD_LO", "BUILD_HI", "COMPLETED", "CYCLES_LO", "CYCLES_HI", "BUSY_CYCLES", "BYTES_IN",
                     "BYTES_OUT"})

DEVICES = {
    "iaa": DeviceType(
        "iaa", iaa.REGISTERS, ("engines", "queues", "entries", "contexts", "window", "lanes", "ports"),
        _TIMING | {"PARAM_LANES", "PARAM_PORTS", "INTCAUSE", "CMDSTS", "TLB_HITS", "TLB_MISSES", "PAGE_FAULTS",
                   "PAGE_REQUEST", "PAGE_ADDRESS_LO", "PAGE_ADDRESS_HI"}
        | {iaa.queue_register(queue, "STATE") for queue in range(iaa.QUEUES)}),
    "inflate": DeviceType(
        "inflate", inflate.REGISTERS, ("contexts", "window", "lanes"),
        _TIMING | {"PARAM_LANES", "RING_HEAD", "IRQ_STATUS"}),
    "collective": DeviceType(
        "collective", collective.REGISTERS, ("width", "segment", "slots", "ports", "link"),
        frozenset({"BUILD_LO", "BUILD_HI", "PARAM_LINK", "PARAM_TYPES", "PARAM_PROGRAM", "CALL_SPACE", "COMPLETIONS",
                   "COMPLETION_1", "IRQ_STATUS", "PROBE_0", "PROBE_1", "PROBE_2",
                   *(name for name in collective.REGISTERS if name.startswith("COUNT_"))}),
        has_links=True),
    "zeronic": DeviceType(
        "zeronic", zeronic.REGISTERS, ("width", "flows", "segments", "regions", "intervals"),
        frozenset({"BUILD_LO", "BUILD_HI", "STATUS", "COMMAND_CONSUMER", "IRQ_STATUS",
                   *(f"RING{ring}_PRODUCER" for ring in range(zeronic.RINGS)),
                   *(name for name in zeronic.REGISTERS if name.startswith("COUNT_"))})),
    "echo": DeviceType("echo", echo.REGISTERS, (),
                       frozenset({"BUILD_LO", "BUILD_HI", "STATUS", "CYCLES_LO", "CYCLES_HI", "BUSY_CYCLES"})),
    **{name: DeviceType(name, pipeline.map, tuple(pipeline.all_parameters),
                        frozenset({"BUILD_LO", "BUILD_HI", "STATUS", "IRQ_STATUS", *COUNTERS}), has_memory=False)
       for name, pipeline in PIPELINES.items()},
}
