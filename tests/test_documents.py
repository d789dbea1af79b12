"""What is written is so: links, names, statuses and the description of the wire."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from openapi_spec_validator import validate

from digsigd.errors import DigsigError
from digsigd.names import VERSION
from digsigd.web import answers, form

ROOT = Path(__file__).parent.parent
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md")), ROOT / "changelog.d/README.md"]


def api() -> Any:
    return yaml.safe_load((ROOT / "docs/openapi.yaml").read_text())


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    """Every link to a file of the project."""
    links = re.findall(r"\]\(([^)#]+)", document.read_text())
    for link in links:
        if "://" not in link:
            assert (document.parent / link).exists(), link


def test_the_description_of_the_wire_is_one() -> None:
    """By OpenAPI's own rules."""
    validate(api())


def test_every_status_is_described() -> None:
    """In openapi.yaml and in docs/api.md, none more and none less than the daemon gives."""
    given = {str(status) for status in answers.STATUS.values()} | {"200", "405"}
    assert set(api()["paths"]["/sign/imx"]["post"]["responses"]) == given
    table = (ROOT / "docs/api.md").read_text()
    assert set(re.findall(r"^\| (\d{3}) \|", table, re.MULTILINE)) == given - {"200"}
    for kind, status in answers.STATUS.items():
        row = next(line for line in table.splitlines() if line.startswith(f"| {status} "))
        assert f"`{kind.problem}`" in row
    assert f"`{DigsigError.problem}`" in table


def test_every_path_and_form_is_described() -> None:
    """With the patterns that are really used."""
    described = api()
    assert set(described["paths"]) == set(answers.ROUTES)
    fields = described["paths"]["/sign/imx"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert fields["properties"]["machine"]["pattern"] == f"^{form._FIELDS['machine'][0].pattern}$"
    assert (
        fields["properties"]["cstversion"]["pattern"]
        == f"^{form._FIELDS['cstversion'][0].pattern}$"
        == f"^{VERSION.pattern}$"
    )
    assert set(fields["properties"]) == {*form._FIELDS, "csf", "artifact"}


def test_the_architecture_names_every_module() -> None:
    """docs/architecture.md has a row for each, and none for what is not there."""
    text = (ROOT / "docs/architecture.md").read_text()
    named = {
        f"{section[1]}/{module}"
        for section in re.finditer(r"^### (digsigd[a-z/]*)\n(.*?)(?=^##)", text, re.MULTILINE | re.DOTALL)
        for module in re.findall(r"^\| `([a-z0-9_/]+\.py)` \|", section[2], re.MULTILINE)
    }
    there = {str(path.relative_to(ROOT)) for path in (ROOT / "digsigd").rglob("*.py") if path.name != "__init__.py"}
    assert named == there
    for name in re.findall(
        r"`([a-z_/]+\.(?:py|toml|md))`", text.split("## Modules")[0] + text.split("## Decisions")[1]
    ):
        assert any((base / name).exists() for base in (ROOT, ROOT / "digsigd")), name


def test_packages_import_what_the_architecture_draws() -> None:
    """No more and no less than its table says, and downward: no package imports itself by way of another."""
    text = (ROOT / "docs/architecture.md").read_text().split("## Packages")[1].split("##")[0]
    rows = re.findall(r"^\| (`.*?) \|.*\|(.*)\|$", text, re.MULTILINE)
    drawn = {frozenset(re.findall(r"`(\w+)`", names)): set(re.findall(r"`(\w+)`", imports)) for names, imports in rows}
    found: dict[frozenset[str], set[str]] = {names: set() for names in drawn}
    for path in (ROOT / "digsigd").rglob("*.py"):
        part = path.relative_to(ROOT / "digsigd").parts[0].removesuffix(".py")
        if part == "__init__":
            continue
        row = next(names for names in drawn if part in names)
        source = path.read_text()
        found[row] |= set(re.findall(r"^\s*from digsigd\.(\w+)", source, re.MULTILINE)) - row
        for several in re.findall(r"^\s*from digsigd import (.+)", source, re.MULTILINE):
            named = {name.split(" as ")[0].strip() for name in several.split(",")}
            found[row] |= named - row - {"Error", "__version__"}
        if part in {"csf", "hab", "image"}:
            assert "twisted" not in source.lower().replace("no twisted", ""), path
    assert found == drawn
    remaining = dict(drawn)
    while remaining:
        below = [names for names, imports in remaining.items() if not any(imports & other for other in remaining)]
        assert below, f"imports go round: {[sorted(names) for names in remaining]}"
        for names in below:
            del remaining[names]


def test_modules_are_read_in_one_sitting() -> None:
    """400 lines at most."""
    for path in (ROOT / "digsigd").rglob("*.py"):
        assert len(path.read_text().splitlines()) <= 400, path


def test_the_readme_commands_are_there() -> None:
    """Every make target that is named, and every option of the daemon."""
    text = (ROOT / "README.md").read_text()
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for target in re.findall(r"make ([a-z-]+)", text):
        assert target in targets
    done = subprocess.run([ROOT / "etc/get-cst", "--help"], capture_output=True, text=True, check=True)
    assert "--base" in done.stdout


def test_the_rules_of_hab_name_tests_and_modules_that_are_there() -> None:
    """docs/hab-rules.md is the review of the verifier: a test that was renamed would leave a rule without one."""
    text = (ROOT / "docs/hab-rules.md").read_text()
    named = set(re.findall(r"`(test_[a-z0-9_]+)`", text))
    assert len(named) > 30
    sources = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    assert {name for name in named if f"def {name}(" not in sources} == set()
    for file in set(re.findall(r"`((?:[a-z_]+/)*[a-z_0-9]+\.(?:py|md))`", text)):
        places = (ROOT, ROOT / "digsigd", ROOT / "digsigd/hab", ROOT / "tests/hab")
        assert any((place / file).is_file() for place in places), file


def test_every_line_of_the_threat_model_names_tests_that_are_there() -> None:
    """docs/security.md: each row of each table of threats, by name or by file; SECURITY.md leads to it."""
    text = (ROOT / "docs/security.md").read_text()
    files = {str(path.relative_to(ROOT / "tests")): path.read_text() for path in (ROOT / "tests").rglob("test_*.py")}
    defined = set(re.findall(r"^(?:async )?def (test_\w+)\(", "".join(files.values()), re.MULTILINE))
    rows = 0
    for table in re.findall(r"^\|(?:.*\|)? (?:test|shown by) \|\n\|[-|]+\n((?:\|.*\n)+)", text, re.MULTILINE):
        for row in table.splitlines():
            rows += 1
            named = re.findall(r"`((?:[a-z_]+/)?test_\w+\.py)?(?:::)?(test_[a-z0-9_]+)?`", row.rpartition(" | ")[2])
            assert any(file or test for file, test in named), row
            for file, test in named:
                assert not file or file in files, file
                assert not test or test in (defined if not file else files[file]), test
    assert rows > 60
    assert "docs/security.md" in (ROOT / "SECURITY.md").read_text()
