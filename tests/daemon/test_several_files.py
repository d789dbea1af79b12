"""One CSF over blocks of several files, as kernels with their device trees have it."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from digsigd import hab
from digsigd.testing import TrialPki
from tests.helpers.daemons import DEADLINE, IMAGE, MACHINE, Daemon

DTB = b"\xd0\x0d\xfe\xed" + bytes(0x7FC)
# A kernel for U-Boot: its IVT at its end, without boot data, and the CSF behind.
KERNEL = bytes(range(256)) * 16 + struct.pack("<8I", 0x412000D1, 0x12000000, 0, 0, 0, 0x12001000, 0x12001020, 0)
BLOCKS = ('0x12000000 0x0 0x1020 "zImage-ivt"', '0x18000000 0x0 0x800 "boot/board.dtb"')
LIMIT = 100_000


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory, cst_base: Path, pki: TrialPki) -> Iterator[Daemon]:
    folder = tmp_path_factory.mktemp("several")
    daemon = Daemon(folder, cst_base, f"[upload]\nmax_artifact = {LIMIT}\n")
    daemon.put_keys(MACHINE, pki.tarball())
    yield daemon.start()
    daemon.wait_for(lambda: daemon.left_behind() == [], what="an empty work directory")
    daemon.stop()


def post(
    daemon: Daemon, csf: str, *artifacts: tuple[str | None, bytes], version: str = "3.4.1", chunked: bool = False
) -> httpx.Response:
    request = httpx.Request(
        "POST",
        f"{daemon.url}/sign/imx",
        files=[
            ("machine", (None, MACHINE)),
            ("cstversion", (None, version)),
            ("csf", ("a.csf", csf, "text/plain")),
            *(("artifact", one) for one in artifacts),
        ],
    )
    body = request.read()
    headers = {"Content-Type": request.headers["Content-Type"]}
    return httpx.post(request.url, content=iter([body]) if chunked else body, headers=headers, timeout=DEADLINE)


def assert_signed(answer: httpx.Response, pki: TrialPki, *blocks: hab.Block, files: list[bytes]) -> None:
    assert answer.status_code == 200, answer.text
    digest = hashlib.sha256()
    for one in blocks:
        digest.update(files[one.file][one.offset : one.end])
    hab.verify(
        answer.content,
        srk_table=pki.srk_table,
        expected_blocks=[blocks],
        source_index=0,
        digests=[digest.digest()],
        fuse_value=pki.fuse_value,
    )


WHOLE = hab.Block(IMAGE.address, 0, IMAGE.signed_size)
KERNEL_BLOCK = hab.Block(0x12000000, 0, 0x1020)


@pytest.mark.parametrize("version", ["3.4.1", "4.0.1"])
def test_blocks_of_two_files_are_signed_in_their_order(daemon: Daemon, pki: TrialPki, version: str) -> None:
    """In whichever order they are uploaded, the digest is over the blocks as the description has them."""
    tree = hab.Block(0x18000000, 0, 0x800, 1)
    for files in ((("zImage-ivt", KERNEL), ("board.dtb", DTB)), (("board.dtb", DTB), ("zImage-ivt", KERNEL))):
        answer = post(daemon, pki.csf(*BLOCKS), *files, version=version)
        assert_signed(answer, pki, KERNEL_BLOCK, tree, files=[KERNEL, DTB])
    turned = post(daemon, pki.csf(*reversed(BLOCKS)), ("zImage-ivt", KERNEL), ("board.dtb", DTB), version=version)
    assert_signed(turned, pki, tree, KERNEL_BLOCK, files=[KERNEL, DTB])


def test_eight_files_are_signed_and_nine_are_too_many(daemon: Daemon, pki: TrialPki) -> None:
    """Each has its own content, and none is taken for another."""
    names = [f"part{number}" for number in range(7)]
    files = [KERNEL, *(bytes([number]) * 0x100 for number in range(7))]
    blocks = [f'{0x40000000 + number * 0x1000:#x} 0x0 0x100 "{name}"' for number, name in enumerate(names)]
    text = pki.csf(BLOCKS[0], *blocks)
    parts = list(zip(["zImage-ivt", *names], files, strict=True))
    tail = [hab.Block(0x40000000 + number * 0x1000, 0, 0x100, number + 1) for number in range(7)]
    answer = post(daemon, text, *parts)
    assert_signed(answer, pki, KERNEL_BLOCK, *tail, files=files)
    more = post(daemon, text, *parts, ("ninth", b"9"))
    assert more.status_code == 413
    assert "more than 8 artifacts" in more.text


def test_what_the_blocks_name_has_to_be_there(daemon: Daemon, pki: TrialPki) -> None:
    """The error gives the names of what was uploaded, and where the file ends that the block is of."""
    answer = post(daemon, pki.csf(*BLOCKS), ("zImage-ivt", KERNEL), ("other.dtb", DTB))
    assert answer.status_code == 422
    assert 'names "boot/board.dtb", but the artifacts are "zImage-ivt" and "other.dtb"' in answer.text
    answer = post(daemon, pki.csf(*BLOCKS), ("zImage-ivt", KERNEL), ("board.dtb", DTB[:-1]))
    assert answer.status_code == 422
    assert "the block ends at 0x800, but the artifact at 0x7ff" in answer.text


def test_what_no_block_names_does_not_matter(daemon: Daemon, pki: TrialPki) -> None:
    """The description says what is signed: other files are of no interest, and none of one name but the first."""
    text = pki.csf(IMAGE.blocks("spl.bin"))
    others: list[tuple[str | None, bytes]] = [("README", b"hello"), ("dir/spl.bin", b"another")]
    assert_signed(post(daemon, text, ("spl.bin", IMAGE.data), *others), pki, WHOLE, files=[IMAGE.data])
    assert_signed(post(daemon, text, ("README", b"hello"), ("spl.bin", IMAGE.data)), pki, WHOLE, files=[IMAGE.data])


def test_two_files_of_one_name_in_two_folders_are_not_taken_for_one(daemon: Daemon, pki: TrialPki) -> None:
    """Their last part is what curl sends, and the first would be signed in place of both."""
    blocks = '0x12000000 0x0 0x1020 "Image"', '0x18000000 0x0 0x400 "a/dtb"', '0x19000000 0x0 0x400 "b/dtb"'
    files = ("Image", KERNEL), ("dtb", DTB), ("dtb", b"\1" * 0x800)
    answer = post(daemon, pki.csf(*blocks), *files)
    assert answer.status_code == 422, answer.text
    assert 'the blocks name "a/dtb" and "b/dtb", but several artifacts are called "dtb"; upload each' in answer.text
    same = '0x12000000 0x0 0x1020 "Image"', '0x18000000 0x0 0x400 "a/dtb"', '0x19000000 0x0 0x400 "./a/dtb"'
    tree = hab.Block(0x18000000, 0, 0x400, 1), hab.Block(0x19000000, 0, 0x400, 1)
    assert_signed(post(daemon, pki.csf(*same), *files), pki, KERNEL_BLOCK, *tree, files=[KERNEL, DTB])
    assert_signed(post(daemon, pki.csf(*blocks), *files[:2]), pki, KERNEL_BLOCK, *tree, files=[KERNEL, DTB])


def test_much_of_what_is_not_named_buys_nothing(daemon: Daemon, pki: TrialPki) -> None:
    """How much may be signed is counted by the files that are named."""
    block = IMAGE.blocks("spl.bin")
    text = pki.csf(block) + f"[Authenticate Data]\nVerification index = 2\nBlocks = {block}\n" * 4
    answer = post(daemon, text, ("spl.bin", IMAGE.data[:0x3000]), ("other", bytes(60_000)))
    assert (answer.status_code, "times the" in answer.text) == (422, True), answer.text


@pytest.mark.parametrize("version", ["3.4.1", "4.0.1"])
def test_one_command_signs_twice_as_much_as_there_is(
    tmp_path: Path, cst_base: Path, pki: TrialPki, version: str
) -> None:
    """Which is allowed; cst writes all of that into one file and holds it in memory."""
    size = 3 << 20
    data = bytes(size) + KERNEL[:-0x20]
    ivt = struct.pack("<8I", 0x412000D1, 0x12000000, 0, 0, 0, 0x12000000 + len(data), 0x12000020 + len(data), 0)
    data += ivt
    name = "Image"
    blocks = hab.Block(0x12000000, 0, len(data)), hab.Block(0x18000000, 0, size)
    text = pki.csf(*(f'{one} "{name}"' for one in blocks))
    daemon = Daemon(tmp_path, cst_base)
    daemon.put_keys(MACHINE, pki.tarball())
    daemon.start()
    assert_signed(post(daemon, text, (name, data), version=version), pki, *blocks, files=[data])
    daemon.stop()


def test_files_of_which_nothing_was_chosen_do_not_matter(daemon: Daemon, pki: TrialPki) -> None:
    """Browsers send an empty part without a name for them; one that has a name is empty by mistake."""
    text = pki.csf(IMAGE.blocks("spl.bin"))
    answer = post(daemon, text, ("", b""), ("spl.bin", IMAGE.data), ("", b""))
    assert_signed(answer, pki, WHOLE, files=[IMAGE.data])
    answer = post(daemon, text, ("spl.bin", IMAGE.data), ("board.dtb", b""))
    assert (answer.status_code, "the artifact 'board.dtb' is empty" in answer.text) == (400, True), answer.text


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("name", ["second", "spl.bin"])
def test_the_limit_is_on_all_together(daemon: Daemon, pki: TrialPki, chunked: bool, name: str) -> None:
    """Two of which each would do are too large together, whether the second is wanted or not."""
    text = pki.csf(IMAGE.blocks("spl.bin"))
    more = bytes(LIMIT - len(IMAGE.data) + 1)
    answer = post(daemon, text, ("spl.bin", IMAGE.data), (name, more), chunked=chunked)
    assert answer.status_code == 413, answer.text
    assert f"together have more than {LIMIT} bytes" in answer.text
    answer = post(daemon, text, ("spl.bin", IMAGE.data), (name, more[:-1]), chunked=chunked)
    assert answer.status_code == 200, answer.text
