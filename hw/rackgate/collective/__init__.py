# SPDX-License-Identifier: Apache-2.0
"""A collective engine whose collectives are programs (ACCL+, OSDI'24)."""
