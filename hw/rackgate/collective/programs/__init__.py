# SPDX-License-Identifier: Apache-2.0
"""Collectives as programs: the language, its compiler and checker, and those that are shipped. Plain Python."""
