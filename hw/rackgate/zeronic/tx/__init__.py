# SPDX-License-Identifier: Apache-2.0
"""From a header and a stream position to frames."""
