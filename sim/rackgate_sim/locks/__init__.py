# SPDX-License-Identifier: Apache-2.0
"""Locks in simulation: the model checker, the systems that it explores, workloads."""
