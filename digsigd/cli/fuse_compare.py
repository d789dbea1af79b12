"""Compare the fuse value of keys with another one, word by word: `digsign fuses --compare`."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING

from digsigd.cli.console import Console
from digsigd.cli.fuse_texts import place_values

if TYPE_CHECKING:
    from digsigd.image.chips import FuseWord


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
    count = len(wanted) // 4
    pairs = zip(struct.unpack(f"<{count}I", wanted), struct.unpack(f"<{count}I", found), strict=True)
    words = list(enumerate(pairs))
    if as_json:
        rows = [
            {**place_values(number, places), "wanted": f"0x{want:X}", "found": f"0x{has:X}"}
            for number, (want, has) in words
        ]
        values = {
            "source": source,
            "fuse_value": wanted.hex(),
            "compared": found.hex(),
            "same": same,
            "words": rows,
        }
        console.say(json.dumps(values, indent=2))
        return 0 if same else 1
    if same:
        console.say(console.coloured(f"The same: {wanted.hex()}", "good"))
        return 0
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
