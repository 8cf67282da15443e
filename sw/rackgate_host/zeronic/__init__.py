# SPDX-License-Identifier: Apache-2.0
"""Simulated hosts whose Linux kernel runs TCP over headers only, while a NIC moves the payload."""
