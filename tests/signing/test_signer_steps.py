"""The steps of one request: real keys and a real cst, and fakes in its place where a failure has to be forced."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_twisted
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import capturedLogs

from digsigd import csf
from digsigd.csf.cst_files import DESCRIPTION
from digsigd.errors import (
    BadRequest,
    BadTarball,
    Busy,
    CstFailed,
    CstTimeout,
    DigsigError,
    NoKeys,
    Refused,
    VerificationFailed,
)
from digsigd.signing.job import Job
from digsigd.signing.job_base import MAX_BLOB
from digsigd.signing.quick import LONG_TEXT, QUICK
from digsigd.signing.request import Signed
from digsigd.signing.signer import LARGE, read_description
from digsigd.testing import TrialImage, TrialPki
from tests.conftest import CST_VERSIONS
from tests.helpers.daemons import MACHINE
from tests.helpers.proof import proven
from tests.helpers.signers import SignerInTest, reactor

IMAGE = TrialImage.of_size(0x4000)
SPL = {"spl.bin": IMAGE.data}


@pytest.fixture(scope="module")
def text(pki: TrialPki) -> str:
    """The description of the whole image."""
    return pki.csf(IMAGE.blocks("spl.bin"))


@pytest_twisted.async_yield_fixture
async def signer(tmp_path: Path, cst_base: Path, pki: TrialPki) -> AsyncIterator[SignerInTest]:
    made = SignerInTest(tmp_path, cst_base)
    made.put_keys(pki)
    yield made
    made.stop()
    assert made.queue.running == made.queue.waiting == made.runner.running == 0


# What is signed


@pytest.mark.parametrize("version", CST_VERSIONS)
async def test_a_request_is_signed_and_nothing_is_left(
    signer: SignerInTest, pki: TrialPki, text: str, version: str
) -> None:
    """By either cst; the log has each step once, in order, and no secret."""
    with capturedLogs() as events:
        signed = await signer.sign(signer.request(text, SPL, version=version))
    proven(pki, IMAGE, signed.blob)
    assert signer.workdirs[-1].removed
    assert not signer.workdirs[-1].path.exists()
    ours = [event for event in events if event["log_namespace"] == "digsigd.signing.signer.Signer"]
    assert [event["event"] for event in ours] == ["keys", "cst", "verified"]
    assert len({event["request_id"] for event in ours}) == 1
    assert (ours[1]["version"], ours[1]["exit"], ours[1]["signal"]) == (version, 0, None)
    assert pki.pass_phrase not in str(events)


async def test_certificates_of_the_other_encoding_than_their_keys_are_signed_with(
    signer: SignerInTest, pki: TrialPki
) -> None:
    """A key is looked for by the ending of its certificate, so that cst gets a certificate in the form of its key."""
    files = {}
    for name, data in pki.files.items():
        if name.endswith("_crt.pem"):
            name, data = (
                name.replace(".pem", ".der"),
                x509.load_pem_x509_certificate(data).public_bytes(Encoding.DER),
            )
        files[name] = data
    mixed = TrialPki(files, pki.kind, pki.fast_auth, pki.srk_table)
    signer.put_keys(mixed)
    signed = await signer.sign(signer.request(mixed.csf(IMAGE.blocks("spl.bin")), SPL))
    proven(pki, IMAGE, signed.blob)


async def test_only_what_blocks_name_is_before_cst(signer: SignerInTest, pki: TrialPki, text: str) -> None:
    """Under names of our own: the artifact, the table, each certificate with its key, and the description."""
    listing = signer.put_tool("find . | sort; exit 1")
    files = {"readme.txt": b"not to be signed", **SPL}
    with pytest.raises(Refused) as caught:
        await signer.sign(signer.request(text, files, version=listing))
    # What stands for names of the client's is given back.
    assert caught.value.detail.startswith("ended with exit code 1: .; ./spl.bin; ./description.csf; ./k1;")
    there = sorted(str(one.relative_to(signer.workdirs[-1].path)) for one in signer.workdirs[-1].path.rglob("*"))
    assert there == [
        "artifact2", DESCRIPTION, "k1", "k1/a_crt.pem", "k1/a_key.pem",
        "k2", "k2/a_crt.pem", "k2/a_key.pem",
        "run", "run/artifact2", f"run/{DESCRIPTION}", "run/k1", "run/k2", "run/srk_table.bin", "srk_table.bin",
    ]  # fmt: skip
    assert (signer.workdirs[-1].path / "artifact2").read_bytes() == IMAGE.data


async def test_the_digest_of_a_large_artifact_is_made_beside_cst(signer: SignerInTest, pki: TrialPki) -> None:
    """In threads of their own; that of a small one where it is verified."""
    large = TrialImage.of_size(LARGE)
    signed = await signer.sign(signer.request(pki.csf(large.blocks("spl.bin")), {"spl.bin": large.data}))
    proven(pki, large, signed.blob)
    assert signer.digest_threads.called == ["digests"]
    await signer.sign(signer.request(pki.csf(IMAGE.blocks("spl.bin")), SPL))
    assert signer.digest_threads.called == ["digests"]


@pytest.mark.parametrize("tool", ["exit 1", "exit 0", "kill -SEGV $$"])
async def test_a_digest_that_nobody_wants_any_more_is_waited_for(
    signer: SignerInTest, pki: TrialPki, tool: str
) -> None:
    """Before the error is told: whoever has the directory may remove it then."""
    large = TrialImage.of_size(LARGE)
    request = signer.request(pki.csf(large.blocks("spl.bin")), {"spl.bin": large.data}, version=signer.put_tool(tool))
    with pytest.raises(DigsigError):
        await signer.sign(request)
    assert signer.digest_threads.ended == ["digests"]


async def test_a_long_description_is_parsed_in_a_thread(signer: SignerInTest, pki: TrialPki, text: str) -> None:
    """And a short one at once; its errors are the same."""
    await signer.sign(signer.request(text, SPL))
    assert "read_description" not in signer.threads.called
    long = text + "#\n" * LONG_TEXT
    proven(pki, IMAGE, (await signer.sign(signer.request(long, SPL))).blob)
    assert signer.threads.called.count("read_description") == 1
    for wrong in (text.replace("[Unlock]", "[Unlok]"), long.replace("[Unlock]", "[Unlok]")):
        with pytest.raises(BadRequest, match=r"csf: line 18.*Unlok"):
            await signer.sign(signer.request(wrong, SPL))


# What is done at once


@pytest.fixture
def _old_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tarball that was just written is read again: take it for one that was written long ago."""
    monkeypatch.setattr("digsigd.keys.file._YOUNG_NS", 0)
    monkeypatch.setattr("digsigd.keys.file._PAUSE_OF_WRITERS_NS", 0)


