"""A signed container revokes, permits and holds what the description asked for, whatever the signer did."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from digsigd import ahab
from digsigd.csf.ahab import Description, InstallSrk, parse
from digsigd.errors import Refused
from digsigd.signing.ahab_described import check_described
from tests.helpers.ahab_forge import certificate_of, forge


def description(srk: str = "", certificate: str | None = None, *, version: int = 0) -> Description:
    """A description whose [Install SRK] and [Install Certificate] have these further lines."""
    more = f'[Install Certificate]\nFile = "SGK_crt.pem"\n{certificate}\n' if certificate is not None else ""
    revocations = "" if "Revocations" in srk else "Revocations = 0x0\n"
    return parse(
        f'[Header]\nTarget = AHAB\nVersion = {2 if version else 1}.0\n[Install SRK]\nFile = "t.bin"\nSource = "s.pem"\n'
        f"Source index = 0\nSource set = OEM\n{revocations}{srk}\n{more}"
        '[Authenticate Data]\nFile = "f.bin"\nOffsets = 0x0 0x110\n'.encode()
    )


def check(asked: Description, *, member: bytes | None = None, before_flags: int = 0, **made: Any) -> None:
    """Check a container that is forged like this against a description."""
    forged = forge("p256", alone=True, version=asked.header.container_version, **made)
    before = ahab.parse(forged.unsigned, 0)
    before = ahab.Container(
        before.offset, before.version, before.length, before.tag, before_flags, before.sw_version,
        before.fuse_version, before.images, before.block_offset, before.block,
    )  # fmt: skip
    check_described(before, forged.container, asked, member, 12)


def wrong(asked: Description, word: str, **options: Any) -> None:
    """Check that such a container is not what was asked for."""
    with pytest.raises(ahab.VerificationError, match=word) as caught:
        check(asked, **options)
    assert caught.value.check == "described"


@pytest.mark.parametrize("version", [0, 2])
def test_what_was_asked_for_is_accepted(version: int) -> None:
    """With and without a certificate, and with a mask."""
    check(description(version=version))
    check(description("Revocations = 0xc", version=version), revoke=0xC)
    check(description(certificate="Permissions = 0x1", version=version), sgk="p384", member=certificate_of("p384", 5))
    check(description(certificate="Permissions = 0x1", version=version), sgk="p384")


@pytest.mark.parametrize("version", [0, 2])
@pytest.mark.parametrize(
    ("asked", "revoke"), [("", 0xE), ("", 0x2), ("Revocations = 0x2", 0x6), ("Revocations = 0x2", 0)]
)
def test_other_revocations_are_refused(version: int, asked: str, revoke: int) -> None:
    """They would be burnt into every board that commits."""
    wrong(description(asked, version=version), "has the revoke mask", revoke=revoke)


def test_another_set_or_index_is_refused() -> None:
    """The verification of the signature would find it, too."""
    wrong(description(), "has the flags", srk_set=1)
    wrong(description(), "has the flags", index=1)


def test_flags_of_version_2_are_those_of_the_description() -> None:
    """The signer may not add any, and the client's file brings none along: cst keeps those for fast boot."""
    check(description("Check All Signatures = All\nFast Boot = 0x3", version=2), flags=0x38000)
    check(description("Check All Signatures = Fuse\nFast Boot = 0x0", version=2))
    wrong(description(version=2), "has the flags", flags=0x8000)
    wrong(description(version=2), "has the flags", flags=0x10000)
    wrong(description("Fast Boot = 0x3", version=2), "has the flags", flags=0x10000)
    with pytest.raises(Refused, match="line 12: the flags of the container at 0x0 have the bits 0x10000"):
        check(description(version=2), flags=0x10000, before_flags=0x10000)
    wrong(description(version=2), "has the revoke mask", flags=0x10000, revoke=2, before_flags=0)


@pytest.mark.parametrize(
    ("asked", "flags", "left"),
    [
        ("Check All Signatures = All\nFast Boot = 0x3", 0x38000, 0),
        ("Fast Boot = 0x3", 0x30000, 0),
        ("Fast Boot = 0x3", 0x70000, 0x40000),
        ("Check All Signatures = All", 0x8000, 0),
        ("Check All Signatures = All", 0x18000, 0x10000),
        ("Check All Signatures = Fuse", 0x8000, 0x8000),
        ("", 0x8000, 0x8000),
        ("", 0x40000, 0x40000),
    ],
)
def test_flags_that_the_file_brings_along_have_to_be_asked_for(asked: str, flags: int, left: int) -> None:
    """In version 2, where they mean something: the client is told which, and where to write them."""
    if not left:
        check(description(asked, version=2), flags=flags, before_flags=flags)
        return
    with pytest.raises(Refused, match=f"line 12: .* have the bits {left:#x} ") as raised:
        check(description(asked, version=2), flags=flags, before_flags=flags)
    assert "below [Install SRK]" in raised.value.hint
    check(description(), flags=flags, before_flags=flags)
    wrong(description(), "has the flags", srk_set=1, before_flags=1)


