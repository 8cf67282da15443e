# SPDX-License-Identifier: Apache-2.0
"""Host side of Rackgate: device access, drivers and the rackgate command."""
