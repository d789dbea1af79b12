"""Finding the versions of cst, and finding out whether they run."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from digsigd.errors import BadRequest, Refused
from digsigd.signing.tools import CstTool, CstTools

if TYPE_CHECKING:
    pass


def put(path: Path, mode: int = 0o755) -> str:
    """An executable at a path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\necho Code Signing Tool\n")
    path.chmod(mode)
    return str(path)


def test_the_real_ones_are_found_by_their_versions(cst_base: Path) -> None:
    """In the layout of NXP's tarball."""
    tools = CstTools(cst_base, {})
    for version in ("3.4.1", "4.0.1"):
        found = tools.find(version)
        assert (found.version, found.executable) == (version, f"{cst_base}/cst-{version}/linux64/bin/cst")
    assert {"3.4.1", "4.0.1"} <= {tool.version for tool in tools.available()}


def test_the_best_place_of_a_version_is_taken(tmp_path: Path) -> None:
    """64 bits before 32, NXP's own builds before others."""
    tools = CstTools(tmp_path, {})
    for place in ("bin", "linux32/bin", "linux64/bin"):
        expected = put(tmp_path / "cst-3.3.1" / place / "cst")
        assert tools.find("3.3.1").executable == expected


def test_what_cannot_be_run_is_passed_over(tmp_path: Path) -> None:
    """A folder, and a file without the right to execute it, are no tools."""
    (tmp_path / "cst-1/linux64/bin/cst").mkdir(parents=True)
    put(tmp_path / "cst-1/linux32/bin/cst", 0o644)
    assert CstTools(tmp_path, {}).available() == ()
    good = put(tmp_path / "cst-1/bin/cst")
    assert CstTools(tmp_path, {}).find("1") == CstTool("1", good)


def test_a_version_may_be_anywhere_if_the_operator_says_so(tmp_path: Path) -> None:
    """Such an entry goes before the base folder, and is not replaced by it where it is wrong."""
    put(tmp_path / "cst-3.4.1/linux64/bin/cst")
    put(tmp_path / "cst-4.0.1/linux64/bin/cst")
    other = put(tmp_path / "other/cst")
    tools = CstTools(tmp_path, {"3.4.1": other, "4.0.1": "/no/such/cst", "local": Path(other)})
    assert tools.find("3.4.1") == CstTool("3.4.1", other)
    assert tools.find("local") == CstTool("local", other)
    with pytest.raises(Refused) as caught:
        tools.find("4.0.1")
    assert "/no/such/cst" in caught.value.detail
    assert "/no/such/cst" not in caught.value.for_client()
    assert [tool.version for tool in tools.available()] == ["3.4.1", "local"]


def test_relative_paths_are_relative_to_where_the_daemon_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run has another directory, and would not find them."""
    put(tmp_path / "nxp/cst-1/bin/cst")
    put(tmp_path / "own/cst")
    monkeypatch.chdir(tmp_path)
    tools = CstTools(Path("nxp"), {"2": "own/cst"})
    monkeypatch.chdir("/")
    assert [tool.executable for tool in tools.available()] == [
        f"{tmp_path}/nxp/cst-1/bin/cst",
        f"{tmp_path}/own/cst",
    ]


@pytest.mark.parametrize(
    ("versions", "hint"),
    [
        ([], "installed versions: none"),
        (["3.4.1"], "installed versions: 3.4.1"),
        (["4.0.1", "3.4.1"], "installed versions: 3.4.1 and 4.0.1"),
        (["3.10.0", "3.9.0", "3.9.0-rc1"], "installed versions: 3.9.0, 3.9.0-rc1 and 3.10.0"),
    ],
)
def test_an_unknown_version_is_refused_with_those_there_are(tmp_path: Path, versions: list[str], hint: str) -> None:
    """In the order of versions, and without a path."""
    for version in versions:
        put(tmp_path / f"cst-{version}/linux64/bin/cst")
    with pytest.raises(Refused) as caught:
        CstTools(tmp_path, {}).find("3.4.2")
    assert caught.value.for_client() == f"cst 3.4.2 is not installed on this signing host: {hint}"


def test_a_version_that_comes_later_is_found_without_a_restart(tmp_path: Path) -> None:
    """Nothing is remembered."""
    tools = CstTools(tmp_path / "nxp", {})
    with pytest.raises(Refused):
        tools.find("3.4.1")
    put(tmp_path / "nxp/cst-3.4.1/bin/cst")
    assert tools.find("3.4.1").version == "3.4.1"
    shutil.rmtree(tmp_path / "nxp")
    assert tools.available() == ()


def test_other_things_beside_the_versions_are_no_versions(tmp_path: Path) -> None:
    """Only folders by the pattern count, and only those with a tool."""
    for name in ("cst-", "cst-.hidden", "cst-a b", "cst", "scst-1", "cst-1" + "0" * 32, "cst-ü"):
        put(tmp_path / name / "bin/cst")
    (tmp_path / "cst-9").touch()
    assert CstTools(tmp_path, {}).available() == ()


@pytest.mark.parametrize(
    "version",
    [
        "",
        ".",
        "..",
        ".1",
        "-1",
        "+1",
        "_1",
        "1/2",
        "../x",
        "1/../../x",
        "1\0",
        "1\n",
        "1 ",
        "ü",
        "\u0661",
        "1" * 33,
        "1\\2",
    ],
)
def test_a_malformed_version_is_a_bad_request(tmp_path: Path, version: str) -> None:
    """A version is never a path."""
    with pytest.raises(BadRequest, match="cstversion"):
        CstTools(tmp_path, {}).find(version)


@given(st.text(alphabet="a1./-_+\0\n ~", max_size=40) | st.text(max_size=40))
def test_whatever_a_client_sends_the_tool_is_inside_the_base(version: str) -> None:
    """Or there is none, and the error is one of ours."""
    try:
        tool = CstTools(Path("/"), {}).find(version)
    except (BadRequest, Refused):
        return
    assert os.path.normpath(tool.executable).startswith(f"/cst-{version}/")
