"""`digsign fuses`: what is burnt is right, and what a board has is compared with it."""

from __future__ import annotations

import json
import re
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from digsigd import hab
from digsigd.cli.fuse_words import NoFuseValueError, written_value
from digsigd.cli.inspect.fuses import FuseValue, fuse_values
from digsigd.image.chips import find
from digsigd.pki import pack
from digsigd.testing import TrialPki
from tests.helpers.blobs import IMAGE, Signing
from tests.helpers.commands import Digsign
from tests.helpers.daemons import MACHINE, Daemon

# NXP's mx8m_secure_boot.txt, 1.7: what hexdump shows for its fuse file, and the commands made of it.
GUIDE = (0x20593752, 0x6ACE6962, 0x26E0D06C, 0xFC600661, 0x1240E88F, 0x1209F144, 0x831C8117, 0x1190FD4D)
GUIDE_VALUE = struct.pack("<8I", *GUIDE)
GUIDE_COMMANDS = [
    "fuse prog 6 0 0x20593752",
    "fuse prog 6 1 0x6ACE6962",
    "fuse prog 6 2 0x26E0D06C",
    "fuse prog 6 3 0xFC600661",
    "fuse prog 7 0 0x1240E88F",
    "fuse prog 7 1 0x1209F144",
    "fuse prog 7 2 0x831C8117",
    "fuse prog 7 3 0x1190FD4D",
]


MINI = find("imx8mm")


@dataclass(frozen=True)
class Keys:
    """Trial keys, and all files that have their SRK table."""

    pki: TrialPki
    table: Path
    fuses: Path
    tarball: Path
    blob: Path
    image: Path


@pytest.fixture
def digsign(capsys: pytest.CaptureFixture[str]) -> Digsign:
    return Digsign(capsys)


@pytest.fixture
def keys(signing: Signing, tmp_path: Path) -> Keys:
    return made(signing, tmp_path / "keys", signing.pki("p256"))


def made(signing: Signing, folder: Path, pki: TrialPki) -> Keys:
    blob = signing.sign(pki, "3.4.1").blob
    files = {
        "SRK_1_2_3_4_table.bin": pki.srk_table,
        "SRK_1_2_3_4_fuse.bin": pki.fuse_value,
        "imx-cst-keys.tar.gz": pki.tarball(),
        "csf.bin": blob,
        "signed.bin": IMAGE.with_csf(blob),
    }
    folder.mkdir()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return Keys(pki, *(folder / name for name in files))


def commands(text: str) -> list[str]:
    return re.findall(r"^ *(fuse prog .*)$", text, re.MULTILINE)


def shown_by_u_boot(words: tuple[int, ...], verb: str = "Reading") -> str:
    """U-Boot, cmd/fuse.c, do_fuse."""
    text = "u-boot=> fuse read 6 0 4; fuse read 7 0 4\n"
    for bank, four in ((6, words[:4]), (7, words[4:])):
        text += f"{verb} bank {bank}:\n\nWord 0x00000000:" + "".join(f" {word:08x}" for word in four) + "\n"
    return text


def test_the_words_are_those_of_nxps_guide(digsign: Digsign, tmp_path: Path) -> None:
    """Command by command, for the fuse file that its example is of."""
    path = tmp_path / "SRK_1_2_3_4_fuse.bin"
    path.write_bytes(GUIDE_VALUE)
    ended = digsign("fuses", path, "--soc", "imx8mm")
    assert ended.code == 0
    assert commands(ended.out) == GUIDE_COMMANDS


def test_small_words_have_no_leading_zeros(digsign: Digsign, tmp_path: Path) -> None:
    """As hexdump's %X shows them."""
    path = tmp_path / "fuses"
    path.write_bytes(struct.pack("<8I", 0, 1, 0xF00, *GUIDE[3:]))
    assert commands(digsign("fuses", path, "--soc", "imx8mm").out)[:3] == [
        "fuse prog 6 0 0x0",
        "fuse prog 6 1 0x1",
        "fuse prog 6 2 0xF00",
    ]


@pytest.mark.parametrize("what", ["table", "fuses", "tarball", "blob", "image"])
def test_all_files_with_the_table_give_the_same_words(digsign: Digsign, keys: Keys, what: str) -> None:
    """Those that od reads from the fuse file."""
    ended = digsign("fuses", getattr(keys, what), "--soc", "imx8mm")
    assert ended.code == 0
    assert keys.pki.fuse_value.hex() in ended.out
    read = subprocess.run(
        ["od", "-An", "-v", "-tx4", "--endian=little", keys.fuses], capture_output=True, text=True, check=True
    )
    words = [int(word, 16) for word in read.stdout.split()]
    assert [int(command.split()[-1], 16) for command in commands(ended.out)] == words
    assert [command.split()[2:4] for command in commands(ended.out)] == [[b, w] for b in "67" for w in "0123"]


