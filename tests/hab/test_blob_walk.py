"""What a blob says of itself: its commands, whole or damaged, its SRK table and its certificates."""

from __future__ import annotations

import struct

import pytest

from digsigd import hab
from digsigd.hab.csf_blob import Authenticate, Command, CsfBlob, InstallKey, OtherCommand, walk
from tests.hab.test_blob_format import NOP, blob, install, part
from tests.hab.test_blob_format import authenticate as command
from tests.hab.test_blob_rules import BLOCK, CSF, DATA, IMAGE, SRK_CSFK, SRK_IMG, TABLE, USER_SRK, USER_TABLE, by, over
from tests.helpers.forge import authenticate, forge, install_srk, padded

WHOLE = forge(install_srk(TABLE), SRK_CSFK, CSF, SRK_IMG, IMAGE)
FAST = forge(install_srk(USER_TABLE), authenticate(1, by(USER_SRK)), authenticate(0, over(DATA, USER_SRK), BLOCK))
LOOSE = padded(part(0xD7, USER_SRK.der))


def leniently(data: bytes) -> list[Command]:
    return list(walk(data, strict=False))


def the_damaged(data: bytes) -> tuple[Command, OtherCommand]:
    """The first command, and one behind it that is none; there are no others."""
    first, second = leniently(data)
    assert isinstance(second, OtherCommand)
    return first, second


@pytest.mark.parametrize("data", [WHOLE, FAST, FAST + LOOSE, blob(b""), blob(NOP * 2)])
def test_a_good_blob_has_the_same_commands_for_both(data: bytes) -> None:
    """Strictly or not, they are those that the whole blob has."""
    assert tuple(walk(data)) == tuple(leniently(data)) == CsfBlob.parse(data).commands
    assert all(one.whole and not one.damage for one in walk(data) if isinstance(one, OtherCommand))


def test_objects_do_not_matter_for_the_commands() -> None:
    """What commands point at may be missing."""
    data = blob(install(0x1000) + command(0x2000))
    assert [type(one) for one in walk(data)] == [InstallKey, Authenticate]
    assert leniently(data) == list(walk(data))


@pytest.mark.parametrize(
    ("bad", "damage"),
    [
        (b"\xd1\0\x06\x07ab", "the command 0xd1 is unknown"),
        (b"\xbe\0\x06\x07ab", "an Install Key command has 6 bytes, not 12"),
        (b"\xca\0\x06\x07ab", "an Authenticate command has 6 bytes, not 12 and 8 for each block"),
    ],
)
def test_a_command_that_hab_does_not_have_is_damage_and_the_next_follows(bad: bytes, damage: str) -> None:
    """Its own length tells where."""
    data = blob(NOP + bad + NOP)
    first, second, third = leniently(data)
    assert second == OtherCommand(8, bad[0], 7, b"ab", damage, whole=True)
    assert (first, third) == (OtherCommand(4, 0xC0, 0, b""), OtherCommand(14, 0xC0, 0, b""))
    with pytest.raises(hab.FormatError) as caught:
        list(walk(data))
    assert (caught.value.what, caught.value.offset) == (damage, 8)


@pytest.mark.parametrize("body", [b"", b"ab", bytes(12)])
def test_a_command_that_hab_does_not_have_may_be_the_last(body: bytes) -> None:
    """It is whole if it ends with the commands, and if it is nothing but a header."""
    bad = struct.pack(">BHB", 0xD1, 4 + len(body), 7) + body
    assert the_damaged(blob(NOP + bad))[1] == OtherCommand(8, 0xD1, 7, body, "the command 0xd1 is unknown", whole=True)


@pytest.mark.parametrize("length", range(4))
def test_a_command_shorter_than_its_header_has_four_bytes(length: int) -> None:
    """So that those behind it are found."""
    data = blob(NOP + bytes([0xC0, 0, length, 9]) + NOP)
    first, second, third = leniently(data)
    damage = (
        f"a command has {length} bytes according to its header; it must have at least 4, and end within the 16 bytes"
    )
    assert second == OtherCommand(8, 0xC0, 9, b"", damage, whole=False)
    assert (first, third) == (OtherCommand(4, 0xC0, 0, b""), OtherCommand(12, 0xC0, 0, b""))
    with pytest.raises(hab.FormatError, match=damage):
        list(walk(data))


