# SPDX-License-Identifier: Apache-2.0
"""Golden model of the NIC that separates headers from payload."""