@pytest.mark.usefixtures("_old_keys")
async def test_a_small_upload_needs_no_thread_once_its_keys_are_known(
    signer: SignerInTest, pki: TrialPki, text: str
) -> None:
    """But for the look at the key store. Nothing is left, and nobody else has to remove it."""
    one = signer.signer(keep=300)
    for threads in (["_prepared_in_thread"], []):
        signer.threads.called.clear()
        request, workdir = signer.upload(signer.request(text, SPL))
        proven(pki, IMAGE, (await one.sign(request, workdir)).blob)
        assert workdir.removed
        assert not workdir.path.exists()
        assert [one for one in signer.threads.called if one in {"_prepared_in_thread", "verified"}] == threads


@pytest.mark.usefixtures("_old_keys")
@pytest.mark.parametrize(
    "case", ["large", "small part", "many commands", "long", "on disk", "many blocks", "many keys", "long keys"]
)
async def test_what_takes_longer_is_done_in_threads(signer: SignerInTest, pki: TrialPki, text: str, case: str) -> None:
    """A large image, a long description, a directory on a disk; and a digest of much, from a small image.

    Also a small part of a larger file, and a tarball that takes long to look through.
    """
    one = signer.signer(keep=300)
    if case in {"many keys", "long keys"}:
        more = {f"x{n}": b"0" for n in range(256)} if case == "many keys" else {"x": bytes(1 << 20)}
        signer.put_tarball(replace(pki, files={**pki.files, **more}).tarball())
    await one.sign(*signer.upload(signer.request(text, SPL)))
    signer.threads.called.clear()
    image = TrialImage.of_size({"large": 2 * QUICK, "many blocks": QUICK}.get(case, 64 << 10))
    text = pki.csf(image.blocks("spl.bin"))
    data = image.data
    if case == "small part":
        data += bytes(QUICK)
    if case == "many commands":
        text += "".join(
            f'[Authenticate Data]\nVerification index = 2\nBlocks = {0x7E0FC0 + n:#x} {n:#x} 0x4 "spl.bin"\n'
            for n in range(0, 16, 4)
        )
    if case == "long":
        text += "#\n" * 4096
    if case == "many blocks":
        again = '[Authenticate Data]\nVerification index = 2\nBlocks = 0x7e1fc0 0x1000 0x10000 "spl.bin"\n'
        text += again
    request = signer.request(text, {"spl.bin": data})
    signed = await one.sign(*signer.upload(request, in_memory=case != "on disk"))
    assert ("_prepared_in_thread" in signer.threads.called) == (case not in {"many blocks", "many commands"})
    assert "verified" in signer.threads.called or case in {"long", "many keys", "long keys"}
    assert ("read_description" in signer.threads.called) == (case == "long")
    assert signed.blob


