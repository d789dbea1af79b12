"""Mapped files are searched like bytes, and never behind their ends: under this system's own interpreter as well."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import digsigd
from digsigd import mapped
from digsigd.mapped import Mapped
from digsigd.testing import TrialImage, TrialPki
from tests.helpers import golden

ROOT = Path(digsigd.__file__).parent
PAGE = os.sysconf("SC_PAGE_SIZE")
# The one that has the fault, where this system is Debian 12. It may be another than runs these tests.
SYSTEMS = Path("/usr/bin/python3")


def interpreter(*, as_ours: bool) -> Path:
    """The system's own Python 3.11 or newer; `as_ours`: one that can load what is installed for ours. Else ours."""
    if SYSTEMS.exists():
        asked = "import sys; print(*sys.version_info[:2])"
        done = subprocess.run([SYSTEMS, "-c", asked], capture_output=True, text=True, check=True)
        version = tuple(map(int, done.stdout.split()))
        if version == sys.version_info[:2] if as_ours else version >= (3, 11):
            return SYSTEMS
    return Path(sys.executable)


def run(python: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    found = os.pathsep.join([str(ROOT.parent), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")])
    return subprocess.run(
        [python, *arguments], env={**os.environ, "PYTHONPATH": found}, capture_output=True, text=True, check=False,
        timeout=120,
    )  # fmt: skip


bounds = st.one_of(st.none(), st.integers(-90, 90))


@given(
    data=st.lists(st.sampled_from(b"ab"), min_size=1, max_size=80).map(bytes),
    wanted=st.lists(st.sampled_from(b"ab"), max_size=9).map(bytes),
    start=st.integers(-90, 90),
    end=bounds,
    pieces=st.sampled_from([(1, 1), (1, 4), (3, 20), (4096, 4096)]),
)
def test_a_search_finds_what_one_of_bytes_finds(
    data: bytes, wanted: bytes, start: int, end: int | None, pieces: tuple[int, int]
) -> None:
    """From either end, whatever the bounds, and wherever the pieces part."""
    with tempfile.TemporaryFile() as file, pytest.MonkeyPatch.context() as patch:
        patch.setattr(mapped, "_FIRST_PIECE", pieces[0])
        patch.setattr(mapped, "_LARGEST_PIECE", pieces[1])
        file.write(data)
        file.flush()
        with Mapped.of(file.fileno()) as contents:
            assert contents.find(wanted, start, end) == data.find(wanted, start, end)
            assert contents.rfind(wanted, start, end) == data.rfind(wanted, start, end)
            assert contents.find(wanted) == data.find(wanted)


# Maps files so that no page behind them is anybody's: what lay there at first is given back.
ALONE = """
import mmap, os, sys, tempfile
from digsigd.mapped import Mapped
of = Mapped.of
def alone(descriptor):
    neighbours = [mmap.mmap(-1, os.fstat(descriptor).st_size) for _ in range(64)]
    contents = of(descriptor)
    while neighbours:
        neighbours.pop().close()
    return contents
Mapped.of = alone
"""
SEARCH = """
for pages in (1, 2, 7, 8, 64, 600):
    for byte in b"\\0\\x20E":
        with tempfile.TemporaryFile() as file:
            file.write(bytes([byte]) * pages * mmap.PAGESIZE)
            file.flush()
            with Mapped.of(file.fileno()) as contents:
                for wanted in (b"\\xd1\\x00\\x20", b"\\xd0\\x0d\\xfe\\xed", b"\\0ENGINE_by_id\\0", b"-----BEGIN "):
                    assert contents.find(wanted) == contents.rfind(wanted) == -1
print("found nothing")
"""


def test_a_search_ends_where_the_file_does() -> None:
    """Where the page behind it is nobody's, one byte more would end the process."""
    done = run(interpreter(as_ours=False), "-c", ALONE + SEARCH)
    assert (done.returncode, done.stdout) == (0, "found nothing\n"), done.stderr


@pytest.mark.parametrize("pages", [64, 600])
def test_commands_read_files_of_whole_pages(tmp_path: Path, pages: int) -> None:
    """An image, and one in which nothing is found; the interpreter is the system's own where it can be."""
    pki = TrialPki.make("p256", srks=1)
    image = golden.flash("mm", "binman")
    assert len(image) < 600 * PAGE
    files = {
        "zeros": bytes(pages * PAGE),
        "unknown": (b"\xd1\x00\x21" * pages * PAGE)[: pages * PAGE],
        "spl": TrialImage.of_size(pages * PAGE // 2).data.ljust(pages * PAGE, b"\0")[: pages * PAGE],
    }
    if pages >= 600:
        files["flash"] = image.ljust(pages * PAGE, b"\0")
    table = tmp_path / "table.bin"
    table.write_bytes(pki.srk_table)
    program = f"{ALONE}from digsigd.cli.main import main\nsys.exit(main(sys.argv[1:]))"
    for name, data in files.items():
        path = tmp_path / name
        path.write_bytes(data)
        for command in (("inspect", path), ("verify", path), ("fuses", table, "--compare", path)):
            done = run(interpreter(as_ours=True), "-c", program, *command)
            assert done.returncode in {0, 1}, (command, done.returncode, done.stderr)
            assert "Traceback" not in done.stderr


def test_a_program_of_whole_pages_is_searched_for_its_way_to_tokens(tmp_path: Path) -> None:
    """By the daemon, which would end with all its requests."""
    program = tmp_path / "cst"
    asked = f"{ALONE}from digsigd.signing.pkcs11 import way_of\nprint(way_of(sys.argv[1]))"
    for data, way in (
        (b"E" * 7 * PAGE, "None"),
        (b"E" * 600 * PAGE, "None"),
        (bytes(7 * PAGE - 14) + b"\0ENGINE_by_id\0", "engine"),
    ):
        program.write_bytes(data)
        done = run(interpreter(as_ours=True), "-c", asked, program)
        assert (done.returncode, done.stdout) == (0, f"{way}\n"), done.stderr


def test_nothing_else_maps_a_file() -> None:
    """So that no search is one of Python's own mappings. What processes share is memory alone, and no file."""
    for path in ROOT.rglob("*.py"):
        if path not in {ROOT / "mapped.py", ROOT / "workers/board.py", ROOT / "metrics/cells.py"}:
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
                assert called.rpartition(".")[2] != "mmap", f"{path}:{getattr(node, 'lineno', 0)}"
