# SPDX-License-Identifier: Apache-2.0
"""``rackgate trace``: one job in the gateware, and what each stage did in each cycle of it."""
