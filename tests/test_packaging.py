"""What is released is named, described and pinned as it should be."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parent.parent
CONSTRAINTS = ROOT / "etc/constraints.txt"
FRAGMENT = re.compile(r"([1-9][0-9]*|\+[a-z0-9-]+)\.(\w+)\.md")


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def pinned() -> dict[str, Version]:
    """What etc/constraints.txt has for every supported Python."""
    lines = re.findall(r"^([a-z0-9._-]+)==([^ ;]+)", CONSTRAINTS.read_text(), re.MULTILINE)
    return {canonicalize_name(name): Version(version) for name, version in lines}


def test_the_version_is_that_of_the_installed_package() -> None:
    """It is a version by PEP 440, from a tag, the fallback or later, and `digsign --version` says the same."""
    version = Version(metadata("digsigd")["Version"])
    assert version.release >= Version(project()["tool"]["hatch"]["version"]["fallback-version"]).release
    done = subprocess.run(
        [sys.executable, "-m", "digsigd.cli.main", "--version"], capture_output=True, text=True, check=True
    )
    assert (done.stdout + done.stderr).strip() == f"digsign {version}"


def test_the_fallback_version_is_no_older_than_the_last_release() -> None:
    """A copy without git is not taken for a release that was made long ago."""
    fallback = Version(project()["tool"]["hatch"]["version"]["fallback-version"])
    latest = re.search(r"^## (\d+\.\d+\.\d+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert latest is not None
    assert fallback.release >= Version(latest[1]).release


def test_the_package_says_where_it_comes_from() -> None:
    """Source, issues, changes, the private way to report a vulnerability; authors, and no address of theirs."""
    described = project()["project"]
    assert {"Source", "Issues", "Changelog", "Documentation", "Security"} <= set(described["urls"])
    assert all(url.startswith("https://") for url in described["urls"].values())
    assert described["authors"] == [{"name": "The digsigd authors"}]


def test_fragments_are_named_for_an_issue_or_words_and_a_type() -> None:
    """As changelog.d/README.md has it, which lists the types that towncrier knows."""
    types = [kind["directory"] for kind in project()["tool"]["towncrier"]["type"]]
    explained = (ROOT / "changelog.d/README.md").read_text()
    assert re.findall(r"^\| `(\w+)` \|", explained, re.MULTILINE) == types
    for path in (ROOT / "changelog.d").iterdir():
        if path.name != "README.md":
            found = FRAGMENT.fullmatch(path.name)
            assert found, path.name
            assert found[2] in types, path.name
            assert path.read_text().strip(), path.name


@pytest.mark.parametrize("name", ["12.added.md", "+some-words.fixed.md"])
def test_a_right_name_of_a_fragment_is_right(name: str) -> None:
    """With or without an issue."""
    assert FRAGMENT.fullmatch(name)


@pytest.mark.parametrize("name", ["added.md", "12.md", "012.added.md", "words.added.md", "12.added.txt", "12.added"])
def test_a_wrong_name_of_a_fragment_is_wrong(name: str) -> None:
    """Such a one would be lost at the release, or shown with a wrong number."""
    assert not FRAGMENT.fullmatch(name)


def test_the_changelog_has_the_place_for_the_next_release() -> None:
    """Once, above all releases."""
    text = (ROOT / "CHANGELOG.md").read_text()
    marker = project()["tool"]["towncrier"]["start_string"]
    assert text.count(marker) == 1
    assert text.index(marker) < text.index("\n## ")


def test_the_constraints_have_every_dependency_in_a_version_that_is_allowed() -> None:
    """S3 included; each with the hashes of its files."""
    described = project()["project"]
    versions = pinned()
    for needed in [*described["dependencies"], *described["optional-dependencies"]["s3"]]:
        requirement = Requirement(needed)
        assert versions[canonicalize_name(requirement.name)] in requirement.specifier, needed
    for entry in re.split(r"^(?=[a-z0-9])", CONSTRAINTS.read_text(), flags=re.MULTILINE)[1:]:
        assert "--hash=sha256:" in entry, entry


def test_two_builds_of_the_wheel_are_the_same_bytes(tmp_path: Path) -> None:
    """In other folders, at other times, with another umask, language and time zone; the launcher included."""
    built = []
    for number, (folder, umask, zone, language) in enumerate(
        [("a", 0o022, "UTC", "C"), ("b c", 0o077, "Asia/Tokyo", "C.UTF-8")]
    ):
        place = tmp_path / folder
        for name in ("digsigd", "twisted", "etc/build_launcher.py", "pyproject.toml", "README.md", "LICENSE"):
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, place / name, ignore=shutil.ignore_patterns("__pycache__", "digsigd-*"))
            else:
                (place / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, place / name)
        for path in place.rglob("*"):
            os.utime(path, (1_000_000_000 + number * 100_000, 1_000_000_000 + number * 100_000))
        environment = {
            "PATH": os.environ["PATH"],
            "TZ": zone,
            "LC_ALL": language,
            "SETUPTOOLS_SCM_PRETEND_VERSION": "1.2.3",
        }
        out = tmp_path / f"out{number}"
        command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(out)]
        done = subprocess.run(
            command, cwd=place, env=environment, umask=umask, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        (wheel,) = out.iterdir()
        built.append(wheel)
    first, second = built
    assert first.name == second.name
    names = zipfile.ZipFile(first).namelist()
    assert "digsigd/signing/launcher/digsigd-launcher" in names
    assert "digsigd/signing/launcher/digsigd-tmpfile.so" in names
    assert hashlib.sha256(first.read_bytes()).digest() == hashlib.sha256(second.read_bytes()).digest()


def test_each_dependency_has_a_lowest_version_and_nothing_else() -> None:
    """`make test-lowest` installs exactly those; an upper bound would keep users from security fixes."""
    for needed in project()["project"]["dependencies"]:
        assert [part.operator for part in Requirement(needed).specifier] == [">="], needed


def test_every_document_is_in_the_site() -> None:
    """The navigation names each file of docs/, and none that is not there."""
    text = (ROOT / "etc/docs/mkdocs.yml").read_text()

    def pages(nav: Any) -> set[str]:
        if isinstance(nav, str):
            return {nav}
        parts = nav.values() if isinstance(nav, dict) else nav
        return {page for part in parts for page in pages(part)}

    named = pages(yaml.safe_load(text)["nav"])
    docs = ROOT / "docs"
    there = {str(path.relative_to(docs)) for path in docs.rglob("*.md")}
    brought = {"index.md", "changelog.md", "contributing.md", "vulnerabilities.md"}
    brought |= {"changelog.d/README.md", "etc/yocto/README.md"}
    assert named == there | brought


def test_hooks_run_the_tools_of_the_project() -> None:
    """In its own versions: nothing is downloaded at a commit."""
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert repository["repo"] == "local"
    for hook in repository["hooks"]:
        assert hook["language"] == "system"
        assert hook["entry"].startswith(".venv/bin/"), hook["id"]


@pytest.mark.parametrize("script", ["release-check", "sbom", "test-with", "make-deb", "deb-check"])
def test_scripts_for_releases_are_shell_scripts_without_mistakes(script: str) -> None:
    """As far as the shell itself sees them."""
    path = ROOT / "etc" / script
    assert subprocess.run(["bash", "-n", path], check=False).returncode == 0
    assert path.stat().st_mode & 0o111


@pytest.mark.parametrize(
    "document", ["CONTRIBUTING.md", "docs/releasing.md", "docs/operate/install.md", "changelog.d/README.md"]
)
def test_commands_that_are_described_are_there(document: str) -> None:
    """Every make target that is named."""
    named = set(re.findall(r"`make ([a-z-]+)", (text := (ROOT / document).read_text())))
    named |= set(re.findall(r"^ +make ([a-z-]+)", text, re.MULTILINE))
    assert named
    assert named <= set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
