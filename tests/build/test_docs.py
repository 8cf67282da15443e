# SPDX-License-Identifier: Apache-2.0
"""The manual builds without a warning; what README and manual say of commands and targets exists."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.core import TyperGroup

from rackgate_host import checks, cli, inflate

TOP = Path(__file__).parents[2]
PAGES = [TOP / "README.md", *sorted((TOP / "docs").rglob("*.md"))]

#: What a command says of words that it does not understand: Typer's, which has a Click of its own.
REFUSED = typer.BadParameter.__mro__[1]

pytestmark = pytest.mark.build


def test_the_manual_builds(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    environment = {"PYTHONPATH": f"{TOP / 'hw'}:{TOP / 'sw'}", "PATH": ""}
    done = subprocess.run(command, cwd=TOP, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    for page in tmp_path.rglob("*.html"):
        text = page.read_text()
        # Read without a network: what a page loads is in the site.
        assert not re.search(r'<(link[^>]+rel="stylesheet"[^>]+href|script[^>]+src|img[^>]+src)="https?:', text), page
        assert "<!-- table" not in text and "wavedrom</code>" not in text, page
    drawn = {"device": 3, "inflate": 2, "iaa": 1, "collective-engine": 2, "zeronic-nic": 1, "fisslock": 1}
    for name, drawings in drawn.items():
        assert (tmp_path / f"{name}.html").read_text().count('<figure class="wave"><svg') == drawings
    text = (tmp_path / "zeronic-nic.html").read_text()
    assert "Refused (counter BAD_COMMAND)" in text and ":class:" not in text
    text = (tmp_path / "fisslock.html").read_text()
    assert "opaque to the switch" in text and "number of the agentship; the switch fills it in in what it sends" in text
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


@pytest.mark.parametrize("page", ["README.md", "docs/index.md", "docs/device.md", "docs/iaa.md", "docs/inflate.md",
                                  "docs/getting-started.md", "docs/collectives.md"])
def test_examples_run(page, monkeypatch):
    """On the golden model, which takes no options of a simulated memory."""
    monkeypatch.setenv("RACKGATE_DEVICE", "model:inflate")
    inflate.set_default_device(None)
    assert examples(page)
    for text in examples(page):
        exec(text.replace("sim:inflate?contexts=1&latency=40", "model:inflate?contexts=1"), {})
    inflate.set_default_device(None)


@pytest.mark.parametrize("page", ["docs/tutorials/engineer.md", "docs/tutorials/researcher.md", "docs/howto/stage.md"])
def test_examples_run_one_after_the_other(page):
    scope = {"__name__": "manual"}
    assert examples(page)
    for text in examples(page):
        exec(text, scope)


def test_the_tutorial_compares_records(tmp_path):
    scope = {"__name__": "manual"}
    for text in examples("docs/tutorials/researcher.md"):
        exec(text, scope)
    paths = [tmp_path / name for name in "ab"]
    for path, value in zip(paths, (1.0, 2.5), strict=True):
        path.write_text(json.dumps({"results": [{"case": "c", "metric": "m", "value": value},
                                                {"case": "c", "metric": "same", "value": 3}]}))
    assert scope["compare"](*paths) == {("c", "m"): (1.0, 2.5)}


@pytest.mark.cosim
@pytest.mark.xdist_group("native")
@pytest.mark.parametrize("page", ["docs/cosim.md", "docs/howto/engine.md"])
def test_native_examples_run(page):
    scope = {"__name__": "manual"}
    assert examples(page)
    for text in examples(page):
        exec(text, scope)


def commands_of(page):
    """Lines of console blocks that call ``rackgate``, cut at what is the shell's."""
    for line in re.findall(r"^\$ (.*)$", page.read_text(), re.MULTILINE):
        for part in re.split(r"&&|[|&](?!\w)", line.split(" # ")[0].split("    #")[0]):
            words = shlex.split(part)
            if words[:1] == ["rackgate"]:
                yield words[1:]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_of_the_manual_are_understood(page):
    for words in commands_of(page):
        command, left = typer.main.get_command(cli.app), words
        while left and isinstance(command, TyperGroup):
            if left[0] not in command.commands and command.name == "bench":
                left = ["run", *left]
            assert left[0] in command.commands, f"{page.name}: there is no command rackgate {' '.join(words)}"
            command, left = command.commands[left[0]], left[1:]
        try:
            command.make_context(command.name, list(left))
        except typer.Exit:
            continue  # --help
        except REFUSED as error:
            pytest.fail(f"{page.name}: rackgate {' '.join(words)}: {error.format_message()}")


def test_a_command_that_does_not_exist_is_found(tmp_path):
    for line in ("trace inflate --nonsense", "trace nothing", "locks client", "bench --nonsense"):
        (tmp_path / "page.md").write_text(f"```console\n$ rackgate {line}    # says why\n```\n")
        with pytest.raises((pytest.fail.Exception, AssertionError)):
            test_commands_of_the_manual_are_understood(tmp_path / "page.md")


def test_one_line_of_packages():
    """README, manual, Makefile, doctor and CI name the same packages."""
    packages = checks.APT_LINE.removeprefix("sudo apt-get install -y ")
    for path in ("README.md", "docs/index.md", "Makefile", ".ci/run"):
        assert packages in (TOP / path).read_text(), path
