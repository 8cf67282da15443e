# SPDX-License-Identifier: Apache-2.0
"""A bound on how fast storage gives its bytes: to measure a restore as on a slower disk."""

import math
import threading
import time

__all__ = ["Throttle"]


class Throttle:
    """Makes reads take as long as a device of ``rate`` bytes/s would need that does one request after the other.

    A request of n bytes ends at ``max(now, end of the last one) + n / rate``, and not before ``latency`` seconds have
    passed. ``rate`` ``None`` bounds nothing. For several threads at once. Time comes from ``clock``.
    """

    def __init__(self, rate: float | None = None, latency: float = 0.0, clock=time.monotonic, sleep=time.sleep):
        if rate is not None and not (math.isfinite(rate) and rate > 0):
            raise ValueError(f"rate must be above 0 bytes/s, not {rate}")
        if not (math.isfinite(latency) and latency >= 0):
            raise ValueError(f"latency must be 0 s or more, not {latency}")
        self.rate = rate
        self.latency = latency
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._free = clock()

    def reserve(self, size: int) -> float:
        """Begin a request of ``size`` bytes; the time at which its bytes are there."""
        now = self._clock()
        if self.rate is None:
            return now + self.latency
        with self._lock:
            self._free = max(now, self._free) + size / self.rate
            return max(self._free, now + self.latency)

    def wait(self, ready: float) -> None:
        """Sleep until ``ready``, as :meth:`reserve` gave it."""
        left = ready - self._clock()
        if left > 0:
            self._sleep(left)
