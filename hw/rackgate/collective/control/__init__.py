# SPDX-License-Identifier: Apache-2.0
"""Calls, the programs that they run, and communicators."""
