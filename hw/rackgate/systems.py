# SPDX-License-Identifier: Apache-2.0
"""Systems by name, as gateware: the one registry that simulators, boards and FuseSoC cores read."""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING

from rackgate.pisa.catalogue import PIPELINES, SWITCH_PARAMETERS, PipelineDevice
from rackgate.provenance import build_hash

if TYPE_CHECKING:
    from amaranth.lib.wiring import Component

__all__ = ["NAMES", "component", "split"]

#: Where the top of each system is, as "module:class".
_TOPS = {
    "collective": "rackgate.collective.top:Collective",
    "echo": "rackgate.echo.top:Echo",
    "iaa": "rackgate.iaa.top:Iaa",
    "inflate": "rackgate.inflate.top:Inflate",
    "zeronic": "rackgate.zeronic.top:Zeronic",
}


def _made(place: str, **parameters: int) -> "Component":
    """A top with ``parameters``, the others by default, and BUILD registers that tell them and its sources."""
    module, _, name = place.partition(":")
    top = getattr(import_module(module), name)
    given = inspect.signature(top).bind(**parameters)
    given.apply_defaults()
    given.arguments.pop("build")
    return top(**given.arguments, build=build_hash(top.__module__, given.arguments))


def split(device: PipelineDevice, given: Mapping[str, int]) -> tuple[dict[str, int], dict[str, int]]:
    """Parameters of the pipeline, and those of the switch around it; what is not given has its default."""
    every = {**device.all_parameters, **given}
    switch = {name: every.pop(name) for name in SWITCH_PARAMETERS}
    return every, switch


def _switch(device: PipelineDevice, **parameters: int) -> "Component":
    from rackgate.pisa.switch import named_switch

    own, switch = split(device, parameters)
    declared = build_hash(device.module, own)
    return named_switch(device.name, **parameters,
                        build=build_hash(named_switch.__module__, {**switch, "pipeline": declared}))


_COMPONENTS: dict[str, Callable[..., "Component"]] = {
    **{name: partial(_made, place) for name, place in _TOPS.items()},
    **{name: partial(_switch, device) for name, device in PIPELINES.items()},
}

#: Names of the systems that there is gateware of.
NAMES = tuple(_COMPONENTS)


def component(name: str, **parameters: int) -> "Component":
    """The gateware of system ``name``, built with ``parameters``. Its BUILD registers hold the hash of its sources.

    Raises
    ------
    ValueError
        There is no such system, or a parameter has a wrong value.
    TypeError
        The system has no such parameter.
    """
    if name not in _COMPONENTS:
        raise ValueError(f"name must be one of {', '.join(_COMPONENTS)}, not {name!r}")
    return _COMPONENTS[name](**parameters)
