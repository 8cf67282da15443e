# SPDX-License-Identifier: Apache-2.0
"""The smallest system: it copies memory, to show that a board, its link and its memory work."""
