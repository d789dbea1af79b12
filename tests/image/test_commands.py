"""The commands of a CSF as people read them, and which of them are for whom."""

from __future__ import annotations

import pytest

from digsigd import hab
from digsigd.hab import csf_blob
from digsigd.image.commands import describe, is_secret, keys_of, refused_by_u_boot
from tests.helpers.forge import Piece, authenticate, cms, decrypt, forge, install, install_srk, other, secret_key
from tests.helpers.signed_images import KEYS, OTHER_KEYS


def parsed(*pieces: Piece) -> hab.CsfBlob:
    return hab.CsfBlob.parse(forge(*pieces))


def said(piece: Piece) -> tuple[str, str]:
    """What is said of the last command."""
    blob = parsed(install_srk(KEYS.table, 0), piece)
    return describe(blob, blob.commands[-1])


@pytest.mark.parametrize(
    ("piece", "expected"),
    [
        (other(0xB2, 0x1D, bytes([0, 0, 0, 1])), ("Unlock", "CAAM MID")),
        (other(0xB2, 0x1D, bytes([0, 0, 0, 2])), ("Unlock", "CAAM RNG")),
        (other(0xB2, 0x1D, bytes([0, 0, 0, 4])), ("Unlock", "CAAM MFG")),
        (other(0xB2, 0x1D, bytes([0, 0, 0, 7])), ("Unlock", "CAAM MID RNG MFG")),
        (other(0xB2, 0x1E, bytes([0, 0, 0, 1])), ("Unlock", "SNVS 0x1")),
        (other(0xB2, 0x21, bytes([0, 0, 0, 2])), ("Unlock", "OCOTP 0x2")),
        (other(0xB2, 0x0C, bytes([0, 0, 0, 0])), ("Unlock", "SRTC 0x0")),
        (other(0xB2, 0x55, bytes([0, 0, 1, 0])), ("Unlock", "engine 0x55 0x100")),
        (other(0xB2, 0x1D, b""), ("Unlock", "")),
        (other(0xB2, 0x1D, bytes(3)), ("Unlock", "")),
        (other(0xB2, 0x1D, bytes([0, 0, 0, 4]) + b"\x12" * 8), ("Unlock", "CAAM MFG")),
        (other(0xC0, 0x1D, b""), ("NOP", "")),
        (other(0xCC, 0x1D, bytes(8)), ("Write Data", "")),
        (install_srk(KEYS.table, 1), ("Install SRK", "SRK 2 of the table")),
        (
            authenticate(1, lambda area: cms(area, KEYS.csf), (0x1000, 4)),
            ("Authenticate Data", "4 bytes in 1 block with key 1"),
        ),
        (
            authenticate(2, lambda area: cms(area, KEYS.csf), (0x1000, 4), (0x2000, 8)),
            ("Authenticate Data", "12 bytes in 2 blocks with key 2"),
        ),
        (
            decrypt(0, bytes(32), (0x1000, 4)),
            ("Decrypt Data", "4 bytes in 1 block: only a chip with the key can decrypt them"),
        ),
        (secret_key(0x12345678, 0, 0), ("Install Secret Key", "wrapped by one chip, in memory at 0x12345678")),
    ],
)
def test_a_command_has_its_name_and_what_it_does(piece: Piece, expected: tuple[str, str]) -> None:
    """As descriptions of CSFs have it."""
    assert said(piece) == expected


def test_keys_are_named_by_their_certificates() -> None:
    """The CSF key by its flag, others by their slots."""
    assert said(install(KEYS.csf.der, 0, 1, flags=2))[0] == "Install CSFK"
    assert said(install(KEYS.img.der, 0, 3))[0] == "Install Key 3"
    assert "IMG1" in said(install(KEYS.img.der, 0, 3))[1]


def test_the_commands_are_authenticated_by_their_length() -> None:
    """Those of the header, which it is in."""
    blob = parsed(install_srk(KEYS.table, 0), authenticate(1, lambda area: cms(area, KEYS.csf)))
    assert describe(blob, blob.commands[-1]) == ("Authenticate CSF", f"{blob.header_length} bytes of commands")


def test_what_only_the_chip_can_tell_is_that_of_encrypted_images() -> None:
    """Commands without keys are none of it."""
    blob = parsed(
        other(0xB2, 0x1D, bytes(4)),
        install_srk(KEYS.table, 0),
        authenticate(1, lambda area: cms(area, KEYS.csf), (0x1000, 4)),
        secret_key(0x1000, 0, 0),
        decrypt(0, bytes(32), (0x1000, 4)),
    )
    assert [is_secret(one) for one in blob.commands] == [False, False, False, True, True]


@pytest.mark.parametrize(
    ("piece", "refused"),
    [
        (other(0xCC, 4, bytes(8)), True),
        (other(0xCF, 4, bytes(12)), True),
        (other(0xB1, csf_blob.SET_MID, bytes(4)), True),
        (other(0xB1, csf_blob.SET_ENGINE, bytes(4)), False),
        (other(0xB2, 0x1D, bytes(4)), False),
        (other(0xC0, 0, b""), False),
        (install(KEYS.img.der, 0, 3), False),
    ],
)
def test_u_boot_refuses_what_csf_is_valid_does(piece: Piece, refused: bool) -> None:
    """Write Data, Check Data, and Set MID."""
    assert refused_by_u_boot(parsed(install_srk(KEYS.table, 0), piece).commands[-1]) is refused


def test_keys_are_told_apart_by_what_is_in_their_slots() -> None:
    """The SRK by its number, as the fuses say which table it is."""
    pieces = (install(KEYS.csf.der, 0, 1, flags=2), install(KEYS.img.der, 0, 2), secret_key(0x1000, 0, 0))
    assert keys_of(parsed(install_srk(OTHER_KEYS.table, 1), *pieces)) == (
        (0, b"\1"),
        (1, KEYS.csf.der),
        (2, KEYS.img.der),
    )
