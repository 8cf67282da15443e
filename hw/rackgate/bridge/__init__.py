# SPDX-License-Identifier: Apache-2.0
"""A device's registers and memory over a wire: the bridge, its wire format, and its link by UART."""
