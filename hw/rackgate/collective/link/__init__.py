# SPDX-License-Identifier: Apache-2.0
"""The collective engine's link over UDP: what makes packets come in order and once on a network that loses some."""