@pytest.mark.usefixtures("_old_keys")
@pytest.mark.parametrize("size", [16 << 10, (16 << 10) + 1])
async def test_a_blob_of_an_unusual_size_is_read_in_a_thread(signer: SignerInTest, text: str, size: int) -> None:
    """What a hostile cst wrote may take long."""
    tool = signer.put_tool(f"head -c {size} /dev/zero > csf.bin")
    one = signer.signer(keep=300)
    await one.sign(*signer.upload(signer.request(text, SPL)))
    signer.threads.called.clear()
    with pytest.raises(VerificationFailed):
        await one.sign(*signer.upload(signer.request(text, SPL, version=tool)))
    assert ("verified" in signer.threads.called) == (size > 16 << 10)


@pytest.mark.usefixtures("_old_keys")
async def test_what_cst_left_is_removed_by_whoever_has_the_directory(
    signer: SignerInTest, pki: TrialPki, text: str, cst_base: Path
) -> None:
    """In a thread: it may be a million files."""
    cst = cst_base / "cst-3.4.1/linux64/bin/cst"
    tool = signer.put_tool(f'"{cst}" "$@" && mkdir left && touch left/behind')
    one = signer.signer(keep=300)
    await one.sign(*signer.upload(signer.request(text, SPL)))
    request, workdir = signer.upload(signer.request(text, SPL, version=tool))
    proven(pki, IMAGE, (await one.sign(request, workdir)).blob)
    assert not workdir.removed
    workdir.remove()
    assert not workdir.path.exists()


# What is refused before cst runs


@pytest.mark.parametrize("backend", ["pkcs11", "gpg"])
async def test_a_backend_that_is_not_there_is_refused(signer: SignerInTest, text: str, backend: str) -> None:
    """Before anything else is looked at."""
    with pytest.raises(Refused, match=f"no {backend} backend"):
        await signer.sign(signer.request(text, SPL, backend=backend, version="9"))
    assert signer.threads.called == []


async def test_without_room_in_the_queue_no_keys_are_fetched(signer: SignerInTest, text: str) -> None:
    """A host that is busy says so at once."""
    slot = await signer.queue.enter()
    with pytest.raises(Busy):
        await signer.sign(signer.request(text, SPL))
    assert signer.threads.called == []
    slot.leave()
    await signer.sign(signer.request(text, SPL))