def test_a_command_that_reaches_beyond_the_header_is_the_last() -> None:
    """With the bytes that are there; one that ends with the header is whole."""
    beyond = blob(NOP + b"\xc0\0\x08\x01", b"abcdefgh")
    assert the_damaged(beyond) == (
        OtherCommand(4, 0xC0, 0, b""),
        OtherCommand(8, 0xC0, 1, b"abcd", "a command reaches beyond the length in the CSF's header", whole=False),
    )
    within = blob(NOP + b"\xc0\0\x08\x01abcd", b"efgh")
    assert leniently(within)[1] == OtherCommand(8, 0xC0, 1, b"abcd")
    cut = beyond[:14]
    assert the_damaged(cut)[1].body == b"ab"
    assert (
        the_damaged(cut)[1].damage
        == "a command has 8 bytes according to its header; it must have at least 4, and end within the 14 bytes"
    )


@pytest.mark.parametrize("left", [1, 2, 3])
def test_a_header_that_is_cut_off_is_the_last(left: int) -> None:
    """By the end of the bytes, or by the length in the CSF's own header, whatever stands behind that."""
    for behind in (b"", NOP + bytes(8)):
        data = blob(NOP + b"\xbe\0\x0c"[:left], behind)
        _, last = the_damaged(data)
        assert (last.offset, last.tag, last.parameter, last.body, last.whole) == (8, 0xBE, 0, b"", False)
        assert last.damage


def test_a_header_of_more_than_there_is_ends_with_the_bytes() -> None:
    """And with 768 of them, which is as much as HAB takes."""
    assert leniently(blob(NOP * 2, more=40)) == list(walk(blob(NOP * 2)))
    assert len(leniently(blob(NOP * 200))) == len(list(walk(blob(NOP * 200)))) == 191
    with pytest.raises(hab.FormatError, match="the CSF has 52 bytes according to its header"):
        list(walk(blob(NOP * 2, more=40)))


@pytest.mark.parametrize("data", [b"", b"\xd4", b"\xd4\0", b"\xd4\0\x10", b"\xd4\0\x10\x43"])
def test_bytes_that_are_too_few_have_no_commands(data: bytes) -> None:
    """Nothing is raised where damage is looked at."""
    assert leniently(data) == []


def test_a_blob_tells_its_srk_table() -> None:
    """The one that it installs; none where it installs none."""
    table = CsfBlob.parse(WHOLE).srk_table()
    assert table is not None
    assert (table.data, table.fuse_value) == (TABLE, hab.SrkTable.parse(TABLE).fuse_value)
    assert CsfBlob.parse(blob(NOP)).srk_table() is None
    other = blob(install(16), part(0xD7, b"none"))
    assert CsfBlob.parse(other).srk_table() is None


def test_of_two_srk_tables_the_first_is_told() -> None:
    """As the ROM would take it, which refuses the second."""
    objects = padded(USER_TABLE) + TABLE
    commands = install(28, protocol=0x03) + install(28 + len(padded(USER_TABLE)), protocol=0x03)
    table = CsfBlob.parse(blob(commands, objects)).srk_table()
    assert table is not None
    assert table.data == USER_TABLE


def test_a_damaged_srk_table_is_an_error() -> None:
    """By what is wrong with it."""
    parsed = CsfBlob.parse(blob(install(16, protocol=0x03), part(0xD7, b"none")))
    with pytest.raises(hab.FormatError, match="an SRK record of"):
        parsed.srk_table()


def test_a_blob_tells_its_certificates() -> None:
    """Those that commands install, in their order; behind them one that no command points to."""
    first, second = part(0xD7, b"first one"), part(0xD7, b"second")
    objects = padded(second) + padded(first)
    one = blob(install(28 + len(padded(second))) + install(28), objects)
    assert CsfBlob.parse(one).certificates() == (b"first one", b"second")
    assert CsfBlob.parse(one + part(0xD7, b"loose")).certificates() == (b"first one", b"second", b"loose")
    assert CsfBlob.parse(FAST + LOOSE).certificates() == (USER_SRK.der,)
    assert CsfBlob.parse(FAST).certificates() == ()


def test_keys_are_found_by_their_protocol() -> None:
    """In the order of their commands."""
    parsed = CsfBlob.parse(WHOLE)
    assert [one.target for one in parsed.installs(0x09)] == [1, 2]
    assert [struct.unpack_from(">B", WHOLE, one.data_offset)[0] for one in parsed.installs(0x03)] == [0xD7]
    assert parsed.installs(0xBB) == ()
