"""`digsign fuses` for every chip: its places, its tool, and nothing where it is not certain which chip."""

from __future__ import annotations

import json
import re
import struct
import subprocess
from pathlib import Path

import pytest

from digsigd.cli.fuse_words import NoFuseValueError, written_value
from digsigd.image.chips import CHIPS, Chip, Unconfirmed, find
from digsigd.image.plan import plan
from tests.helpers import golden
from tests.helpers.blobs import Signing
from tests.helpers.commands import Digsign

# NXP's mx6_mx7_secure_boot.txt, 1.5, has these words for its fuse file, and the commands of i.MX 6.
WORDS = (0x20593752, 0x6ACE6962, 0x26E0D06C, 0xFC600661, 0x1240E88F, 0x1209F144, 0x831C8117, 0x1190FD4D)
VALUE = struct.pack("<8I", *WORDS)
CERTAIN = [chip for chip in CHIPS if not isinstance(chip.srk_cell, Unconfirmed)]


@pytest.fixture
def digsign(capsys: pytest.CaptureFixture[str]) -> Digsign:
    return Digsign(capsys)


@pytest.fixture
def fuses(tmp_path: Path) -> Path:
    path = tmp_path / "SRK_1_2_3_4_fuse.bin"
    path.write_bytes(VALUE)
    return path


def burning(text: str) -> list[str]:
    return re.findall(r"^ *(fuse prog .*|blhost .* efuse-program-once .*)$", text, re.MULTILINE)


def shown_by_u_boot(*banks: tuple[int, tuple[int, ...]], verb: str = "Reading") -> str:
    """U-Boot, cmd/fuse.c, do_fuse: four words a line."""
    text = ""
    for bank, words in banks:
        text += f"=> fuse read {bank} 0 {len(words)}\n{verb} bank {bank}:\n"
        for number, word in enumerate(words):
            text += ("" if number % 4 else f"\nWord 0x{number:08x}:") + f" {word:08x}"
        text += "\n"
    return text


def answer(word: int) -> str:
    """What blhost shows for efuse-read-once."""
    return (
        "Inject command 'efuse-read-once'\nResponse status = 0 (0x0) Success.\nResponse word 1 = 4 (0x4)\n"
        f"Response word 2 = {word} ({word:#x})\n"
    )


def test_words_of_i_mx_6_go_to_bank_3(digsign: Digsign, fuses: Path) -> None:
    """All eight of them, as NXP's guide for i.MX 6 has it."""
    out = digsign("fuses", fuses, "--soc", "imx6ull").out
    assert burning(out) == [f"fuse prog 3 {number} 0x{word:X}" for number, word in enumerate(WORDS)]
    assert "`fuse read 3 0 8`" in out
    assert "i.MX 6ULL: bank 3 words 0 to 7" in out


def test_words_of_i_mx_7ulp_go_to_bank_5_and_are_burnt_once(digsign: Digsign, fuses: Path) -> None:
    """Its words have ECC, which is said before the commands."""
    out = digsign("fuses", fuses, "--soc", "imx7ulp").out
    assert burning(out) == [f"fuse prog 5 {number} 0x{word:X}" for number, word in enumerate(WORDS)]
    assert out.index("have ECC") < out.index("fuse prog")


def test_words_of_rt_are_burnt_by_blhost_in_its_form(digsign: Digsign, tmp_path: Path) -> None:
    """Eight hexadecimal digits without 0x, whatever they begin with, and a warning that blhost does not ask."""
    path = tmp_path / "fuses"
    path.write_bytes(struct.pack("<8I", 0x1, *WORDS[1:]))
    out = digsign("fuses", path, "--soc", "RT1064").out
    assert burning(out)[:2] == [
        "blhost -u 0x15A2,0x0073 -- efuse-program-once 0x18 00000001",
        "blhost -u 0x15A2,0x0073 -- efuse-program-once 0x19 6ace6962",
    ]
    assert burning(out)[-1] == "blhost -u 0x15A2,0x0073 -- efuse-program-once 0x1f 1190fd4d"
    assert "does not ask" in out
    assert "fuse prog" not in out