async def test_a_wrong_request_takes_no_slot(signer: SignerInTest, text: str) -> None:
    """Each is refused by the step that it is wrong for, and cst is never started."""
    must_not_run = signer.put_tool("kill -SEGV $$")
    for kind, words, wrong in (
        (BadRequest, "csf: line 2", text.replace("Version = 4.3", "Version =")),
        (Refused, "csf: line 2.*HSM", text.replace("Version = 4.3", "Mode = HSM\n    Version = 4.3")),
        (Refused, "not in the machine's key tarball", text.replace("CSF1_1", "CSF9_1")),
        (Refused, "csf: .*IVT", text.replace("0x0 0x2000", "0x400 0x1c00")),
        (Refused, "signed by SRK 1", text.replace("Source index = 0", "Source index = 1")),
    ):
        assert wrong != text
        with pytest.raises(kind, match=words):
            await signer.sign(signer.request(wrong, SPL, version=must_not_run))


async def test_a_version_or_a_machine_that_is_not_there_is_told(signer: SignerInTest, text: str) -> None:
    """By the errors of tools and key store."""
    with pytest.raises(Refused, match=r"cst 2\.3\.3 is not installed"):
        await signer.sign(signer.request(text, SPL, version="2.3.3"))
    with pytest.raises(NoKeys):
        await signer.sign(replace(signer.request(text, SPL), machine="unheard-of"))


async def test_a_pinned_fuse_value_has_to_be_that_of_the_table(
    signer: SignerInTest, pki: TrialPki, other_pki: TrialPki, text: str
) -> None:
    """The error names both values and the machine."""
    signer.rules = replace(signer.rules, fuse_value=pki.fuse_value)
    await signer.sign(signer.request(text, SPL))
    signer.rules = replace(signer.rules, fuse_value=other_pki.fuse_value)
    with pytest.raises(BadTarball) as caught:
        await signer.sign(signer.request(text, SPL))
    assert pki.fuse_value.hex() in caught.value.what
    assert other_pki.fuse_value.hex() in caught.value.what


async def test_a_table_that_is_none_is_the_fault_of_whoever_named_or_made_it(
    signer: SignerInTest, pki: TrialPki, text: str
) -> None:
    """The client's where the tarball has another one, the operator's where it has none."""
    signer.put_keys(pki, table=pki.srk_table[:-5])
    with pytest.raises(BadTarball, match="the SRK table in the key tarball is bad"):
        await signer.sign(signer.request(text, SPL))
    files = {**pki.files, "crts/SRK_1_2_fuse.bin": pki.fuse_value}
    signer.put_keys(TrialPki(files, pki.kind, pki.fast_auth, pki.srk_table))
    wrong = text.replace("_table.bin", "_fuse.bin")
    with pytest.raises(Refused, match=r"line 10: .*SRK_1_2_fuse.bin") as caught:
        await signer.sign(signer.request(wrong, SPL))
    assert (caught.value.line, caught.value.hint) == (10, "SRK tables in the key tarball: crts/SRK_1_2_table.bin")


async def test_an_artifact_that_is_gone_is_told_to_the_operator(signer: SignerInTest, text: str) -> None:
    """The client reads no path."""
    request = signer.request(text, SPL)
    shutil.rmtree(request.artifacts[0].path.parent)
    with pytest.raises(DigsigError, match="the artifact cannot be read") as caught:
        await signer.sign(request)
    assert str(signer.folder) not in caught.value.for_client()
    assert str(signer.folder) in caught.value.detail


# What cst says, and what it leaves


async def test_keys_that_do_not_fit_are_found(signer: SignerInTest, pki: TrialPki, text: str) -> None:
    """Another certificate's key before cst runs; a wrong pass phrase after it, whose words do not tell."""
    key = next(data for name, data in pki.files.items() if name.startswith("keys/CSF2"))
    for changes, words in (
        ({"CSF1_key": key}, r"keys/CSF1_1_\S+_key.pem in the key tarball does not match crts/CSF1_1"),
        ({"keys/key_pass": b"another-phrase\nanother-phrase\n"}, "pass phrase is wrong"),
    ):
        signer.put_keys(pki, **changes)
        with pytest.raises(BadTarball, match=words) as caught:
            await signer.sign(signer.request(text, SPL))
        assert "another-phrase" not in str(caught.value)
        assert pki.pass_phrase not in str(caught.value)


