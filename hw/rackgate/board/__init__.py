# SPDX-License-Identifier: Apache-2.0
"""A system with on-chip memory, a bridge and a link: what is the same on every board."""
