"""What docs/csf.md says about AHAB is so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from digsigd import csf
from digsigd.csf import ahab
from digsigd.csf.ahab import grammar, policy
from tests.csf.ahab_signer import AhabSigner, keys, unsigned
from tests.csf.test_docs import TEXT, rows

AHAB = TEXT[TEXT.index("\n## AHAB\n") :]
EXAMPLES = re.findall(r"^```csf-ahab\n(.*?)^```$", AHAB, re.DOTALL | re.MULTILINE)
ERRORS = re.findall(r"^```text-ahab\n(.*?)^```$", AHAB, re.DOTALL | re.MULTILINE)
# By the first word of what the table says.
NEEDED, NEWER, REFUSED = "needed", "version 2", "refused"


@pytest.mark.parametrize("number", [0, 1])
def test_examples_for_ahab_are_signed(cst_base: Path, tmp_path: Path, number: int) -> None:
    """A real cst signs each as it stands, whatever the keys are called."""
    text = EXAMPLES[number]
    description = ahab.parse(text.encode())
    start, block = description.data[0].offsets
    container = unsigned(description.header.container_version)
    if block - start == 0x90:
        # One image: the first entry of the sample, with what the header says about it.
        container = container[:0xB] + b"\1\x90\0" + container[0xE:0x90] + container[0x110:]
    members = {**keys(), **{name.replace("_ca_", "_usr_"): content for name, content in keys().items()}}
    signer = AhabSigner(cst_base / "cst-4.0.1/linux64/bin/cst", tmp_path)
    _, (verified,) = signer.sign(text, members, bytes(start) + container)
    assert verified.srk == number + 1
    assert verified.certificate == bool(number)
    assert len(verified.images) == number + 1


def test_there_are_examples_of_both_versions() -> None:
    """One with an SRK, one with an SGK."""
    assert len(EXAMPLES) == 2
    assert [ahab.parse(one.encode()).header.container_version for one in EXAMPLES] == [0, 2]


WRONG = (
    ("Source index = 0 ", "Source index = -1 "),
    ("Revocations = 0x0", "Revocations = 0x1"),
    ("Revocations = 0x0", "Revocations = 0x8"),
    ("\n\n[Authenticate", "\nBlocks = 0\n[Authenticate"),
    ("0x400 0x490", "0x400 0x450"),
    ("0x400 0x490", '0x400 0x490\n\n[Authenticate Data]\nFile = "flash.bin"\nOffsets = 0x800 0x890'),
)


def test_errors_for_ahab_look_like_that() -> None:
    """The lines in the document are what these mistakes in its first example get."""
    told = []
    for old, new in WRONG:
        assert EXAMPLES[0].count(old) == 1
        with pytest.raises(csf.CsfError) as caught:
            ahab.check(ahab.parse(EXAMPLES[0].replace(old, new).encode()), csf.Policy())
        told.append(str(caught.value))
    assert [block.splitlines() for block in ERRORS] == [told]


def test_every_argument_of_ahab_is_in_the_table() -> None:
    """As needed, refused, or only of version 2, as the code has it."""
    table = {}
    for name, kind, what in rows("| argument | | |"):
        command, label = re.fullmatch(r"`\[(.*)\]` `(.*)`", name).groups()  # type: ignore[union-attr]
        table[command, label] = kind
        assert len(what) > 3
    assert set(table.values()) == {NEEDED, NEWER, REFUSED}
    for form in grammar.COMMANDS.values():
        for argument in form.arguments.values():
            assert (table.pop((form.name, argument.label)) == NEEDED) == argument.required
    assert not table
    for name in grammar.REFUSED.values():
        assert f"`[{name}]` is refused: " in AHAB


def test_everything_that_can_be_allowed_for_ahab_is_in_the_table() -> None:
    """With its argument, and with what can happen then."""
    table = rows("| name | argument | what can happen |")
    assert {name.strip("`"): argument for name, argument, _ in table} == csf.ALLOWABLE_OF_AHAB
    assert all(len(what) > 20 for *_, what in table)


def test_the_limits_for_ahab_are_those_of_the_code() -> None:
    """The number of containers."""
    assert f"at most {policy.MAX_CONTAINERS} containers of one file" in AHAB.replace("\n", " ")
