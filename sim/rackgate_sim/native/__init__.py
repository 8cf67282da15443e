# SPDX-License-Identifier: Apache-2.0
"""Native co-simulation of any Device: verilated, in process, driven from Python."""
