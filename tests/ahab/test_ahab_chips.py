"""What is known of the chips, and what is not."""

from __future__ import annotations

import pytest

from digsigd import ahab
from tests.helpers.ahab_forge import Kind, forge, table_of

V0 = ("mx8", "mx8x", "mx8dxl", "mx8ulp", "mx91", "mx93", "mx95-a0")
V2 = ("mx95", "mx94", "mx952")
# Chips with the newer enclave and containers of version 0.
ELE = ("mx8ulp", "mx91", "mx93", "mx95-a0")


def test_all_chips_are_named() -> None:
    """Each name is one chip's, in any spelling."""
    assert tuple(chip.name for chip in ahab.CHIPS) == V0 + V2
    names = [name for chip in ahab.CHIPS for name in (chip.name, *chip.names)]
    assert len(names) == len(set(names))
    for name in names:
        for spelling in (name, name.upper(), name.replace("mx", "i.MX "), name.replace("mx", "imx")):
            assert name in (ahab.chip(spelling).name, *ahab.chip(spelling).names)
    assert ahab.chip("i.MX 93") is ahab.chip("mx93")
    assert ahab.chip("mx8qxp").name == "mx8x"
    assert ahab.chip("mx943").name == "mx94"
    assert ahab.chip("mx95-b0").name == "mx95"
    assert ahab.chip("mx95-a1").name == "mx95-a0"
    for unknown in ("mx8mm", "", "mx", "93x", "mx9"):
        with pytest.raises(ahab.AhabError, match="no chip with AHAB is called") as raised:
            ahab.chip(unknown)
        assert all(chip.name in raised.value.hint for chip in ahab.CHIPS)


@pytest.mark.parametrize(
    ("name", "hashed", "first", "last"),
    [
        ("mx8", "sha512", (0, 722), (0, 737)),
        ("mx8x", "sha512", (0, 730), (0, 745)),
        ("mx8ulp", "sha256", (15, 0), (15, 7)),
        ("mx91", "sha256", (16, 0), (16, 7)),
        ("mx93", "sha256", (16, 0), (16, 7)),
        ("mx95-a0", "sha256", (16, 0), (16, 7)),
        ("mx95", "sha512", (16, 0), (17, 7)),
        ("mx952", "sha512", (16, 0), (17, 7)),
        ("mx94", "sha512", (76, 0), (77, 7)),
    ],
)
def test_fuses_of_each_chip(name: str, hashed: str, first: tuple[int, int], last: tuple[int, int]) -> None:
    """As many words as the hash has, in their order; only version 2 has a second table."""
    chip = ahab.chip(name)
    table = ahab.parse_table(table_of("p256", version=max(chip.versions)))
    value = ahab.fuse_value(table, chip)
    assert chip.fuse_hash == hashed
    assert value == table.hash(hashed)
    assert (chip.fuse_words[0], chip.fuse_words[-1]) == (first, last)
    assert len(chip.fuse_words) == len(set(chip.fuse_words)) == len(ahab.fuse_words(value))
    second = {"mx95": (56, 0), "mx952": (56, 0), "mx94": (78, 0)}.get(name)
    assert (chip.pqc_fuse_words or [None])[0] == second
    assert chip.step == (0x4000 if name in V2 else 0x400)
    assert chip.oem_offset % chip.step == 0


def test_words_are_little_endian() -> None:
    """As srktool prints them, and U-Boot's fuse prog takes them."""
    assert ahab.fuse_words(bytes(range(32)))[:2] == (0x03020100, 0x07060504)
    assert len(ahab.fuse_words(bytes(64))) == 16
    for length in (0, 31, 48, 65):
        with pytest.raises(ahab.AhabError, match=f"32 or 64 bytes, not {length}"):
            ahab.fuse_words(bytes(length))


def test_what_is_not_confirmed_is_not_used() -> None:
    """i.MX 8DXL: no source gives its fuses."""
    chip = ahab.chip("mx8dxl")
    table = ahab.parse_table(table_of("p256"))
    for use in (lambda: chip.fuse_hash, lambda: chip.fuse_words, lambda: ahab.fuse_value(table, chip)):
        with pytest.raises(ahab.NotConfirmed, match=r"of i.MX 8DXLite is not confirmed: ") as raised:
            use()
        assert raised.value.hint
    signed = forge()
    for name in ("sha256", "sha512"):
        signed.verify(chip=chip, fuse_value=ahab.parse_table(signed.table).hash(name))


def test_tables_of_the_other_version_have_no_fuse_value() -> None:
    """Nor is there a second table where there is one."""
    old, new = (ahab.parse_table(table_of("p256", version=version)) for version in (0, 2))
    with pytest.raises(ahab.AhabError, match="containers of version 0, the table is of version 2") as raised:
        ahab.fuse_value(new, ahab.chip("mx93"))
    assert "-a 1" in raised.value.hint
    with pytest.raises(ahab.AhabError, match="containers of version 2, the table is of version 0") as raised:
        ahab.fuse_value(old, ahab.chip("mx95"))
    assert "-a 2" in raised.value.hint
    with pytest.raises(ahab.AhabError, match="is the only one"):
        ahab.fuse_value(old, ahab.chip("mx93"), 1)
    with pytest.raises(ahab.AhabError, match="has no table 2"):
        ahab.fuse_value(new, ahab.chip("mx95"), 1)


