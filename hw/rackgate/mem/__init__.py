# SPDX-License-Identifier: Apache-2.0
"""Memory for devices that stand alone, on a board."""
