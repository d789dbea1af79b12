"""`sign_image` and `verify_image` as a program uses them, with a real daemon and the real cst."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.threads import deferToThread

from digsigd.client import (
    ClientError,
    ClientSettingsError,
    ImageError,
    KeyNames,
    ServerRefused,
    SignedPart,
    VerificationFailed,
    sign_image,
    verify_image,
)
from digsigd.client._internal import files
from digsigd.client._internal.image_signing import sign
from digsigd.client._internal.threads import in_thread
from digsigd.hab import HabError
from digsigd.image.chips import AmbiguousChipError, ChipError
from digsigd.testing import TrialPki
from tests.client.conftest import MakeClient, Serve
from tests.helpers import golden
from tests.helpers import golden_kinds as kinds
from tests.helpers.daemons import MACHINE, Daemon
from tests.helpers.hostile_servers import turned, until
from tests.image.test_encrypted import encrypted

PARTS = ["SPL", "FIT", "FIT-FDT"]
SDP = 0x910000


@pytest.fixture
def flash(tmp_path: Path) -> Path:
    """A flash.bin for i.MX 8M Plus, alone in its folder."""
    path = tmp_path / "flash.bin"
    path.write_bytes(golden.flash("mp", "nxp-new"))
    return path


@pytest.fixture(scope="session")
def rsa(daemon: Daemon) -> TrialPki:
    """The keys of the machine "rsa"."""
    pki = TrialPki.make("rsa2048", srks=1)
    daemon.put_keys("rsa", pki.tarball())
    return pki


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


async def test_an_image_is_signed_and_holds(daemon: Daemon, client: MakeClient, flash: Path, pki: TrialPki) -> None:
    """The report is that of the file that was written, and each part is told of with its request's id."""
    before, parts, out = flash.read_bytes(), list[SignedPart](), flash.parent / "signed.bin"
    report = await sign_image(client(daemon.url), flash, out, machine=MACHINE, on_part=parts.append)
    assert report.holds
    assert report.fuse_value == pki.fuse_value
    assert report == verify_image(out, srk_table=pki.srk_table)
    assert [part.name for part in parts] == [one.signing.name for one in report.csfs] == PARTS
    for part, one in zip(parts, report.csfs, strict=True):
        assert part.csf_offset == one.signing.csf_offset
        assert 0 <= part.csf_length - one.length < 4  # cst pads it
        assert part.request_id in daemon.log()
    assert contents(flash.parent) == {"flash.bin": before, "signed.bin": out.read_bytes()}
    assert "flash.bin" in daemon.log()


async def test_the_settings_say_what_the_call_does_not(daemon: Daemon, client: MakeClient, flash: Path) -> None:
    """Which machine, and which cst; and an image may be signed in its place."""
    one = client(daemon.url, machine=MACHINE, cst="3.4.1")
    for srk in (1, 2):
        report = await sign_image(one, flash, flash, srk=srk)
        assert [csf.proven.srk if csf.proven else 0 for csf in report.csfs] == [srk] * 3
    assert [path.name for path in flash.parent.iterdir()] == ["flash.bin"]
    with pytest.raises(ClientError, match=r"cst.* '9\.9'|9\.9"):
        await sign_image(one, flash, flash, cst_version="9.9")


async def test_named_keys_sign_without_the_host_being_asked(
    daemon: Daemon, client: MakeClient, flash: Path, pki: TrialPki
) -> None:
    """And what is given counts before what the settings have."""
    names = KeyNames(pki.table(), pki.certificate("CSF", 2), pki.certificate("IMG", 2))
    asked = daemon.log().count("/machines/")
    one = client(daemon.url, srk_table="t", csf_certificate="c", image_certificate="i")
    report = await sign_image(one, flash, flash, machine=MACHINE, names=names, srk=2, cst_version="4.0.1")
    assert report.fuse_value == pki.fuse_value
    assert daemon.log().count("/machines/") == asked
    with pytest.raises(ServerRefused, match='"t" is not in the'):
        await sign_image(one, flash, flash, machine=MACHINE, cst_version="4.0.1")


async def test_other_fuses_are_refused_before_anything_is_uploaded(
    daemon: Daemon, client: MakeClient, flash: Path, pki: TrialPki, rsa: TrialPki
) -> None:
    """With both fuse values; those of the machine are signed for."""
    sent: list[tuple[int, int]] = []
    one, before = client(daemon.url, machine=MACHINE, progress=lambda *now: sent.append(now)), contents(flash.parent)
    with pytest.raises(ClientError, match=rsa.fuse_value.hex()) as caught:
        await sign_image(one, flash, flash.parent / "out", fuse_value=rsa.fuse_value)
    assert pki.fuse_value.hex() in caught.value.what
    assert "check the machine name" in caught.value.hint
    assert (sent, contents(flash.parent)) == ([], before)
    assert (await sign_image(one, flash, flash, fuse_value=pki.fuse_value)).holds
    assert sent


