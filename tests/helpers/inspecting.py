"""Runs `digsign inspect`, and reads what it tells machines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.helpers.commands import Digsign


class Inspect:
    """Inspects bytes as a file, by the command; `values` is what it tells machines."""

    def __init__(self, digsign: Digsign, folder: Path) -> None:
        self.digsign = digsign
        self.path = folder / "file"

    def __call__(self, data: bytes, *, code: int = 0) -> str:
        self.path.write_bytes(data)
        ended = self.digsign("inspect", self.path)
        assert ended.code == code, ended.out + ended.err
        return ended.out + ended.err

    def values(self, data: bytes, *, code: int = 0) -> dict[str, Any]:
        self.path.write_bytes(data)
        ended = self.digsign("inspect", self.path, "--json")
        assert ended.code == code, ended.out + ended.err
        values: dict[str, Any] = json.loads(ended.out)
        assert values["damaged"] is bool(code)
        return values


def parts(values: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    """All parts of a kind, however deep."""
    found = [values] if values["kind"] == kind else []
    return found + [one for part in values["parts"] for one in parts(part, kind)]


def damage(values: dict[str, Any]) -> list[str]:
    """All of it, however deep."""
    return [*values["damage"], *(text for part in values["parts"] for text in damage(part))]


def notes(values: dict[str, Any]) -> str:
    return "\n".join([*values["notes"], *(notes(part) for part in values["parts"])])
