"""The Debian package, without building it. `make deb-check` builds and uses it in a bare Debian."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import json
import os
import re
import subprocess
import sys
import sysconfig
import tomllib
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parent.parent
CONTROL = (ROOT / "etc/debian/control").read_text()
DOCUMENT = (ROOT / "docs/operate/install.md").read_text()
UNIT = ROOT / "etc/systemd/digsigd.service"


@pytest.fixture(scope="module")
def environment() -> ModuleType:
    """The script that makes /opt/digsigd."""
    loader = importlib.machinery.SourceFileLoader("make_environment", str(ROOT / "etc/debian/make-environment"))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.dont_write_bytecode, before = True, sys.dont_write_bytecode
    try:
        loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = before
    return module


def from_debian() -> dict[str, str]:
    """The Debian packages that the package for Debian 13 depends on, with their lowest versions ("": any)."""
    found = re.findall(r"^ base-files \(<< 13\) \| (python3-[\w.-]+)(?: \(>= ([\d.]+)\))?,$", CONTROL, re.MULTILINE)
    assert len(found) == CONTROL.count("base-files")
    return dict(found)


def pinned(name: str) -> dict[str, str]:
    text = (ROOT / "etc" / name).read_text()
    return {
        canonicalize_name(one): entry for one, entry in re.findall(r"^([\w.-]+)==((?:.*\\\n)*.*)", text, re.MULTILINE)
    }


def test_what_is_left_out_of_opt_is_a_dependency(environment: ModuleType) -> None:
    """A package is either from Debian or below /opt, never in neither place."""
    assert set(environment.FROM_DEBIAN.values()) == set(from_debian())
    assert {*environment.FROM_DEBIAN, *environment.OPTIONAL} <= set(pinned("constraints.txt"))


def test_what_is_from_debian_is_new_enough(environment: ModuleType) -> None:
    """For each direct dependency, the lowest version is that of pyproject.toml."""
    lowest = from_debian()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    direct = {canonicalize_name((one := Requirement(text)).name): one for text in project["dependencies"]}
    assert {"cryptography", "sqlalchemy", "msgspec"} <= direct.keys() & environment.FROM_DEBIAN.keys()
    for name in direct.keys() & environment.FROM_DEBIAN.keys():
        (specifier,) = direct[name].specifier
        assert Version(lowest[environment.FROM_DEBIAN[name]]) == Version(specifier.version), name


def test_the_lock_loses_what_debian_has_and_nothing_else(environment: ModuleType, tmp_path: Path) -> None:
    """What remains has its hashes."""
    without = {*environment.FROM_DEBIAN, *environment.OPTIONAL}
    environment.from_wheels(ROOT / "etc/constraints.txt", tmp_path / "lock.txt", without)
    text = (tmp_path / "lock.txt").read_text()
    left = re.findall(r"^([\w.-]+)==", text, re.MULTILINE)
    assert {canonicalize_name(name) for name in left} == pinned("constraints.txt").keys() - without
    assert {"twisted", "klein", "treq", "alembic", "zope-interface"} <= {canonicalize_name(name) for name in left}
    for entry in re.split(r"^(?=[\w])", text, flags=re.MULTILINE)[1:]:
        assert "--hash=sha256:" in entry


def test_what_builds_the_package_is_pinned_with_hashes() -> None:
    """The group `build` of pyproject.toml, which has all that the wheel's build requires."""
    table = tomllib.loads((ROOT / "pyproject.toml").read_text())
    group = {Requirement(text).name: Requirement(text) for text in table["dependency-groups"]["build"]}
    assert {Requirement(text).name for text in table["build-system"]["requires"]} <= group.keys()
    entries = pinned("constraints-build.txt")
    for name, requirement in group.items():
        assert Version(entries[canonicalize_name(name)].split()[0]) in requirement.specifier
    assert all("--hash=sha256:" in entry for entry in entries.values())


def test_the_package_has_an_sbom_of_what_is_below_opt(environment: ModuleType) -> None:
    """Each package with its version, as an environment has it; the same bytes for the same packages."""
    site = Path(sysconfig.get_path("purelib"))
    bom = environment.sbom(site)
    assert (bom["bomFormat"], bom["specVersion"]) == ("CycloneDX", "1.6")
    own = bom["metadata"]["component"]
    assert (own["name"], own["type"], own["version"]) == ("digsigd", "application", version("digsigd"))
    found = {one["name"]: one for one in bom["components"]}
    assert found["zope-interface"]["purl"] == f"pkg:pypi/zope-interface@{version('zope.interface')}"
    assert {"twisted", "cryptography", "klein"} <= found.keys()
    assert {one["bom-ref"] for one in found.values()} == {one["purl"] for one in found.values()}
    assert list(found) == sorted(found)
    assert environment.sbom(site) == bom


