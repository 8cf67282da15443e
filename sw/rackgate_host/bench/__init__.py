# SPDX-License-Identifier: Apache-2.0
"""Benches: what they are called, the record they fill, and the command that runs them."""
