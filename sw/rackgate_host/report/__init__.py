# SPDX-License-Identifier: Apache-2.0
"""The report: records of benches as a static site that a browser opens without a network."""
