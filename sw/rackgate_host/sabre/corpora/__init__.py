# SPDX-License-Identifier: Apache-2.0
"""Contents of memory to measure snapshots on: what serverless-like functions leave in a microVM or in a process."""

from .corpus import Corpus, Workload
from .functions import FUNCTIONS

__all__ = ["FUNCTIONS", "Corpus", "Workload"]
