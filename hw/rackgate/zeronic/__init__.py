# SPDX-License-Identifier: Apache-2.0
"""A NIC that takes payload apart from headers: payload by stream position, headers to any transport."""
