# SPDX-License-Identifier: Apache-2.0
"""One board for many clients: a server that has its cable, and what client and server say to each other."""
