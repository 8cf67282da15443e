# SPDX-License-Identifier: Apache-2.0
"""Board tops and the build helper."""
