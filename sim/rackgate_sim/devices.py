# SPDX-License-Identifier: Apache-2.0
"""Devices by name: the gateware of one (:mod:`rackgate.systems`), and its register-level model."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from rackgate.pisa.catalogue import PIPELINES, PipelineDevice
from rackgate.systems import NAMES, component, split

if TYPE_CHECKING:
    from rackgate_sim.native import Route

__all__ = ["NAMES", "component", "joined_models", "model", "route"]


def _inflate_model(memory: Any, **parameters: int) -> Any:
    from rackgate_sim.inflate.device import InflateModel

    return InflateModel(memory, **parameters)


def _echo_model(memory: Any, **parameters: int) -> Any:
    from rackgate_sim.echo import EchoModel

    return EchoModel(memory, **parameters)


def _iaa_model(memory: Any, **parameters: int) -> Any:
    from rackgate_sim.iaa.device import IaaModel

    return IaaModel(memory, **parameters)


def _zeronic_model(memory: Any, **parameters: int) -> Any:
    from rackgate_sim.zeronic.device import ZeronicModel

    return ZeronicModel(memory, **parameters)


def _collective_models(memories: Sequence[Any], *, ports: int = 2, link: int = 0, **parameters: int) -> Any:
    # All ports see the same memory; how many there are is a matter of time only, which the model does not keep.
    from rackgate_sim.collective.fabric import Fabric

    return Fabric(memories, **parameters)


def _collective_model(memory: Any, **parameters: int) -> Any:
    return _collective_models([memory], **parameters).nodes[0]


def _switch_model(device: PipelineDevice, memory: None, **parameters: int) -> Any:
    from rackgate_sim.pisa.device import SwitchModel

    own, switch = split(device, parameters)
    return SwitchModel(device.pipeline(**own), device.map, own, **switch)


_MODELS: dict[str, Callable[..., Any]] = {
    "collective": _collective_model, "echo": _echo_model, "iaa": _iaa_model, "inflate": _inflate_model,
    "zeronic": _zeronic_model,
    **{name: partial(_switch_model, device) for name, device in PIPELINES.items()},
}

_JOINED: dict[str, Callable[..., Any]] = {"collective": _collective_models}

#: Bytes of a packet, first and how many, that name the node it goes to; those of a frame if ``link`` is not 0.
_DESTINATIONS = {"collective": (4, 2)}


def _known(name: str, table: Mapping[str, Any]) -> str:
    if name not in table:
        raise ValueError(f"name must be one of {', '.join(table)}, not {name!r}")
    return name


def model(name: str, memory: Any, **parameters: int) -> Any:
    """The register-level model of device ``name``, on ``memory`` (see :class:`rackgate_sim.inflate.model.Memory`)."""
    return _MODELS[_known(name, _MODELS)](memory, **parameters)


def joined_models(name: str, memories: Sequence[Any], **parameters: int) -> Any:
    """Register-level models of device ``name``, one a memory, joined by links: ``nodes``, ``cycle``, ``run``."""
    return _JOINED[_known(name, _JOINED)](memories, **parameters)


def route(name: str, **parameters: int) -> "Route":
    """How a crossbar finds the node that a packet of device ``name`` goes to, if it has been built so."""
    from rackgate_sim.native import Route

    # Over UDP packets are in Ethernet frames: the last byte of the destination's address is the node.
    offset, width = (5, 1) if parameters.get("link") else _DESTINATIONS[_known(name, _DESTINATIONS)]
    return Route(offset, width)
