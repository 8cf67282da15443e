# SPDX-License-Identifier: Apache-2.0
"""FuseSoC generator: an Amaranth component becomes one SystemVerilog file and the core that lists it.

Parameters in the ``generate`` section: ``component`` ("module:class"), ``parameters`` (its keyword arguments) and
``top`` (name of the module).
"""

import importlib
import json
import sys
from pathlib import Path

import yaml

from rackgate.export import to_verilog

__all__ = ["generate"]


def generate(request: dict) -> list[Path]:
    """Write ``<top>.sv`` and ``<top>.core`` into the current folder, and return them."""
    wanted = request["parameters"]
    module, _, name = wanted["component"].partition(":")
    component = getattr(importlib.import_module(module), name)(**wanted.get("parameters", {}))
    top = wanted["top"]
    verilog, core = Path(f"{top}.sv"), Path(f"{top}.core")
    verilog.write_text(to_verilog(component, name=top))
    description = {
        "name": request["vlnv"],
        "filesets": {"rtl": {"files": [verilog.name], "file_type": "systemVerilogSource"}},
        "targets": {"default": {"filesets": ["rtl"]}},
    }
    core.write_text("CAPI=2:\n" + json.dumps(description, indent=2) + "\n")
    return [verilog, core]


if __name__ == "__main__":
    generate(yaml.safe_load(Path(sys.argv[1]).read_text()))