def test_the_unit_starts_what_the_package_installs(environment: ModuleType) -> None:
    """With the configuration that is its conffile."""
    start = re.findall("^ExecStart=(.*)$", UNIT.read_text(), re.MULTILINE)
    assert start == [f"{environment.PREFIX}/bin/digsigd run --config /etc/digsigd/digsigd.toml"]
    assert (ROOT / "etc/debian/install").read_text().split() == ["etc/digsigd.toml", "etc/digsigd"]


def test_commands_of_the_package_are_those_of_the_project(environment: ModuleType) -> None:
    """Each is in /usr/bin."""
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert set(environment.SCRIPTS) == set(scripts)


def test_a_container_starts_what_the_unit_starts() -> None:
    """It has the folders of the unit, too."""
    text = (ROOT / "etc/container/Containerfile").read_text()
    entry, options = re.findall("^(?:ENTRYPOINT|CMD) (.*)$", text, re.MULTILINE)
    start = re.findall("^ExecStart=(.*)$", UNIT.read_text(), re.MULTILINE)
    assert [*json.loads(entry), *json.loads(options)] == start[0].split()
    for line in re.findall("^Environment=(.*)$", UNIT.read_text(), re.MULTILINE):
        assert line in text
    for folder, name in (("Runtime", "/run/digsigd"), ("State", "/var/lib/digsigd")):
        assert f"{folder}Directory={name.rpartition('/')[2]}\n" in UNIT.read_text()
        assert f"{folder.upper()}_DIRECTORY={name}" in text
    assert re.findall("^USER (.*)$", text, re.MULTILINE) == ["10001:10001"]


def test_a_container_copies_nothing_but_a_clone_and_the_package() -> None:
    """Nothing that is only on the machine that builds it, such as keys in .digsigd."""
    text = (ROOT / "etc/container/Containerfile").read_text()
    assert re.findall("^(?:COPY|ADD) (.*)$", text, re.MULTILINE) == [". /src"]
    recipe = subprocess.run(
        ["make", "--no-print-directory", "-n", "container"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert "git clone" in recipe
    assert recipe.split()[-1] == ".digsigd/container"


def test_commands_of_the_document_are_tried() -> None:
    """Those of the package by `make deb-check`, those of the wheel by `make release-check`."""
    tried = (ROOT / "etc/deb-check").read_text()
    elsewhere = {
        "systemctl enable --now digsigd",  # the same command is in docs/operate/systemd.md, and nothing can start here
        "make container BUILDER=podman",
        # As etc/release-check has them, with pip of another environment.
        "python3 -m venv /opt/digsigd",
        "/opt/digsigd/bin/pip install --require-hashes -r constraints.txt",
        "/opt/digsigd/bin/pip install --no-deps digsigd-X.Y.Z-py3-none-manylinux2014_x86_64.whl",
    }
    blocks = re.findall(r"^```sh\n(.*?)^```", DOCUMENT, re.MULTILINE | re.DOTALL)
    commands = [line for block in blocks for line in block.splitlines()]
    assert len(commands) >= 10
    assert [
        line for line in commands if line not in elsewhere and not re.search(rf"(^|[\n($ ]){re.escape(line)}", tried)
    ] == []


def test_the_document_names_each_python_package_of_debian(environment: ModuleType) -> None:
    """The table of what is Debian's has every package that is left out of /opt."""
    table = DOCUMENT[DOCUMENT.index("### Which Python") : DOCUMENT.index("## The wheel")].lower()
    for name in {*environment.FROM_DEBIAN, "psycopg", "botocore", "twisted", "klein", "treq", "tubes", "alembic"}:
        assert name in table, name


def test_the_check_of_the_package_refuses_a_system_that_is_in_use() -> None:
    """It removes packages."""
    environment = {name: value for name, value in os.environ.items() if name != "DIGSIGD_BARE"}
    done = subprocess.run([ROOT / "etc/deb-check"], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "sudo make deb-check SUITE=trixie" in done.stderr


def test_versions_between_releases_are_older_than_the_release() -> None:
    """By Debian's rules, as etc/make-deb writes them; the package for a newer Debian is newer."""
    (expression,) = re.findall(r"debian=\$\(sed '(.*)' <<<", (ROOT / "etc/make-deb").read_text())
    made = subprocess.run(["sed", expression], input="0.2.0.dev3+g1234567\n0.2.0rc1\n0.2.0\n", capture_output=True,
                          text=True, check=True).stdout.split()  # fmt: skip
    ordered = [f"{one}+deb{debian}" for one in made for debian in (12, 13)]
    for older, newer in pairwise(ordered):
        subprocess.run(["dpkg", "--compare-versions", older, "lt", newer], check=True)
