"""Reading descriptions for AHAB takes work in proportion to the text, and telling them takes next to none."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import pytest

from digsigd import csf
from digsigd.csf import ahab
from tests.csf import texts
from tests.csf.ahab_texts import BASE, SGK, SRK, TABLE, V2, another
from tests.csf.test_csf_work import is_linear
from tests.helpers.work import instructions

MEMBERS = [TABLE, *(name for one in (SRK, SGK) for name in (one, one.replace("_crt", "_key")))]
HEADER = "[Header]\nTarget = HAB\n"


def read(text: str) -> None:
    """Take a text as far as it goes."""
    with suppress(csf.CsfError):
        description = ahab.parse(text.encode())
        ahab.check(description, csf.Policy(frozenset(csf.ALLOWABLE)))
        ahab.resolve(description, members=MEMBERS, artifacts={"flash.bin": 1 << 20})


# Texts by a measure of their size.
SHAPES: dict[str, Callable[[int], str]] = {
    "many containers": lambda n: BASE + "".join(another(f"{k:#x}800 {k:#x}890") for k in range(3 * n)),
    "many offsets": lambda n: BASE.replace("0x490", "0x490" + ", 0x800 0x890" * n * 10),
    "many numbers": lambda n: V2.replace("0x490", "0x490" + " 0x800" * n * 10),
    "many certificates": lambda n: BASE + V2[V2.index("[Install C") : V2.index("[Auth")] * n,
    "many arguments": lambda n: BASE + "[Install Secret Key]\n" + "".join(f"a{k} = 1\n" for k in range(8 * n)),
    "a long name": lambda n: BASE.replace("flash.bin", "x" * n * 200),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_the_work_for_ahab_grows_with_the_text_and_no_faster(shape: str) -> None:
    """Or ends at a limit."""
    assert is_linear(lambda size: instructions(lambda: read(SHAPES[shape](size))))


@pytest.mark.parametrize(
    "text",
    [
        HEADER + texts.BASE,
        BASE + "[Install SRK]\n",
        HEADER + "[Install SRK]\n" + "# x\n" * 10000,
        '[Header]\n"' + "x" * 9000,
    ],
    ids=["HAB4", "AHAB", "comments", "damage"],
)
def test_no_more_is_read_than_the_header(text: str) -> None:
    """However long the rest is."""
    # Python 3.13 does not count all of the first time.
    instructions(lambda: ahab.is_ahab(text.encode()))
    once = instructions(lambda: ahab.is_ahab(text.encode()))
    assert once < 3000
    longer = (text + texts.BASE * 1000).encode()
    assert instructions(lambda: ahab.is_ahab(longer)) <= once + 100


@pytest.mark.parametrize("line", ["x = 1\n", "[x]\n", "[x]\nx = 1\n"])
def test_a_target_is_not_searched_for_long(line: str) -> None:
    """In a text that is full of lines."""
    few, many = (f"# ahab\n[Header]\n{line * count}".encode() for count in (1024, 8192))
    instructions(lambda: ahab.is_ahab(few))
    assert instructions(lambda: ahab.is_ahab(many)) < 1.1 * instructions(lambda: ahab.is_ahab(few))
