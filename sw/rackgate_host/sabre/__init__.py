# SPDX-License-Identifier: Apache-2.0
"""Snapshots of memory in the manner of Sabre (OSDI'24): compressed page by page, working set first.

:mod:`~rackgate_host.sabre.snapshot` writes and reads the files, :mod:`~rackgate_host.sabre.format` is their layout,
:mod:`~rackgate_host.sabre.canned` makes the tables that pages share, :mod:`~rackgate_host.sabre.sabre_files` speaks
Sabre's own files.
"""
