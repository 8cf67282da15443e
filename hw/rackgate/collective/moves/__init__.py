# SPDX-License-Identifier: Apache-2.0
"""Moves, cut into segments."""
