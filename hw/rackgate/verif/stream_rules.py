# SPDX-License-Identifier: Apache-2.0
"""The stream rules as checks in hardware."""

from amaranth.hdl import Assert, Assume, Module, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In

__all__ = ["StreamRules", "watch"]


class StreamRules(wiring.Component):
    """Watch a stream: an offered payload must stay until it is taken.

    Once ``valid`` is high, ``valid`` and ``payload`` must hold until a cycle in which ``ready`` is high too.
    A broken rule is an ``Assert`` that fails in the first cycle that breaks it (in Amaranth's simulator at
    the clock edge that ends it); with ``assume`` it is an ``Assume`` instead, for the inputs of a proof.
    The rules start afresh after reset.

    Parameters
    ----------
    shape:
        Shape of the payload.
    name:
        What the message calls the stream.
    assume:
        Assume the rules rather than assert them.

    Members
    -------
    payload, valid, ready:
        The stream's signals, all inputs here.
    """

    def __init__(self, shape, *, name="stream", assume=False):
        self.shape = shape
        self.name = str(name)
        self.assume = bool(assume)
        super().__init__({"payload": In(shape), "valid": In(1), "ready": In(1)})

    def elaborate(self, platform):
        m = Module()
        payload = Value.cast(self.payload)
        was_stalled = Signal()
        old_payload = Signal.like(payload)
        m.d.sync += [
            was_stalled.eq(self.valid & ~self.ready),
            old_payload.eq(payload),
        ]
        # An assumption must bind in the very cycle it is about, or a proof's last cycle would be free of it. An
        # assertion is clocked, so that signals on their way to their values cannot fail it in a simulation.
        check, domain = (Assume, m.d.comb) if self.assume else (Assert, m.d.sync)
        with m.If(was_stalled):
            domain += [
                check(self.valid, f"{self.name}: valid fell before the payload was taken"),
                check(payload == old_payload, f"{self.name}: the payload changed before it was taken"),
            ]
        return m


def watch(m: Module, interface: stream.Interface, *, name: str, assume: bool = False) -> StreamRules:
    """Add the rules for ``interface`` to the module ``m`` as submodule ``<name>_rules``; return the watcher."""
    watcher = StreamRules(interface.signature.members["payload"].shape, name=name, assume=assume)
    m.submodules[f"{name}_rules"] = watcher
    m.d.comb += [
        watcher.payload.eq(interface.payload),
        watcher.valid.eq(interface.valid),
        watcher.ready.eq(interface.ready),
    ]
    return watcher
