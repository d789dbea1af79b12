"""What is known of changes: which were killed, and why some live."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path

from tests.mutants.operators import Mutant, mutants


class Records:
    """Results in `.digsigd/mutants`, reasons in `reasons.toml`: for each module a table of changes."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._folder = root / ".digsigd/mutants"
        self._reasons: dict[str, dict[str, str]] = tomllib.loads(
            (root / "tests/mutants/reasons.toml").read_text(encoding="utf-8")
        )

    def mutants(self, module: str) -> list[Mutant]:
        """All changes of a module."""
        return mutants((self._root / module).read_text(encoding="utf-8"))

    def reasons(self, module: str) -> dict[str, str]:
        """Why some changes of a module may live."""
        return self._reasons.get(module, {})

    def killed(self, module: str) -> dict[str, str]:
        """What killed each change, of those in functions and classes that are as they were then."""
        path = self._path(module)
        known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        found = {}
        for one in self.mutants(module):
            digest, by = known.get(one.name, ("", ""))
            if digest == _digest(one):
                found[one.name] = by
        return found

    def keep(self, module: str, mutants: Iterable[Mutant], killed: Mapping[str, str]) -> None:
        """Remember what was killed."""
        path = self._path(module)
        path.parent.mkdir(parents=True, exist_ok=True)
        known = {one.name: (_digest(one), killed[one.name]) for one in mutants if one.name in killed}
        path.write_text(json.dumps(known, indent=1), encoding="utf-8")

    def _path(self, module: str) -> Path:
        return self._folder / (module.replace("/", ".") + ".json")


def _digest(mutant: Mutant) -> str:
    return hashlib.sha256(mutant.text.encode()).hexdigest()[:16]
