# SPDX-License-Identifier: Apache-2.0
"""The wheel holds what an installation needs; the lock holds what the bounds allow."""

import gzip
import importlib.metadata
import json
import re
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

TOP = Path(__file__).parents[2]
PROJECT = tomllib.loads((TOP / "pyproject.toml").read_text())

pytestmark = pytest.mark.build


def locked():
    lines = (TOP / "requirements.lock").read_text().splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def requirements():
    project = PROJECT["project"]
    for text in (*project["dependencies"], *sum(project["optional-dependencies"].values(), [])):
        requirement = Requirement(text)
        if requirement.name != "rackgate":
            yield requirement


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    script = "import sys; from hatchling.build import build_wheel; print(build_wheel(sys.argv[1]))"
    done = subprocess.run([sys.executable, "-c", script, folder], cwd=TOP, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return folder / done.stdout.splitlines()[-1]


def test_wheel(wheel):
    with zipfile.ZipFile(wheel) as opened:
        names = set(opened.namelist())
        entry_points = opened.read(next(name for name in names if name.endswith("entry_points.txt"))).decode()
    assert "rackgate = rackgate_host.cli:main" in entry_points
    tops = {name.partition("/")[0] for name in names if ".dist-info" not in name}
    assert tops == {"rackgate", "rackgate_boards", "rackgate_host", "rackgate_sim", "rackgate_tb"}
    assert any(name.endswith("licenses/LICENSE") for name in names)
    # A device is compiled where the wheel is installed, so the harness must be in it.
    for path in (TOP / "sim" / "rackgate_sim" / "native" / "harness").iterdir():
        assert f"rackgate_sim/native/harness/{path.name}" in names
    # What the report's pages are made of.
    for folder in ("static", "templates"):
        for path in (TOP / "sw" / "rackgate_host" / "report" / folder).iterdir():
            assert f"rackgate_host/report/{folder}/{path.name}" in names
    # So is the sockets shim.
    for path in (TOP / "sw" / "rackgate_host" / "zeronic" / "shim").glob("*.[ch]"):
        assert f"rackgate_host/zeronic/shim/{path.name}" in names


def needed(names, found):
    """Distributions that a core installation has: what is named, and what that needs."""
    for name in names:
        if canonicalize_name(name) not in found:
            found[canonicalize_name(name)] = distribution = importlib.metadata.distribution(name)
            wanted = [Requirement(text) for text in distribution.requires or ()]
            needed([each.name for each in wanted if not each.marker or each.marker.evaluate({"extra": ""})], found)
    return found


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """An environment with the wheel and its core dependencies, and nothing else. These come from the environment of the
    tests, so that no network is needed."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    site = Path(subprocess.run([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
                               capture_output=True, text=True, check=True, timeout=60).stdout.strip())
    core = [Requirement(text).name for text in PROJECT["project"]["dependencies"]]
    for each in needed(core, {}).values():
        for top in {path.parts[0] for path in each.files or () if path.parts[0] not in ("..", "__pycache__")}:
            (site / top).symlink_to(each.locate_file(top))
    done = subprocess.run([sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python, "install",
                           "--no-index", wheel], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return folder


def run(installed, folder, *arguments, **environment):
    """The installed command, in a folder that is no checkout, with an environment that leads to none."""
    env = {"PATH": f"{installed / 'bin'}:/usr/bin:/bin", "HOME": str(folder), **environment}
    return subprocess.run([installed / "bin" / "rackgate", *arguments], cwd=folder, env=env, capture_output=True,
                          text=True, timeout=120)


def test_an_installation_works(installed, tmp_path):
    """With nothing but the core dependencies: a device that is a model inflates a file."""
    done = run(installed, tmp_path, "--version")
    assert (done.returncode, done.stdout) == (0, f"rackgate {PROJECT['project']['version']}\n"), done.stderr
    content = bytes(range(256)) * 100
    (tmp_path / "a.gz").write_bytes(gzip.compress(content))
    done = run(installed, tmp_path, "inflate", "a.gz", "--device", "model:inflate", "--json")
    assert done.returncode == 0, done.stderr
    file, = json.loads(done.stdout)["files"]
    assert file["equal"] and file["bytes_out"] == len(content)


def test_what_an_installation_lacks_has_a_name(installed, tmp_path):
    (tmp_path / "a.gz").write_bytes(gzip.compress(b"a"))
    done = run(installed, tmp_path, "inflate", "a.gz", "--device", "sim:inflate")
    assert done.returncode == 3 and "pip install 'rackgate[cosim]'" in done.stderr, done.stderr
    done = run(installed, tmp_path, "bench", "compare")
    assert done.returncode == 2 and "no checkout here, so the baseline's folder must be named" in done.stderr
    done = run(installed, tmp_path, "bench", "iaa", "--scheduler", "tcp://127.0.0.1:1", "--set", "device=model:iaa")
    assert done.returncode == 3 and "pip install 'rackgate[bench]'" in done.stderr, done.stderr


@pytest.mark.parametrize(("shell", "words"), [("bash", "complete -o default"), ("zsh", "#compdef rackgate"),
                                              ("fish", "complete --command rackgate")])
def test_shell_completion(installed, tmp_path, shell, words):
    """The script that `--install-completion` puts in place, and what it then asks for."""
    done = run(installed, tmp_path, "--show-completion", shell, _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
    assert done.returncode == 0 and words in done.stdout, done.stderr
    done = run(installed, tmp_path, "--install-completion", shell, _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
    assert done.returncode == 0 and f"{shell} completion installed" in done.stdout, done.stderr
    asked = {"bash": {"COMP_WORDS": "rackgate inf", "COMP_CWORD": "1"},
             "zsh": {"_TYPER_COMPLETE_ARGS": "rackgate inf"},
             "fish": {"_TYPER_COMPLETE_ARGS": "rackgate inf", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}}
    done = run(installed, tmp_path, _RACKGATE_COMPLETE=f"complete_{shell}", **asked[shell])
    assert "inflate" in done.stdout and "locks" not in done.stdout, done.stderr


PAPERS = ("lazarev", "he", "zhang-hanze", "skiadopoulos")


def test_citation():
    """It cites the four papers, and has the version and the licence of the project."""
    cited = yaml.safe_load((TOP / "CITATION.cff").read_text())
    assert (cited["cff-version"], cited["type"]) == ("1.2.0", "software")
    assert cited["message"] and cited["title"] and cited["authors"]
    project = PROJECT["project"]
    assert (cited["version"], cited["license"]) == (project["version"], project["license"])
    assert [paper["url"].rpartition("/")[2] for paper in cited["references"]] == list(PAPERS)
    for paper in cited["references"]:
        assert paper["year"] == 2024 and paper["authors"] and paper["start"] < paper["end"]
        assert all(set(author) == {"given-names", "family-names"} for author in paper["authors"])


def test_papers_that_go_with_every_checkout():
    assert "Apache License" in (TOP / "LICENSE").read_text()
    assert PROJECT["project"]["version"] in (TOP / "CHANGELOG.md").read_text()
    assert "docs/contributing.md" in (TOP / "CONTRIBUTING.md").read_text()

def test_lock_is_exact():
    lines = [line for line in (TOP / "requirements.lock").read_text().splitlines() if not line.startswith("#")]
    assert lines
    assert not [line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!]+", line)]


def test_lock_is_within_the_bounds():
    versions = {canonicalize_name(name): version for name, version in locked().items()}
    for requirement in requirements():
        version = versions.get(canonicalize_name(requirement.name))
        assert version, f"{requirement.name} is not in requirements.lock: make lock"
        assert requirement.specifier.contains(version), f"{requirement} does not allow the locked {version}: make lock"


def test_dependencies_have_bounds_and_reasons():
    for requirement in requirements():
        operators = {specifier.operator for specifier in requirement.specifier}
        assert {">=", "<"} <= operators, f"{requirement} has not both bounds"
        assert not requirement.url
        lowest = next(Version(each.version) for each in requirement.specifier if each.operator == ">=")
        assert requirement.specifier.contains(lowest)
    text = (TOP / "pyproject.toml").read_text()
    lists = re.findall(r'^    "(?!rackgate\[)[a-zA-Z0-9_-]+>=.*$', text, re.MULTILINE)
    assert len(lists) == len(list(requirements()))
    assert not [line for line in re.findall(r'^    "[a-z0-9-]+[><=].*$', text, re.MULTILINE) if "  # " not in line]