def test_what_cannot_be_undone_is_said_before_the_commands(digsign: Digsign, keys: Keys) -> None:
    """With what to do before and after; the closing fuse is named, and there is no command for it."""
    out = digsign("fuses", keys.table, "--soc", "imx8mm").out
    assert out.index("cannot be undone") < out.index("hab_status") < out.index("fuse prog")
    assert f"digsign fuses {keys.table} --soc imx8mm --compare IMAGE" in out
    assert "fuse read 6 0 4; fuse read 7 0 4" in out
    assert "SEC_CONFIG[1]" in out
    assert len(commands(out)) == 8
    assert not re.search(r"fuse prog (-y )?1 3|0x0?2000000", out)
    assert " -y" not in out


def test_a_path_is_shown_so_that_it_can_be_typed(digsign: Digsign, keys: Keys, tmp_path: Path) -> None:
    """Though it has spaces in it, or control characters."""
    path = tmp_path / "my keys\x1b[2J.bin"
    path.write_bytes(keys.pki.srk_table)
    out = digsign("fuses", path, "--soc", "imx8mm").out
    assert "my keys" in out
    assert "\x1b" not in out
    assert f"digsign fuses '{tmp_path}/my keys" in out


def test_for_machines_it_is_json(digsign: Digsign, keys: Keys) -> None:
    """With the warning."""
    told = json.loads(digsign("fuses", keys.tarball, "--soc", "i.MX 8M Plus", "--json").out)
    assert told["chip"] == "imx8mp"
    assert told["fuse_value"] == keys.pki.fuse_value.hex()
    assert told["of"] == "crts/SRK_1_2_3_4_table.bin"
    words = hab.SrkTable.parse(keys.pki.srk_table).fuse_words
    assert told["words"] == [
        {"bank": 6 + number // 4, "word": number % 4, "value": f"0x{word:X}"} for number, word in enumerate(words)
    ]
    assert told["commands"] == commands(digsign("fuses", keys.table, "--soc", "imx8mp").out)
    assert "cannot be undone" in told["warning"]


@pytest.mark.parametrize("what", ["table", "fuses", "tarball", "blob", "image"])
def test_the_same_keys_are_the_same(digsign: Digsign, keys: Keys, what: str) -> None:
    """By whatever file they are given."""
    ended = digsign("fuses", keys.table, "--compare", getattr(keys, what))
    assert (ended.code, ended.out) == (0, f"The same: {keys.pki.fuse_value.hex()}\n")


FORMS: dict[str, Callable[[bytes], str]] = {
    "digits": lambda value: value.hex(),
    "digits with 0x": lambda value: "0x" + value.hex().upper(),
    "words": lambda value: " ".join(f"0x{word:X}" for word in struct.unpack("<8I", value)),
    "words with commas": lambda value: ", ".join(f"{word:08x}" for word in struct.unpack("<8I", value)),
    "lines": lambda value: "".join(f"0x{word:X}\n" for word in struct.unpack("<8I", value)),
    "fuse read": lambda value: shown_by_u_boot(struct.unpack("<8I", value)),
    "fuse sense": lambda value: shown_by_u_boot(struct.unpack("<8I", value), "Sensing").replace("\n", "\r\n"),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("in_file", [False, True], ids=["argument", "file"])
def test_what_people_write_down_is_compared(
    digsign: Digsign, keys: Keys, tmp_path: Path, form: str, in_file: bool
) -> None:
    """As an argument or in a file; another value is another."""
    for value, code in ((keys.pki.fuse_value, 0), (GUIDE_VALUE, 1)):
        given: str | Path = FORMS[form](value)
        if in_file:
            path = tmp_path / "saved"
            path.write_text(str(given))
            given = path
        assert digsign("fuses", keys.table, "--soc", "imx8mm", "--compare", given).code == code


def test_words_are_compared_one_by_one(digsign: Digsign, tmp_path: Path) -> None:
    """Blank fuses may still be burnt; bits that are burnt and must not be are never right again."""
    fuses = tmp_path / "fuses"
    fuses.write_bytes(GUIDE_VALUE)
    ended = digsign("fuses", fuses, "--compare", " ".join(["0"] * 8))
    assert ended.code == 1
    assert ended.out.count("not burnt") == 8
    assert "Nothing is burnt yet." in ended.out

    partly = [*GUIDE[:2], GUIDE[2] & 0xFFFF, *[0] * 5]
    ended = digsign("fuses", fuses, "--compare", " ".join(map(hex, partly)))
    assert ended.code == 1
    assert (ended.out.count("the same"), ended.out.count("burnt in part"), ended.out.count("not burnt")) == (2, 1, 5)
    assert "those that are burnt belong to these keys" in ended.out

    wrong = [GUIDE[0] | 0x80000000, *GUIDE[1:]]
    ended = digsign("fuses", fuses, "--soc", "imx8mn", "--compare", " ".join(map(hex, wrong)))
    assert ended.code == 1
    assert "6     0     0x20593752  0xA0593752  has burnt bits that must be 0" in ended.out
    assert "these are different keys" in ended.out


def test_a_comparison_for_machines_is_json(digsign: Digsign, tmp_path: Path) -> None:
    """With each word, and the same exit code."""
    fuses = tmp_path / "fuses"
    fuses.write_bytes(GUIDE_VALUE)
    ended = digsign("fuses", fuses, "--json", "--compare", GUIDE_VALUE.hex())
    told = json.loads(ended.out)
    assert (ended.code, told["same"]) == (0, True)
    ended = digsign("fuses", fuses, "--soc", "imx8mq", "--json", "--compare", "00" * 32)
    told = json.loads(ended.out)
    assert (ended.code, told["same"]) == (1, False)
    assert told["words"][7] == {"bank": 7, "word": 3, "wanted": "0x1190FD4D", "found": "0x0"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "neither 64 hexadecimal digits"),
        ("abc", "neither 64 hexadecimal digits"),
        ("0" * 63, "neither 64 hexadecimal digits"),
        ("0 " * 7, "neither 64 hexadecimal digits"),
        ("0 " * 7 + "123456789", "neither 64 hexadecimal digits"),
        ("/no/such/file", "neither 64 hexadecimal digits"),
        (shown_by_u_boot(GUIDE).partition("Reading bank 7")[0], "lacks bank 7 word 0"),
        (shown_by_u_boot(GUIDE).replace("bank 6", "bank 5"), "lacks bank 6 word 0"),
        (shown_by_u_boot(GUIDE).replace("Reading", "Programming"), "without the line that names the bank"),
        (shown_by_u_boot(GUIDE) + shown_by_u_boot(GUIDE[::-1]), "two different words 0 of bank 6"),
        ("Word 0x00000000: " + "0" * 8 + " " * (1 << 17), "characters, at most 65536 are read"),
    ],
)
def test_what_is_no_fuse_value_is_told(digsign: Digsign, keys: Keys, text: str, says: str) -> None:
    """Never taken for one."""
    ended = digsign("fuses", keys.table, "--soc", "imx8mm", "--compare", text)
    assert ended.code == 1
    assert says in ended.err
    assert not ended.out


