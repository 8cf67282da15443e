# SPDX-License-Identifier: Apache-2.0
"""FuseSoC generator: a system on a board becomes Verilog, constraints, and the core that lists them.

Parameters in the ``generate`` section: ``board`` and ``system``, as for ``rackgate board build``.
"""

import json
import sys
from pathlib import Path

import yaml

from rackgate_boards.cores import TOP, sources

__all__ = ["generate"]


def generate(request: dict) -> list[Path]:
    """Write the files and ``top.core`` into the current folder, and return them."""
    made = sources(**request["parameters"])
    for name, (text, _) in made.items():
        Path(name).write_text(text)
    files = [{name: {"file_type": kind}} for name, (_, kind) in made.items()]
    core = Path(f"{TOP}.core")
    core.write_text("CAPI=2:\n" + json.dumps({
        "name": request["vlnv"], "filesets": {"sources": {"files": files}},
        "targets": {"default": {"filesets": ["sources"]}},
    }, indent=2) + "\n")
    return [*map(Path, made), core]


if __name__ == "__main__":
    generate(yaml.safe_load(Path(sys.argv[1]).read_text()))
