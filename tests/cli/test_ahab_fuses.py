"""`digsign fuses` for chips with AHAB: the words of the chip's own hash, and nothing where that is not certain."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from digsigd import ahab
from digsigd.pki import pack
from tests.helpers.ahab_forge import table_of
from tests.helpers.ahab_samples import SAMPLES, flash, signed
from tests.helpers.commands import Digsign

P384, P384_V2, RSA = ((SAMPLES / f"SRK_{name}_table.bin").read_bytes() for name in ("p384", "p384_v2", "rsa2048"))


@pytest.fixture
def digsign(capsys: pytest.CaptureFixture[str]) -> Digsign:
    return Digsign(capsys)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "SRK_1_2_3_4_table.bin"
    path.write_bytes(P384)
    return path


def words(table: bytes, name: str) -> list[str]:
    value = ahab.parse_table(table).hash(name)
    return [f"0x{word:X}" for word in struct.unpack(f"<{len(value) // 4}I", value)]


# uboot-imx, doc/imx/ahab/guides; SPSDK, fuses.json: the chip, its table, the hash, the places, the family and the first
# index of nxpele.
CHIPS = [
    ("imx8qm", P384, "sha512", [(0, word) for word in range(722, 738)], "", 0),
    ("imx8qxp", P384, "sha512", [(0, word) for word in range(730, 746)], "", 0),
    ("imx8ulp", P384, "sha256", [(15, word) for word in range(8)], "mimx8ulp", 120),
    ("mx91", P384, "sha256", [(16, word) for word in range(8)], "mimx9131", 128),
    ("i.MX 93", P384, "sha256", [(16, word) for word in range(8)], "mimx9352", 128),
    ("mx95-a1", P384, "sha256", [(16, word) for word in range(8)], "mimx9596 -r a1", 128),
    ("mx95-b0", P384_V2, "sha512", [(bank, word) for bank in (16, 17) for word in range(8)], "mimx9596", 128),
    ("imx952", P384_V2, "sha512", [(bank, word) for bank in (16, 17) for word in range(8)], "mimx95294", 128),
    ("mx943", P384_V2, "sha512", [(bank, word) for bank in (76, 77) for word in range(8)], "mimx943", 608),
]  # fmt: skip


@pytest.mark.parametrize(("soc", "table", "name", "places", "family", "index"), CHIPS, ids=[one[0] for one in CHIPS])
def test_the_words_of_a_chip_are_those_of_its_hash(
    digsign: Digsign, file: Path, soc: str, table: bytes, name: str, places: list[tuple[int, int]], family: str,
    index: int,
) -> None:  # fmt: skip
    """In U-Boot's form, and in SPSDK's where it has the chip; the other hash is nowhere."""
    file.write_bytes(table)
    ended = digsign("fuses", file, "--soc", soc)
    assert ended.code == 0
    lines = [line.strip() for line in ended.out.splitlines()]
    wanted = words(table, name)
    assert [line for line in lines if line.startswith("fuse prog")] == [
        f"fuse prog {bank} {word} {value}" for (bank, word), value in zip(places, wanted, strict=True)
    ]
    assert [line for line in lines if line.startswith("nxpele")] == [
        f"nxpele -f {family} -p PORT write-fuse --index {index + number} --data {value}"
        for number, value in enumerate(wanted)
        if family
    ]
    other = {"sha256": "sha512", "sha512": "sha256"}[name]
    assert words(table, other)[0] not in ended.out


def test_the_same_for_programs(digsign: Digsign, file: Path) -> None:
    """As JSON, with the same commands."""
    values = json.loads(digsign("fuses", file, "--soc", "imx93", "--json").out)
    assert values["fuse_value"] == ahab.parse_table(P384).hash("sha256").hex()
    assert values["words"][0] == {"bank": 16, "word": 0, "value": words(P384, "sha256")[0]}
    assert values["commands"][7] == f"fuse prog 16 7 {words(P384, 'sha256')[7]}"
    assert values["nxpele"][7].endswith(f"--index 135 --data {words(P384, 'sha256')[7]}")


@pytest.mark.parametrize("soc", [None, "imx8dxl", "imx8", "mx8", "imx95", "mx95", "i.MX 95", "imx8mm", "imx6ull"])
def test_without_a_certain_chip_nothing_is_printed(digsign: Digsign, file: Path, soc: str | None) -> None:
    """Nor for silicon that differs, nor for a chip whose fuses are not confirmed, nor for one with HAB4."""
    ended = digsign("fuses", file, *(["--soc", soc] if soc else []))
    assert ended.code in (1, 2)
    assert "fuse prog" not in ended.out + ended.err
    assert "nxpele" not in ended.out + ended.err


def test_what_is_not_certain_is_told(digsign: Digsign, file: Path) -> None:
    """With the names to choose from, and the reason."""
    assert "set --soc to one of: mx8qm, mx8x, mx8dxl, mx8ulp" in digsign("fuses", file).err
    assert "i.MX 8DXLite is not confirmed: neither" in digsign("fuses", file, "--soc", "mx8dxl").err
    assert "Pass one of: mx95-a0, mx95-b0" in digsign("fuses", file, "--soc", "imx95").err
    assert "of AHAB" in digsign("fuses", file, "--soc", "imx8mp").err


def test_keys_that_the_chip_refuses_are_not_for_its_fuses(digsign: Digsign, file: Path) -> None:
    """RSA with PKCS #1 v1.5, which ELEs answer with F7; a table of the other version."""
    file.write_bytes(RSA)
    ended = digsign("fuses", file, "--soc", "mx93")
    assert (ended.code, ended.out) == (1, "")
    assert "RSA 2048, which i.MX 93 does not accept" in ended.err
    assert digsign("fuses", file, "--soc", "mx8qm").code == 0
    file.write_bytes(P384_V2)
    assert "the table is of version 2" in digsign("fuses", file, "--soc", "mx93").err


