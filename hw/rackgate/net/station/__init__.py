# SPDX-License-Identifier: Apache-2.0
"""A station on a network: answers ARP and ping, carries messages in UDP, and leaves all else to the system behind."""
