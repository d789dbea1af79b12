"""Which requests for AHAB are served in the reactor's thread, and that nothing else is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_twisted

from digsigd import ahab, csf
from digsigd.errors import BadTarball, CstFailed, Refused, VerificationFailed
from digsigd.signing.quick import QUICK
from digsigd.signing.rules import MachineRules
from tests.conftest import CST_VERSIONS
from tests.helpers.ahab_cases import description, image, members, packed
from tests.helpers.ahab_daemons import holds
from tests.helpers.daemons import MACHINE
from tests.helpers.signers import SignerInTest
from tests.signing.test_ahab_steps import GOOD, content

FLASH = {"flash.bin": image(GOOD)}
# What threads are given for a request: to prepare it, and to take and prove what cst wrote.
STEPS = {"_prepare", "take", "finish"}


@pytest_twisted.async_yield_fixture
async def signer(tmp_path: Path, cst_base: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[SignerInTest]:
    """With keys that are known already, as by the second request on."""
    # A tarball that was just written is read again: take it for one that was written long ago.
    monkeypatch.setattr("digsigd.keys.file._YOUNG_NS", 0)
    monkeypatch.setattr("digsigd.keys.file._PAUSE_OF_WRITERS_NS", 0)
    made = SignerInTest(tmp_path, cst_base)
    made.put_tarball(packed(dict(members("p384"))))
    yield made
    made.stop()
    assert made.open_artifacts() == set()


def steps(signer: SignerInTest) -> list[str]:
    """What threads were given since the last look."""
    called = [one for one in signer.threads.called if one in STEPS]
    signer.threads.called.clear()
    return called


@pytest.mark.parametrize("version", CST_VERSIONS)
async def test_a_small_upload_needs_no_thread_once_its_key_is_decrypted(signer: SignerInTest, version: str) -> None:
    """Nothing is left, and nobody else has to remove it."""
    failing = signer.put_tool("exit 1")
    one = signer.signer(keep=300)
    for threads in (["_prepare", "finish"], []):
        request, workdir = signer.upload(signer.request(description(GOOD), FLASH, version=version))
        holds(content(await one.sign(request, workdir)), image(GOOD), "p384")
        assert workdir.removed
        assert not workdir.path.exists()
        assert steps(signer) == threads
        # Errors of what was prepared at once close the file as well.
        request, workdir = signer.upload(signer.request(description(GOOD), FLASH, version=failing))
        with pytest.raises(Refused, match="cst refused"):
            await one.sign(request, workdir)
        workdir.remove()
        steps(signer)
        assert signer.open_artifacts() == set()


async def test_a_bad_small_file_is_refused_without_a_thread(signer: SignerInTest) -> None:
    """And closed."""
    one = signer.signer(keep=300)
    content(await one.sign(*signer.upload(signer.request(description(GOOD), FLASH))))
    steps(signer)
    data = bytearray(image(GOOD))
    data[0x2800] ^= 1
    with pytest.raises(Refused, match="has the sha"):
        await one.sign(*signer.upload(signer.request(description(GOOD), {"flash.bin": bytes(data)})))
    assert steps(signer) == []
    assert signer.open_artifacts() == set()


@pytest.mark.parametrize("case", ["large", "long", "on disk", "two containers", "many keys"])
async def test_what_takes_longer_is_done_in_threads(signer: SignerInTest, case: str) -> None:
    """A large file, a long description, a directory on a disk, two runs of cst, a tarball with many files."""
    one = signer.signer(keep=300)
    if case == "many keys":
        signer.put_tarball(packed({**members("p384"), **{f"x{n}": b"0" for n in range(256)}}))
    content(await one.sign(*signer.upload(signer.request(description(GOOD), FLASH))))
    steps(signer)
    text, data = description(GOOD), image(GOOD)
    if case == "large":
        data += bytes(2 * QUICK)
    if case == "long":
        text += "#\n" * 4096
    if case == "two containers":
        parts = [ahab.place_images([bytes(0x400)], start=start) for start in (0x2000, 0x2000)]
        data = ahab.build_file(
            [(0x400, ahab.build_container(parts[0]), parts[0]), (0x4000, ahab.build_container(parts[1]), parts[1])]
        )
        start = text.index("[Authenticate Data]")
        text = text[:start] + "".join(
            f'[Authenticate Data]\nFile = "flash.bin"\nOffsets = {at:#x} {at + one.block_offset:#x}\n'
            for at, one in ((0x400, ahab.read_header(data, 0x400)), (0x4000, ahab.read_header(data, 0x4000)))
        )
        signer.rules = MachineRules(csf.Policy(frozenset({"ahab-several-containers"})))
    request = signer.request(text, {"flash.bin": data})
    answer = content(await one.sign(*signer.upload(request, in_memory=case != "on disk")))
    assert len(answer) == len(data)
    assert steps(signer) == (["_prepare", "take", "finish"] if case == "two containers" else ["_prepare", "finish"])


@pytest.mark.parametrize(("size", "threads"), [(16 << 10, []), ((16 << 10) + 1, ["finish"]), (0, ["finish"])])
async def test_a_result_of_an_unusual_size_is_read_in_a_thread(
    signer: SignerInTest, size: int, threads: list[str]
) -> None:
    """What a hostile cst wrote may take long; and finding out why it wrote nothing."""
    version = signer.put_tool(f"head -c {size} /dev/zero > csf.bin")
    one = signer.signer(keep=300)
    content(await one.sign(*signer.upload(signer.request(description(GOOD), FLASH))))
    steps(signer)
    with pytest.raises((VerificationFailed, CstFailed)):
        await one.sign(*signer.upload(signer.request(description(GOOD), FLASH, version=version)))
    assert steps(signer) == threads


async def test_what_cst_left_is_removed_by_whoever_has_the_directory(signer: SignerInTest, cst_base: Path) -> None:
    """In a thread: it may be a million files."""
    cst = cst_base / "cst-3.4.1/linux64/bin/cst"
    version = signer.put_tool(f'"{cst}" "$@" && mkdir left && touch left/behind')
    one = signer.signer(keep=300)
    content(await one.sign(*signer.upload(signer.request(description(GOOD), FLASH))))
    request, workdir = signer.upload(signer.request(description(GOOD), FLASH, version=version))
    holds(content(await one.sign(request, workdir)), image(GOOD), "p384")
    assert not workdir.removed
    workdir.remove()
    assert not workdir.path.exists()


async def test_keys_that_were_found_good_are_so_only_for_the_same_description_and_rules(signer: SignerInTest) -> None:
    """Another pinned value, another chip, another SRK: they are checked anew, and remembered are few."""
    store = signer.signer(keep=300)

    async def sign(text: str, soctype: str = "") -> None:
        request, workdir = signer.upload(replace(signer.request(text, FLASH), soctype=soctype or None))
        try:
            content(await store.sign(request, workdir))
        finally:
            workdir.remove()

    for _ in range(2):
        await sign(description(GOOD))
        signer.rules = MachineRules(csf.Policy(), bytes(32))
        with pytest.raises(BadTarball, match="has the fuse value"):
            await sign(description(GOOD))
        signer.rules = MachineRules(csf.Policy())
        with pytest.raises(Refused, match="has no containers of version 0"):
            await sign(description(GOOD), "mx952")
        with pytest.raises(Refused, match="Source index = 1 is SRK 2"):
            await sign(description(GOOD).replace("Source index = 0", "Source index = 1"))
    for number in range(40):
        await sign(f"{description(GOOD)}\n#{'#' * number}\n".replace("flash.bin", f"{number}/flash.bin"))
    tarball = (await store._keys.get(MACHINE)).tarball
    assert 1 <= len(tarball.checked) <= 32
