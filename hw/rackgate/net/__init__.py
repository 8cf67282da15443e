# SPDX-License-Identifier: Apache-2.0
"""Internet headers, and blocks for them."""
