"""docs/ahab.md: its commands are run in order as they stand there, and its tables are those of the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from digsigd import ahab
from digsigd.ahab.srk import ECDSA, RSA, RSA_PSS
from digsigd.keys.tarball import read_tarball
from digsigd.names import AHAB_SOCS
from digsigd.testing import TrialAhabImage
from tests.helpers.daemons import Daemon
from tests.helpers.manual import Shell

ROOT = Path(__file__).parent.parent
DOCUMENT = (ROOT / "docs/ahab.md").read_text()
COMMANDS = re.findall(r"^```sh\n(.*?)^```$", DOCUMENT, re.DOTALL | re.MULTILINE)
(DESCRIPTION,) = re.findall(r"^```csf-ahab\n(.*?)^```$", DOCUMENT, re.DOTALL | re.MULTILINE)
MACHINE = "imx93-evk"
IMAGE = TrialAhabImage.of_size(0x30000)


def rows(head: str) -> list[list[str]]:
    """The cells of the table whose first line begins like this."""
    table = DOCUMENT[DOCUMENT.index(head) :].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table]


def test_the_commands_lead_from_keys_to_a_signed_card(tmp_path: Path, cst_base: Path) -> None:
    """Keys, digsign, curl for each container, a card, fuses; the fuse value of the configuration is pinned."""
    keys, by_digsign, spl, uboot, card, fuses = COMMANDS
    shell = Shell(tmp_path / "shell")
    store = tmp_path / "keys"
    code, said = shell.run(keys, {"/srv/digsigd/keys": store})
    assert code == 0, said
    (value,) = re.findall(r"fuse value of i\.MX 93 \(SHA-256\) ([0-9a-f]{64})", said)
    (settings,) = re.findall(r"^```toml\n(.*?)^```$", DOCUMENT, re.DOTALL | re.MULTILINE)
    daemon = Daemon(tmp_path, cst_base, re.sub(r'fuses = "[^"]*"', f'fuses = "{value}"', settings)).start()
    (shell.folder / "flash.bin").write_bytes(IMAGE.data)
    first, second = IMAGE.containers
    assert f"Offsets = {first[0]:#x} {first[1]:#x}\n" in DESCRIPTION
    (shell.folder / "csf_spl.txt").write_text(DESCRIPTION)
    (shell.folder / "csf_uboot.txt").write_text(
        DESCRIPTION.replace(f"{first[0]:#x} {first[1]:#x}", f"{second[0]:#x} {second[1]:#x}")
    )
    server = {"http://localhost:9999": daemon.url}
    for script in (by_digsign, spl, uboot):
        code, said = shell.run(script, server)
        assert code == 0, said
    assert "Everything that can be checked here holds" in said
    for name in ("flash.signed.bin", "flash.curl.bin"):
        data = (shell.folder / name).read_bytes()
        for offset, _ in IMAGE.containers:
            ahab.verify(data, offset, chip=ahab.chip("mx93"), fuse_value=bytes.fromhex(value))
    code, said = shell.run(card, {"/dev/sdX": shell.folder / "card"})
    assert code == 0, said
    assert (shell.folder / "card").read_bytes()[0x8000:] == (shell.folder / "flash.signed.bin").read_bytes()
    code, said = shell.run(fuses, {"/srv/digsigd/keys": store})
    assert code == 0, said
    for number, word in enumerate(ahab.fuse_words(bytes.fromhex(value))):
        assert re.search(rf"fuse prog 16 {number} 0x{word:X}$", said, re.MULTILINE), said
    members = read_tarball((store / MACHINE / "imxsign/imx-cst-keys.tar.gz").read_bytes(), max_bytes=1 << 20).members
    assert "crts/SRK1_sha384_secp384r1_v3_usr_crt.pem" in members
    daemon.stop()


def places(words: tuple[ahab.FuseWord, ...]) -> str:
    """Words by their banks: `bank 16 words 0 to 7, bank 17 words 0 to 7`."""
    banks: dict[int, list[int]] = {}
    for bank, word in words:
        banks.setdefault(bank, []).append(word)
    assert all(found == list(range(found[0], found[-1] + 1)) for found in banks.values())
    return ", ".join(f"bank {bank} words {found[0]} to {found[-1]}" for bank, found in banks.items())


def shown(rule: ahab.Rule) -> str:
    return "not confirmed" if isinstance(rule, ahab.Unconfirmed) else "yes" if rule is True else "no"


def test_the_table_of_chips_is_that_of_the_code() -> None:
    """Every chip, with the hash and the places of its fuses, and what its firmware accepts."""
    found = []
    for chip in ahab.CHIPS:
        value, words, second = chip.fuse_hash_cell, chip.fuse_cell, chip.pqc_fuse_cell
        found.append(
            [
                chip.name,
                chip.title,
                ", ".join(map(str, chip.versions)),
                value.replace("sha", "SHA-") if isinstance(value, str) else "not confirmed",
                places(words) if isinstance(words, tuple) else "not confirmed",
                *(shown(chip.allows(algorithm)) for algorithm in (RSA, RSA_PSS, ECDSA)),
                shown(chip.sgk),
                places(second) if isinstance(second, tuple) else "",
            ]
        )
    assert rows("| `--soc` | chip |") == found


def test_the_media_are_those_of_the_code() -> None:
    """Where NXP's container is on each."""
    told = {cells[0]: int(cells[1], 0) for cells in rows("| medium |")}
    for chip in ahab.CHIPS:
        for name, offset in chip.media:
            assert told[next(one for one in told if one.split(",")[0] in name)] == offset


def test_every_soctype_is_named() -> None:
    """And no other."""
    (sentence,) = re.findall(r"^`soctype` is (.*?)\. A description", DOCUMENT, re.DOTALL | re.MULTILINE)
    assert set(re.findall(r"`(mx\S+?)`", sentence)) == set(AHAB_SOCS)


@pytest.mark.parametrize("cells", rows("| what you see |"), ids=lambda cells: cells[0][:30])
def test_errors_of_the_host_are_those_of_the_code(cells: list[str]) -> None:
    """Those that the last table quotes."""
    source = "".join(path.read_text() for path in (ROOT / "digsigd/ahab").glob("*.py"))
    for words in re.findall(r"the host: `(.*?)(?: 0x…)?`", cells[0]):
        assert words in source
