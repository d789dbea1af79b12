"""`digsign inspect` shows what is in files of AHAB, and calls none of it damaged HAB."""

from __future__ import annotations

import gzip
import json
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from digsigd import ahab
from digsigd.cli.inspect import inspect
from digsigd.pki import pack
from tests.helpers.ahab_samples import SAMPLES, changed, signed
from tests.helpers.commands import Digsign
from tests.helpers.inspecting import Inspect, notes, parts

CASES = ("good-93-sd-spl", "good-qxp-spl-sgk", "good-v2-p384")
TABLES = ("SRK_p384_table.bin", "SRK_p384_v2_table.bin", "SRK_rsa2048_table.bin")
UNSIGNED = gzip.decompress((SAMPLES / "os-container-unsigned.bin.gz").read_bytes())
MESSAGE = bytes.fromhex("00600089020000000000000048000000").ljust(0x4B, b"\0") + b"\x90" + bytes(0x20)


@pytest.fixture
def digsign(capsys: pytest.CaptureFixture[str]) -> Digsign:
    return Digsign(capsys)


@pytest.fixture
def show(digsign: Digsign, tmp_path: Path) -> Inspect:
    return Inspect(digsign, tmp_path)


def table(name: str) -> bytes:
    return (SAMPLES / name).read_bytes()


@pytest.mark.parametrize("case", CASES)
def test_containers_are_told_with_what_they_load(show: Inspect, case: str) -> None:
    """As what they are, and as no damage."""
    values = show.values(signed(case))
    assert values["kind"] == "ahab"
    assert all(one["images"] for one in parts(values, "ahab-container"))
    assert not any(one["damage"] for one in parts(values, "ahab-container"))


def test_containers_say_whose_they_are_and_who_signs_them(show: Inspect) -> None:
    """NXP, the OEM with which SRK, or nobody yet; and what cst needs for them."""
    told = parts(show.values(signed("good-93-sd-spl")), "ahab-container")
    assert [(one["title"], one["owner"], one["signed_by"], one["srk"]) for one in told] == [
        ("container at 0x0", "NXP", "NXP", 1),
        ("container at 0x400", "OEM", "OEM", 1),
        ("container at 0x4000", "OEM", "none: not signed", None),
    ]
    assert told[1]["images"] == [
        {
            "offset": 0x2800, "size": 0x1800, "load": 0x2049A000, "entry": 0x2049A000, "kind": "code", "core": 2,
            "hash": "sha384", "encrypted": False,
        }
    ]  # fmt: skip
    assert (told[1]["offsets"], told[1]["signed_bytes"]) == ("0x400 0x490", 0x258)


def test_the_table_in_a_container_gives_both_fuse_values(show: Inspect) -> None:
    """Those of its file: the chip decides which of them counts."""
    (nxp, inner) = parts(show.values(signed("good-93-sd-spl")), "ahab-srk-table")
    # Nobody burns NXP's.
    assert "fuse_value_sha256" not in nxp
    assert len(nxp["SRKs"]) == 4
    (alone,) = parts(show.values(table("SRK_p384_table.bin")), "ahab-srk-table")
    known = ahab.parse_table(table("SRK_p384_table.bin"))
    for one in (inner, alone):
        assert one["fuse_value_sha256"] == known.hash("sha256").hex()
        assert one["fuse_value_sha512"] == known.hash("sha512").hex()
    assert "depends on the chip" in notes(alone)


def test_a_certificate_is_told_with_what_it_may(show: Inspect) -> None:
    """An SGK that signs in place of the SRK."""
    (one,) = parts(show.values(signed("good-qxp-spl-sgk")), "ahab-certificate")
    assert (one["key"], one["may_sign_containers"], one["signed_by"]) == ("ECDSA P-384 with sha384", True, "SRK 2")


def test_container_without_its_images_is_no_damage(show: Inspect) -> None:
    """Its header alone is signed before the rest is there."""
    values = show.values(UNSIGNED[:0x200])
    assert "this file contains only in part: those at 0x2000, 0x4400" in notes(values)


def test_a_damaged_block_is_damage(show: Inspect) -> None:
    """What can be read is shown even then."""
    values = show.values(changed(signed("good-93-sd-spl"), 0x491, b"\xff"), code=1)
    (_, ours, _) = parts(values, "ahab-container")
    assert ours["damage"]
    assert ours["images"]


@pytest.mark.parametrize("name", TABLES)
def test_srk_tables_are_told_with_their_keys(show: Inspect, name: str) -> None:
    """As AHAB's; an array has the fuse value of all chips that use it."""
    values = show.values(table(name))
    assert values["kind"] == "ahab-srk-table"
    assert len(values["SRKs"]) == 4
    assert "fuse_value" not in values
    assert ("fuse_value_sha256" in values) == ("v2" not in name)
    assert values["fuse_value_sha512"] == ahab.parse_table(table(name)).hash("sha512").hex()


def test_a_damaged_table_says_where(show: Inspect) -> None:
    """And has no fuse value, which would be wrong."""
    values = show.values(changed(table("SRK_p384_table.bin"), 4, b"\xe2"), code=1)
    assert values["kind"] == "ahab-srk-table"
    assert "at offset 0x4" in values["damage"][0]
    assert "fuse_value_sha256" not in values


