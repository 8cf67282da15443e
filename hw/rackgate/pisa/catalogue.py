# SPDX-License-Identifier: Apache-2.0
"""Pipelines that are devices: one line each. Plain Python, read by the host, the models and the gateware.

A line makes ``sim:<name>`` and ``model:<name>``; the declaration itself is only imported when it is asked for.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module

from rackgate.csr.map import RegisterMap
from rackgate.pisa.abi import switch_registers
from rackgate.pisa.declare import Pipeline

__all__ = ["PIPELINES", "SWITCH_PARAMETERS", "PipelineDevice"]

#: Parameters that every switch has, with their defaults; see :class:`rackgate.pisa.switch.Switch`.
SWITCH_PARAMETERS = {"width": 8, "slots": 32, "slot_size": 2048}


@dataclass(frozen=True)
class PipelineDevice:
    """A device that is a switch with a certain pipeline.

    Parameters
    ----------
    name:
        Its name in URLs.
    code:
        Four ASCII letters for the DEVICE register.
    place:
        ``module:attribute`` of the :class:`Pipeline`, or of a function of ``parameters`` that returns it.
    parameters:
        Parameters of the pipeline's own, with their defaults.
    """

    name: str
    code: str
    place: str
    parameters: Mapping[str, int] = field(default_factory=dict)

    @property
    def module(self) -> str:
        """Module of the declaration."""
        return self.place.partition(":")[0]

    @cached_property
    def map(self) -> RegisterMap:
        """The device's registers."""
        return switch_registers(self.code, tuple(self.parameters))

    @property
    def all_parameters(self) -> dict[str, int]:
        """Parameters of the device, with their defaults."""
        return {**self.parameters, **SWITCH_PARAMETERS}

    def pipeline(self, **parameters: int) -> Pipeline:
        """The declaration; parameters that are not given have their defaults. Raises ValueError for a wrong one."""
        for name in parameters:
            if name not in self.parameters:
                raise ValueError(f"pipeline {self.name} has no parameter {name!r}")
        found = getattr(import_module(self.module), self.place.partition(":")[2])
        return found if isinstance(found, Pipeline) else found(**{**self.parameters, **parameters})


#: By name. A new pipeline is one line here.
PIPELINES = {device.name: device for device in (
    PipelineDevice("balancer", "BLNC", "rackgate.net.balancer:BALANCER"),
    PipelineDevice("fisslock", "FISS", "rackgate.fisslock.hardened:pipeline", {"locks": 65536, "word": 36}),
    PipelineDevice("fisslock_faithful", "FISP", "rackgate.fisslock.faithful:pipeline", {"locks": 65536}),
    PipelineDevice("netlock", "NETL", "rackgate.netlock.pipeline:pipeline", {"locks": 1024}),
)}
