# SPDX-License-Identifier: Apache-2.0
"""Ethernet for boards: media access controller, and the pins of RGMII."""