async def test_keys_that_the_chip_does_not_take_upload_nothing(
    daemon: Daemon, client: MakeClient, tmp_path: Path
) -> None:
    """Whether the image tells the chip, or `soc`."""
    sent: list[tuple[int, int]] = []
    one = client(daemon.url, machine=MACHINE, progress=lambda *now: sent.append(now))
    for image, soc in ((golden.flash("mm", "nxp-new"), None), (kinds.imximage(), "6ULL")):
        (tmp_path / "image").write_bytes(image)
        with pytest.raises(ChipError, match=r"(which supports RSA keys only|does not support ECDSA keys)"):
            await sign_image(one, tmp_path / "image", tmp_path / "out", soc=soc)
    assert (sent, [path.name for path in tmp_path.iterdir()]) == ([], ["image"])


async def test_what_does_not_hold_is_not_written(
    daemon: Daemon, client: MakeClient, serve: Serve, flash: Path, pki: TrialPki
) -> None:
    """The error has the report: a host that answers with a good CSF, of the right keys and another image."""
    keys = (await deferToThread(httpx.get, f"{daemon.url}/machines/{MACHINE}")).content
    blob = daemon.post(pki).content
    server = await serve(answer("application/json", keys), answer("application/octet-stream", blob))
    out = flash.parent / "out"
    out.write_bytes(b"the last good one")
    before = contents(flash.parent)
    with pytest.raises(VerificationFailed, match="was not written: SPL: the CSF as a whole: blocks") as caught:
        await sign_image(client(server.url), flash, out, machine=MACHINE)
    assert not caught.value.report.holds
    assert [one.accepted for one in caught.value.report.csfs] == [False] * 3
    assert contents(flash.parent) == before
    await turned()


def answer(kind: str, body: bytes) -> bytes:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return head.encode() + body


