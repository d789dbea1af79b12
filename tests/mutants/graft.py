"""Puts a changed module into one that is loaded already, so that tests that hold parts of it see the change."""

from __future__ import annotations

import ast
import sys
from enum import EnumMeta
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

_VALUES = (int, bytes, str, tuple, frozenset)


def loaded(module: ModuleType, tree: ast.Module) -> ModuleType:
    """Another version of a module, beside it. Raises whatever the change makes it raise."""
    fresh = ModuleType(module.__name__)
    fresh.__file__, fresh.__package__ = module.__file__, module.__package__
    code: CodeType = compile(tree, str(module.__file__), "exec", dont_inherit=True)
    ours = sys.modules[module.__name__]
    sys.modules[module.__name__] = fresh  # dataclasses look for the module of a class
    try:
        exec(code, fresh.__dict__)  # noqa: S102 -- our own source, with one small change
    finally:
        sys.modules[module.__name__] = ours
    return fresh


def graft(module: ModuleType, fresh: ModuleType) -> None:
    """Give the functions of a module the code of another version of it, and its constants their values.

    Functions and classes stay the objects that they are, wherever they were imported to. Constants are put into every
    loaded module that has the old one.
    """
    for name, new in vars(fresh).items():
        old = vars(module).get(name)
        if name.startswith("__") or old is new:
            continue
        if isinstance(new, EnumMeta) and isinstance(old, EnumMeta):
            # Members cannot be set.
            if _is_own(new, module) and repr(list(old)) != repr(list(new)):
                _constant(name, old, new)
        elif _is_own(new, module) and isinstance(new, type) and isinstance(old, type):
            _class(old, new)
        elif not _function(old, new) and repr(old) != repr(new):
            _constant(name, old, new)


def graft_users(module: ModuleType) -> None:
    """Build anew what other modules of the package have built of a module's constants when they were loaded.

    Packages in it are part of it.
    """
    package = _package(module.__name__)
    waiting, seen = [module], {module.__name__}
    while waiting:
        used = waiting.pop(0)
        for user in list(sys.modules.values()):
            name = getattr(user, "__name__", "")
            if name in seen or not _package(name).startswith(package) or not _uses(user, used):
                continue
            seen.add(name)
            waiting.append(user)
            graft(user, loaded(user, ast.parse(Path(str(user.__file__)).read_text(encoding="utf-8"))))


def _package(name: str) -> str:
    return name.rpartition(".")[0] + "."


def _uses(user: ModuleType, used: ModuleType) -> bool:
    return any(
        value is used or getattr(value, "__module__", None) == used.__name__ for value in list(vars(user).values())
    )


def _is_own(new: object, module: ModuleType) -> bool:
    return getattr(new, "__module__", None) == module.__name__


def _class(old: type, new: type) -> None:
    for name, changed in vars(new).items():
        was = vars(old).get(name)
        if isinstance(changed, type) and isinstance(was, type):
            _class(was, changed)
        elif not _function(was, changed) and (
            isinstance(changed, FunctionType) or (isinstance(changed, _VALUES) and not name.startswith("__"))
        ):
            setattr(old, name, changed)


def _function(old: Any, new: Any) -> bool:
    """Whether they were functions, or something around such."""
    old, new = _unwrapped(old), _unwrapped(new)
    if isinstance(old, property) and isinstance(new, property):
        return _function(old.fget, new.fget)
    if not isinstance(old, FunctionType) or not isinstance(new, FunctionType):
        return False
    if len(old.__code__.co_freevars) != len(new.__code__.co_freevars):
        # Without its `super()`, say.
        return False
    old.__code__, old.__defaults__, old.__kwdefaults__ = new.__code__, new.__defaults__, new.__kwdefaults__
    for ours, theirs in zip(old.__closure__ or (), new.__closure__ or (), strict=True):
        # What a dataclass gives its __init__; a class in a cell (`super()`) stays ours.
        if not isinstance(theirs.cell_contents, type):
            ours.cell_contents = theirs.cell_contents
    return True


def _unwrapped(value: Any) -> Any:
    if isinstance(value, classmethod | staticmethod):
        return value.__func__
    return getattr(value, "__wrapped__", value)


def _constant(name: str, old: object, new: object) -> None:
    """Put it where it was imported to, which pytest's own modules are too ("test_chips", without their packages).

    Small numbers are one object wherever they stand: the name counts too.
    """
    for module in list(sys.modules.values()):
        if getattr(module, "__name__", "").startswith(("digsigd", "test")) and vars(module).get(name) is old:
            setattr(module, name, new)
