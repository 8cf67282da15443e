# SPDX-License-Identifier: Apache-2.0
"""The manual's load balancer, by the name that tests know it."""

from rackgate.net.balancer import BALANCER, SEND, counts, meta

__all__ = ["BALANCER", "SEND", "counts", "meta"]
