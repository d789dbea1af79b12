"""What imports load, each in an interpreter of its own: nothing that is not needed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SERVER = {"errors", "keys", "service", "settings", "signing", "web", "tap", "log", "check", "cli"}
CLIENT = [
    "digsigd.client",
    "digsigd.client._internal.api",
    "digsigd.client._internal.image_signing",
    "digsigd.client._internal.run",
]


def modules_below(package: str) -> list[str]:
    """All modules of a package, and it itself."""
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in (ROOT / package).rglob("*.py")]
    return sorted(name.removesuffix(".__init__") for name in names)


def loaded_by(*modules: str) -> set[str]:
    """The names of the modules that importing these loads; a bare start has some already, by a .pth of old zope."""
    code = f"import sys; before = set(sys.modules); import {', '.join(modules)}; print(*set(sys.modules) - before)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(done.stdout.split())


def ours(loaded: set[str]) -> set[str]:
    """The parts of digsigd among them: the first name below it."""
    return {name.split(".")[1] for name in loaded if name.startswith("digsigd.")}


@pytest.mark.parametrize("module", CLIENT)
def test_the_client_loads_nothing_of_the_server(module: str) -> None:
    """Whoever writes a client installs no reactor by that either."""
    loaded = loaded_by(module)
    assert not ours(loaded) & SERVER
    assert "twisted.internet.reactor" not in loaded


@pytest.mark.parametrize(
    ("part", "may"),
    [
        ("hab", {"hab"}),
        ("ahab", {"ahab", "hab"}),
        ("csf", {"csf", "hab", "ahab"}),
        ("image", {"image", "csf", "hab", "ahab"}),
    ],
)
def test_the_pure_parts_load_only_each_other(part: str, may: set[str]) -> None:
    """Downward, and no Twisted: other programs use them without it."""
    loaded = loaded_by(*modules_below(f"digsigd/{part}"))
    assert part in ours(loaded)
    assert ours(loaded) <= may
    assert not {name.partition(".")[0] for name in loaded} & {"twisted", "treq", "klein", "zope", "msgspec"}


def test_http_is_nobody_s_in_particular() -> None:
    """It knows neither the server nor the client."""
    assert ours(loaded_by(*modules_below("digsigd/http"))) == {"http"}
