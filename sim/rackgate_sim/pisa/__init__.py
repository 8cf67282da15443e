# SPDX-License-Identifier: Apache-2.0
"""Reference model of pipelines, made from their declaration."""
