# SPDX-License-Identifier: Apache-2.0
"""Rules as hardware, for simulation and for proofs."""
