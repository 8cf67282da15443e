# SPDX-License-Identifier: Apache-2.0
"""The manual builds without a warning; what README and manual say of commands and targets exists."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from rackgate_host import checks, cli, inflate

TOP = Path(__file__).parents[2]
PAGES = [TOP / "README.md", *sorted((TOP / "docs").rglob("*.md"))]

pytestmark = pytest.mark.build


def test_the_manual_builds(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    environment = {"PYTHONPATH": f"{TOP / 'hw'}:{TOP / 'sw'}", "PATH": ""}
    done = subprocess.run(command, cwd=TOP, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "inflate.html").read_text()
    assert "RING_TAIL" in text and "DISTANCE_TOO_LARGE" in text
    assert "<!-- table" not in text
    text = (tmp_path / "iaa.html").read_text()
    assert "AECS_GENERATION" in text and "COMPLETION_MISALIGNED" in text and "<!-- table" not in text
    text = (tmp_path / "collective-engine.html").read_text()
    for name in ("COMPLETION_POP", "COMMUNICATOR_BROKEN", "ALLREDUCE", "ADDM", "acknowledgement", "CREDIT"):
        assert name in text
    assert "<!-- table" not in text and ":class:" not in text
    text = (tmp_path / "sabre" / "format.html").read_text()
    assert "working_set_count" in text and "CANNED" in text and "<!-- table" not in text


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_name_what_exists(page):
    text = page.read_text()
    targets = set(re.findall(r"^([a-z]+):", (TOP / "Makefile").read_text(), re.MULTILINE))
    commands = {command.name for command in cli.app.registered_commands}
    commands |= {group.typer_instance.info.name for group in cli.app.registered_groups if group.typer_instance}
    assert set(re.findall(r"(?:`|^\$ )make ([a-z]+)", text, re.MULTILINE)) <= targets
    assert set(re.findall(r"(?:`|^\$ )rackgate ([a-z]+)", text, re.MULTILINE)) <= commands
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def examples(page):
    return re.findall(r"^```python\n(.*?)^```$", (TOP / page).read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", ["README.md", "docs/index.md", "docs/device.md", "docs/iaa.md",
                                  "docs/collectives.md"])
def test_examples_run(page, monkeypatch):
    """On the golden model, which takes no options of a simulated memory."""
    monkeypatch.setenv("RACKGATE_DEVICE", "model:inflate")
    inflate.set_default_device(None)
    assert examples(page)
    for text in examples(page):
        exec(text.replace("sim:inflate?contexts=1&latency=40", "model:inflate?contexts=1"), {})
    inflate.set_default_device(None)


@pytest.mark.cosim
def test_native_examples_run():
    assert examples("docs/cosim.md")
    for text in examples("docs/cosim.md"):
        exec(text, {})


def test_one_line_of_packages():
    """README, manual, Makefile, doctor and CI name the same packages."""
    packages = checks.APT_LINE.removeprefix("sudo apt-get install -y ")
    for path in ("README.md", "docs/index.md", "Makefile", ".ci/run"):
        assert packages in (TOP / path).read_text(), path
