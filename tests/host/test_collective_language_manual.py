# SPDX-License-Identifier: Apache-2.0
"""The manual's page on writing a collective does what it says."""

import linecache
import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "collective-language.md"


def test_the_manuals_collectives_run(capsys):
    examples = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(examples) == 4
    scope: dict = {}
    for number, text in enumerate(examples):
        name = f"example_{number}.py"
        linecache.cache[name] = len(text), None, text.splitlines(keepends=True), name
        exec(compile(text, name, "exec"), scope)
    lines = capsys.readouterr().out.splitlines()
    assert lines[:4] == [str([rank + 1, 10 * (rank + 1), sum(range(rank + 1))]) for rank in range(4)]
    assert lines[4] == "['f(f(a, b), c)'] {(0, 1): 4, (1, 2): 4}"
    assert "ranks 0, 2, 1 wait for each other in a circle: rank 0 waits in step 0 (example_3.py:8, wait_for" in lines[5]