async def test_the_words_of_a_cst_that_refuses_are_told_without_secrets(
    signer: SignerInTest, pki: TrialPki, text: str
) -> None:
    """Names as the client wrote them; lines of keys and the directory are left out."""
    tool = signer.put_tool('echo "$PWD/k1/a_crt.pem: no key opens with $(sed -n 2p k1/a_key.pem)"; exit 3')
    with pytest.raises(Refused) as caught:
        await signer.sign(signer.request(text, SPL, version=tool))
    name = pki.certificate("CSF")
    assert caught.value.detail == f"ended with exit code 3: {name}: no key opens with ***"
    # A cst that was taken over could write a key in a form that is not recognised.
    assert "no key opens" not in caught.value.for_client()


@pytest.mark.parametrize(
    ("tool", "kind", "what"),
    [
        ("exit 3", Refused, "cst refused the CSF description"),
        ("echo Undefined error; exit 3", Refused, "cst refused the CSF description"),
        ("kill -SEGV $$", CstFailed, "cst was killed by SIGSEGV"),
        ("kill -XCPU $$", CstTimeout, "cst exceeded its CPU time limit and was stopped"),
        ("exit 0", CstFailed, "cst ended with exit code 0 but wrote no CSF blob"),
        ("mkdir csf.bin", CstFailed, "cst ended with exit code 0 but wrote no CSF blob"),
        (": >csf.bin", CstFailed, "cst ended with exit code 0 but wrote no CSF blob"),
        ("exit 127", CstFailed, "cst could not be started"),
        ("echo digsigd-start: exec: Permission denied; exit 126", CstFailed, "cst could not be started"),
        (
            "echo digsigd-start: fork: Resource temporarily unavailable; exit 126",
            Busy,
            "this signing host can start no more processes",
        ),
    ],
)
async def test_each_way_in_which_cst_fails_has_its_error(
    signer: SignerInTest, text: str, tool: str, kind: type[DigsigError], what: str
) -> None:
    """Whose fault it is, and what a client can do."""
    with pytest.raises(kind) as caught:
        await signer.sign(signer.request(text, SPL, version=signer.put_tool(tool)))
    assert type(caught.value) is kind
    assert caught.value.what == what


async def test_what_cst_said_before_it_crashed_is_for_the_operator(signer: SignerInTest, text: str) -> None:
    """A client has no use for it, and secrets are in neither."""
    tool = signer.put_tool('echo "key $(sed -n 2p k1/a_key.pem)"; kill -ABRT $$')
    with pytest.raises(CstFailed) as caught:
        await signer.sign(signer.request(text, SPL, version=tool))
    assert (caught.value.what, caught.value.detail) == ("cst was killed by SIGABRT", "key ***")


@pytest.mark.parametrize(
    ("tool", "words"),
    [
        ("echo nonsense > csf.bin", "the CSF blob from cst failed verification"),
        (f"head -c {MAX_BLOB + 1} /dev/zero > csf.bin", f"more than {MAX_BLOB} bytes"),
        (f"head -c {MAX_BLOB} /dev/zero > csf.bin", "the CSF blob from cst failed verification"),
    ],
)
async def test_a_blob_that_is_none_is_not_sent(signer: SignerInTest, text: str, tool: str, words: str) -> None:
    """Though cst ended with 0."""
    with pytest.raises(VerificationFailed, match=words):
        await signer.sign(signer.request(text, SPL, version=signer.put_tool(tool)))


async def test_a_link_in_the_blobs_place_is_not_followed(signer: SignerInTest, text: str) -> None:
    """Whatever it leads to."""
    good = (await signer.sign(signer.request(text, SPL))).blob
    (signer.folder / "good").write_bytes(good)
    tool = signer.put_tool(f"ln -s {signer.folder}/good csf.bin")
    with pytest.raises(CstFailed, match="wrote no CSF blob"):
        await signer.sign(signer.request(text, SPL, version=tool))


