# SPDX-License-Identifier: Apache-2.0
"""Tables that go into a file or a pipe keep their figures."""

import pytest

from rackgate_host.bench.record import Record, Result
from rackgate_host.bench.tables import show_record
from rackgate_host.output import table_console


def test_a_table_in_a_pipe_shows_every_figure(capsys, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    result = Result("tcp-65536-posted-unmerged", "host_bytes_received_per_payload_byte_unsplit", 1.23456, "byte/byte",
                    target=0.0025, paper=3.71)
    show_record(Record("zeronic", "rackgate bench zeronic", 1, [result], {}, []), table_console())
    printed = capsys.readouterr().out
    assert all(figure in printed for figure in ("1.23456", "0.0025", "3.71", "byte/byte"))


@pytest.mark.parametrize(("columns", "width"), [(None, 160), ("91", 91)])
def test_width_without_a_terminal(monkeypatch, columns, width):
    monkeypatch.delenv("COLUMNS", raising=False)
    if columns:
        monkeypatch.setenv("COLUMNS", columns)
    assert table_console().width == width
