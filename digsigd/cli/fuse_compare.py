"""Choose one of the fuse values that were found, and compare it with another: `digsign fuses --compare`."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, TypeVar

from digsigd.cli.console import Console, Trouble, shown
from digsigd.cli.fuse_texts import place_values

if TYPE_CHECKING:
    from digsigd.image.chips import FuseWord


class Found(Protocol):
    """A fuse value that was found: what it is `of`, and what is different for different fuses."""

    @property
    def of(self) -> str:
        """The name of the table or file."""

    @property
    def identity(self) -> bytes:
        """What is different for different fuses."""


F = TypeVar("F", bound=Found)


def chosen(found: Sequence[F], name: str | None, source: str) -> F:
    """Return the only one, or the one called `name`. Raises `Trouble`."""
    if name is not None:
        named = [one for one in found if name in {one.of, one.of.rpartition("/")[2]}]
        if not named:
            raise Trouble(f"{source} has no SRK table {name!r}", hint=f"it has {listed(found)}")
        found = named
    if len({one.identity for one in found}) > 1:
        raise Trouble(f"{source} has several SRK tables", hint=f"set --table to one of: {listed(found)}")
    return found[0]


def listed(found: Sequence[Found]) -> str:
    """Return the names of all, each with the beginning of its value."""
    return ", ".join(f"{shown(one.of)!r} ({one.identity.hex()[:16]}...)" for one in found)


def compare(
    wanted: bytes,
    found: bytes,
    places: Sequence[FuseWord] | None,
    source: str,
    console: Console,
    *,
    once: bool,
    as_json: bool,
) -> int:
    """Print whether a fuse value is the wanted one, of as many bytes. Return the exit code: 1 if it is not.

    `places` are those of the words, None if they are not known. `once` says that each word is burnt only once.
    """
    same = found == wanted
    if as_json:
        console.say(json.dumps(compared_values(wanted, found, places, source), indent=2))
        return 0 if same else 1
    if same:
        console.say(console.coloured(f"The same: {wanted.hex()}", "good"))
        return 0
    words = _words(wanted, found)
    columns = tuple(place_values(0, places))
    console.table(
        (*columns, "wanted", "found", ""),
        [
            (*map(str, place_values(number, places).values()), f"0x{want:X}", f"0x{has:X}", _word(want, has, once))
            for number, (want, has) in words
        ],
    )
    console.say()
    if not any(found):
        console.say("Nothing is burnt yet.")
    elif any(_is_lost(want, has, once) for _, (want, has) in words):
        why = "" if any(has & ~want for _, (want, has) in words) else ", or words that were burnt only in part"
        console.say(console.coloured(f"Not the same: these are different keys{why}.", "bad"))
    else:
        console.say("Not all bits are burnt yet; those that are burnt belong to these keys.")
    return 1


def compared_values(wanted: bytes, found: bytes, places: Sequence[FuseWord] | None, source: str) -> dict[str, object]:
    """Return the comparison as values for JSON."""
    rows = [
        {**place_values(number, places), "wanted": f"0x{want:X}", "found": f"0x{has:X}"}
        for number, (want, has) in _words(wanted, found)
    ]
    return {
        "source": source,
        "fuse_value": wanted.hex(),
        "compared": found.hex(),
        "same": found == wanted,
        "words": rows,
    }


def _words(wanted: bytes, found: bytes) -> list[tuple[int, tuple[int, int]]]:
    count = len(wanted) // 4
    return list(enumerate(zip(struct.unpack(f"<{count}I", wanted), struct.unpack(f"<{count}I", found), strict=True)))


def _is_lost(want: int, has: int, once: bool) -> bool:
    """Return whether burning can no longer make the word right: bits stay set, words with ECC are burnt once."""
    return bool(has & ~want) or (once and has != 0 and has != want)


def _word(want: int, has: int, once: bool) -> str:
    if want == has:
        return "the same"
    if has & ~want:
        return "has burnt bits that must be 0"
    if not has:
        return "not burnt"
    return "burnt in part, cannot be burnt again" if once else "burnt in part"
