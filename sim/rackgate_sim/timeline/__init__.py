# SPDX-License-Identifier: Apache-2.0
"""Timelines: what each stage of a device did in each cycle, read from the waves of a simulation."""
