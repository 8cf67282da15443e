# SPDX-License-Identifier: Apache-2.0
"""Locks decided in the switch, queued at the hosts: FissLock's protocol as published, and hardened."""
