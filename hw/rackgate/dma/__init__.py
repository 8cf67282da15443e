# SPDX-License-Identifier: Apache-2.0
"""Memory readers and writers over AXI4."""
