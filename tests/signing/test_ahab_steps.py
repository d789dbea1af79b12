"""The signer's steps for AHAB with a real cst, and with stand-ins that end with 0 and have signed nothing."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_twisted
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater

from digsigd import ahab, csf
from digsigd.errors import BadTarball, CstFailed, CstTimeout, DigsigError, NoSpace, Refused, VerificationFailed
from digsigd.hab.certificate import load_file
from digsigd.signing.cage import LAUNCHER, Launcher
from digsigd.signing.request import Signed
from digsigd.signing.rules import MachineRules
from tests.conftest import CST_VERSIONS
from tests.helpers.ahab_cases import FOLDER, description, image, members, packed
from tests.helpers.ahab_daemons import OFFSET, holds
from tests.helpers.signers import SignerInTest, reactor

GOOD = "good-93-sd-spl"
FLASH = {"flash.bin": image(GOOD)}


@pytest_twisted.async_yield_fixture
async def signer(tmp_path: Path, cst_base: Path) -> AsyncIterator[SignerInTest]:
    made = SignerInTest(tmp_path, cst_base)
    made.put_tarball(packed(dict(members("p384"))))
    yield made
    made.stop()
    assert made.queue.running == made.queue.waiting == made.runner.running == 0


def content(signed: Signed) -> bytes:
    """The whole answer, which is closed then."""
    assert signed.file is not None
    assert (signed.blob, signed.size) == (b"", signed.file.size)
    data = signed.file.read(0, signed.size)
    signed.close()
    return data


@pytest.mark.parametrize("version", CST_VERSIONS)
async def test_a_file_of_the_embedding_program_is_signed(signer: SignerInTest, version: str) -> None:
    """It is copied, and stays as it is; the work directory is gone, and the answer can be read."""
    request = signer.request(description(GOOD), {"other.bin": b"other", **FLASH}, version=version)
    signed = await signer.sign(request)
    assert signer.workdirs[-1].removed
    assert not signer.workdirs[-1].path.exists()
    holds(content(signed), image(GOOD), "p384")
    assert request.artifacts[1].path.read_bytes() == image(GOOD)
    assert set(request.evidence.artifacts) == {"other.bin", "flash.bin"}
    assert signer.open_artifacts() == set()


@pytest.mark.parametrize("version", CST_VERSIONS)
async def test_a_signed_file_is_signed_again(signer: SignerInTest, version: str) -> None:
    """With a shorter block: what was behind it stays, as cst leaves it."""
    before = gzip.decompress((FOLDER / "good-qxp-spl-sgk.bin.gz").read_bytes())
    text = description("good-qxp-spl-sgk")
    assert ahab.read_header(before, OFFSET).is_signed
    signer.put_tarball(packed(dict(members("p384ca"))))
    once = content(await signer.sign(signer.request(text, {"flash.bin": image("good-qxp-spl-sgk")}, version=version)))
    start, end = text.index("[Install Certificate]"), text.index("[Authenticate Data]")
    again = content(await signer.sign(signer.request(text[:start] + text[end:], {"flash.bin": once}, version=version)))
    proven = holds(again, once, "p384ca")
    assert not proven.certificate
    longer = ahab.parse(once, OFFSET)
    assert proven.container.length < longer.length
    assert again[proven.container.end : longer.end] == once[proven.container.end : longer.end]


DOES: dict[str, tuple[str, type[DigsigError], str]] = {
    "writes nothing": ("exit 0", CstFailed, "wrote no container"),
    "writes an empty file": (": > csf.bin", CstFailed, "wrote no container"),
    "copies the stub": ("cp container csf.bin", VerificationFailed, "failed verification"),
    "writes something else": ("cat description.csf > csf.bin", VerificationFailed, "failed verification"),
    "writes too much": ("head -c 200000 /dev/zero > csf.bin", VerificationFailed, "failed verification"),
    "leaves a FIFO": ("mkfifo csf.bin", CstFailed, "wrote no container"),
    "leaves a link": ("cp container x; ln -s x csf.bin", CstFailed, "wrote no container"),
    "crashes": ("kill -SEGV $$", CstFailed, "was killed by SIGSEGV"),
    "fails": ("echo no; exit 3", Refused, "cst refused the CSF description"),
    "takes long": ("while :; do :; done", CstTimeout, "CPU time limit"),
}


@pytest.mark.parametrize("does", DOES)
async def test_a_cst_that_signs_nothing_is_not_believed(signer: SignerInTest, does: str) -> None:
    """Whatever its exit code says. The file is closed, and the directory is the caller's to remove."""
    text, kind, word = DOES[does]
    signer.bounds = replace(signer.bounds, cpu_seconds=1)
    with pytest.raises(kind, match=word):
        await signer.sign(signer.request(description(GOOD), FLASH, version=signer.put_tool(text)))
    assert signer.open_artifacts() == set()
    signer.workdirs[-1].remove()


