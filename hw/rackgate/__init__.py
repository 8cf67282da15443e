# SPDX-License-Identifier: Apache-2.0
"""Gateware of Rackgate, in Amaranth. Nothing here knows of hosts, simulators or boards."""
