"""Which arguments each command cannot do without, which engines it gives to others, and where its names stand."""

from __future__ import annotations

import pytest

from digsigd import csf
from tests.csf.test_csf_names import MEMBERS
from tests.csf.test_csf_policy import many
from tests.csf.texts import BASE, BLOCK, FAST, changed

SET = "[Set Engine]\nEngine = DCP\nHash Algorithm = sha256\n"
# By command: what stands in a description, and the labels that must be there.
NEEDED = {
    "Header": ("[Header]\nVersion = 4.3\n", ["Version"]),
    "Install SRK": ('[Install SRK]\nFile = "t.bin"\nSource index = 0\n', ["File", "Source index"]),
    "Install CSFK": ('[Install CSFK]\nFile = "a_crt.pem"\n', ["File"]),
    "Install NOCAK": ('[Install NOCAK]\nFile = "a_crt.pem"\n', ["File"]),
    "Install Key": (
        '[Install Key]\nVerification index = 0\nTarget index = 2\nFile = "a_crt.pem"\n',
        ["Verification index", "Target index", "File"],
    ),
    "Authenticate Data": (
        f"[Authenticate Data]\nVerification index = 2\nBlocks = {BLOCK}\n",
        ["Verification index", "Blocks"],
    ),
    "Unlock": ("[Unlock]\nEngine = CAAM\nFeatures = MID\n", ["Engine"]),
    "Set Engine": (SET, ["Hash Algorithm", "Engine"]),
    "Init": ("[Init]\nEngine = CAAM\nFeatures = RNG\n", ["Engine"]),
    "Authenticate CSF": ("[Authenticate CSF]\nEngine = CAAM\n", []),
    "NOP": ("[NOP]\n", []),
}


@pytest.mark.parametrize("name", NEEDED)
def test_a_command_has_the_arguments_that_it_needs(name: str) -> None:
    """NXP Code Signing Tool User Guide, "CSF Description Language"; the others may be left out."""
    text, needed = NEEDED[name]
    assert len(csf.parse(text.encode()).commands) == 1
    labels = [line.partition(" =")[0] for line in text.splitlines()[1:]]
    for label in labels:
        without = "".join(f"{line}\n" for line in text.splitlines() if not line.startswith(f"{label} ="))
        if label in needed:
            with pytest.raises(csf.CsfSyntaxError, match=rf"line 1, column 1: \[{name}\] needs {label}$"):
                csf.parse(without.encode())
        else:
            assert len(csf.parse(without.encode()).commands) == 1


@pytest.mark.parametrize(("label", "most"), [("Verification index", 4), ("Target index", 4), ("Source index", 3)])
def test_an_index_has_a_bound(label: str, most: int) -> None:
    """Keys are numbered to 4, the keys of a table to 3, from 0."""
    text = NEEDED["Install SRK" if label == "Source index" else "Install Key"][0]
    line = next(line for line in text.splitlines() if line.startswith(label))
    for number in range(most + 1):
        assert csf.parse(text.replace(line, f"{label} = {number}").encode())
    with pytest.raises(csf.CsfSyntaxError, match=f"{label}: {most + 1} is more than {most}$"):
        csf.parse(text.replace(line, f"{label} = {most + 1}").encode())


def refused(text: str) -> str:
    with pytest.raises(csf.CsfPolicyError) as caught:
        csf.check(csf.parse(text.encode()), csf.Policy())
    return caught.value.what


def test_a_configuration_of_the_header_is_for_all_engines() -> None:
    """Where a command has none of its own; 0 is one."""
    header = changed("Version = 4.3", "Version = 4.3\nEngine = RTIC\nEngine Configuration = KEEP")
    csf.check(csf.parse(header.encode()), csf.Policy())
    other = changed(BLOCK, f"{BLOCK}\nEngine = CAAM", header)
    assert refused(other).startswith("[Authenticate Data] with Engine Configuration = KEEP: CAAM would swap bytes")
    csf.check(csf.parse(f"{other}Engine Configuration = 0\n".encode()), csf.Policy())
    commands = changed("[Authenticate CSF]", "[Authenticate CSF]\nEngine = DCP", header)
    assert refused(commands).startswith("[Authenticate CSF] with Engine Configuration = KEEP: DCP would swap bytes")


