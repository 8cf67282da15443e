# SPDX-License-Identifier: Apache-2.0
"""Boards at their pins: a verilated board top with models of a serial line or a PHY at its pins."""
