# SPDX-License-Identifier: Apache-2.0
"""The ECP5's clock generator."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from amaranth.hdl import Instance, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Dividers", "Pll", "dividers"]

# Lattice FPGA-DS-02012, table of sysCLOCK PLL timing: bounds in MHz.
_VCO_MHZ = (400, 800)
_PHASE_DETECTOR_MHZ = (10, 400)
_MOST_OUTPUTS = 4
_MOST = 128  # any divider


@dataclass(frozen=True)
class Dividers:
    """How a PLL makes its outputs: of the input, of the feedback, and of the oscillator for each output."""

    reference: int
    feedback: int
    outputs: tuple[int, ...]
    oscillator_mhz: float


def dividers(input_mhz: float, outputs_mhz: Sequence[float]) -> Dividers:
    """Dividers that give exactly ``outputs_mhz``; of several ways that with the fastest phase detector.

    Raises
    ------
    ValueError
        There are none.
    """
    if not 1 <= len(outputs_mhz) <= _MOST_OUTPUTS:
        raise ValueError(f"a PLL must have 1 to {_MOST_OUTPUTS} outputs, not {len(outputs_mhz)}")
    for reference in range(1, _MOST + 1):
        detector = input_mhz / reference
        if not _PHASE_DETECTOR_MHZ[0] <= detector <= _PHASE_DETECTOR_MHZ[1]:
            continue
        feedback = outputs_mhz[0] / detector
        if feedback != round(feedback) or not 1 <= feedback <= _MOST:
            continue
        for first in range(1, _MOST + 1):
            oscillator = outputs_mhz[0] * first
            if not _VCO_MHZ[0] <= oscillator <= _VCO_MHZ[1]:
                continue
            others = [oscillator / output for output in outputs_mhz]
            if all(other == round(other) and 1 <= other <= _MOST for other in others):
                return Dividers(reference, round(feedback), tuple(map(round, others)), oscillator)
    wanted = ", ".join(f"{output:g}" for output in outputs_mhz)
    raise ValueError(f"no dividers of the PLL make {wanted} MHz of {input_mhz:g} MHz")


class Pll(wiring.Component):
    """Make clocks from a clock (EHXPLLL), in phase with each other.

    Parameters
    ----------
    input_mhz:
        Frequency of the input.
    outputs_mhz:
        Frequencies of one to four outputs. The feedback is taken from the first.

    Members
    -------
    i: the clock that comes in. o: the clocks, the first in bit 0. locked: they run, and at the right frequency.

    Raises ``ValueError`` when the outputs cannot be made exactly.
    """

    def __init__(self, input_mhz: float, outputs_mhz: Iterable[float]):
        self.input_mhz, self.outputs_mhz = input_mhz, tuple(outputs_mhz)
        self.dividers = dividers(input_mhz, self.outputs_mhz)
        super().__init__({"i": In(1), "o": Out(len(self.outputs_mhz)), "locked": Out(1)})

    def elaborate(self, platform):
        m = Module()
        settings = {
            "p_CLKI_DIV": self.dividers.reference, "p_CLKFB_DIV": self.dividers.feedback, "p_FEEDBK_PATH": "CLKOP",
            "p_PLLRST_ENA": "DISABLED", "p_INTFB_WAKE": "DISABLED", "p_STDBY_ENABLE": "DISABLED",
            "p_DPHASE_SOURCE": "DISABLED", "p_OUTDIVIDER_MUXA": "DIVA", "p_OUTDIVIDER_MUXB": "DIVB",
            "p_OUTDIVIDER_MUXC": "DIVC", "p_OUTDIVIDER_MUXD": "DIVD",
            "a_FREQUENCY_PIN_CLKI": f"{self.input_mhz:g}", "a_ICP_CURRENT": "12", "a_LPF_RESISTOR": "8",
            "a_MFG_ENABLE_FILTEROPAMP": "1", "a_MFG_GMCREF_SEL": "2",
        }
        for k, (name, divider, mhz) in enumerate(zip(("P", "S", "S2", "S3"), self.dividers.outputs, self.outputs_mhz,
                                                     strict=False)):
            settings |= {
                f"p_CLKO{name}_ENABLE": "ENABLED", f"p_CLKO{name}_DIV": divider,
                # In the middle of the phase that the feedback aligns.
                f"p_CLKO{name}_CPHASE": divider - 1, f"p_CLKO{name}_FPHASE": 0,
                f"a_FREQUENCY_PIN_CLKO{name}": f"{mhz:g}", f"o_CLKO{name}": self.o[k],
            }
        m.submodules.pll = Instance(
            "EHXPLLL", **settings, i_CLKI=self.i, i_CLKFB=self.o[0], i_RST=0, i_STDBY=0, i_PHASESEL0=0, i_PHASESEL1=0,
            i_PHASEDIR=0, i_PHASESTEP=0, i_PHASELOADREG=0, i_PLLWAKESYNC=0, i_ENCLKOP=0, o_LOCK=self.locked)
        return m