def test_the_engine_that_is_set_is_that_of_any_alone() -> None:
    """An engine that a command or the header names is that one; the last that is set counts."""
    software, dcp = SET.replace("DCP", "SW"), SET
    with_many = changed(BLOCK, many(9))

    def before_key(text: str, *commands: str) -> str:
        return text.replace("[Install Key]", "".join(commands) + "[Install Key]")

    csf.check(csf.parse(before_key(with_many, software).encode()), csf.Policy())
    csf.check(csf.parse(before_key(with_many, dcp, software).encode()), csf.Policy())
    assert "with Engine = DCP HAB accepts at most 6" in refused(before_key(with_many, software, dcp))
    named = changed(BLOCK, f"{many(9)}\nEngine = CAAM")
    assert "with Engine = CAAM HAB accepts at most 8" in refused(before_key(named, software))
    header = with_many.replace("Version = 4.3", "Version = 4.3\nEngine = CAAM")
    assert "with Engine = CAAM HAB accepts at most 8" in refused(before_key(header, software))
    by_any = changed(BLOCK, f"{many(9)}\nEngine = ANY").replace("Version = 4.3", "Version = 4.3\nEngine = CAAM")
    csf.check(csf.parse(before_key(by_any, software).encode()), csf.Policy())


def test_an_engine_that_is_set_hashes_bytes_as_they_stand() -> None:
    """As one that a command names does."""
    for engine in ("SNVS", "OCOTP", "SRTC", "ROM"):
        text = BASE + SET.replace("DCP", engine)
        assert refused(text).startswith(f"[Set Engine] with Engine = {engine}, which cannot hash")
    swapped = f"{BASE}{SET}Engine Configuration = IN_SWAP_8\n"
    assert refused(swapped).startswith("[Set Engine] with Engine Configuration = IN_SWAP_8: DCP would swap bytes")


@pytest.mark.parametrize(("engine", "most"), [("ANY", 8), ("RTIC", 8), ("SAHARA", 12), ("DCP", 6), ("CAAM", 8)])
def test_one_command_has_as_many_blocks_as_its_engine_takes(engine: str, most: int) -> None:
    """HABv4 API, 5.2 to 5.7, and NXP Code Signing Tool User Guide, table 10; the software takes any number."""
    for name, count in ((engine, most), ("SW", 20)):
        text = changed(BLOCK, f"{many(count)}\nEngine = {name}")
        csf.check(csf.parse(text.encode()), csf.Policy())
    text = changed(BLOCK, f"{many(most + 1)}\nEngine = {engine}")
    assert f"with Engine = {engine} HAB accepts at most {most}" in refused(text)


def test_a_plan_tells_where_the_table_and_the_first_block_stand() -> None:
    """The lines of the client's description, for errors that only show later."""
    more = f'[Authenticate Data]\nVerification index = 2\nBlocks = 0 0 16 "flash.bin", \\\n {BLOCK}\n'
    for text, table, blocks in ((BASE, 4, 18), (FAST, 4, 11), (BASE + more, 4, 18), ("\n\n" + BASE, 6, 20)):
        resolved = csf.resolve(csf.parse(text.encode()), members=MEMBERS, artifacts={"flash.bin": 0x2000})
        assert (resolved.srk_table_line, resolved.blocks_line) == (table, blocks)
        assert resolved.source_index == 0
        assert [len(one) for one in resolved.blocks] == ([1, 2] if more in text else [1])
    third = changed("Source index = 0", "Source index = 3\nHash Algorithm = sha256")
    assert csf.resolve(csf.parse(third.encode()), members=MEMBERS, artifacts={"flash.bin": 0x2000}).source_index == 3


BLANKS = [
    "\u00a0", "\u00ad", "\u200b", "\u200c", "\u200d", "\u202f", "\u205f", "\u2060", "\u3000", "\ufeff",
    *map(chr, range(0x2000, 0x200B)),
]  # fmt: skip


@pytest.mark.parametrize("blank", BLANKS, ids=ascii)
def test_what_nobody_sees_is_a_blank(blank: str) -> None:
    """Between words, and around them."""
    text = changed("Source index = 0", f"{blank}Source{blank}index{blank}={blank}0{blank}")
    assert csf.parse(text.encode()) == csf.parse(BASE.encode())


@pytest.mark.parametrize("seen", ["\u2010", "\u200e", "\u2028", "\u1fff", "\u00a1", "\u3001"], ids=ascii)
def test_what_only_lies_near_a_blank_is_none(seen: str) -> None:
    """And is told by its number."""
    with pytest.raises(csf.CsfSyntaxError, match=rf"line 5, column 7: .*U\+{ord(seen):04X}"):
        csf.parse(changed("Source index = 0", f"Source{seen}index = 0").encode())
