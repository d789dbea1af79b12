"""What SPSDK finds: the entry point, and a class that is made when it asks for it."""

from __future__ import annotations

import importlib
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from digsigd.spsdk import plugin

ROOT = Path(__file__).parents[2]


def test_the_entry_point_leads_to_the_plugin() -> None:
    """In the group that SPSDK looks up, to a class that only needs SPSDK; the extra brings that."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (target,) = project["entry-points"]["spsdk.sp"].values()
    module, _, name = target.partition(":")
    assert importlib.import_module(module) is plugin
    with pytest.raises(ModuleNotFoundError, match="No module named 'spsdk"):
        getattr(plugin, name)
    assert [one for one in project["optional-dependencies"]["spsdk"] if one.startswith("spsdk")]


def test_the_plugin_has_no_other_names() -> None:
    """A misspelt name is an error."""
    with pytest.raises(AttributeError, match="no attribute 'DigsigdSp'"):
        _ = plugin.DigsigdSp


def test_the_plugin_loads_neither_spsdk_nor_twisted() -> None:
    """Nxpimage loads all plugins, whatever signs; and a reactor in its process would be in the way."""
    code = "import sys, digsigd.spsdk.plugin; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert not set(done.stdout.split()) & {"spsdk", "twisted", "treq", "klein"}