# Signatures are random: a byte that is only written may have been the same before.
SIGNED = """
cst={cst}
$cst -i description.csf -o csf.bin >/dev/null || exit 1
byte=$(od -An -tu1 -j {place} -N 1 csf.bin)
printf "\\\\$(printf %03o $((byte ^ {mask})))" | dd of=csf.bin bs=1 seek={place} conv=notrunc 2>/dev/null
"""


@pytest.mark.parametrize(
    ("place", "word"),
    [(0, ""), (8, "another header"), (0x10, "another header"), (0x35, "another header"), (0x100, "failed"),
     (0xA0, "failed"), (0x2A0, "failed")],
)  # fmt: skip
async def test_a_byte_that_cst_changes_is_found(signer: SignerInTest, cst_base: Path, place: int, word: str) -> None:
    """In the header, the images' entries, the SRK table, the signature; the first is what cst itself writes."""
    cst = cst_base / "cst-3.4.1/linux64/bin/cst"
    version = signer.put_tool(SIGNED.format(cst=cst, place=place, mask=0xA5 if place else 0))
    request = signer.request(description(GOOD), FLASH, version=version)
    if not place:
        holds(content(await signer.sign(request)), image(GOOD), "p384")
        return
    with pytest.raises(VerificationFailed, match=word):
        await signer.sign(request)


def with_flags(flags: int) -> bytes:
    """An unsigned file whose container has these flags."""
    parts = ahab.place_images([bytes(0x400)], start=0x1000)
    return ahab.build_file([(OFFSET, ahab.build_container(parts, flags=flags), parts)])


async def test_flags_that_cst_loses_are_told(signer: SignerInTest) -> None:
    """3.4.1 clears the upper half, of which the glitch detector is; 4.0.1 keeps it."""
    data = {"flash.bin": with_flags(0x00100010)}
    with pytest.raises(Refused, match=r"cst 3\.4\.1 changes the bits 0x100000 of the flags"):
        await signer.sign(signer.request(description(GOOD), data))
    answer = content(await signer.sign(signer.request(description(GOOD), data, version="4.0.1")))
    assert ahab.read_header(answer, OFFSET).flags & 0x00100000
    holds(answer, data["flash.bin"], "p384")


@pytest.mark.parametrize("place", [OFFSET + 4, 0x2800])
async def test_a_file_that_changed_since_its_upload_is_not_signed(signer: SignerInTest, place: int) -> None:
    """Something on the host wrote to it: its header, or its payload."""
    request, workdir = signer.upload(signer.request(description(GOOD), FLASH))
    with request.artifacts[0].path.open("r+b") as file:
        file.seek(place)
        file.write(b"\xa5\x5a")
    with pytest.raises(VerificationFailed, match="not what was sent"):
        await signer.signer().sign(request, workdir)
    assert signer.open_artifacts() == set()


async def test_a_file_that_grew_since_its_upload_is_not_signed(signer: SignerInTest) -> None:
    """Though the bytes that were sent are still there."""
    request, workdir = signer.upload(signer.request(description(GOOD), FLASH))
    with request.artifacts[0].path.open("ab") as file:
        file.write(b"more")
    with pytest.raises(VerificationFailed, match="not what was sent"):
        await signer.signer().sign(request, workdir)