@pytest.mark.parametrize("chip", CERTAIN, ids=lambda chip: chip.name)
def test_every_chip_gets_eight_words_and_no_command_that_closes_it(digsign: Digsign, fuses: Path, chip: Chip) -> None:
    """The fuses that close and lock are named for information, and no command has their place."""
    out = digsign("fuses", fuses, "--soc", chip.name).out
    assert len(burning(out)) == len(re.findall(r"fuse prog|program-once", out)) == 8
    assert str(chip.close) in out
    for line in burning(out):
        place = re.findall(r"prog (\d+) (\d+)|once (0x[0-9a-f]+)", line)[0]
        bank, word, index = place
        where = (int(bank), int(word)) if bank else (None, int(index, 16))
        assert where != (chip.close.word.bank, chip.close.word.word)
    assert re.search(r"SRK_LOCK locks the SRK words: (bit|not confirmed)", out)


@pytest.mark.parametrize("chip", [chip for chip in CHIPS if chip not in CERTAIN], ids=lambda chip: chip.name)
@pytest.mark.parametrize("more", [(), ("--json",), ("--compare", VALUE.hex())], ids=["show", "json", "compare"])
def test_chip_whose_fuses_nobody_confirms_gets_no_words(
    digsign: Digsign, fuses: Path, chip: Chip, more: tuple[str, ...]
) -> None:
    """The reason is said instead."""
    ended = digsign("fuses", fuses, "--soc", chip.name, *more)
    if "--compare" in more:  # the same is the same, wherever it is burnt
        assert (ended.code, ended.out) == (0, f"The same: {VALUE.hex()}\n")
        return
    assert (ended.code, ended.out) == (1, "")
    assert "is not confirmed: " in ended.err


@pytest.mark.parametrize("more", [(), ("--json",)], ids=["show", "json"])
def test_without_a_chip_nothing_is_shown(digsign: Digsign, fuses: Path, more: tuple[str, ...]) -> None:
    """Which chips there are is."""
    ended = digsign("fuses", fuses, *more)
    assert (ended.code, ended.out) == (2, "")
    assert "no chip is given" in ended.err
    assert all(chip.name in ended.err for chip in CHIPS)


