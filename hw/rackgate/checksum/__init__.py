# SPDX-License-Identifier: Apache-2.0
"""CRC-32 and Adler-32 at eight bytes a cycle; CRC64 with any polynomial."""