@pytest.mark.parametrize("name", V0 + V2)
def test_fuse_values_are_those_of_the_chip(name: str) -> None:
    """The right hash only; a board answers another one with 0xFA."""
    chip = ahab.chip(name)
    signed = forge("p384", version=chip.versions[0])
    table = ahab.parse_table(signed.table)
    if isinstance(chip.fuse_hash_cell, ahab.Unconfirmed):
        return
    good = table.hash(chip.fuse_hash)
    signed.verify(chip=chip, fuse_value=good)
    other = table.hash("sha512" if chip.fuse_hash == "sha256" else "sha256")
    for wrong, match in (
        (other, f"given has {len(other)} bytes, but the boards have a {chip.fuse_hash} of {len(good)} bytes"),
        (other[: len(good)].ljust(len(good), b"\0"), "but the boards have"),
        (good[:-1], "bytes, but"),
        (b"", "bytes, but"),
        (good[::-1], "but the boards have"),
    ):
        with pytest.raises(ahab.VerificationError, match=match) as raised:
            signed.verify(chip=chip, fuse_value=wrong)
        assert raised.value.check == "fuse-value"


def test_without_a_chip_the_length_says_which_hash_it_is() -> None:
    """Version 2 has SHA-512 on all chips."""
    for version, names in ((0, ("sha256", "sha512")), (2, ("sha512",))):
        signed = forge(version=version)
        table = ahab.parse_table(signed.table)
        for name in ("sha256", "sha512"):
            value = table.hash(name)
            if name in names:
                signed.verify(fuse_value=value)
            else:
                with pytest.raises(ahab.VerificationError, match="has 32 bytes, but the boards have a sha512"):
                    signed.verify(fuse_value=value)
            with pytest.raises(ahab.VerificationError, match="fuse-value"):
                signed.verify(fuse_value=bytes([value[0] ^ 1]) + value[1:])


@pytest.mark.parametrize("name", V0 + V2)
def test_the_version_of_the_container_is_the_chip_s(name: str) -> None:
    """What stands in the file for another chip is refused."""
    chip = ahab.chip(name)
    for version in (0, 2):
        signed = forge(version=version)
        if version in chip.versions:
            signed.verify(chip=chip)
        else:
            with pytest.raises(ahab.VerificationError, match=f"version: .*has the version {version}, which i.MX"):
                signed.verify(chip=chip)


def rule(chip: str, kind: Kind, *, sgk: Kind | None = None) -> str:
    """What a chip says to a container: "good", "noted" or "refused"."""
    found = ahab.chip(chip)
    signed = forge(kind, version=found.versions[0], sgk=sgk, alone=True)
    try:
        notes = signed.verify(chip=found).notes
    except ahab.VerificationError as error:
        return "refused" if error.check == "algorithm" and found.title in error.what else error.summary()
    assert all("is not confirmed" in note for note in notes)
    return "noted" if notes else "good"


@pytest.mark.parametrize(
    ("kind", "good", "noted", "refused"),
    [
        ("p384", V0 + V2, (), ()),
        ("rsa2048", ("mx8", "mx8x", "mx8dxl"), V2, ELE),
        ("pss2048", ELE + V2, ("mx8", "mx8x", "mx8dxl"), ()),
    ],
)
def test_algorithms_by_chip(
    kind: Kind, good: tuple[str, ...], noted: tuple[str, ...], refused: tuple[str, ...]
) -> None:
    """RSA with PKCS #1 v1.5 is F7 on 8ULP and 9x; what no source says is only noted."""
    for expected, chips in (("good", good), ("noted", noted), ("refused", refused)):
        for name in chips:
            assert rule(name, kind) == expected, name
    assert len(good) + len(noted) + len(refused) == len(ahab.CHIPS)


def test_certificates_by_chip() -> None:
    """8ULP, 91, 93 and 95 A0 do not have them; whether the newest do, sources disagree about."""
    for name in V0 + V2:
        expected = "refused" if name in ELE else "noted" if name in V2 else "good"
        assert rule(name, "p384", sgk="p384") == expected, name
    # The rules for algorithms are for the certificate's key, too.
    assert rule("mx8x", "p384", sgk="pss2048") == "noted"
    assert rule("mx8x", "p384", sgk="rsa2048") == "good"


def test_every_reason_is_a_sentence() -> None:
    """It is shown as it is."""
    for chip in ahab.CHIPS:
        cells = (chip.rsa, chip.rsa_pss, chip.ecdsa, chip.sgk, chip.ml_dsa, chip.fuse_hash_cell, chip.fuse_cell)
        for cell in cells:
            if isinstance(cell, ahab.Refused | ahab.Unconfirmed):
                assert len(cell.why.split()) > 4
