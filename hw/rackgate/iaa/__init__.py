# SPDX-License-Identifier: Apache-2.0
"""The analytics accelerator: Intel IAA's interface in front of inflate engines."""
