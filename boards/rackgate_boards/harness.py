# SPDX-License-Identifier: Apache-2.0
"""Four pins around a component that has hundreds of ports."""

from amaranth.hdl import Cat, ClockDomain, ClockSignal, Const, Module, ResetSignal, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Harness"]

_FAN_IN = 4  # of an exclusive-or that fits one LUT


def _tree(width: int) -> int:
    """Registers, and as many LUTs, that fold ``width`` bits into one."""
    nodes = 0
    while width > 1:
        width = -(-width // _FAN_IN)
        nodes += width
    return nodes


class Harness(wiring.Component):
    """Every path of a component between two registers, and nothing of it optimised away.

    Inputs come from a shift register that ``i`` fills a bit a cycle, the reset from a register behind ``rst``.
    Outputs are registered, then folded into ``o`` by a tree of exclusive-ors with a register behind each. It is for
    measuring clock and area; it does not make the component do useful work.

    Parameters
    ----------
    component:
        The component; its ports are all in or out of the ``sync`` domain.

    Members
    -------
    clk, rst, i, o:
        The pins.

    Attributes
    ----------
    ff, lut4:
        What the harness itself takes.
    """

    clk: In(1)
    rst: In(1)
    i: In(1)
    o: Out(1)

    def __init__(self, component: wiring.Component):
        if not isinstance(component, wiring.Component):
            raise TypeError(f"component must be a wiring.Component, not {component!r}")
        super().__init__()
        self._component = component
        ports = [(member.flow, Value.cast(value)) for _, member, value in component.signature.flatten(component)]
        ports = [(flow, value) for flow, value in ports if not isinstance(value, Const)]  # streams that never stall
        self._inputs = Cat(value for flow, value in ports if flow is In)
        self._outputs = Cat(value for flow, value in ports if flow is Out)
        if not len(self._outputs):
            raise ValueError("component must have an output, or all of it is optimised away")
        tree = _tree(len(self._outputs))
        self.lut4 = tree
        self.ff = len(self._inputs) + len(self._outputs) + tree + 1

    def elaborate(self, platform):
        m = Module()
        m.domains.sync = ClockDomain()
        m.domains.raw = ClockDomain(reset_less=True, local=True)
        m.submodules.component = self._component
        m.d.comb += [ClockSignal("sync").eq(self.clk), ClockSignal("raw").eq(self.clk)]
        reset = Signal()
        m.d.raw += reset.eq(self.rst)
        m.d.comb += ResetSignal("sync").eq(reset)
        shift = Signal(len(self._inputs))
        m.d.raw += shift.eq(Cat(self.i, shift))
        m.d.comb += self._inputs.eq(shift)
        level = Signal(len(self._outputs))
        m.d.raw += level.eq(self._outputs)
        while len(level) > 1:
            folded = Signal(-(-len(level) // _FAN_IN))
            for index in range(len(folded)):
                m.d.raw += folded[index].eq(level[index * _FAN_IN:(index + 1) * _FAN_IN].xor())
            level = folded
        m.d.comb += self.o.eq(level)
        return m
