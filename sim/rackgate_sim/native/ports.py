# SPDX-License-Identifier: Apache-2.0
"""From a component's signature to a plain description of its ports."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from amaranth.hdl import Shape
from amaranth.lib import data, stream, wiring

from rackgate.axi.bus import AXI4LiteSignature, AXI4Signature

__all__ = ["PortInfo", "SignalInfo", "StreamInfo", "describe"]

_PACKET_FIELDS = {"data", "count", "last", "error"}
_CHANNELS = ("aw", "w", "b", "ar", "r")


@dataclass(frozen=True)
class StreamInfo:
    """One stream: its name in the Verilog, its payload's width and fields (lowest bit, width)."""

    path: str
    width: int
    fields: dict[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def is_packet(self) -> bool:
        """Whether the payload is a word of a packet."""
        return set(self.fields) == _PACKET_FIELDS


@dataclass(frozen=True)
class PortInfo:
    """A port with a model behind it.

    ``kind`` is ``packet_in``, ``packet_out``, ``element_in``, ``element_out``, ``memory`` or ``register``;
    the first four have one stream named ``""``, the others AXI's five channels.
    """

    name: str
    kind: str
    streams: dict[str, StreamInfo]


@dataclass(frozen=True)
class SignalInfo:
    """A port that is a plain signal."""

    name: str
    width: int
    output: bool


def _stream(path: str, signature: Any) -> StreamInfo:
    if signature.always_valid or signature.always_ready:
        raise TypeError(f"port {path}: streams that are always valid or always ready are not supported")
    shape = signature.members["payload"].shape
    layout = _layout(shape)
    fields = {} if layout is None else {str(k): (v.offset, Shape.cast(v.shape).width) for k, v in layout}
    return StreamInfo(path, Shape.cast(shape).width, fields)


def _layout(shape: Any) -> data.Layout | None:
    """The layout of a ``Layout`` or of a ``Struct`` class."""
    try:
        return data.Layout.cast(shape)
    except TypeError:
        return None


def _members(component: wiring.Component) -> Iterator[tuple[str, Any]]:
    """Members of the top signature by Verilog name; an array is one port an element."""
    for name, member in component.signature.members.items():
        for indices in product(*(range(size) for size in member.dimensions)):
            yield "__".join([name, *map(str, indices)]), member


def describe(component: wiring.Component) -> tuple[list[PortInfo], list[SignalInfo]]:
    """Return the ports of a component and its plain signals.

    Raises
    ------
    TypeError
        If a port is of a kind that no model stands behind.
    """
    ports, signals = [], []
    for name, member in _members(component):
        if member.is_port:
            signals.append(SignalInfo(name, Shape.cast(member.shape).width, member.flow == wiring.Out))
            continue
        flipped = isinstance(member.signature, wiring.FlippedSignature)
        signature = member.signature.flip() if flipped else member.signature
        if isinstance(signature, stream.Signature):
            info = _stream(name, signature)
            kind = ("packet" if info.is_packet else "element") + ("_in" if flipped else "_out")
            ports.append(PortInfo(name, kind, {"": info}))
        elif (isinstance(signature, AXI4Signature) and not flipped) or (
            isinstance(signature, AXI4LiteSignature) and flipped
        ):
            channels = {c: _stream(f"{name}__{c}", _upright(signature.members[c].signature)) for c in _CHANNELS}
            ports.append(PortInfo(name, "register" if flipped else "memory", channels))
        else:
            raise TypeError(
                f"port {name}: no simulation model stands behind {'In' if flipped else 'Out'}({signature!r})"
            )
    return ports, signals


def _upright(signature: Any) -> Any:
    return signature.flip() if isinstance(signature, wiring.FlippedSignature) else signature
