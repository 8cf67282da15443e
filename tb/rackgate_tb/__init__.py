# SPDX-License-Identifier: Apache-2.0
"""cocotb benches, one a block and one a system."""
