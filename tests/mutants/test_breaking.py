"""The changes that `make mutants` makes, and that tests see them."""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests.mutants.graft import graft, graft_users, loaded
from tests.mutants.groups import GROUPS
from tests.mutants.operators import mutants

ROOT = Path(__file__).parent.parent.parent
SOURCE = '''
from dataclasses import dataclass

TAKEN = ("a", "b")
_CHUNK = 4096


@dataclass(frozen=True, slots=True)
class Thing:
    """A thing."""

    size: int
    most: int = 4

    @property
    def fits(self) -> bool:
        return self.size <= self.most and self.size not in {0, 7}


class Wrong(ValueError):
    def __init__(self, what: str) -> None:
        super().__init__(f"wrong: {what}")


def known(name: str, *, least: int = 1) -> bool:
    """Whether it is."""
    if len(name) < least:
        raise ValueError(f"{name} is shorter than {least + 100}")
    return name in TAKEN
'''


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The source above, loaded, as one of ours."""
    (tmp_path / "digsigd_broken.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield importlib.import_module("digsigd_broken")
    del sys.modules["digsigd_broken"]


def test_small_changes_of_all_kinds_are_made_and_texts_left_alone() -> None:
    """Each has a name that says where it is and what it does."""
    names = {one.name for one in mutants(SOURCE)}
    assert {
        "module: ('a', 'b') -> ('b',)",
        "Thing: 4 -> 5",
        "Thing.fits: self.size <= self.most -> self.size < self.most",
        "Thing.fits: self.size <= self.most and self.size not in {0, 7} -> self.size <= self.most",
        "Thing.fits: self.size not in {0, 7} -> self.size in {0, 7}",
        "Thing.fits: {0, 7} -> {7}",
        "known: 1 -> 2",
        "known: len(name) < least -> len(name) <= least",
        "known: if len(name) < least -> if False",
        "known: name in TAKEN -> name not in TAKEN",
    } <= names
    assert not any(part in name for name in names for part in ("100", "shorter", "frozen", "4096"))
    for one in mutants(SOURCE):
        compile(one.tree(), "changed", "exec")
        assert ast.unparse(one.tree()) != ast.unparse(ast.parse(SOURCE)), one.name


def test_the_lines_of_a_change_are_those_of_its_statement_or_of_what_uses_it() -> None:
    """By them the tests are found that can notice it."""
    lines = {one.name: {SOURCE.splitlines()[line - 1].strip() for line in one.lines} for one in mutants(SOURCE)}
    assert "return name in TAKEN" in lines["module: ('a', 'b') -> ('b',)"]
    assert lines["known: len(name) < least -> len(name) <= least"] == {
        "if len(name) < least:",
        'raise ValueError(f"{name} is shorter than {least + 100}")',
    }


@pytest.mark.parametrize(
    ("change", "before", "after"),
    [
        ("module: ('a', 'b') -> ('b',)", True, False),
        ("known: name in TAKEN -> name not in TAKEN", True, False),
        ("known: 1 -> 2", True, None),
        ("known: if len(name) < least -> if False", True, True),
    ],
)
def test_a_change_is_seen_by_those_that_have_the_function_already(
    module: ModuleType, change: str, before: bool, after: bool | None
) -> None:
    """As tests have, which imported it before."""
    known = module.known
    assert known("a") is before
    graft(module, loaded(module, next(one for one in mutants(SOURCE) if one.name == change).tree()))
    if after is None:
        with pytest.raises(ValueError, match="shorter"):
            known("a")
    else:
        assert known("a") is after


@pytest.mark.parametrize(
    ("change", "size"),
    [
        ("Thing: 4 -> 3", 4),
        ("Thing.fits: self.size <= self.most -> self.size < self.most", 4),
        ("Thing.fits: {0, 7} -> {7}", 0),
    ],
)
def test_a_change_of_a_class_is_seen_by_those_that_have_it_already(module: ModuleType, change: str, size: int) -> None:
    """Its methods, and the defaults of its fields."""
    thing = module.Thing
    fits = thing(size).fits
    graft(module, loaded(module, next(one for one in mutants(SOURCE) if one.name == change).tree()))
    assert thing(size).fits is not fits


def test_a_change_that_drops_a_base_is_seen(module: ModuleType) -> None:
    """Its function has no cell for its class any more."""
    assert str(module.Wrong("x")) == "wrong: x"
    change = next(one for one in mutants(SOURCE) if one.where == "Wrong.__init__" and one.name.endswith("-> nothing"))
    graft(module, loaded(module, change.tree()))
    assert str(module.Wrong("x")) == "x"


def test_a_change_of_a_constant_is_seen_in_what_was_built_of_it(
    module: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By another module, when that was loaded."""
    (tmp_path / "digsigd_user.py").write_text(
        "import digsigd_broken\nBUILT = tuple(map(str.upper, digsigd_broken.TAKEN))"
    )
    importlib.invalidate_caches()
    user = importlib.import_module("digsigd_user")
    monkeypatch.setitem(sys.modules, "digsigd_user", user)
    assert user.BUILT == ("A", "B")
    change = next(one for one in mutants(SOURCE) if one.name == "module: ('a', 'b') -> ('b',)")
    graft(module, loaded(module, change.tree()))
    graft_users(module)
    assert user.BUILT == ("B",)