async def test_a_good_blob_of_something_else_is_not_sent(
    signer: SignerInTest, pki: TrialPki, other_pki: TrialPki, text: str
) -> None:
    """Of other bytes, and of other keys; the same blob of these is."""
    good = (await signer.sign(signer.request(text, SPL))).blob
    (signer.folder / "good").write_bytes(good)
    tool = signer.put_tool(f"cp {signer.folder}/good csf.bin")
    assert await signer.sign(signer.request(text, SPL, version=tool)) == Signed(good)
    changed = IMAGE.data[:0x100] + b"?" + IMAGE.data[0x101:]
    with pytest.raises(VerificationFailed):
        await signer.sign(signer.request(text, {"spl.bin": changed}, version=tool))
    signer.put_keys(other_pki)
    with pytest.raises(VerificationFailed):
        await signer.sign(signer.request(other_pki.csf(IMAGE.blocks("spl.bin")), SPL, version=tool))


async def test_a_blob_beyond_its_room_is_refused(signer: SignerInTest, text: str) -> None:
    """With the line of the blocks, and with what makes more room."""
    request = signer.request(text, {"spl.bin": IMAGE.data[: IMAGE.signed_size + 0x100]})
    with pytest.raises(Refused, match=r"csf: .*0x100") as caught:
        await signer.sign(request)
    assert caught.value.line == text.splitlines().index(next(x for x in text.splitlines() if "Blocks" in x)) + 1
    assert "CSF_SIZE" in caught.value.hint


async def test_a_directory_that_cannot_be_removed_is_left_to_its_owner(
    signer: SignerInTest, pki: TrialPki, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer is there all the same."""
    monkeypatch.setattr("digsigd.signing.workdir.Workdir.remove_known", lambda _: False)
    monkeypatch.setattr("digsigd.signing.workdir.remove_tree", _raise)
    signed = await signer.sign(signer.request(text, SPL))
    proven(pki, IMAGE, signed.blob)
    assert not signer.workdirs[-1].removed
    monkeypatch.undo()
    signer.workdirs[-1].remove()


def _raise(path: Path) -> None:
    raise OSError("it resists")


# What is cancelled


async def test_a_cancelled_request_ends_cst_first(signer: SignerInTest, text: str) -> None:
    """Once it has ended, nothing of cst runs, and the slot is free."""
    tool = signer.put_tool('trap "" TERM HUP; echo $$ > pid.tmp; mv pid.tmp pid; exec sleep 1000')
    signing = Deferred.fromCoroutine(signer.sign(signer.request(text, SPL, version=tool)))
    while not (signer.workdirs and (signer.workdirs[-1].path / "run/pid").exists()):
        await deferLater(reactor, 0.005)
    assert (signer.queue.running, signer.runner.running) == (1, 1)
    signing.cancel()
    with pytest.raises(CancelledError):
        await signing
    assert (signer.queue.running, signer.runner.running) == (0, 0)
    await signer.sign(signer.request(text, SPL))


# The steps by themselves


async def test_the_steps_need_no_reactor(signer: SignerInTest, text: str) -> None:
    """Each blocks: the files are written, their digests made, the keys compared."""
    keys = await signer.signer()._keys.get(MACHINE)
    request = signer.request(text, SPL)
    description = read_description(request.description, csf.Policy())
    assert isinstance(description, csf.Description)
    job = Job(request, signer.rules, keys, description, signer.workdir())
    assert (job.size, job.token, job.environment) == (IMAGE.signed_size, "", {})
    job.prepare()
    job.diagnose()
    assert job.digests() == [hashlib.sha256(IMAGE.data[: IMAGE.signed_size]).digest()]
    assert (job.workdir.path / DESCRIPTION).read_bytes().startswith(b"[Header]")
    with pytest.raises(CstFailed, match="cannot be read"):
        job.verified(None)
