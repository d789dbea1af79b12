"""The client and a real daemon: what is signed holds, and what is not is told in words."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred

from digsigd.client._internal.api import ClientError, ServerRefused, SigningClient
from digsigd.client._internal.image_signing.key_names import KeyNames, key_names
from digsigd.testing import TrialPki
from tests.client.conftest import MakeClient
from tests.helpers.daemons import IMAGE, MACHINE, TOKEN, Daemon
from tests.helpers.hostile_servers import turned, until
from tests.helpers.proof import proven

Order = dict[str, Any]


def check(blob: bytes, pki: TrialPki) -> None:
    proven(pki, IMAGE, blob)


async def test_an_image_is_signed(daemon: Daemon, client: MakeClient, order: Order, pki: TrialPki) -> None:
    """The blob holds, the request's id is in the host's log, and the progress ends with all of it."""
    heard: list[tuple[int, int]] = []
    signed = await client(daemon.url, progress=lambda *now: heard.append(now)).sign(**order)
    check(signed.blob, pki)
    assert signed.request_id in daemon.log()
    assert heard[-1][0] == heard[-1][1] > len(IMAGE.data)
    assert heard == sorted(heard)
    assert "blob" not in repr(signed)


async def test_a_path_before_the_host_s_own_counts(daemon: Daemon, client: MakeClient) -> None:
    """An address with a slash at its end is the same; one with a path is below that."""
    assert await client(daemon.url + "/").ready() == []
    with pytest.raises(ServerRefused) as caught:
        await client(daemon.url + "/below/this").ready()
    assert (caught.value.status, caught.value.problem) == (404, "not-found")
    assert "address is that of a signing host" in caught.value.hint


async def test_several_at_once(daemon: Daemon, client: MakeClient, order: Order, pki: TrialPki) -> None:
    """Are several requests."""
    one = client(daemon.url)
    calls = [Deferred.fromCoroutine(one.sign(**order)) for _ in range(3)]
    signed = [await call for call in calls]
    for blob in signed:
        check(blob.blob, pki)
    assert len({blob.request_id for blob in signed}) == 3


async def test_a_name_that_a_build_gives_is_sent_as_it_is(
    daemon: Daemon, client: MakeClient, order: Order, pki: TrialPki
) -> None:
    """Spaces, umlauts, a path before it; what cannot be sent is said, with what can."""
    for name in ("u-boot spl.bin", "größe;a=b.bin", "../out/spl.bin", "50%.bin"):
        text = pki.csf(IMAGE.blocks(name.split("/")[-1])).encode()
        signed = await client(daemon.url).sign(**{**order, "description": text, "artifact_name": name})
        check(signed.blob, pki)
    for name in ('a"b', "a\nb", "", "x/", "ü" * 200, "a%22b", "a%0ab"):
        with pytest.raises(ClientError, match="cannot be the name of an artifact"):
            await client(daemon.url).sign(**{**order, "artifact_name": name})


async def test_what_the_host_refuses_is_said_with_its_words(daemon: Daemon, client: MakeClient, order: Order) -> None:
    """A status of 4xx, its kind, the line of the description, and the request's id."""
    text = order["description"].replace(b"[Unlock]", b"[Write Data]")
    with pytest.raises(ServerRefused, match="csf: line") as caught:
        await client(daemon.url, retries=4).sign(**{**order, "description": text})
    assert caught.value.status == 422
    assert caught.value.problem == "refused"
    assert caught.value.request_id
    assert caught.value.request_id in str(caught.value)
    assert caught.value.request_id in daemon.log()
    with pytest.raises(ServerRefused, match="no keys for machine 'other'") as caught:
        await client(daemon.url).sign(**{**order, "machine": "other"})
    assert (caught.value.status, caught.value.problem) == (404, "no-keys")
    assert "--machine" in caught.value.hint


async def test_a_token_opens(guarded: Daemon, client: MakeClient, order: Order, pki: TrialPki) -> None:
    """With it, images are signed and keys told."""
    one = client(guarded.url, token=TOKEN)
    check((await one.sign(**order)).blob, pki)
    assert (await one.machine_keys(MACHINE)).srk_tables[0].fuse_value == pki.fuse_value


@pytest.mark.parametrize(
    ("token", "change", "status", "hint"),
    [
        (None, {}, 401, "--token-file FILE"),
        ("another-token-altogether", {}, 401, "does not know this token"),
        (TOKEN, {"machine": "other"}, 403, "ask the operator"),
        (TOKEN, {"backend": "pkcs11"}, 403, "ask the operator"),
    ],
)
async def test_who_may_not_is_told_what_to_do(
    guarded: Daemon,
    client: MakeClient,
    order: Order,
    token: str | None,
    change: dict[str, str],
    status: int,
    hint: str,
) -> None:
    """And no token is in what is told."""
    with pytest.raises(ServerRefused) as caught:
        await client(guarded.url, token=token).sign(**{**order, **change})
    assert caught.value.status == status
    assert hint in caught.value.hint
    assert TOKEN not in f"{caught.value} {caught.value!r}"


@pytest.mark.parametrize(("token", "status"), [("another-token-altogether", 401), (TOKEN, 413)])
async def test_a_large_upload_that_is_refused_ends_with_the_reason(
    guarded: Daemon, client: MakeClient, order: Order, tmp_path: Path, token: str, status: int
) -> None:
    """At once: the rest is not sent, although the host closes the connection on whoever goes on."""
    large = tmp_path / "large.bin"
    with large.open("wb") as file:
        os.truncate(file.fileno(), 512 << 20)
    sent: list[tuple[int, int]] = []
    one = client(guarded.url, token=token, progress=lambda *now: sent.append(now))
    with pytest.raises(ServerRefused) as caught:
        await one.sign(**{**order, "artifact": large})
    assert caught.value.status == status
    assert sent[-1][0] < sent[-1][1]


