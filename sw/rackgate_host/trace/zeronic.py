# SPDX-License-Identifier: Apache-2.0
"""One TCP segment placed."""

from collections.abc import Callable

from ..bench.zeronic.datapath import Bed
from ..errors import UsageError
from .job import Job, check_url, seeded, waves_path

__all__ = ["MOST", "run"]

#: Payload of a frame with time stamps, at most, where frames have 1500 bytes.
MOST = 1448


def run(url: str, payload: int, seed: int, progress: Callable[[str], None] | None = None) -> Job:
    """A segment of ``payload`` bytes comes to a flow whose memory is posted; its entry goes to the host."""
    if not 1 <= payload <= MOST:
        raise UsageError(f"payload must be 1 to {MOST} bytes, not {payload}")
    check_url(url, ("zeronic",))
    waves = waves_path("zeronic")
    bed = Bed(url, waves=str(waves), progress=progress, **seeded(url, seed))
    try:
        [frame] = bed.frames(1, payload, seed)
        begin = bed.device.cycles
        beat, entry = bed.first_write(frame)
        end = bed.device.cycles
        title = f"a segment of {payload} bytes placed"
        return Job.on(bed.device, title, begin, end, {"NIC": waves}, words_in=-(-len(frame) // bed.width),
                      cycles_from_last_word_to_first_write=beat, cycles_from_last_word_to_entry=entry)
    finally:
        bed.device.close()