def test_tables_are_found_in_files_that_have_them(digsign: Digsign, file: Path) -> None:
    """Key tarballs and signed images; a fuse file has the right hash or none."""
    wanted = digsign("fuses", file, "--soc", "mx93", "--json").out
    value = json.loads(wanted)["fuse_value"]
    sources = {
        "keys.tar.gz": pack({"crts/SRK_1_2_3_4_table.bin": P384}),
        "flash.bin": signed("good-93-sd-spl"),
        "fuse.bin": ahab.parse_table(P384).hash("sha256"),
    }
    for name, data in sources.items():
        path = file.with_name(name)
        path.write_bytes(data)
        assert json.loads(digsign("fuses", path, "--soc", "mx93", "--json").out)["fuse_value"] == value, name
    path.write_bytes(ahab.parse_table(P384).hash("sha512"))
    ended = digsign("fuses", path, "--soc", "mx93")
    assert (ended.code, ended.out) == (1, "")
    assert "srktool -d sha256" in ended.err


def test_files_without_a_table_are_refused(digsign: Digsign, file: Path) -> None:
    """An image that only NXP has signed, or something else."""
    for data in (flash("good-93-sd-spl"), b"nothing", pack({"a": b"b"})):
        file.write_bytes(data)
        ended = digsign("fuses", file, "--soc", "mx93")
        assert (ended.code, ended.out) == (1, "")
        assert "digsign inspect" in ended.err


def test_of_several_tables_one_is_chosen(digsign: Digsign, file: Path) -> None:
    """By the version of the chip's containers, or by its name."""
    file.write_bytes((SAMPLES / "keys" / "p384.tar.gz").read_bytes())
    assert digsign("fuses", file, "--soc", "mx93").code == 0
    assert digsign("fuses", file, "--soc", "mx95-b0").code == 0
    file.write_bytes(pack({"crts/a_table.bin": P384, "crts/b_table.bin": RSA}))
    assert "has several SRK tables" in digsign("fuses", file, "--soc", "mx8qm").err
    assert digsign("fuses", file, "--soc", "mx8qm", "--table", "b_table.bin").code == 0
    assert "has no SRK table 'c'" in digsign("fuses", file, "--soc", "mx8qm", "--table", "c").err