@pytest.mark.parametrize("version", [0, 2])
def test_bits_that_no_signer_writes_are_those_of_the_file(version: int) -> None:
    """Such as those of the glitch detector."""
    check(description(version=version), flags=0x300000, before_flags=0x300000)
    wrong(description(version=version), "has the flags", flags=0x300000)


@pytest.mark.parametrize(("version", "before"), [(0, 0xF33), (2, 0x78F33)])
def test_what_a_signer_writes_is_not_that_of_the_file(version: int, before: int) -> None:
    """Set, index and mask of an earlier signature; the index of this one is the description's."""
    check(description(version=version), before_flags=before)
    text = description(version=version)
    (srk,) = (one for one in text.commands if isinstance(one, InstallSrk))
    third = Description(tuple(replace(one, source_index=2) if one is srk else one for one in text.commands))
    check(third, before_flags=before, number=2)
    wrong(third, "has the flags", number=1)
    wrong(text, "has the flags", number=2)


def test_a_certificate_is_there_if_and_only_if_it_was_asked_for() -> None:
    """Else another key signs than the one that was named."""
    wrong(description(), "has a certificate", sgk="p256")
    wrong(description(certificate="Permissions = 0x1"), "has no certificate")


@pytest.mark.parametrize("version", [0, 2])
def test_a_certificate_permits_what_was_asked_for(version: int) -> None:
    """Further permissions are for debugging and fuses."""
    asked = description(certificate="Permissions = 0x1", version=version)
    wrong(asked, "permissions 0x3", sgk="p256", permissions=3)
    check(description(certificate="Permissions = 0x3", version=version), sgk="p256", permissions=3)


def test_a_certificate_of_version_2_is_for_the_boards_that_were_asked_for() -> None:
    """UUIDs are four little-endian words, as cst 4.0.1 writes them."""
    uuid = bytes.fromhex("04030201050000000600000007000000")
    asked = description(certificate="Permissions = 0x1\nUUID = 0x01020304 0x5 0x6 0x7", version=2)
    check(asked, sgk="p256", uuid=uuid)
    wrong(asked, "UUID", sgk="p256")
    wrong(description(certificate="Permissions = 0x1", version=2), "UUID", sgk="p256", uuid=uuid)


@pytest.mark.parametrize(("offset", "word"), [(8, "permission data"), (20, "fuse version")])
def test_what_else_a_certificate_of_version_2_has_was_asked_for(offset: int, word: str) -> None:
    """Permission data and fuse version."""

    def edit(certificate: bytearray) -> None:
        certificate[offset] = 9

    wrong(description(certificate="Permissions = 0x1", version=2), word, sgk="p256", edit_certificate=edit)
    lines = {8: "Permissions Data = 0x9 0x0 0x0", 20: "Fuse Version = 9"}
    check(description(certificate=f"Permissions = 0x1\n{lines[offset]}", version=2), sgk="p256", edit_certificate=edit)


def test_no_description_extends_the_permission_data() -> None:
    """The byte behind the fuse version, which cst leaves at 0."""

    def edit(certificate: bytearray) -> None:
        certificate[21] = 9

    asked = description(certificate="Permissions = 0x1", version=2)
    wrong(asked, "permission data", sgk="p256", edit_certificate=edit)


@pytest.mark.parametrize("version", [0, 2])
def test_a_certificate_has_the_key_that_was_named(version: int) -> None:
    """Another one could sign anything from then on."""
    asked = description(certificate="Permissions = 0x1", version=version)
    wrong(asked, "another key", sgk="p256", member=certificate_of("p256", 4))
    wrong(asked, "another key", sgk="p384", member=certificate_of("p256", 5))


def test_nothing_for_encrypted_images_is_in_it() -> None:
    """Neither a blob nor the number of a key."""
    wrong(description(), "encrypted images", blob=b"\xca" * 72)
    wrong(description(), "encrypted images", key_id=7)