def test_words_of_a_log_may_come_twice_and_word_by_word(keys: Keys) -> None:
    """And after whatever else U-Boot said."""
    text = "U-Boot 2024.04\n\nHit any key\n" + shown_by_u_boot(GUIDE) + shown_by_u_boot(GUIDE)
    assert written_value(text, MINI) == GUIDE_VALUE
    single = "".join(
        f"Reading bank {6 + n // 4}:\n\nWord 0x{n % 4:08x}: {word:08x}\n"
        for n, word in reversed(list(enumerate(GUIDE)))
    )
    assert written_value(single, MINI) == GUIDE_VALUE


@pytest.fixture
def two_tables(signing: Signing, tmp_path: Path, keys: Keys) -> Path:
    """A tarball of old and new keys."""
    other = signing.pki("p384")
    path = tmp_path / "two.tar.gz"
    path.write_bytes(pack({**keys.pki.files, "old/crts/SRK_1_2_table.bin": other.srk_table}))
    return path


def test_of_several_tables_one_has_to_be_named(
    digsign: Digsign, signing: Signing, keys: Keys, two_tables: Path
) -> None:
    """By its name or the end of it; which there are is said."""
    ended = digsign("fuses", two_tables, "--soc", "imx8mm")
    assert ended.code == 1
    assert "'crts/SRK_1_2_3_4_table.bin'" in ended.err
    assert "'old/crts/SRK_1_2_table.bin'" in ended.err
    for name in ("old/crts/SRK_1_2_table.bin", "SRK_1_2_table.bin"):
        out = digsign("fuses", two_tables, "--table", name, "--soc", "imx8mm").out
        assert signing.pki("p384").fuse_value.hex() in out
        assert f"--table {name}" in out
    ended = digsign("fuses", two_tables, "--table", "other.bin", "--soc", "imx8mm")
    assert ended.code == 1
    assert "no SRK table 'other.bin'" in ended.err
    assert digsign("fuses", keys.table, "--compare", two_tables).code == 1


