# SPDX-License-Identifier: Apache-2.0
"""P4's vocabulary: a pipeline declared once, and the components that make gateware of the declaration."""
