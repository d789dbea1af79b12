"""What `import digsigd` and `import digsigd.client` offer, and what they load."""

from __future__ import annotations

import inspect
import subprocess
import sys
from importlib.metadata import version
from types import ModuleType

import pytest

import digsigd
import digsigd.client
from digsigd.image import report


def loaded_by(code: str) -> set[str]:
    """The modules that are loaded once a fresh interpreter has run the code."""
    code += "\nimport sys\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("module", [digsigd, digsigd.client])
def test_every_public_name_is_there(module: ModuleType) -> None:
    """In `__all__`, in `dir`, and with a docstring; another is an `AttributeError`."""
    assert module.__all__ == sorted(module.__all__)
    for name in module.__all__:
        assert name in dir(module)
        found = getattr(module, name)
        if inspect.isclass(found) or inspect.isfunction(found):
            assert found.__doc__, name
            assert not found.__module__.startswith("twisted"), name
    with pytest.raises(AttributeError, match=f"module '{module.__name__}' has no attribute 'nothing'"):
        _ = module.nothing


def test_the_version_is_that_of_the_distribution() -> None:
    """And is looked up when it is asked for: importing reads no metadata."""
    assert digsigd.__version__ == version("digsigd")
    assert "__version__" in dir(digsigd)
    assert "importlib.metadata" not in loaded_by("import digsigd.client")


def test_importing_the_client_loads_nothing_heavy() -> None:
    """Of the client nothing but its face, and none of Twisted, treq and cryptography."""
    loaded = loaded_by("import digsigd.client")
    assert {name for name in loaded if name.startswith("digsigd")} == {"digsigd", "digsigd.client"}
    assert not {"twisted", "treq", "cryptography", "OpenSSL", "msgspec", "asyncio"} & loaded


def test_verifying_needs_no_twisted() -> None:
    """Nor do the settings and the errors."""
    loaded = loaded_by(
        "from digsigd.client import verify_image, verify_ahab, Report, AhabReport, ClientError, ClientSettings, load"
    )
    assert not {"twisted", "treq", "msgspec", "asyncio"} & loaded


def test_every_name_together_installs_no_reactor() -> None:
    """That is for whoever runs one."""
    loaded = loaded_by("from digsigd.client import *")
    assert "treq" in loaded
    assert "twisted.internet.reactor" not in loaded


def test_the_report_is_that_of_the_image() -> None:
    """One type, by whichever name."""
    assert digsigd.client.Report is report.Report
