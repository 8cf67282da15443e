# SPDX-License-Identifier: Apache-2.0
import re
from pathlib import Path

MANUAL = Path(__file__).parents[2] / "docs" / "host.md"


def test_the_manuals_examples_run(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    examples = re.findall(r"^```python\n(.*?)^```$", MANUAL.read_text(), re.MULTILINE | re.DOTALL)
    assert len(examples) == 3
    for text in examples:
        exec(text, {})
    assert "transactions are the same" in capsys.readouterr().out
