# SPDX-License-Identifier: Apache-2.0
"""From the wire to memory and to the entries of a ring."""
