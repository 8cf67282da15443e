# SPDX-License-Identifier: Apache-2.0
"""A board's sources as files, for tools that build bitstreams in another way than :mod:`rackgate_boards.build`."""

from amaranth.back import rtlil

from rackgate.board.device import board_device
from rackgate.board.links import Uart
from rackgate.export import rtlil_to_verilog
from rackgate.paths import checkout

from . import arty
from .build import constraints, gateware
from .flow import BuildError
from .pairs import choose
from .tops import Top

__all__ = ["TOP", "sources"]

#: Name of the top module.
TOP = "top"


def sources(board: str, system: str) -> dict[str, tuple[str, str]]:
    """Text and type (as FuseSoC calls it) of each file of a system on a board, by the file's name.

    Parameters
    ----------
    board:
        One of :data:`~rackgate_boards.boards.BOARDS`, or ``arty_a7_100``, which has a UART and a system's smallest
        configuration.
    system:
        The system.

    Raises
    ------
    ValueError
        There is no such board or system.
    DoesNotFit
        There is, but not together.
    BuildError
        This is no checkout.
    """
    return _arty(system) if board == arty.NAME else _ecp5(board, system)


def _ecp5(board: str, system: str) -> dict[str, tuple[str, str]]:
    pair = choose(board, system)
    top = Top(pair.board, gateware(pair), pair.configuration.clock_mhz)
    plan = pair.board.make_platform().build(top, name=TOP, do_build=False, emit_src=False,
                                            add_preferences=constraints(pair.board, pair.link_name))
    netlist, preferences = (text.decode() if isinstance(text, bytes) else text
                            for text in (plan.files[f"{TOP}.il"], plan.files[f"{TOP}.lpf"]))
    return {f"{TOP}.sv": (rtlil_to_verilog(netlist), "systemVerilogSource"), f"{TOP}.lpf": (preferences, "LPF")}


def _arty(system: str) -> dict[str, tuple[str, str]]:
    configuration = choose("ulx3s_85", system).configuration  # as large an FPGA, with a UART
    inner = board_device(system, configuration.parameters, board=arty.NAME, link=Uart(),
                         clock_hz=1_000_000 * arty.CLOCK_MHZ, memory=configuration.memory)
    folder = checkout()
    if folder is None:
        raise BuildError(f"constraints of {arty.NAME} are part of the checkout: work in one")
    pins = (folder / "constraints" / f"{arty.NAME}.xdc").read_text()
    netlist = rtlil.convert(arty.ArtyTop(inner), name=TOP, emit_src=False)
    return {f"{TOP}.sv": (rtlil_to_verilog(netlist), "systemVerilogSource"), f"{TOP}.xdc": (pins, "xdc")}
