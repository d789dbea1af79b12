"""The command line as such: it is there at once, and tells what it takes and what went wrong."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from digsigd.cli.main import COMMANDS
from digsigd.testing import TrialPki
from tests.helpers.commands import Run

# What takes long to import, and is not needed to show what there is.
ROOT = Path(__file__).parent.parent.parent
HEAVY = {"twisted", "treq", "cryptography", "klein", "msgspec", "asyncio"}


def imported(*arguments: str) -> set[str]:
    """The packages that a run of digsign has imported when it ends."""
    text = (
        "import sys\nfrom digsigd.cli.main import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        "print('MODULES', *{name.partition('.')[0] for name in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", text, *arguments], capture_output=True, text=True, check=True)
    return set(done.stdout.partition("MODULES")[2].split())


@pytest.mark.parametrize("arguments", [("--help",), ("--version",), *((name, "--help") for name in COMMANDS)])
def test_help_imports_nothing_heavy(arguments: tuple[str, ...]) -> None:
    """So that it is there at once."""
    assert not imported(*arguments) & HEAVY


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(digsign: Run, command: str) -> None:
    """With its arguments."""
    done = digsign(command, "--help")
    assert done.returncode == 0, done.stderr
    assert f"usage: digsign {command}" in done.stdout
    assert len(done.stdout.splitlines()) > 6


def test_all_commands_are_listed(digsign: Run) -> None:
    """By --help, and where none is given."""
    assert all(name in digsign("--help").stdout for name in COMMANDS)
    done = digsign()
    assert done.returncode == 2
    assert "COMMAND" in done.stderr


def test_an_unknown_command_is_told(digsign: Run) -> None:
    """With those that there are."""
    done = digsign("frobnicate")
    assert done.returncode == 2
    assert "verify" in done.stderr


def test_a_reader_that_goes_away_is_no_fault(tmp_path: Path) -> None:
    """As with `digsign ... | head -1`."""
    reading, writing = os.pipe()
    os.close(reading)
    (tmp_path / "table").write_bytes(TrialPki.make("p256", srks=1).srk_table)
    with os.fdopen(writing, "w") as out:
        done = subprocess.run(
            [sys.executable, "-m", "digsigd.cli.main", "inspect", str(tmp_path / "table")],
            stdout=out, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize("document", ["README.md", "docs/digsign.md", "docs/cst.md", "docs/client.md"])
def test_documents_name_what_there_is(digsign: Run, document: str) -> None:
    """Commands, and the options that stand behind them."""
    text = (ROOT / document).read_text()
    used = re.findall(r"^ {4,}(?:\S+=\S+ )*digsign (\w+)(.*(?:\\\n.*)*)$", text, re.MULTILINE)
    assert used or document.endswith(("cst.md", "client.md"))
    for command, rest in used:
        if command == "COMMAND":
            continue
        told = digsign(command, *(["new"] if command == "pki" else []), "--help").stdout
        for option in re.findall(r"(?<=\s)--[a-z-]+", rest.partition("#")[0]):
            assert re.search(rf"{option}\b", told), (command, option)
