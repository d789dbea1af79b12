"""Odd files, texts and tarballs for AHAB: what is signed holds, and what is refused is told, with the place."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import httpx
import pytest

from digsigd import ahab
from digsigd.web.answers import NOTE
from tests.conftest import CST_VERSIONS
from tests.helpers.ahab_cases import description, image, members, packed
from tests.helpers.ahab_daemons import ahab_daemon, holds, post_ahab
from tests.helpers.ahab_forge import table_of
from tests.helpers.daemons import DEADLINE, Daemon

GOOD, SGK, V2 = "good-93-sd-spl", "good-qxp-spl-sgk", "good-v2-p384"
TABLE, V2_TABLE = "crts/SRK_1_2_3_4_table.bin", "crts/SRK_1_2_3_4_v2_table.bin"
SRK1 = "crts/SRK1_sha384_secp384r1_v3_usr_crt.pem"
DATA = b"\xa5" * 0x400
Placed = tuple[int, Sequence[ahab.ContainerImage]]


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory, cst_base: Path) -> Iterator[Daemon]:
    config = '[machines.several]\nallow = ["ahab-several-containers"]\n'
    made = ahab_daemon(tmp_path_factory.mktemp("odd") / "daemon", cst_base, config)
    made.put_keys("several", packed(dict(members("p384"))))
    yield made.start()
    made.stop()


def text(*offsets: int, images: int = 1, case: str = GOOD) -> str:
    """A description for the containers with their headers there."""
    head = description(case).partition("[Authenticate Data]")[0]
    return head + "".join(
        f'[Authenticate Data]\nFile = "flash.bin"\nOffsets = {one:#x} {one + 0x10 + 0x80 * images:#x}\n'
        for one in offsets
    )


def file_of(*placed: Placed, size: int = 0x8000) -> bytes:
    """A file with containers there; what they overlap is theirs, and images are where they say."""
    data = bytearray(size)
    for offset, images in placed:
        for one in images:
            data[offset + one.offset : offset + one.offset + len(one.data)] = one.data
    for offset, images in placed:
        raw = ahab.build_container(images)
        data[offset : offset + len(raw)] = raw
    return bytes(data)


def at(*offsets: int) -> list[ahab.ContainerImage]:
    """Images with the same bytes."""
    return [ahab.ContainerImage(DATA, one) for one in offsets]


INNER = file_of((0, at(0x2000)), size=0x4000)
NESTED = file_of((0, [ahab.ContainerImage(INNER, 0x2000)]), size=0x8000)


@pytest.mark.parametrize("version", CST_VERSIONS)
@pytest.mark.parametrize(
    ("offsets", "data", "images", "word"),
    [
        pytest.param((0x2000,), NESTED, 1, "overwrites image 0 of the container at 0x0", id="in an image"),
        pytest.param((0, 0x2000), NESTED, 1, "overlaps the container at 0x2000", id="around another one"),
        pytest.param((0,), file_of((0, at(0x2000, 0x2000))), 2, "overlaps image 0", id="an image twice"),
        pytest.param((0,), file_of((0, at(0x2000, 0x23FF))), 2, "overlaps image 0", id="a byte in common"),
        pytest.param((0,), file_of((0, at(0x2000, 0x7FFF)))[:0x8000], 2, "the file has", id="a byte outside"),
        pytest.param((0,), ahab.build_container([ahab.ContainerImage(b"", 0)]), 1, "the file at 0xa0", id="alone"),
        pytest.param((0x7F70,), bytes(0x8000), 1, "the artifact ends at 0x8000", id="at the end"),
        pytest.param((0x10000,), bytes(0x8000), 1, "the artifact ends at 0x8000", id="behind the end"),
        pytest.param((0x401,), image(GOOD), 1, "no container at 0x401", id="beside its place"),
        pytest.param((0,), file_of((0, at(*range(0x2000, 0x23000, 0x1000))), size=0x30000), 33, "33 images", id="33"),
    ],
)  # fmt: skip
def test_a_place_that_does_not_fit_is_told(
    daemon: Daemon, offsets: tuple[int, ...], data: bytes, images: int, word: str, version: str
) -> None:
    """Where, and in which line; nothing is left."""
    answer = post_ahab(daemon, "p384", text(*offsets, images=images), data, machine="several", cstversion=version)
    assert answer.status_code == 422, answer.text
    assert word in answer.text
    assert "csf: line" in answer.text
    assert daemon.left_behind() == []


@pytest.mark.parametrize("version", CST_VERSIONS)
@pytest.mark.parametrize(
    ("offsets", "data", "images"),
    [
        pytest.param((0,), NESTED, 1, id="around another one"),
        pytest.param((0, 0x400), file_of((0, at(0x2000)), (0x400, at(0x1C00))), 1, id="one image for two"),
        pytest.param(tuple(range(0, 0x2000, 0x400)), file_of(*((n * 0x400, at(0x4000)) for n in range(8))), 1, id="8"),
        pytest.param((0,), file_of((0, [ahab.ContainerImage(b"", 0)]), size=0x2C0), 1, id="as long as the file"),
        pytest.param((0,), file_of((0, at(0x2C0)), size=0x6C0), 1, id="as long as the room"),
        pytest.param((0,), file_of((0, at(*range(0x2000, 0x22000, 0x1000))), size=0x30000), 32, id="32 images"),
    ],
)
def test_what_just_fits_is_signed(
    daemon: Daemon, offsets: tuple[int, ...], data: bytes, images: int, version: str
) -> None:
    """Each container holds, and nothing else has changed."""
    answer = post_ahab(daemon, "p384", text(*offsets, images=images), data, machine="several", cstversion=version)
    assert answer.status_code == 200, answer.text
    ends = [holds(answer.content, answer.content, "p384", offset=one).container.end for one in offsets]
    changed = [place for place, (one, other) in enumerate(zip(data, answer.content, strict=True)) if one != other]
    assert all(any(one <= place < end for one, end in zip(offsets, ends, strict=True)) for place in changed)
    assert daemon.left_behind() == []


@pytest.mark.parametrize("version", CST_VERSIONS)
@pytest.mark.parametrize(
    ("place", "value"),
    [(1, 0xA1), (2, 0x04), (0x90, 2), (0x91, 0xFF), (0x94, 8), (0x96, 8), (0x98, 8), (0x9A, 8), (0x9C, 7), (4, 0x3)],
)
def test_what_a_signature_replaces_does_not_matter(daemon: Daemon, place: int, value: int, version: str) -> None:
    """Length, set, and the block of the unsigned container: all of it is made anew."""
    data = bytearray(file_of((0, at(0x2000))))
    data[place] = value
    answer = post_ahab(daemon, "p384", text(0), bytes(data), cstversion=version)
    assert answer.status_code == 200, answer.text
    container = holds(answer.content, bytes(data), "p384", offset=0).container
    assert (container.length, container.flags) == (0x2C0, 2)
    assert container.block is not None
    assert (container.block.version, container.block.key_id) == (0, 0)


@pytest.mark.parametrize("version", CST_VERSIONS)
def test_a_file_that_is_signed_is_signed_with_other_keys(daemon: Daemon, version: str) -> None:
    """Those of the machine of the last request, with a longer block, and a shorter one again."""
    data = image(GOOD)
    for keys, name in (("p384", "SRK1_sha384_secp384r1"), ("p521", "SRK1_sha512_secp521r1"),
                       ("p256", "SRK1_sha256_secp256r1")):  # fmt: skip
        asked = description(GOOD).replace("SRK1_sha384_secp384r1", name)
        answer = post_ahab(daemon, keys, asked, data, cstversion=version)
        assert answer.status_code == 200, answer.text
        holds(answer.content, data, keys)
        data = answer.content


def test_a_container_where_nothing_looks_for_it_is_noted(daemon: Daemon) -> None:
    """Its offset on the medium may be another, so it is signed."""
    for offset, noted in ((0x404, True), (0x800, False)):
        data = file_of((offset, at(0x2000)))
        answer = post_ahab(daemon, "p384", text(offset), data)
        assert answer.status_code == 200, answer.text
        holds(answer.content, data, "p384", offset=offset)
        assert ("is at no multiple of 0x400 bytes" in answer.headers[NOTE]) == noted


@pytest.mark.parametrize("name", ["sha3-384", "shake128-256", "shake256-512"])
@pytest.mark.parametrize("late", [False, True])
def test_images_with_hashes_of_version_2_are_signed(daemon: Daemon, name: str, late: bool) -> None:
    """Whether the description comes before the file or behind it; and not with another byte."""
    images = [ahab.ContainerImage(DATA, 0x8000, hash_name=name)]
    data = ahab.build_file([(0, ahab.build_container(images, version=2), images)])
    files = [
        ("csf", ("csf.txt", text(0, case=V2).encode(), "text/plain")),
        ("artifact", ("flash.bin", data, "application/octet-stream")),
    ]
    form = {"machine": "ahab-p384", "cstversion": "4.0.1"}
    answer = httpx.post(f"{daemon.url}/sign/imx", data=form, files=files[::-1] if late else files, timeout=DEADLINE)
    assert answer.status_code == 200, answer.text
    holds(answer.content, data, "p384", offset=0, table=V2_TABLE)
    wrong = data[:0x8000] + b"\0" + data[0x8001:]
    refused = post_ahab(daemon, "p384", text(0, case=V2), wrong)
    assert refused.status_code == 422
    assert f"image 0 of the container at 0x0 has the {name}" in refused.text


@pytest.mark.parametrize("version", CST_VERSIONS)
@pytest.mark.parametrize(
    ("flags", "hint"), [(0x4, "make the container without them"), (0x10000, "cst 4.0.1 leaves them as they are")]
)
def test_flags_that_cst_loses_are_told_with_what_helps(daemon: Daemon, flags: int, hint: str, version: str) -> None:
    """Another cst does not keep those that none does."""
    data = bytearray(file_of((0, at(0x2000))))
    data[4:8] = struct.pack("<I", flags)
    answer = post_ahab(daemon, "p384", text(0), bytes(data), cstversion=version)
    if flags >> 16 and version != "3.4.1":
        assert answer.status_code == 200, answer.text
        assert holds(answer.content, bytes(data), "p384", offset=0).container.flags == flags | 2
        return
    assert answer.status_code == 422
    assert f"changes the bits {flags:#x} of the flags" in answer.text
    assert hint in answer.text


TEXTS: dict[str, tuple[Callable[[bytes], bytes], int, str]] = {
    "crlf": (lambda t: t.replace(b"\n", b"\r\n"), 200, ""),
    "bom": (lambda t: b"\xef\xbb\xbf" + t, 200, ""),
    "no line end": (lambda t: t.rstrip(b"\n"), 200, ""),
    "many empty lines": (lambda t: b"\n" * 100000 + t, 200, ""),
    "carriage returns": (lambda t: t.replace(b"\n", b"\r"), 400, "U+000D"),
    "utf-16": (lambda t: t.decode().encode("utf-16"), 400, "is UTF-16"),
    "utf-16 without a mark": (lambda t: t.decode().encode("utf-16-le"), 400, "U+0000"),
    "nul in a word": (lambda t: t.replace(b"AHAB", b"AHAB\0"), 400, "line 2, column 18"),
    "nul in a name": (lambda t: t.replace(b"flash.bin", b"flash.bin\0.key"), 400, "line 13"),
    "a long line": (lambda t: t + b"#" * 20000, 400, "at most 16384 are read"),
    "a long name": (lambda t: t.replace(b"flash.bin", b"f" * 20000), 400, "at most 16384 are read"),
    "a long number": (lambda t: t.replace(b"0x490", b"0x" + b"0" * 20000 + b"490"), 400, "at most 16384 are read"),
    "too large": (lambda t: t + b"#\n" * (1 << 19), 413, "1048576 bytes"),
    "empty": (lambda _: b"", 400, "is empty"),
    "no target": (lambda t: t.replace(b"    Target = AHAB\n", b""), 400, "descriptions for AHAB have Target = AHAB"),
    "another target": (lambda t: t.replace(b"AHAB", b"AHAB HAB"), 400, "not for HAB4"),
    "an arabic digit": (lambda t: t.replace(b"index = 0", "index = \u0660".encode()), 400, "U+0660"),
    "minus nothing": (lambda t: t.replace(b"index = 0", b"index = -0"), 400, "is not a number"),
    "a command of hab": (lambda t: t + b"[Unlock]\nEngine = CAAM\n", 400, "is a command of HAB4"),
}  # fmt: skip


@pytest.mark.parametrize("name", TEXTS)
def test_odd_texts_are_read_or_refused(daemon: Daemon, name: str) -> None:
    """With the place of what is odd."""
    edit, status, word = TEXTS[name]
    files = [
        ("csf", ("csf.txt", edit(description(GOOD).encode()), "text/plain")),
        ("artifact", ("flash.bin", image(GOOD), "application/octet-stream")),
    ]
    form = {"machine": "ahab-p384", "cstversion": "4.0.1"}
    answer = httpx.post(f"{daemon.url}/sign/imx", data=form, files=files, timeout=DEADLINE)
    assert answer.status_code == status, answer.text
    if status == 200:
        holds(answer.content, image(GOOD), "p384")
    else:
        assert word in answer.text
    assert daemon.left_behind() == []


@pytest.mark.parametrize("version", CST_VERSIONS)
def test_the_key_of_another_sgk_signs_nothing(daemon: Daemon, version: str) -> None:
    """Cst does not compare it with its certificate."""
    files = dict(members("p384ca"))
    first, second = (f"keys/SGK{number}_1_sha384_secp384r1_v3_usr_key.pem" for number in (1, 2))
    daemon.put_keys(f"sgk-{version}", packed({**files, second: files[first]}))
    answer = post_ahab(daemon, "p384ca", description(SGK), image(SGK), machine=f"sgk-{version}", cstversion=version)
    assert answer.status_code == 500
    assert f"the private key {second} in the key tarball does not match" in answer.text


def with_hash(code: int) -> bytes:
    """The table of P-384 for signatures with another hash."""
    data = bytearray(members("p384")[TABLE])
    for number in range(4):
        data[4 + number * 108 + 4] = code
    return bytes(data)


@pytest.mark.parametrize(("code", "name"), [(3, "sm3"), (4, "sha3-256"), (5, "sha3-384"), (6, "sha3-512")])
def test_a_table_for_hashes_of_version_2_signs_nothing(daemon: Daemon, code: int, name: str) -> None:
    """Cst 4.0.1 makes SHA-3 signatures for version 0, of which no source says that boards know them."""
    daemon.put_keys(f"hash-{code}", packed({**members("p384"), TABLE: with_hash(code)}))
    answer = post_ahab(daemon, machine=f"hash-{code}")
    assert answer.status_code == 500
    assert f"is for signatures with {name}" in answer.text
    assert "srktool -s" in answer.text


def test_a_second_table_is_refused_before_cst_runs(daemon: Daemon) -> None:
    """It makes no second signature, and ends with 0."""
    both = table_of("p384", version=2, second="p384")
    daemon.put_keys("both", packed({**members("p384"), V2_TABLE: both}))
    answer = post_ahab(daemon, "p384", description(V2), image(V2), machine="both")
    assert answer.status_code == 422
    assert f'csf: line 6: "{V2_TABLE}" has a second SRK table' in answer.text


@pytest.mark.parametrize("version", CST_VERSIONS)
def test_an_sgk_is_not_a_source(daemon: Daemon, version: str) -> None:
    """The one who wrote the description can correct that: the SRK's certificate is there."""
    asked = description(SGK)
    (sgk,) = (line.split('"')[1] for line in asked.splitlines() if "SGK" in line)
    (srk,) = (line.split('"')[1] for line in asked.splitlines() if "Source = " in line)
    answer = post_ahab(daemon, "p384ca", asked.replace(srk, sgk), image(SGK), cstversion=version)
    assert answer.status_code == 422
    assert f'that of SRK 2 is "{srk}"' in answer.text


@pytest.mark.parametrize("others", [False, True])
def test_no_byte_of_another_file_is_told(daemon: Daemon, others: bool) -> None:
    """A client names any file of the tarball as its table."""
    kept = dict(members("p384")) if others else {}
    files = {**{name: data for name, data in members("p384").items() if "SRK1" in name}, **kept}
    machine = f"secret-{others}".lower()
    daemon.put_keys(machine, packed({**files, "keys/note.bin": b"\x51\x52\x53\x54 words"}))
    answer = post_ahab(daemon, text=description(GOOD).replace(TABLE, "keys/note.bin"), machine=machine)
    assert answer.status_code == 422
    assert '"keys/note.bin" is not an SRK table for AHAB' in answer.text
    assert "0x51" not in answer.text
    assert "0x54" not in answer.text
