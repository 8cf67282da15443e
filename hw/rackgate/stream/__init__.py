# SPDX-License-Identifier: Apache-2.0
"""Stream blocks: queues, skid buffers, arbiters, width and alignment."""
