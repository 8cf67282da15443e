# SPDX-License-Identifier: Apache-2.0
"""NetLock (SIGCOMM 2020): lock queues in the switch, and in servers what does not fit there. The baseline."""
