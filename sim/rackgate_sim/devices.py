# SPDX-License-Identifier: Apache-2.0
"""Devices by name: how to build the gateware of one, and its register-level model."""

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rackgate.provenance import build_hash

if TYPE_CHECKING:
    from amaranth.lib.wiring import Component

__all__ = ["NAMES", "component", "model"]


def _inflate_component(**parameters: int) -> "Component":
    from rackgate.inflate.top import Inflate

    given = inspect.signature(Inflate).bind(**parameters)
    given.apply_defaults()
    given.arguments.pop("build")
    return Inflate(**given.arguments, build=build_hash(Inflate.__module__, given.arguments))


def _inflate_model(memory: Any, **parameters: int) -> Any:
    from rackgate_sim.inflate.device import InflateModel

    return InflateModel(memory, **parameters)


_COMPONENTS: dict[str, Callable[..., "Component"]] = {"inflate": _inflate_component}
_MODELS: dict[str, Callable[..., Any]] = {"inflate": _inflate_model}

#: Names of the devices there are.
NAMES = tuple(_COMPONENTS)


def _known(name: str) -> str:
    if name not in _COMPONENTS:
        raise ValueError(f"name must be one of {', '.join(NAMES)}, not {name!r}")
    return name


def component(name: str, **parameters: int) -> "Component":
    """The gateware of device ``name``, built with ``parameters``. Its BUILD registers hold the hash of its sources."""
    return _COMPONENTS[_known(name)](**parameters)


def model(name: str, memory: Any, **parameters: int) -> Any:
    """The register-level model of device ``name``, on ``memory`` (see :class:`rackgate_sim.inflate.model.Memory`)."""
    return _MODELS[_known(name)](memory, **parameters)
