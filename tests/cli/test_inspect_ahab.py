"""`digsign inspect` and `fuses` name what is AHAB's, and call none of it damaged."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from digsigd.cli.inspect import inspect
from digsigd.pki import pack
from tests.helpers.commands import Digsign
from tests.helpers.inspecting import Inspect, notes, parts

SAMPLES = Path(__file__).parents[1] / "samples" / "ahab"
IMAGES = ("good-93-sd-spl.bin.gz", "good-qxp-spl-sgk.bin.gz", "good-v2-p384.bin.gz", "os-container-unsigned.bin.gz")
TABLES = ("SRK_p384_table.bin", "SRK_p384_v2_table.bin", "SRK_rsa2048_table.bin")


def sample(name: str) -> bytes:
    data = (SAMPLES / name).read_bytes()
    return gzip.decompress(data) if name.endswith(".gz") else data


@pytest.fixture
def digsign(capsys: pytest.CaptureFixture[str]) -> Digsign:
    return Digsign(capsys)


@pytest.fixture
def show(digsign: Digsign, tmp_path: Path) -> Inspect:
    return Inspect(digsign, tmp_path)


@pytest.mark.parametrize("name", IMAGES)
def test_containers_are_told_with_what_they_load(show: Inspect, name: str) -> None:
    """As what they are, and as no damage."""
    values = show.values(sample(name))
    assert values["kind"] == "ahab"
    assert "a different secure boot from HAB" in notes(values)
    assert all(one["images"] for one in parts(values, "ahab-container"))


def test_containers_say_who_signs_them(show: Inspect) -> None:
    """NXP, the OEM with which SRK, or nobody yet."""
    told = parts(show.values(sample("good-93-sd-spl.bin.gz")), "ahab-container")
    assert [(one["title"], one["signed_by"], one["srk"]) for one in told] == [
        ("container at 0x0", "NXP", 1),
        ("container at 0x400", "OEM", 1),
        ("container at 0x4000", "none: not signed", None),
    ]
    assert told[1]["images"] == [
        {"offset": 0x2800, "size": 0x1800, "load": 0x2049A000, "entry": 0x2049A000, "kind": "code"}
    ]


def test_container_without_its_images_is_no_damage(show: Inspect) -> None:
    """Its header alone is signed before the rest is there."""
    values = show.values(sample("os-container-unsigned.bin.gz")[:0x200])
    assert "this file contains only in part: those at 0x2000, 0x4400" in notes(values)


@pytest.mark.parametrize("name", TABLES)
def test_srk_tables_are_told_with_their_keys(show: Inspect, name: str) -> None:
    """As AHAB's, without a fuse value that would be HAB's."""
    values = show.values(sample(name))
    assert values["kind"] == "ahab-srk-table"
    assert len(values["SRKs"]) == 4
    assert "fuse_value" not in values


def test_key_tarball_of_ahab_says_so(show: Inspect) -> None:
    """Its tables are no damaged ones."""
    values = show.values(pack({f"crts/{name}": sample(name) for name in TABLES}))
    assert notes(values).count("is an SRK table of AHAB, which HAB cannot use") == len(TABLES)


@pytest.mark.parametrize("name", [*IMAGES, *TABLES])
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "in a tarball"])
def test_nothing_of_ahab_gives_words_to_burn(digsign: Digsign, tmp_path: Path, name: str, packed: bool) -> None:
    """Its fuses are others, and so are their values."""
    path = tmp_path / "file"
    path.write_bytes(pack({"crts/SRK_1_2_3_4_table.bin": sample(name)}) if packed else sample(name))
    ended = digsign("fuses", path, "--soc", "imx8mm")
    assert (ended.code, ended.out) == (1, "")
    assert "of AHAB" in ended.err


@pytest.mark.parametrize("command", ["verify", "sign"])
def test_image_of_ahab_is_refused_as_one(
    digsign: Digsign, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """Before any host is asked."""
    path = tmp_path / "flash.bin"
    path.write_bytes(sample("good-93-sd-spl.bin.gz"))
    monkeypatch.setenv("DIGSIGN_SERVER", "http://127.0.0.1:9")
    monkeypatch.setenv("DIGSIGN_MACHINE", "board")
    out = ["-o", str(tmp_path / "signed")] if command == "sign" else []
    ended = digsign(command, path, *out)
    assert ended.code == 1
    assert "AHAB containers" in ended.err
    assert "at 0x0, 0x400, 0x4000" in ended.err


@settings(deadline=None)
@given(data=st.data())
def test_damaged_ones_raise_nothing(data: st.DataObject) -> None:
    """Whatever is changed in real ones."""
    whole = bytearray(sample(data.draw(st.sampled_from([*IMAGES, *TABLES])))[:0x1000])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, min(0x200, len(whole) - 1)))
        whole[at : at + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=4))
    part = inspect(bytes(whole))
    assert part is None or json.dumps(part.as_values())