def test_without_a_chip_no_host_is_asked(digsign: Digsign, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine does not tell its chip, so the command ends before anything is sent."""
    monkeypatch.delenv("DIGSIGN_SERVER", raising=False)
    ended = digsign("fuses", "--machine", "board", "--server", "http://127.0.0.1:9")
    assert ended.code == 2
    assert "no chip is given" in ended.err


@pytest.mark.parametrize(("name", "says"), [("imx6", "imx6ull"), ("8m", "imx8mn"), ("nonsense", "imxrt1064")])
def test_name_that_is_not_one_chip_is_refused(digsign: Digsign, fuses: Path, name: str, says: str) -> None:
    """With the names that are."""
    ended = digsign("fuses", fuses, "--soc", name)
    assert (ended.code, ended.out) == (2, "")
    assert says in ended.err


@pytest.fixture
def image_of_nano(signing: Signing, tmp_path: Path) -> Path:
    """A signed SPL whose load address is the i.MX 8M Nano's alone."""
    unsigned = golden.spl("mn")
    found = plan(unsigned)
    assert found.soc == "mn"
    start, blob = found.signings[0].csf_offset, signing.sign(signing.pki("p256"), "3.4.1").blob
    path = tmp_path / "flash.bin"
    path.write_bytes(unsigned[:start] + blob + unsigned[start + len(blob) :])
    return path


def test_image_that_tells_its_chip_is_enough(digsign: Digsign, image_of_nano: Path) -> None:
    """The words are for that chip, and --soc may say the same."""
    alone = digsign("fuses", image_of_nano)
    assert alone.code == 0, alone.err
    assert "i.MX 8M Nano: bank 6 words 0 to 3, bank 7 words 0 to 3" in alone.out
    assert burning(digsign("fuses", image_of_nano, "--soc", "mn").out) == burning(alone.out)


@pytest.mark.parametrize("chip", ["imx6ul", "imx8mm", "imx7d"])
def test_image_of_another_chip_is_refused(digsign: Digsign, image_of_nano: Path, chip: str) -> None:
    """What the image tells and what --soc says have to agree."""
    ended = digsign("fuses", image_of_nano, "--soc", chip)
    assert (ended.code, ended.out) == (2, "")
    assert "i.MX 8M Nano" in ended.err
    assert find(chip).title in ended.err


def test_registers_in_a_dcd_contradict_another_chip(digsign: Digsign, signing: Signing, tmp_path: Path) -> None:
    """They are those of an i.MX 6Quad's memory; that alone is not enough for words without --soc."""
    base, size = 0x177FF400, 0x1000
    dcd = struct.pack(">BHBBHB2I", 0xD2, 16, 0x40, 0xCC, 12, 4, 0x020E050C, 0x30)
    ivt = b"\xd1\0\x20\x40" + struct.pack("<7I", base + 0xC00, 0, base + 0x2C, base + 0x20, base, base + size, 0)
    blob = signing.sign(signing.pki("p256"), "3.4.1").blob
    head = ivt + struct.pack("<3I", base - 0x400, 0x400 + size + 0x2000, 0) + dcd
    path = tmp_path / "u-boot.imx"
    path.write_bytes(head.ljust(size, b"\xa5") + blob.ljust(0x2000, b"\0"))
    assert digsign("fuses", path, "--soc", "imx6q").code == 0
    assert digsign("fuses", path).code == 2
    ended = digsign("fuses", path, "--soc", "imx7d")
    assert (ended.code, ended.out) == (2, "")
    assert "i.MX 7Dual" in ended.err


@pytest.mark.parametrize("chip", CERTAIN, ids=lambda chip: chip.name)
def test_what_a_board_shows_is_read_by_the_places_of_its_chip(chip: Chip) -> None:
    """Whatever else the log has, and whatever comes first."""
    places = list(zip(chip.srk, WORDS, strict=True))
    if chip.srk[0].bank is None:
        text = "".join(f"$ blhost -u -- efuse-read-once {place.word}\n{answer(word)}" for place, word in places[::-1])
        text += f"$ blhost -u -- efuse-read-once 0x6\n{answer(0x10)}"
    else:
        banks = dict.fromkeys(place.bank for place in chip.srk)
        text = shown_by_u_boot((99, (1, 2, 3, 4)), *(
            (bank or 0, tuple(word for place, word in places if place.bank == bank)) for bank in banks
        ))  # fmt: skip
    assert written_value(text, chip) == VALUE


def test_what_u_boot_shows_of_another_bank_is_not_taken(digsign: Digsign, fuses: Path) -> None:
    """Words of an i.MX 8M's banks are none of an i.MX 6's, and without a chip they are nobody's."""
    text = shown_by_u_boot((6, WORDS[:4]), (7, WORDS[4:]))
    assert digsign("fuses", fuses, "--soc", "imx7d", "--compare", text).code == 0
    ended = digsign("fuses", fuses, "--soc", "imx6q", "--compare", text)
    assert (ended.code, ended.out) == (1, "")
    assert "lacks bank 3 word 0" in ended.err
    assert "`fuse read 3 0 8`" in ended.err
    ended = digsign("fuses", fuses, "--compare", text)
    assert ended.code == 1
    assert "set --soc to the chip that it is from" in ended.err


@pytest.mark.parametrize("text", [
    "".join(map(answer, WORDS)),
    "".join(json.dumps({"command": "efuse-read-once", "response": [4, word]}, indent=3) for word in WORDS),
    "".join(f"blhost -j -- efuse-read-once {number:#x}\n" + json.dumps({"response": [4, word]})
            for number, word in enumerate(WORDS, 24)),
    "".join(f"$ blhost -p COM3 -- efuse-read-once {number}\r\n" + answer(word).replace("\n", "\r\n")
            for number, word in enumerate(WORDS, 24)),
], ids=["in a row", "JSON in a row", "JSON by index", "by index"])  # fmt: skip
def test_answers_of_blhost_are_read(digsign: Digsign, fuses: Path, tmp_path: Path, text: str) -> None:
    """By the indexes in a shell's log, or eight in a row without any; as text and as JSON."""
    saved = tmp_path / "saved"
    saved.write_text(text)
    ended = digsign("fuses", fuses, "--soc", "imxrt1050", "--compare", saved)
    assert (ended.code, ended.out) == (0, f"The same: {VALUE.hex()}\n")


@pytest.mark.parametrize(("text", "says"), [
    (answer(WORDS[0]) * 7, "7 responses"),
    (answer(WORDS[0]) * 9, "9 responses"),
    ("efuse-read-once 0x18\n" + "".join(map(answer, WORDS)), "7 responses"),
    ("".join(f"efuse-read-once {number}\n{answer(word)}" for number, word in enumerate(WORDS, 25)), "lacks index 24"),
    ("".join(f"efuse-read-once 24\n{answer(word)}" for word in WORDS), "two different words of index 24"),
    (answer(WORDS[0]) * 7 + '"response": [4, 4294967296]', "more than 32 bits"),
])  # fmt: skip
def test_answers_of_blhost_that_are_not_the_words_are_told(text: str, says: str) -> None:
    """Never taken for a value."""
    with pytest.raises(NoFuseValueError, match=says):
        written_value(text, find("imxrt1050"))


def test_longest_log_has_64_kib() -> None:
    """As a terminal keeps it; what is longer is no log of a few commands."""
    assert written_value(VALUE.hex().ljust(1 << 16)) == VALUE
    with pytest.raises(NoFuseValueError, match="characters, at most 65536 are read"):
        written_value(VALUE.hex().ljust((1 << 16) + 1))


def test_word_that_is_burnt_once_and_in_part_is_lost(digsign: Digsign, fuses: Path) -> None:
    """On a chip with ECC over its fuses; on others the rest may still be burnt."""
    partly = " ".join(map(hex, [WORDS[0], WORDS[1] & 0xFF, *[0] * 6]))
    ended = digsign("fuses", fuses, "--soc", "imx7ulp", "--compare", partly)
    assert ended.code == 1
    assert "burnt in part, cannot be burnt again" in ended.out
    assert "Not the same" in ended.out
    assert (
        "those that are burnt belong to these keys"
        in digsign("fuses", fuses, "--soc", "imx6q", "--compare", partly).out
    )


@pytest.mark.parametrize(("name", "columns", "first"), [
    ("imx6sx", ("bank", "word"), {"bank": 3, "word": 0}),
    ("imx7s", ("bank", "word"), {"bank": 6, "word": 0}),
    ("imxrt1170", ("index",), {"index": 48}),
])  # fmt: skip
def test_places_are_told_to_machines(
    digsign: Digsign, fuses: Path, name: str, columns: tuple[str, ...], first: dict[str, int]
) -> None:
    """With the chip, where words are shown and where they are compared."""
    told = json.loads(digsign("fuses", fuses, "--soc", name, "--json").out)
    assert told["chip"] == name
    assert told["words"][0] == {**first, "value": "0x20593752"}
    told = json.loads(digsign("fuses", fuses, "--soc", name, "--json", "--compare", "0" * 64).out)
    assert told["words"][0] == {**first, "wanted": "0x20593752", "found": "0x0"}
    assert digsign("fuses", fuses, "--soc", name, "--compare", "0" * 64).out.split()[: len(columns)] == list(columns)


def test_words_are_compared_without_a_chip_by_their_number(digsign: Digsign, fuses: Path) -> None:
    """Two files are the same or not, on whatever chip."""
    ended = digsign("fuses", fuses, "--compare", "0" * 64)
    assert ended.code == 1
    assert re.search(r"^number +wanted +found", ended.out)
    told = json.loads(digsign("fuses", fuses, "--json", "--compare", "0" * 64).out)
    assert told["words"][7] == {"number": 7, "wanted": "0x1190FD4D", "found": "0x0"}


@pytest.mark.parametrize("version", ["3.4.1", "4.0.1"])
def test_fuse_files_of_srktool_are_read_in_both_formats(
    digsign: Digsign, signing: Signing, tmp_path: Path, version: str
) -> None:
    """Its option -f 0 writes each byte in a word of its own, which stands for the same 32 bytes."""
    pki = signing.pki("p256")
    folder = signing.folder(pki.files)
    srks = sorted(str(path) for path in (folder / "crts").glob("SRK?_*_crt.pem"))
    for form, size in (("0", 128), ("1", 32)):
        made, table = tmp_path / f"fuses-{form}", tmp_path / "table"
        command = [signing.tool(version, "srktool"), "-h", "4", "-d", "sha256", "-f", form, "-c", ",".join(srks)]
        subprocess.run([*map(str, command), "-t", str(table), "-e", str(made)], check=True, capture_output=True)
        assert made.stat().st_size == size
        assert digsign("fuses", made, "--compare", table).code == 0
        assert digsign("fuses", table, "--compare", made).code == 0
        told = json.loads(digsign("fuses", made, "--soc", "imx6ul", "--json").out)
        assert told["fuse_value"] == pki.fuse_value.hex()
