# SPDX-License-Identifier: Apache-2.0
"""Schemes of the worlds that driver tests run on."""

import pytest

__all__ = ["BRIDGED_WORLDS", "WORLDS"]

#: The worlds in this process, which share memory with the host and take its packets.
WORLDS = ["model", pytest.param("sim", marks=[pytest.mark.cosim, pytest.mark.xdist_group("native")])]
#: The model behind a bridge, on links with faults.
BRIDGED_WORLDS = [pytest.param(link, marks=pytest.mark.thorough) for link in ("udp", "uart")]
