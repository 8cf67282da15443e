# SPDX-License-Identifier: Apache-2.0
"""What can go wrong in a native simulation."""

__all__ = [
    "AssertionFailure",
    "ProtocolError",
    "RegisterError",
    "SimulationError",
    "SimulationTimeout",
    "ToolError",
]


class SimulationError(Exception):
    """A simulated device, or the use made of it, went wrong. ``cycle`` says when, if it is known."""

    def __init__(self, message: str, *, cycle: int | None = None):
        super().__init__(message)
        self.cycle = cycle


class AssertionFailure(SimulationError, AssertionError):
    """A hardware ``Assert`` failed.

    Attributes
    ----------
    message:
        The assertion's own text.
    file, line:
        Where the assertion stands in the Amaranth source (``None`` if the Verilog does not say).
    cycle:
        The clock cycle at the end of which it failed, counted from the end of reset.
    """

    def __init__(self, message: str, *, cycle: int, file: str | None = None, line: int | None = None):
        where = f" ({file}:{line})" if file else ""
        super().__init__(f"cycle {cycle}: assertion failed: {message}{where}", cycle=cycle)
        self.message, self.file, self.line = message, file, line


class ProtocolError(SimulationError):
    """A device broke the rules of one of its ports: a stream's, or AXI4's."""


class RegisterError(SimulationError):
    """A register access was answered with an error response."""


class SimulationTimeout(SimulationError, TimeoutError):
    """Something waited for did not happen within its limit of cycles."""


class ToolError(SimulationError, OSError):
    """A tool that a native build needs is missing or failed. The message says how to get it."""

    def __str__(self) -> str:
        return str(self.args[0])
