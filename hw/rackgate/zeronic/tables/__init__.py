# SPDX-License-Identifier: Apache-2.0
"""What the NIC knows of flows, segments and memory regions."""
