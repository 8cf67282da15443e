# SPDX-License-Identifier: Apache-2.0
"""Golden models, world models and the native co-simulation."""
