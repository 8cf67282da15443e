# SPDX-License-Identifier: Apache-2.0
"""Golden model of the inflate device, and Deflate streams to test it with."""