async def test_cancelled_it_leaves_nothing(
    cst_base: Path, client: MakeClient, flash: Path, pki: TrialPki, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """At once, while its copy is made in a thread; or while the host signs, which forgets the request."""
    folder, before = tmp_path_factory.mktemp("slow"), contents(flash.parent)
    slow = folder / "cst"
    slow.write_text(f'#!/bin/sh\ntouch "{folder}/runs"\nexec sleep 1000\n')
    slow.chmod(0o755)
    daemon = Daemon(folder, cst_base, f'[cst.versions]\nslow = "{slow}"\n')
    daemon.put_keys(MACHINE, pki.tarball())
    daemon.start()
    try:
        for ready in (lambda: True, (folder / "runs").exists):
            call = sign_image(client(daemon.url), flash, flash.parent / "out", machine=MACHINE, cst_version="slow")
            signing = Deferred.fromCoroutine(call)
            await until(ready)
            signing.cancel()
            with pytest.raises(CancelledError):
                await signing
            assert contents(flash.parent) == before
        await turned()
        daemon.wait_for_log("the client disconnected")
        daemon.wait_for(lambda: daemon.left_behind() == [])
    finally:
        daemon.stop()


async def test_a_thread_is_waited_for() -> None:
    """Cancelled, a call in a thread fails once it has ended: nothing is written behind anybody's back."""
    may_end, ended = threading.Event(), list[str]()

    def work() -> None:
        may_end.wait(60)
        ended.append("work")

    call = in_thread(reactor, work)
    call.addErrback(lambda failure: ended.append(failure.trap(CancelledError).__name__))
    call.cancel()
    assert not call.called
    may_end.set()
    await call
    assert ended == ["work", "CancelledError"]


async def test_files_are_touched_in_threads(
    daemon: Daemon, client: MakeClient, flash: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But for the last step, which puts the file in its place and cannot be cancelled."""
    seen: dict[str, bool] = {}

    def watch(holder: Any, name: str) -> None:
        function: Callable[..., Any] = getattr(holder, name)

        def watched(*args: Any, **kwargs: Any) -> Any:
            seen[name] = threading.current_thread() is threading.main_thread()
            return function(*args, **kwargs)

        monkeypatch.setattr(holder, name, watched)

    for name in ("plan_file", "prepare", "insert", "finish", "verify_file"):
        watch(sign, name)
    for name in ("begin", "flush", "commit"):
        watch(files.Replacement, name)
    await sign_image(client(daemon.url), flash, flash, machine=MACHINE)
    assert seen == dict.fromkeys(seen, False) | {"commit": True}
    assert len(seen) == 8


async def test_the_file_for_serial_download_is_another(
    daemon: Daemon, client: MakeClient, rsa: TrialPki, tmp_path: Path
) -> None:
    """By `sdp`; each holds for what it is for alone."""
    (tmp_path / "u-boot.imx").write_bytes(kinds.imximage())
    one = client(daemon.url, machine="rsa")
    for name, sdp in (("flash", None), ("download", SDP)):
        await sign_image(one, tmp_path / "u-boot.imx", tmp_path / name, soc="imx6ull", sdp=sdp)
    for name, sdp, holds in (("flash", None, True), ("flash", SDP, False), ("download", SDP, True)):
        assert verify_image(tmp_path / name, soc="imx6ull", sdp=sdp, fuse_value=rsa.fuse_value).holds is holds


async def test_fast_authentication_on_silicon_that_may_be_too_old_is_noted(
    daemon: Daemon, client: MakeClient, tmp_path: Path
) -> None:
    """In the plan of the report, where the image alone tells the chip."""
    daemon.put_keys("fast", TrialPki.make("rsa2048", srks=1, fast_auth=True).tarball())
    (tmp_path / "image").write_bytes(kinds.imximage(dcd_of="q"))
    report = await sign_image(client(daemon.url), tmp_path / "image", tmp_path / "out", machine="fast", fast_auth=True)
    assert report.holds
    assert "does not support fast authentication" in report.plan.notes[-1]


async def test_mistakes_are_told(daemon: Daemon, client: MakeClient, flash: Path) -> None:
    """Each as the error that is documented, and nothing is left beside the image."""
    here = flash.parent
    (here / "encrypted").write_bytes(encrypted())
    (here / "text").write_text("This is no image. " * 20)
    before, one, out = contents(here), client(daemon.url, machine=MACHINE), here / "out"
    cases: list[tuple[Path, Path, dict[str, Any], type[Exception], str]] = [
        (flash, out, {"srk": 5}, ValueError, "srk is 5, expected 1 to 4"),
        (flash, out, {"srk": 4}, ClientError, "no CSF certificate signed by SRK 4"),
        (flash, out, {"soc": "6u"}, AmbiguousChipError, "6u"),
        (flash, out, {"machine": "nobody"}, ServerRefused, "nobody"),
        (flash, here, {}, ClientError, "is not a regular file"),
        (flash, here / "no/where", {}, ClientError, "cannot be written: No such file"),
        (here / "nothing", out, {}, ClientError, "nothing: No such file"),
        (here, out, {}, ClientError, "is not a regular file"),
        (here / "text", out, {}, ImageError, "are unknown"),
        (here / "encrypted", out, {}, ImageError, "is encrypted"),
    ]
    for path, place, options, kind, words in cases:
        with pytest.raises(kind, match=words):
            await sign_image(one, path, place, **options)
        assert contents(here) == before
    with pytest.raises(ClientSettingsError, match="no machine is given"):
        await sign_image(client(daemon.url), flash, out)


async def test_a_name_that_cannot_be_sent_is_made_fit(daemon: Daemon, client: MakeClient, flash: Path) -> None:
    """Of a file; and what is given as `name` is sent."""
    one = client(daemon.url, machine=MACHINE)
    for name, sent in (('quoted".bin', "quoted_.bin"), ("on two\nlines.bin", "nlines.bin"), ("größe.bin", "größe.bin")):
        flash = flash.rename(flash.with_name(name))
        assert (await sign_image(one, flash, flash)).holds
        assert f"'{sent}' for" in daemon.log()
    await sign_image(one, flash, flash, name="release-7.bin")
    assert "'release-7.bin' for" in daemon.log()


async def test_a_damaged_image_says_which_part(daemon: Daemon, client: MakeClient, flash: Path) -> None:
    """And what that means; the other parts hold."""
    report = await sign_image(client(daemon.url), flash, flash, machine=MACHINE)
    fit = next(one for one in report.csfs if one.signing.name == "FIT")
    data = bytearray(flash.read_bytes())
    data[fit.signing.blocks[-1].end - 1] ^= 1
    flash.write_bytes(data)
    report = verify_image(flash)
    assert not report.holds
    assert report.meaning == "refused"
    assert [one.signing.name for one in report.csfs if not one.holds] == ["FIT"]
    damaged = next(one for one in report.csfs if not one.holds)
    assert [check.what for check in damaged.checks if check.holds is False] == ["Authenticate Data"]


async def test_what_verification_is_told_counts(
    daemon: Daemon, client: MakeClient, flash: Path, pki: TrialPki, rsa: TrialPki
) -> None:
    """Fuses, a table, a time, what SPL asks for."""
    assert not verify_image(flash).holds
    await sign_image(client(daemon.url), flash, flash, machine=MACHINE)
    options: list[tuple[dict[str, Any], bool]] = [
        ({}, True),
        ({"fuse_value": pki.fuse_value, "srk_table": pki.srk_table, "fit_fdt": "required", "soc": "mp"}, True),
        ({"fuse_value": rsa.fuse_value}, False),
        ({"srk_table": rsa.srk_table}, False),
    ]
    for given, holds in options:
        assert verify_image(flash, **given).holds is holds, given
    for year, noted in ((None, False), (2200, True)):
        report = verify_image(flash, now=datetime(year, 1, 1, tzinfo=UTC) if year else None)
        notes = [note for one in report.csfs if one.proven for note in one.proven.notes]
        assert any("expired" in note for note in notes) is noted, notes
    with pytest.raises(HabError):
        verify_image(flash, srk_table=b"no table")
    with pytest.raises(ImageError, match="6Quad was given"):
        verify_image(flash, soc="imx6q")
    with pytest.raises(ChipError):
        verify_image(flash, soc="imx99")
    with pytest.raises(ClientError, match="No such file"):
        verify_image(flash.with_name("nothing"))
