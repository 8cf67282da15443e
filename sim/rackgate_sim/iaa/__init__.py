# SPDX-License-Identifier: Apache-2.0
"""Golden models of the IAA-style device's parts."""