async def test_an_upload_is_out_of_reach_when_cst_runs(signer: SignerInTest) -> None:
    """Its name is gone, so a cst that was taken over finds nothing to change."""
    version = signer.put_tool("ls .. > ../listed; ls >> ../listed; exit 1")
    request, workdir = signer.upload(signer.request(description(GOOD), {"spare.bin": b"x", **FLASH}, version=version))
    with pytest.raises(Refused):
        await signer.signer().sign(request, workdir)
    listed = (workdir.path / "listed").read_text().split()
    assert "artifact" in listed
    assert "artifact2" not in listed
    assert listed.count("container") == 2
    workdir.remove()


async def test_a_full_work_directory_is_told(signer: SignerInTest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before cst runs, and with 503: others end, and there is room again."""

    def full(*_: object) -> None:
        raise NoSpace

    monkeypatch.setattr("digsigd.signing.workdir.check_space", full)
    with pytest.raises(NoSpace):
        await signer.sign(signer.request(description(GOOD), FLASH))


async def test_der_files_are_used_as_well_as_pem(signer: SignerInTest) -> None:
    """NXP's script makes both of each; a description may name either, with the folder or without."""
    files = dict(members("p384"))
    for name in list(files):
        if name.endswith("_crt.pem"):
            files[f"{name[:-4]}.der"] = load_file(files[name]).der
        if name.endswith("_key.pem"):
            key = load_pem_private_key(files[name], b"secret7")
            files[f"{name[:-4]}.der"] = key.private_bytes(
                Encoding.DER, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret7")
            )
    only_der = {name: data for name, data in files.items() if not name.endswith(".pem")}
    for tarball in (files, only_der):
        signer.put_tarball(packed(tarball))
        for source in ("crts/SRK1_sha384_secp384r1_v3_usr_crt.der", "SRK1_sha384_secp384r1_v3_usr_crt.pem"):
            text = description(GOOD).replace("crts/SRK1_sha384_secp384r1_v3_usr_crt.pem", source)
            for version in CST_VERSIONS:
                signed = await signer.sign(signer.request(text, FLASH, version=version))
                holds(content(signed), image(GOOD), "p384")


async def test_a_pinned_fuse_value_of_another_length_never_fits(signer: SignerInTest) -> None:
    """Neither does another value."""
    table = ahab.parse_table(members("p384")["crts/SRK_1_2_3_4_table.bin"])
    for value, good in ((table.hash("sha256"), True), (table.hash("sha512"), True), (bytes(32), False),
                        (table.hash("sha512")[:32], False), (bytes(64), False)):  # fmt: skip
        signer.rules = MachineRules(csf.Policy(), value)
        if good:
            holds(content(await signer.sign(signer.request(description(GOOD), FLASH))), image(GOOD), "p384")
            continue
        with pytest.raises(BadTarball, match="has the fuse value"):
            await signer.sign(signer.request(description(GOOD), FLASH))


async def test_a_request_that_is_cancelled_leaves_no_file_open(signer: SignerInTest) -> None:
    """Its cst is stopped first."""
    version = signer.put_tool("touch begun; sleep 60")
    signing = Deferred.fromCoroutine(signer.sign(signer.request(description(GOOD), FLASH, version=version)))
    while not signer.workdirs or not (signer.workdirs[-1].path / "run/begun").exists():
        await deferLater(reactor, 0.01)
    assert len(signer.open_artifacts()) >= 1
    signing.cancel()
    with pytest.raises(CancelledError):
        await signing
    assert signer.open_artifacts() == set()


@pytest.mark.parametrize("version", CST_VERSIONS)
async def test_a_cst_without_a_temporary_file_is_told(
    signer: SignerInTest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    """Where there are no namespaces, and the library was not built: a fault of the host."""
    signer.runner.use(Launcher(LAUNCHER, "ls"))
    holds(content(await signer.sign(signer.request(description(GOOD), FLASH, version=version))), image(GOOD), "p384")
    monkeypatch.setattr("digsigd.signing.cage.TMPFILE", tmp_path / "missing")
    with pytest.raises(CstFailed, match="cannot make a temporary file on this signing host"):
        await signer.sign(signer.request(description(GOOD), FLASH, version=version))