def test_a_signed_message_is_told_as_one(show: Inspect) -> None:
    """It is not signed here."""
    values = show.values(MESSAGE)
    assert (values["kind"], values["signed_by"], values["srk"]) == ("ahab-message", "OEM", 1)


def test_key_tarballs_are_told_with_both_fuse_values_and_the_chain(show: Inspect) -> None:
    """Of tables of both versions; the CA has signed SRKs, and SRKs their SGKs."""
    values = show.values((SAMPLES / "keys" / "p384ca.tar.gz").read_bytes())
    assert [(one["of"].rpartition("/")[2], one["kind"]) for one in values["fuse_values"]][:3] == [
        ("SRK_1_2_3_4_table.bin", "SRK table of AHAB, version 1, sha256"),
        ("SRK_1_2_3_4_table.bin", "SRK table of AHAB, version 1, sha512"),
        ("SRK_1_2_3_4_v2_table.bin", "SRK table of AHAB, version 2, sha512"),
    ]
    assert [one["in_the_chain"] for one in values["certificates"]] == [
        *(f"signed by SRK {number}" for number in range(1, 5)), *(f"SRK {number}" for number in range(1, 5)),
    ]  # fmt: skip
    # The fuse files of srktool are those of the tables.
    assert "matches no SRK table" not in notes(values)
    assert "no SRK table" not in notes(values)


@pytest.mark.parametrize("kind", ["p256", "p521", "pss2048", "r2048"])
def test_certificates_of_every_kind_belong_to_their_srks(show: Inspect, kind: str) -> None:
    """RSA-PSS keys too."""
    values = show.values((SAMPLES / "keys" / f"{kind}.tar.gz").read_bytes())
    assert [one["in_the_chain"] for one in values["certificates"]] == [f"SRK {number}" for number in range(1, 5)]


def test_certificates_of_other_keys_belong_to_no_srk(show: Inspect) -> None:
    """The table is one of its own."""
    with tarfile.open(SAMPLES / "keys" / "p384.tar.gz") as keys:
        inner = keys.extractfile("crts/SRK1_sha384_secp384r1_v3_usr_crt.pem")
        assert inner is not None
        certificate = inner.read()
    values = show.values(pack({"SRK_table.bin": table("SRK_rsa2048_table.bin"), "SRK1_crt.pem": certificate}))
    assert [one["in_the_chain"] for one in values["certificates"]] == ["not signed by an SRK of the table"]


@pytest.mark.parametrize("case", ["good-qxp-spl-sgk", "good-v2-p384", "bad-two-authenticate-data"])
def test_descriptions_are_told_command_by_command(show: Inspect, case: str) -> None:
    """With the containers that they sign, and what a host refuses unless it is allowed."""
    values = show.values((SAMPLES / "cases" / case / "csf.txt").read_bytes())
    assert values["kind"] == "ahab-csf-description"
    commands = [one["command"] for one in values["commands"]]
    assert commands[:2] == ["Header", "Install SRK"]
    offsets = {
        "good-qxp-spl-sgk": [(0x400, 0x510)],
        "good-v2-p384": [(0, 0x110)],
        "bad-two-authenticate-data": [(0x400, 0x490), (0x4000, 0x4190)],
    }
    assert [(one["header"], one["signature_block"]) for one in values["containers"]] == offsets[case]
    assert ("Install Certificate" in commands) == (case == "good-qxp-spl-sgk")
    assert ("a signing host refuses it" in notes(values)) == (case == "bad-two-authenticate-data")


def test_a_wrong_description_is_told_up_to_there(show: Inspect) -> None:
    """With the line of what is wrong."""
    text = (SAMPLES / "cases" / "good-93-pss" / "csf.txt").read_bytes().replace(b"Source set", b"Sauce set")
    values = show.values(text, code=1)
    assert [one["command"] for one in values["commands"]] == ["Header"]
    assert "line 9" in values["damage"][0]


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "in a tarball"])
@pytest.mark.parametrize("name", [*CASES, *TABLES])
def test_nothing_of_ahab_gives_words_for_a_chip_with_hab(
    digsign: Digsign, tmp_path: Path, name: str, packed: bool
) -> None:
    """Its fuses are others, and so are their values."""
    path = tmp_path / "file"
    data = table(name) if name in TABLES else signed(name)
    path.write_bytes(pack({"crts/SRK_1_2_3_4_table.bin": data}) if packed else data)
    ended = digsign("fuses", path, "--soc", "imx8mm")
    assert (ended.code, ended.out) == (1, "")
    assert "of AHAB" in ended.err


@settings(deadline=None)
@given(data=st.data())
def test_damaged_ones_raise_nothing(data: st.DataObject) -> None:
    """Whatever is changed in real ones."""
    name = data.draw(st.sampled_from([*CASES, *TABLES]))
    whole = bytearray((table(name) if name in TABLES else signed(name))[:0x1000])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, min(0x800, len(whole) - 1)))
        whole[at : at + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=4))
    part = inspect(bytes(whole))
    assert part is None or json.dumps(part.as_values())
