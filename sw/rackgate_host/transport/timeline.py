# SPDX-License-Identifier: Apache-2.0
"""Timelines of ``sim:`` devices: the waves of a run, read as what each stage did in each cycle."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import RackgateError, Unavailable

if TYPE_CHECKING:
    from rackgate_sim.timeline.timeline import Row

__all__ = ["read"]


def read(kind: str, parameters: Mapping[str, int], waves: Sequence[Path], begin: int, end: int) -> "list[list[Row]]":
    """For each file of ``waves``, all of devices of one ``kind``, the rows of cycles ``begin`` up to ``end``.

    ``parameters`` are the gateware's.

    Raises
    ------
    RackgateError
        The waves are not of such a device.
    Unavailable
        The simulators are not installed.
    """
    try:
        from rackgate_sim.devices import component
        from rackgate_sim.timeline.fst import Waves, WavesError
        from rackgate_sim.timeline.hierarchy import parts
        from rackgate_sim.timeline.stages import stages
        from rackgate_sim.timeline.timeline import rows
    except ModuleNotFoundError as error:
        raise Unavailable(f"timelines need the package {error.name}: pip install 'rackgate[cosim]'") from None
    known, shown = parts(component(kind, **parameters)), stages(kind)
    try:
        return [rows(Waves(path), shown, known, begin, end) for path in waves]
    except WavesError as error:
        raise RackgateError(str(error)) from None