def test_of_two_constants_of_one_value_one_is_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small numbers are one object, in all modules; where a constant was imported to it changes too."""
    source = "LEAST = 32\nMOST = 32\nTAKEN = (1, 2)\n"
    using = "from digsigd_one import *\n"
    names = ("digsigd_one", "digsigd_two", "test_two", "digsigd_three")
    for name, text in zip(names, (source, using, using, "OTHER = 32\n"), strict=True):
        (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    one, two, test, three = map(importlib.import_module, names)
    change = next(change for change in mutants(source) if change.name == "module: 32 -> 31")
    for _ in range(2):
        graft(one, loaded(one, change.tree()))
    assert [(module.LEAST, module.MOST) for module in (one, two, test)] == [(31, 32)] * 3
    assert three.OTHER == 32
    for module in (one, two, test, three):
        del sys.modules[module.__name__]


def test_a_change_of_an_enumeration_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its members cannot be changed, so whoever has imported it gets another one."""
    source = "from enum import IntEnum\nclass Tag(IntEnum):\n    A = 1\n    B = 2\n"
    (tmp_path / "digsigd_kinds.py").write_text(source)
    (tmp_path / "digsigd_uses.py").write_text("from digsigd_kinds import Tag\ndef first(): return int(Tag.A)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    kinds, uses = (importlib.import_module(name) for name in ("digsigd_kinds", "digsigd_uses"))
    graft(kinds, loaded(kinds, ast.parse(source)))
    assert uses.first() == 1
    change = next(one for one in mutants(source) if one.name == "Tag: 1 -> 2")
    graft(kinds, loaded(kinds, change.tree()))
    assert uses.first() == 2
    for name in ("digsigd_kinds", "digsigd_uses"):
        del sys.modules[name]


def test_what_was_noticed_is_known_until_its_function_changes() -> None:
    """Other functions of the module may change, and their lines."""
    texts = {one.where: one.text for one in mutants(SOURCE)}
    assert set(texts) >= {"module", "Thing", "Thing.fits", "Wrong.__init__", "known"}
    after = {one.where: one.text for one in mutants("\n\n" + SOURCE.replace("name in TAKEN", "name not in TAKEN"))}
    assert {where for where, text in texts.items() if after[where] != text} == {"known"}


def test_every_group_has_modules_and_tests() -> None:
    """A module that is moved is not left out without a word."""
    for group in GROUPS:
        assert group.modules(ROOT), group.patterns
        for test in (*group.tests, *(one.partition("::")[0] for one in group.without)):
            assert (ROOT / test).exists(), test
