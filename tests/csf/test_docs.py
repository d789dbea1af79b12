"""What docs/csf.md says is so."""

from __future__ import annotations

import inspect
import re
import struct
from pathlib import Path

import pytest

from digsigd import csf, hab
from digsigd.csf import grammar, lexer, model, parser, size
from digsigd.hab import engines, layout
from digsigd.testing import TrialPki
from digsigd.web import form
from tests.csf.texts import BASE, BLOCK, changed
from tests.helpers.descriptions import Artifact, Signer, commands, meaning, plan

TEXT = (Path(__file__).parents[2] / "docs/csf.md").read_text()
EXAMPLES = re.findall(r"^```csf\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
ERRORS = re.findall(r"^```text\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
CSF = "CSF1_1_sha256_2048_65537_v3_usr_crt.pem"
IMG = "IMG1_1_sha256_2048_65537_v3_usr_crt.pem"


def rows(head: str) -> list[list[str]]:
    """The cells of the table that begins with this line."""
    table = TEXT[TEXT.index(f"{head}\n") :].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table]


def with_ivt(artifact: Artifact, block: csf.Block) -> bytes:
    """The artifact as its block needs it: an SPL has its IVT at the start, the others at the end of the block."""
    spl = block.address == 0x7E0FC0
    start = 0 if spl else block.length - 0x20
    ivt = block.address + start
    entry = block.address + 0x40 * spl
    table = b"\xd1\x00\x20\x41" + struct.pack("<7I", entry, 0, 0, 0, ivt, block.address + block.length, 0)
    place = block.offset + start
    return artifact.data[:place] + table + artifact.data[place + 0x20 :]


def test_there_is_an_example_for_each_kind_of_image() -> None:
    """An SPL, a FIT, and a kernel with fast authentication."""
    assert len(EXAMPLES) == 3
    assert ["[Install NOCAK]" in one for one in EXAMPLES] == [False, False, True]
    assert ["[Unlock]" in one for one in EXAMPLES] == [True, False, False]


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_examples_are_signed(signer: Signer, normal_pki: TrialPki, fast_pki: TrialPki, number: int) -> None:
    """A real cst signs each as it stands, and its blocks have the layout that boards want."""
    text = EXAMPLES[number].encode()
    description = csf.parse(text)
    data = description.commands[-1]
    assert isinstance(data, model.AuthenticateData)
    artifact = Artifact.named_by(text)
    artifact = Artifact(artifact.name, with_ivt(artifact, data.blocks[0]))
    pki = fast_pki if b"NOCAK" in text else normal_pki
    signed = signer.sign(text, pki.files, artifact)
    assert commands(signed.blob) == meaning(description)
    blocks = [hab.Block(block.address, block.offset, block.length) for block in data.blocks]
    found = hab.check_layout([blocks], [hab.File.of(artifact.data)])
    assert len(found.ivts) == 1


WRONG = (
    changed("Features = MID", "Features = MIDD"),
    changed("Target index = 2", "Target indx = 2"),
    changed(BLOCK, f"{BLOCK},\n {BLOCK}"),
    changed("Engine = CAAM\nFeatures = MID", "Engine = SNVS\nFeatures = LP SWR"),
    changed("CSF1_1", "CSF9_1"),
    changed("flash.bin", "u-boot.bin"),
    changed("0x2000", "0x2010"),
)


def test_errors_look_like_that() -> None:
    """The lines in the document are what these mistakes get."""
    members = {"SRK_1_2_3_4_table.bin": b""}
    for name in (CSF, IMG):
        members |= {name: b"", name.replace("crt.", "key."): b""}
    told = []
    for text in WRONG:
        with pytest.raises(csf.CsfError) as caught:
            plan(text.encode(), members, Artifact.of_size("flash.bin", 0x2000))
        told.append(str(caught.value))
    assert [block.splitlines() for block in ERRORS] == [told]
    assert plan(BASE.encode(), members, Artifact.of_size("flash.bin", 0x2000)).blocks


def test_every_command_is_in_the_table() -> None:
    """Signed or refused, as the code has it."""
    table = {name.strip("`[]"): what for name, what in rows("| command | |")}
    assert {name for name, what in table.items() if what.startswith("signed")} == {
        form.name for form in grammar.COMMANDS.values()
    }
    assert {name for name, what in table.items() if what.startswith("refused: ")} == set(grammar.REFUSED.values())


def test_everything_that_can_be_allowed_is_in_the_table() -> None:
    """With its engine and feature, and with what it leaves open."""
    table = rows("| name | engine | feature | what is left open |")
    assert {name.strip("`"): (engine, feature) for name, engine, feature, _ in table} == csf.ALLOWABLE_UNLOCKS
    assert all(len(what) > 20 for *_, what in table)


def test_the_limits_are_those_of_the_code() -> None:
    """Each number in the document is the one that is enforced."""
    assert {what: int(number) for what, number in rows("| limit | |")} == {
        "the description, in bytes": inspect.signature(csf.parse).parameters["max_bytes"].default,
        "a line, in bytes": lexer.MAX_LINE,
        "words and marks in a line with its continuation lines": lexer.MAX_TOKENS,
        "a name in quotation marks, in bytes": lexer.MAX_STRING,
        "commands": parser.MAX_COMMANDS,
        "arguments of a command": parser.MAX_ARGUMENTS,
        "blocks in all": grammar.MAX_BLOCKS,
        "the commands of the resulting CSF, in bytes": size.MAX_BYTES,
        "files that blocks name": form.MAX_ARTIFACTS,
        "total length of all blocks, as a multiple of the total size of these files": layout.MOST_TIMES_SIGNED,
    }


def test_the_blocks_of_each_engine_are_those_of_the_code() -> None:
    """And the engines are all that hash."""
    rows = re.search(r"^\| engine \| (.*) \|$\n.*\n^\| blocks \| (.*) \|$", TEXT, re.MULTILINE)
    assert rows is not None
    told = dict(zip(rows[1].split(" | "), rows[2].split(" | "), strict=True))
    bounds = {engines.NAMES[one]: str(most) for one, most in engines.MOST_BLOCKS.items()}
    assert told == {**bounds, "SW": "any number"}
