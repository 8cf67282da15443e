# SPDX-License-Identifier: Apache-2.0
"""How good the regression is: faults planted in the gateware, and coverage of its Verilog."""
