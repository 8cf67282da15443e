# SPDX-License-Identifier: Apache-2.0
"""Packets of the link, the buffers for them, and which receive gets which."""