def read_back(table: bytes, name: str, banks: list[tuple[int, int]], change: int = 0) -> str:
    """What U-Boot prints for `fuse read` of these (bank, first word), eight words each."""
    value = list(struct.unpack("<16I" if name == "sha512" else "<8I", ahab.parse_table(table).hash(name)))
    value[0] ^= change
    text = "=> fuse read\n"
    for number, (bank, first) in enumerate(banks):
        part = value[8 * number : 8 * number + 8]
        text += f"Reading bank {bank}:\n\n"
        for start in (0, 4):
            text += f"Word 0x{first + start:08x}: " + " ".join(f"{one:08x}" for one in part[start : start + 4]) + "\n"
    return text


def test_what_a_board_has_is_compared(digsign: Digsign, file: Path) -> None:
    """The output of U-Boot for eight words and for sixteen, of two banks or of one."""
    saved = file.with_name("saved.txt")
    cases = (
        ("mx93", P384, "sha256", [(16, 0)]), ("mx95-b0", P384_V2, "sha512", [(16, 0), (17, 0)]),
        ("mx8qm", P384, "sha512", [(0, 722), (0, 730)]),
    )  # fmt: skip
    for soc, table, name, banks in cases:
        file.write_bytes(table)
        saved.write_text(read_back(table, name, banks))
        ended = digsign("fuses", file, "--soc", soc, "--compare", saved)
        assert (ended.code, ended.out[:8]) == (0, "The same"), ended.err
        saved.write_text(read_back(table, name, banks, change=1))
        assert digsign("fuses", file, "--soc", soc, "--compare", saved).code == 1
        saved.write_text(read_back(table, name, banks[:1])[:-40])
        assert "it lacks bank" in digsign("fuses", file, "--soc", soc, "--compare", saved).err


def test_what_nxpele_reads_is_compared(digsign: Digsign, file: Path) -> None:
    """SPSDK's `read-common-fuse`, word by word."""
    value = struct.unpack("<8I", ahab.parse_table(P384).hash("sha256"))
    saved = file.with_name("saved.txt")
    read = "Read common fuse ends successfully.\n"
    saved.write_text("".join(f"{read}Fuse ID_{number}: 0x{word:08X}\n" for number, word in enumerate(value, 128)))
    assert digsign("fuses", file, "--soc", "mx93", "--compare", saved).code == 0
    assert "set --soc" in digsign("fuses", file, "--compare", saved).err


def test_digits_words_and_files_are_compared(digsign: Digsign, file: Path) -> None:
    """With a chip by its hash, without one by whichever both have."""
    table = ahab.parse_table(P384)
    image = file.with_name("flash.bin")
    image.write_bytes(signed("good-93-sd-spl"))
    for text in (table.hash("sha256").hex(), " ".join(words(P384, "sha256")), str(image), str(file)):
        assert digsign("fuses", file, "--soc", "mx93", "--compare", text).code == 0
        assert digsign("fuses", file, "--compare", text).code == 0
    assert digsign("fuses", file, "--compare", table.hash("sha512").hex()).code == 0
    assert "the fuses of i.MX 93 have" in digsign("fuses", file, "--soc", "mx93", "--compare", "00" * 64).err
    zeros = digsign("fuses", file, "--soc", "mx93", "--compare", "00" * 32)
    assert (zeros.code, "Nothing is burnt yet." in zeros.out) == (1, True)
    other = file.with_name("other.bin")
    other.write_bytes(RSA)
    assert "different keys" in digsign("fuses", file, "--compare", other).out


