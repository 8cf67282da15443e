# SPDX-License-Identifier: Apache-2.0
"""AXI by its usual names: what bus models that others wrote want to see."""

from amaranth.hdl import Cat, Module, ResetInserter, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from rackgate.iaa.top import Iaa
from rackgate.inflate.top import Inflate
from rackgate.pisa.switch import named_switch
from rackgate.verif.stream_rules import StreamRules
from rackgate.zeronic.top import Zeronic

__all__ = ["AxiPins", "iaa", "inflate", "switch", "zeronic"]

_HANDSHAKE = ("valid", "ready")


def _members(device):
    """Of a device: (name, member, port); those of an array one by one, with their numbers behind its name."""
    for name, member in device.signature.members.items():
        port = getattr(device, name)
        if member.dimensions:
            count, = member.dimensions
            single = member.flow(member.signature)
            for number in range(count):
                yield f"{name}{number}", single, port[number]
        else:
            yield name, member, port


def _pins(member):
    """Of a device's AXI member: (channel, stream, field or handshake, shape, flow), flows as the device has them."""
    for channel, port in member.signature.members.items():
        stream = port.signature.members
        for name in _HANDSHAKE:
            yield channel, port, name, 1, stream[name].flow
        for name, field in stream["payload"].shape:
            yield channel, port, name, field.width, stream["payload"].flow


def _is_packets(member):
    """Whether a member is a packet stream."""
    members = member.signature.members
    return "payload" in members and {"data", "count", "last", "error"} == set(
        getattr(members["payload"].shape, "members", ()))


def _packet_pins(name, member):
    """AXI4-Stream's pins for a packet stream; flows as the device has them."""
    ahead = Out if member.flow == Out else In
    back = In if member.flow == Out else Out
    bits = member.signature.members["payload"].shape.members["data"]
    return {f"{name}_tdata": ahead(bits), f"{name}_tkeep": ahead(bits // 8), f"{name}_tlast": ahead(1),
            f"{name}_tuser": ahead(1), f"{name}_tvalid": ahead(1), f"{name}_tready": back(1)}


class AxiPins(wiring.Component):
    """A device with its AXI members split into single pins: ``csr.aw.payload.addr`` is pin ``csr_awaddr``, and
    ``mem[1].aw.payload.addr`` is ``mem1_awaddr``.

    Plain signals keep their names. A packet stream gets AXI4-Stream's: ``net_rx_tdata``, ``net_rx_tkeep`` and so on,
    with ``error`` as ``tuser``. Every stream that the device drives is watched by
    :class:`~rackgate.verif.stream_rules.StreamRules`, so a broken handshake is a failed ``Assert``.

    Parameters
    ----------
    device:
        A component whose members are AXI4 and AXI4-Lite signatures, packet streams and plain signals.

    Members
    -------
    withdraw:
        Input: while high, the device may withdraw what it offers (a restart does).

    Raises
    ------
    TypeError
        When the device has a member of another kind.
    """

    def __init__(self, device: wiring.Component):
        self.device = device
        pins = {"withdraw": In(1)}
        for name, member, _ in _members(device):
            if member.is_port:
                pins[name] = member
            elif _is_packets(member):
                pins |= _packet_pins(name, member)
            elif not {"aw", "w", "b", "ar", "r"} <= set(member.signature.members):
                raise TypeError(f"members must be AXI, packets or plain signals, not {name}: {member!r}")
            else:
                for channel, _, pin, width, flow in _pins(member):
                    pins[f"{name}_{channel}{pin}"] = Out(width) if flow == Out else In(width)
        super().__init__(pins)

    def elaborate(self, platform):
        m = Module()
        m.submodules.device = self.device
        for name, member, ours in _members(self.device):
            if member.is_port:
                source, target = (ours, getattr(self, name)) if member.flow == Out else (getattr(self, name), ours)
                m.d.comb += target.eq(source)
                continue
            if _is_packets(member):
                self._packets(m, name, ours, is_output=member.flow == Out)
                continue
            for channel, _, pin, _, flow in _pins(member):
                stream = getattr(ours, channel)
                inner = getattr(stream, pin) if pin in _HANDSHAKE else Value.cast(stream.payload[pin])
                outer = getattr(self, f"{name}_{channel}{pin}")
                m.d.comb += outer.eq(inner) if flow == Out else inner.eq(outer)
            for channel, port in member.signature.members.items():
                if port.signature.members["valid"].flow == Out:
                    self._watch(m, getattr(ours, channel), f"{name}_{channel}")
        return m

    def _packets(self, m, name, ours, *, is_output):
        pin = {part: getattr(self, f"{name}_t{part}") for part in ("data", "keep", "last", "user", "valid", "ready")}
        word = ours.payload
        if is_output:
            m.d.comb += [
                pin["data"].eq(word.data), pin["keep"].eq(Cat(word.count > lane for lane in range(len(pin["keep"])))),
                pin["last"].eq(word.last), pin["user"].eq(word.error), pin["valid"].eq(ours.valid),
                ours.ready.eq(pin["ready"]),
            ]
            self._watch(m, ours, name)
        else:
            m.d.comb += [
                word.data.eq(pin["data"]), word.count.eq(sum(pin["keep"])), word.last.eq(pin["last"]),
                word.error.eq(pin["user"] & pin["last"]), ours.valid.eq(pin["valid"]), pin["ready"].eq(ours.ready),
            ]

    def _watch(self, m, stream, name):
        rules = StreamRules(stream.payload.shape(), name=name)
        m.submodules[f"rules_{name}"] = ResetInserter(self.withdraw)(rules)
        m.d.comb += [rules.payload.eq(stream.payload), rules.valid.eq(stream.valid), rules.ready.eq(stream.ready)]


def inflate(**parameters: int) -> AxiPins:
    """The inflate device with pins."""
    return AxiPins(Inflate(**parameters))


def iaa(**parameters: int) -> AxiPins:
    """The IAA device with pins."""
    return AxiPins(Iaa(**parameters))


def switch(pipeline: str, **parameters: int) -> AxiPins:
    """The switch with a pipeline of the catalogue, with pins."""
    return AxiPins(named_switch(pipeline, **parameters))


def zeronic(**parameters: int) -> AxiPins:
    """The NIC with pins."""
    return AxiPins(Zeronic(**parameters))
