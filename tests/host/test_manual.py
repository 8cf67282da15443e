# SPDX-License-Identifier: Apache-2.0
import random
import re
from pathlib import Path

from pisa_example import BALANCER
from test_pisa_rim import random_frames

from rackgate.pisa.abi import fingerprint
from rackgate_sim.pisa.model import PipelineModel

DOCS = Path(__file__).parents[2] / "docs"
MANUAL = DOCS / "host.md"


def test_the_manuals_examples_run(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    examples = re.findall(r"^```python\n(.*?)^```$", MANUAL.read_text(), re.MULTILINE | re.DOTALL)
    assert len(examples) == 3
    for text in examples:
        exec(text, {})
    assert "transactions are the same" in capsys.readouterr().out


def test_the_pipeline_that_the_manual_builds_is_the_packages(capsys, seed):
    examples = re.findall(r"^```python\n(.*?)^```$", (DOCS / "pisa.md").read_text(), re.MULTILINE | re.DOTALL)
    assert len(examples) == 8
    scope = {}
    for text in examples:
        exec(text, scope)
    assert "[1, 0, 0, 0]" in capsys.readouterr().out
    built = scope["balancer"]
    assert fingerprint(built) == fingerprint(BALANCER)
    theirs, ours = PipelineModel(built), PipelineModel(BALANCER)
    for frame, _ in random_frames(200, random.Random(seed)):
        assert theirs.process(frame) == ours.process(frame)
    assert theirs.registers == ours.registers and ours.registers["counts"]