def test_second_tables_are_compared_and_told_apart(digsign: Digsign, file: Path) -> None:
    """Boards have fuses for both: the same first table is not enough."""
    hybrid, alone = table_of("p384", version=2, second="p384"), table_of("p384", version=2)
    other = file.with_name("other.bin")
    file.write_bytes(hybrid)
    for chip in ((), ("--soc", "mx95-b0")):
        for table, code, words in (
            (hybrid, 0, ""),
            (alone, 1, "only one of them has a second SRK table"),
            (table_of("p384", version=2, second="p521"), 1, "their second SRK tables differ"),
        ):
            other.write_bytes(table)
            ended = digsign("fuses", file, *chip, "--compare", other)
            assert (ended.code, words in ended.err) == (code, True), ended.err
    value = ahab.parse_table(hybrid).hash("sha512").hex()
    assert (
        "of the second SRK table was not compared" in digsign("fuses", file, "--soc", "mx95-b0", "--compare", value).out
    )
    file.write_bytes(pack({"crts/a_table.bin": alone, "crts/b_table.bin": hybrid}))
    assert "has several SRK tables" in digsign("fuses", file, "--soc", "mx95-b0").err


def test_the_value_of_a_second_table_is_known_as_such(digsign: Digsign, file: Path) -> None:
    """Alone, as digits, or in what U-Boot reads of both banks, of which either can be wrong."""
    hybrid = table_of("p384", version=2, second="p521")
    file.write_bytes(hybrid)
    array = ahab.parse_table(hybrid)
    assert isinstance(array, ahab.SrkArray)
    second = array.tables[1].hash("sha512")
    for chip in ((), ("--soc", "mx95-b0")):
        alone = digsign("fuses", file, *chip, "--compare", second.hex())
        assert (alone.code, "is the fuse value of the second SRK table" in alone.out) == (0, True), alone.err
        values = json.loads(digsign("fuses", file, *chip, "--compare", second.hex(), "--json").out)
        assert (values["fuse_value"], values["same"]) == (second.hex(), True)
    saved = file.with_name("saved.txt")
    first = read_back(hybrid, "sha512", [(16, 0), (17, 0)])
    for change, code in ((0, 0), (1, 1)):
        wrong = (int.from_bytes(second, "little") ^ change).to_bytes(64, "little")
        rows = struct.unpack("<16I", wrong)
        text = "".join(
            f"Reading bank {bank}:\n"
            + "".join(
                f"Word 0x{word:08x}: " + " ".join(f"{one:08x}" for one in rows[start + word : start + word + 4]) + "\n"
                for word in (0, 4)
            )
            for bank, start in ((56, 0), (57, 8))
        )
        saved.write_text(first + text)
        both = digsign("fuses", file, "--soc", "mx95-b0", "--compare", saved)
        assert (both.code, "The second SRK table:" in both.out) == (code, True), both.err
        values = json.loads(digsign("fuses", file, "--soc", "mx95-b0", "--compare", saved, "--json").out)
        assert (values["same"], values["second"]["same"], len(values["second"]["words"])) == (True, not code, 16)
        assert digsign("fuses", file, "--soc", "mx95-b0", "--compare", saved, "--json").code == code


def test_srks_for_certificates_on_a_chip_without_them_are_told(digsign: Digsign, file: Path) -> None:
    """No SGK can sign for it, and nobody says that such an SRK can."""
    file.write_bytes(table_of("p384", ca=True))
    assert "note: these SRKs have the CA flag" in digsign("fuses", file, "--soc", "mx93").out
    assert "note: these SRKs" not in digsign("fuses", file, "--soc", "mx8qm").out
    file.write_bytes(P384)
    assert "note: these SRKs" not in digsign("fuses", file, "--soc", "mx93").out


def test_a_fuse_file_alone_does_not_show_its_keys(digsign: Digsign, file: Path) -> None:
    """RSA with PKCS #1 has a SHA-256, too, and i.MX 93 refuses it: the words come with a note."""
    file.write_bytes(ahab.parse_table(RSA).hash("sha256"))
    ended = digsign("fuses", file, "--soc", "mx93")
    assert "note: a fuse file does not say what keys it is of" in ended.out
    file.write_bytes(P384)
    assert "note: a fuse file" not in digsign("fuses", file, "--soc", "mx93").out
