"""Which keys of a tarball sign a description for AHAB, and what is said of those that do not."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pytest

from digsigd import ahab
from digsigd.ahab import build, write
from digsigd.csf.ahab import Description, parse
from digsigd.errors import BadTarball, Refused
from digsigd.signing.ahab_keys import (
    Named,
    check_certificates,
    check_chip,
    check_table,
    signer_of,
    table_of,
)
from tests.helpers.ahab_cases import description, members
from tests.helpers.ahab_forge import certificate_of, forge, keys_of
from tests.helpers.ahab_forge import table_of as forged_table

TABLE, V2_TABLE = "crts/SRK_1_2_3_4_table.bin", "crts/SRK_1_2_3_4_v2_table.bin"
CASES = {"p384": "good-93-sd-spl", "p384ca": "good-qxp-spl-sgk", "v2": "good-v2-p384"}
RECORD = 12 + 96
Files = dict[str, bytes]


def files(keys: str = "p384", **changed: bytes) -> Files:
    """A tarball with some of it changed, by the end of its name."""
    found = dict(members(keys))
    for end, data in changed.items():
        found[{"table": TABLE, "v2": V2_TABLE}[end]] = data
    return found


def of(case: str) -> tuple[Description, Named]:
    """A description, and what it names."""
    text = parse(description(CASES[case]).encode())
    sgk = text.certificate
    return text, Named(text.srk.file, 6, text.srk.source, 7, None if sgk is None else sgk.file, 12 if sgk else None)


def table(there: Mapping[str, bytes], name: str = TABLE) -> ahab.SrkTable | ahab.SrkArray:
    return table_of(there, Named(name, 6, None, 7, None, None))


def records(byte: int, value: int, raw: bytes | None = None) -> bytes:
    """The table of P-384 with a byte of each record changed."""
    data = bytearray(members("p384")[TABLE] if raw is None else raw)
    for number in range(4):
        data[4 + number * RECORD + byte] = value
    return bytes(data)


def test_good_tables_are_read() -> None:
    """Both of a tarball, with all hashes of signatures that cst makes for them."""
    assert isinstance(table(files()), ahab.SrkTable)
    assert isinstance(table(files(), V2_TABLE), ahab.SrkArray)
    for code in (0, 1, 2):
        assert table(files(table=records(4, code)))
    for code in range(7):
        array = bytearray(members("p384")[V2_TABLE])
        for number in range(4):
            array[12 + number * 76 + 4] = code
        if code != 3:
            assert table(files(v2=bytes(array)), V2_TABLE)


@pytest.mark.parametrize("code", [3, 4, 5, 6])
def test_tables_for_hashes_that_nothing_makes_for_them_are_bad(code: int) -> None:
    """SHA-3 is only in version 2, though cst 4.0.1 makes it for both; SM3 is not made at all."""
    with pytest.raises(BadTarball, match=r"is for signatures with (sm3|sha3-\d+), which this host does not") as raised:
        table(files(table=records(4, code)))
    assert "srktool -s sha256" in raised.value.hint


def test_a_second_table_is_not_for_cst() -> None:
    """It makes one signature, and ends with 0."""
    both = forged_table("p256", version=2, second="p384")
    with pytest.raises(Refused, match=r"csf: line 6: .* has a second SRK table") as raised:
        table(files(v2=both), V2_TABLE)
    assert "without ML-DSA" in raised.value.hint


def test_keys_of_several_types_are_bad() -> None:
    """In either version."""
    data = members("p384")[TABLE]
    mixed = data[: 4 + 7] + b"\x80" + data[4 + 8 :]
    with pytest.raises(BadTarball, match="keys of several types"):
        table(files(table=mixed))
    array = members("p384")[V2_TABLE]
    with pytest.raises(BadTarball, match="keys of several types"):
        table(files(v2=array[:19] + b"\x80" + array[20:]), V2_TABLE)


def test_what_is_wrong_with_a_table_is_told() -> None:
    """With another table it may be the wrong name; without one the tarball is bad."""
    bad = records(4, 7)
    with pytest.raises(Refused, match=r"csf: line 6: .* damaged: .* unknown hash 0x7") as raised:
        table(files(table=bad))
    assert raised.value.hint == f"SRK tables for AHAB in the key tarball: {V2_TABLE}"
    two = {V2_TABLE: members("p384")[V2_TABLE], "a.bin": members("p384")[TABLE], TABLE: bad}
    with pytest.raises(Refused) as raised:
        table(two)
    assert raised.value.hint.endswith(f": a.bin, {V2_TABLE}")
    with pytest.raises(BadTarball, match=r"is bad: .* unknown hash 0x7"):
        table({TABLE: bad})
    array = members("p384")[V2_TABLE][:-1]
    with pytest.raises(BadTarball, match="is bad: the SRK array has"):
        table({TABLE: array})


@pytest.mark.parametrize("data", [b"", b"s", b"secret phrase", b"s\xd7se", b"\x5asecret"])
def test_nothing_of_another_file_is_told(data: bytes) -> None:
    """Not even its first bytes, or how short it is."""
    for others in ({}, {V2_TABLE: members("p384")[V2_TABLE]}):
        with pytest.raises(Refused) as raised:
            table({TABLE: data, **others})
        assert raised.value.what == f'csf: line 6: "{TABLE}" is not an SRK table for AHAB'
        assert raised.value.hint == f"SRK tables for AHAB in the key tarball: {V2_TABLE if others else 'none'}"


def test_other_files_are_not_searched_for_tables() -> None:
    """Neither those with another ending nor large ones."""
    good = members("p384")[TABLE]
    for name, data in (("crts/table.txt", good), ("large.bin", good + bytes(1 << 16))):
        with pytest.raises(Refused) as raised:
            table({TABLE: b"none", name: data})
        assert raised.value.hint.endswith(": none")


@pytest.mark.parametrize(("case", "name"), [("p384", V2_TABLE), ("v2", TABLE)])
def test_a_table_is_for_the_version_of_the_description(case: str, name: str) -> None:
    """Cst makes a container that no chip reads."""
    text, _ = of(case)
    named = Named(name, 6, None, 7, None, None)
    with pytest.raises(Refused, match=r"line 6: .* is for containers of version [02], but Version = [12].0"):
        check_table(table(files(), name), named, text, "m", None, None)


@pytest.mark.parametrize(
    ("case", "name", "chip", "pin", "wrong"),
    [
        ("p384", TABLE, None, "sha256", ""),
        ("p384", TABLE, None, "sha512", ""),
        ("p384", TABLE, "mx93", "sha256", ""),
        ("p384", TABLE, "mx93", "sha512", "is a SHA512, but that of i.MX 93 is a SHA256"),
        ("p384", TABLE, "mx8", "sha512", ""),
        ("p384", TABLE, "mx8", "sha256", "is a SHA256, but that of i.MX 8QuadMax is a SHA512"),
        ("p384", TABLE, "mx8dxl", "sha256", ""),
        ("p384", TABLE, "mx8dxl", "sha512", ""),
        ("v2", V2_TABLE, None, "sha512", ""),
        ("v2", V2_TABLE, None, "sha256", "is a SHA256, but that of a chip with containers of version 2 is a SHA512"),
        ("v2", V2_TABLE, "mx94", "sha512", ""),
    ],
)
def test_the_pinned_fuse_value_is_that_of_the_chip(
    case: str, name: str, chip: str | None, pin: str, wrong: str
) -> None:
    """By its length; and any other value is refused."""
    text, named = of(case)
    read = table(files(), name)
    pinned, what = read.hash(pin), ahab.chip(chip) if chip is not None else None
    if wrong:
        with pytest.raises(Refused, match=f"the fuse value of machine 'm' {wrong}"):
            check_table(read, named, text, "m", pinned, what)
        return
    check_table(read, named, text, "m", pinned, what)
    check_table(read, named, text, "m", None, what)
    with pytest.raises(BadTarball, match=f"has the fuse value {pinned.hex()}, but machine 'm' has 00"):
        check_table(read, named, text, "m", b"\0" + pinned[1:], what)


def test_a_source_is_the_certificate_of_its_srk() -> None:
    """Of all four, by the index, in both versions."""
    for case, name in (("p384", TABLE), ("v2", V2_TABLE)):
        text, named = of(case)
        check_certificates(table(files(), name), named, text, files())
        assert named.source is not None
        number = text.srk.source_index + 1
        other = named.source.replace(f"SRK{number}_", "SRK4_")
        wrong = Named(named.table, 6, other, 7, None, None)
        with pytest.raises(Refused, match=f"line 7: Source index = {number - 1} is SRK {number}, but .* of SRK 4"):
            check_certificates(table(files(), name), wrong, text, files())


def test_a_source_that_is_no_srk_is_told_which_is() -> None:
    """An SGK, whose name is like that of an SRK; if none is, the tarball is bad."""
    text, named = of("p384ca")
    sgk = Named(named.table, 6, named.certificate, 7, None, None)
    there = files("p384ca")
    with pytest.raises(Refused, match=r"line 7: .*SGK2.* is not the certificate of an SRK of") as raised:
        check_certificates(table(there), sgk, text, there)
    assert raised.value.hint == f'that of SRK 2 is "{named.source}"'
    assert named.source is not None
    assert named.certificate is not None
    none = {name: data for name, data in there.items() if name in (TABLE, named.certificate)}
    none["crts/broken_crt.pem"] = b""
    none["crts/copy.pem"] = there[named.source]
    with pytest.raises(BadTarball, match="is not that of an SRK of the table"):
        check_certificates(table(there), sgk, text, none)


def test_the_table_that_a_source_belongs_to_is_told() -> None:
    """Of another PKI in the same tarball, and of the same version."""
    text, named = of("p384")
    foreign = members("p384ca")[TABLE]
    there = {**{name: data for name, data in files().items() if "SRK1" in name}, TABLE: foreign}
    there["crts/other_table.bin"] = members("p384")[TABLE]
    with pytest.raises(Refused, match=r"line 7: .* but of .*crts/other_table.bin") as raised:
        check_certificates(table(there), named, text, there)
    assert "of the same PKI" in raised.value.hint
    there["crts/other_table.bin"] = foreign
    with pytest.raises(BadTarball, match="is not that of an SRK of the table"):
        check_certificates(table(there), named, text, there)
    there["crts/other_table.bin"] = members("p384")[V2_TABLE]
    with pytest.raises(BadTarball, match="is not that of an SRK of the table"):
        check_certificates(table(there), named, text, there)


def test_the_first_srk_is_one_of_the_others() -> None:
    """And there is no fifth, whatever is called so."""
    text, named = of("p384ca")
    there = files("p384ca")
    assert named.source is not None
    there[named.source.replace("SRK2_", "SRK5_")] = certificate_of("p384", 5)
    check_certificates(table(there), named, text, there)
    data = bytearray(there[TABLE])
    data[4 + 12] ^= 1
    there[TABLE] = bytes(data)
    with pytest.raises(BadTarball, match="does not have the key of crts/SRK1_"):
        check_certificates(table(there), named, text, there)


@pytest.mark.parametrize("number", [2, 3, 4])
def test_the_other_srks_are_those_of_the_table_too(number: int) -> None:
    """A damaged key of another SRK is another fuse value."""
    text, named = of("p384")
    data = bytearray(members("p384")[TABLE])
    data[4 + (number - 1) * RECORD + 12] ^= 1
    there = files(table=bytes(data))
    with pytest.raises(BadTarball, match=f"does not have the key of crts/SRK{number}_"):
        check_certificates(table(there), named, text, there)
    alone = {name: there[name] for name in (named.table, named.source or "")}
    check_certificates(table(there), named, text, alone)


def test_a_certificate_needs_an_srk_with_the_flag() -> None:
    """And has to be one."""
    text, named = of("p384ca")
    there = files("p384ca")
    check_certificates(table(there), named, text, there)
    flagless = {**there, TABLE: records(7, 0, there[TABLE])}
    with pytest.raises(Refused, match="line 12: SRK 2 has no CA flag"):
        check_certificates(table(flagless), named, text, flagless)
    assert named.certificate is not None
    damaged = {**there, named.certificate: b"none"}
    with pytest.raises(BadTarball, match=re.escape(f"{named.certificate} in the key tarball: ")):
        check_certificates(table(there), named, text, damaged)
    token = Named(named.table, 6, None, 7, None, 12)
    check_certificates(table(there), token, text, damaged)
    with pytest.raises(Refused, match="line 12: SRK 2 has no CA flag"):
        check_certificates(table(flagless), token, text, damaged)


def test_a_damaged_source_is_the_operators_fault() -> None:
    """It is in the tarball."""
    text, named = of("p384")
    there = {**files(), named.source or "": b"none"}
    with pytest.raises(BadTarball, match=re.escape(f"{named.source} in the key tarball: ")):
        check_certificates(table(there), named, text, there)


@pytest.mark.parametrize(
    ("case", "name", "chip", "word", "hint"),
    [
        ("p384", TABLE, "mx93", "", ""),
        ("p384", TABLE, "mx95", "i.MX 95 B0 has no containers of version 0", "mx95-a0"),
        ("p384", TABLE, "mx94", "i.MX 94 has no containers of version 0", ""),
        ("v2", V2_TABLE, "mx93", "i.MX 93 has no containers of version 2", ""),
        ("v2", V2_TABLE, "mx94", "", ""),
        ("p384ca", TABLE, "mx8x", "", ""),
        ("p384ca", TABLE, "mx93", r"csf: line \d+: i.MX 93 does not accept \[Install Certificate\]", ""),
    ],
)
def test_a_chip_has_versions_keys_and_certificates(case: str, name: str, chip: str, word: str, hint: str) -> None:
    """The hint is about that, and not all that is known of the chip."""
    text, _ = of(case)
    read = table(files("p384ca" if case == "p384ca" else "p384"), name)
    check_chip(None, read, text)
    if not word:
        check_chip(ahab.chip(chip), read, text)
        return
    with pytest.raises(Refused, match=word) as raised:
        check_chip(ahab.chip(chip), read, text)
    assert raised.value.hint.endswith(hint)
    assert bool(raised.value.hint) == bool(hint)
    assert raised.value.line


def test_a_chip_without_pkcs_1_has_none_of_its_keys() -> None:
    """RSA-PSS is another thing; so is a chip with it."""
    text, _ = of("p384")
    for kind, chip, word in (("rsa2048", "mx93", "RSA 2048"), ("pss2048", "mx93", ""), ("rsa2048", "mx8", "")):
        read = ahab.parse_table(forged_table(kind))  # type: ignore[arg-type]
        if word:
            with pytest.raises(Refused, match=f"i.MX 93 does not accept {word} keys"):
                check_chip(ahab.chip(chip), read, text)
        else:
            check_chip(ahab.chip(chip), read, text)


def test_the_signer_of_version_2_is_known_by_its_key() -> None:
    """Though header and SRK data name another record."""
    keys = keys_of("p256")
    array = bytearray(build.write_array([keys], 1))
    array[-72 + 4] = 3
    made = forge("p256", version=2, number=1, index=3, srk=bytes(array))
    signed = made.data[made.offset : made.offset + made.container.signed_length]
    assert signer_of(made.container, signed) == 1
    assert signer_of(made.container, signed + b"x") is None


def test_a_container_without_keys_or_signature_has_no_signer() -> None:
    """Whichever of them is there."""
    head = forge("p256", alone=True).unsigned[:0x110]
    for srks, sizes in ((b"", [64]), (forged_table("p256"), []), (b"", [])):
        block = write.write_block(write.write_block_head(srks, sizes), [bytes(size) for size in sizes])
        raw = bytearray(head + block)
        raw[1:3] = len(raw).to_bytes(2, "little")
        assert signer_of(ahab.parse(bytes(raw)), b"") is None