def test_the_same_table_twice_is_one(digsign: Digsign, keys: Keys, tmp_path: Path) -> None:
    """It does not matter which."""
    path = tmp_path / "twice.tar.gz"
    path.write_bytes(pack({**keys.pki.files, "copy.bin": keys.pki.srk_table}))
    assert digsign("fuses", path, "--soc", "imx8mm").code == 0


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "not an SRK table, fuse file"),
        (b"nothing of the kind\n", "not an SRK table, fuse file"),
        (b"\xd7\0\x10\x40" + bytes(12), "record of 0 bytes"),
        (b"\xd4\0\x10\x43" + bytes(12), "a command"),
        (b"\x1f\x8b\x08\0garbage", "the key tarball"),
        pytest.param(pack({"a": b"b"}), "no SRK table that can be read", id="tarball"),
        (IMAGE.data, "not signed"),
        (bytes(20), "SHA-1"),
        (bytes(range(64)), "SHA-512"),
        (bytes(127) + b"\1" + b"\1", "not an SRK table, fuse file"),
        (IMAGE.with_csf(b"\xd4\0\x10\x43" + bytes(12)), "CSF at 0x2000 is damaged"),
    ],
)
def test_a_file_without_keys_is_told(digsign: Digsign, tmp_path: Path, data: bytes, says: str) -> None:
    """With what it is instead."""
    path = tmp_path / "file"
    path.write_bytes(data)
    ended = digsign("fuses", path, "--soc", "imx8mm")
    assert ended.code == 1
    assert says in ended.err
    assert not ended.out


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_files_raise_nothing_else(keys: Keys, data: st.DataObject) -> None:
    """Nor give other words than those that are in them."""
    whole = bytearray(data.draw(st.sampled_from([one.read_bytes() for one in (keys.table, keys.blob, keys.image)])))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(whole) - 1))
        whole[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    try:
        found = fuse_values(bytes(whole))
    except NoFuseValueError:
        return
    for one in found:
        assert one.table is None or one.table.fuse_value == one.value


@settings(deadline=None)
@given(text=st.one_of(st.text(max_size=400), st.text(alphabet="0123456789abcdef x,\nWordbank:Reading", max_size=400)))
def test_any_text_is_a_value_or_is_not(text: str) -> None:
    """Of 32 bytes."""
    with suppress(NoFuseValueError):
        assert len(written_value(text, MINI)) == 32


@given(value=st.binary(min_size=32, max_size=32))
def test_every_way_to_write_a_value_means_the_same(value: bytes) -> None:
    """For every value."""
    for form in FORMS.values():
        assert written_value(form(value), MINI) == value
    assert struct.pack("<8I", *FuseValue("", value).words) == value


@pytest.fixture
def daemon(tmp_path: Path, cst_base: Path, keys: Keys) -> Iterator[Daemon]:
    """A signing host with these keys."""
    folder = tmp_path / "daemon"
    folder.mkdir()
    running = Daemon(folder, cst_base)
    running.put_keys(MACHINE, keys.tarball.read_bytes())
    running.start()
    yield running
    running.stop()


def asked(daemon: Daemon, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """A process of its own: it runs a reactor."""
    command = [sys.executable, "-m", "digsigd.cli.main", "fuses", "--server", daemon.url, *map(str, arguments)]
    return subprocess.run(command, cwd=daemon.folder, capture_output=True, text=True, timeout=60)


def test_a_signing_host_is_asked(digsign: Digsign, daemon: Daemon, keys: Keys) -> None:
    """For the words of its machine's keys."""
    ended = asked(daemon, "--machine", MACHINE, "--soc", "imx7d")
    assert ended.returncode == 0, ended.stderr
    assert commands(ended.stdout) == commands(digsign("fuses", keys.table, "--soc", "imx7d").out)
    assert f"digsign fuses --machine {MACHINE} --soc imx7d --compare IMAGE" in ended.stdout
    assert asked(daemon, "--machine", MACHINE, "--compare", keys.image).returncode == 0
    ended = asked(daemon, "--machine", "another", "--soc", "imx7d")
    assert ended.returncode == 1
    assert "another" in ended.stderr


def test_keys_come_from_one_place(digsign: Digsign, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file or a machine; a machine in the environment is no question where there is a file."""
    assert digsign("fuses", keys.table, "--machine", MACHINE, "--soc", "imx8mm").code == 2
    monkeypatch.delenv("DIGSIGN_MACHINE", raising=False)
    ended = digsign("fuses", "--soc", "imx8mm", "--server", "http://127.0.0.1:9")
    assert ended.code == 2
    assert "pass FILE or --machine" in ended.err
    monkeypatch.setenv("DIGSIGN_MACHINE", MACHINE)
    assert digsign("fuses", keys.table, "--soc", "imx8mm").code == 0