async def test_a_large_image_is_not_held_in_memory(
    daemon: Daemon, client: MakeClient, order: Order, tmp_path: Path
) -> None:
    """512 MiB go through within a few; what comes back is the policy's reason, for it is all zeros."""
    import tracemalloc

    large = tmp_path / "large.bin"
    with large.open("wb") as file:
        os.truncate(file.fileno(), 512 << 20)
    tracemalloc.start()
    with pytest.raises(ServerRefused):
        await client(daemon.url).sign(**{**order, "artifact": large})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20


async def test_the_keys_of_a_machine(daemon: Daemon, client: MakeClient, pki: TrialPki) -> None:
    """As the host tells them; and of them the names for an SRK."""
    keys = await client(daemon.url).machine_keys(MACHINE)
    assert keys.machine == MACHINE
    assert [(one.name, one.fuse_value, one.data) for one in keys.srk_tables] == [
        (pki.table(), pki.fuse_value, pki.srk_table)
    ]
    assert set(keys.versions) >= {"3.4.1", "4.0.1"}
    assert keys.backends == ("ssl",)
    for srk in (1, 2):
        names = key_names(keys, srk=srk, fast_auth=False)
        assert names == KeyNames(pki.table(), pki.certificate("CSF", srk), pki.certificate("IMG", srk))
        assert key_names(keys, srk=srk, fast_auth=True).srk_certificate == pki.certificate("SRK", srk)
    with pytest.raises(ServerRefused) as caught:
        await client(daemon.url).machine_keys("other")
    assert (caught.value.status, caught.value.problem) == (404, "no-keys")
    with pytest.raises(ClientError, match=r"'../x y' is not a machine name"):
        await client(daemon.url).machine_keys("../x y")


async def test_a_host_that_is_not_ready_says_what_is_missing(
    cst_base: Path, tmp_path: Path, client: MakeClient
) -> None:
    """That is an answer, and not tried again."""
    empty = tmp_path / "no-cst"
    empty.mkdir()
    daemon = Daemon(tmp_path, empty).start()
    try:
        one = client(daemon.url, retries=4)
        await one.alive()
        (missing,) = await one.ready()
        assert "no cst" in missing
    finally:
        daemon.stop()


async def test_cancelling_closes_the_connection(
    cst_base: Path, tmp_path: Path, client: MakeClient, order: Order, pki: TrialPki
) -> None:
    """So cst is stopped, and nothing of the request is left on the host."""
    slow = tmp_path / "slow"
    slow.write_text(f'#!/bin/sh\ntouch "{tmp_path}/runs"\nexec sleep 1000\n')
    slow.chmod(0o755)
    daemon = Daemon(tmp_path, cst_base, f'[cst.versions]\nslow = "{slow}"\n')
    daemon.put_keys(MACHINE, pki.tarball())
    daemon.start()
    try:
        signing = Deferred.fromCoroutine(client(daemon.url).sign(**{**order, "cst_version": "slow"}))
        await until((tmp_path / "runs").exists)
        signing.cancel()
        with pytest.raises(CancelledError):
            await signing
        await turned()
        daemon.wait_for_log("the client disconnected")
        daemon.wait_for(lambda: daemon.left_behind() == [])
    finally:
        daemon.stop()


async def test_closing_ends_what_is_under_way(
    cst_base: Path, tmp_path: Path, client: MakeClient, order: Order, pki: TrialPki
) -> None:
    """As if it had been cancelled."""
    slow = tmp_path / "slow"
    slow.write_text("#!/bin/sh\nexec sleep 1000\n")
    slow.chmod(0o755)
    daemon = Daemon(tmp_path, cst_base, f'[cst.versions]\nslow = "{slow}"\n')
    daemon.put_keys(MACHINE, pki.tarball())
    daemon.start()
    try:
        one: SigningClient = client(daemon.url)
        signing = Deferred.fromCoroutine(one.sign(**{**order, "cst_version": "slow"}))
        await until(lambda: "received" in daemon.log())
        await one.close()
        with pytest.raises(CancelledError):
            await signing
        await turned()
    finally:
        daemon.stop()


async def test_an_artifact_that_cannot_be_sent(daemon: Daemon, client: MakeClient, order: Order) -> None:
    """Is named, before anything is asked."""
    image: Path = order["artifact"]
    fifo = image.parent / "fifo"
    os.mkfifo(fifo)
    empty = image.parent / "empty"
    empty.touch()
    for path, words in (
        (image.parent / "none", "No such file"),
        (fifo, "is not a regular file"),
        (image.parent, "is not a regular file"),
        (empty, "is empty"),
    ):
        with pytest.raises(ClientError, match=words) as caught:
            await client("http://127.0.0.1:1").sign(**{**order, "artifact": path})
        assert str(path) in caught.value.what


async def test_an_artifact_that_gets_shorter_while_it_is_sent(daemon: Daemon, client: MakeClient, order: Order) -> None:
    """Is not tried again."""
    image: Path = order["artifact"]
    with image.open("r+b") as file:
        file.truncate(32 << 20)

    def shorten(sent: int, total: int) -> None:
        if sent > 1 << 20:
            os.truncate(image, 4096)

    with pytest.raises(ClientError, match="got shorter"):
        await client(daemon.url, retries=4, progress=shorten).sign(**order)


async def test_a_progress_that_raises_ends_the_call(daemon: Daemon, client: MakeClient, order: Order) -> None:
    """With what it raised."""

    def broken(sent: int, total: int) -> None:
        raise ZeroDivisionError("of the caller's own")

    with pytest.raises(ZeroDivisionError):
        await client(daemon.url, retries=4, progress=broken).sign(**order)
