# SPDX-License-Identifier: Apache-2.0
"""Arithmetic on streams of elements: sums, maxima and minima of words, and conversion between float formats."""
