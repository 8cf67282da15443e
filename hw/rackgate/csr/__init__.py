# SPDX-License-Identifier: Apache-2.0
"""Register maps (plain Python) and the AXI4-Lite register bank built from them."""
