"""The page with other settings: off, without callers, with workers, with limits, and with a thousand machines."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path

import httpx
import pytest

from digsigd.testing import TrialPki
from tests.helpers.daemons import DEADLINE, MACHINE, Daemon, Start
from tests.helpers.pages import HTML, Page

ON = "[page]\nenabled = true\n"


def get(daemon: Daemon, path: str = "/", **headers: str) -> httpx.Response:
    return httpx.get(daemon.url + path, headers=HTML | headers, timeout=DEADLINE)


def send(daemon: Daemon, data: bytes) -> httpx.Response:
    files = {"artifact": ("flash.bin", data, "application/octet-stream")}
    return httpx.post(f"{daemon.url}/page/verify", headers=HTML, files=files, timeout=DEADLINE)


def test_it_is_off_unless_it_is_turned_on(start: Start) -> None:
    """Then its paths are as unknown as any other, also for an upload."""
    daemon = start()
    for path in ("/", "/page/machines", "/page/verify", "/page/style.css"):
        answer = get(daemon, path)
        assert (answer.status_code, answer.text.startswith("path not found")) == (404, True)
    assert send(daemon, b"x" * 1_000_000).status_code == 404
    assert httpx.post(daemon.url, timeout=DEADLINE).status_code == 404


def test_without_callers_the_host_must_be_called_by_its_name(start: Start) -> None:
    """Everybody may open it, but no page whose name was made to point to this host."""
    daemon = start(ON + '[record]\nurl = "none"\n')
    page = Page(get(daemon))
    assert "signed in" not in page.text
    assert "This host keeps no record." in page.text
    assert page.facts()["Decisions"] == "not recorded"
    refused = get(daemon, Host="rebound.example")
    assert (refused.status_code, "does not name this signing host" in Page(refused).text) == (403, True)


def test_uploads_to_verify_have_the_limits_of_uploads(start: Start, pki: TrialPki) -> None:
    """The largest size, and room in the work directory."""
    daemon = start(ON + "[upload]\nmax_artifact = 100_000\n")
    refused = send(daemon, b"x" * 10_000_000)
    assert (refused.status_code, "at most 100000" in Page(refused).text) == (413, True)
    assert send(daemon, b"x" * 200_000).status_code == 413
    assert send(daemon, b"x" * 90_000).status_code == 422
    assert daemon.post(pki).status_code == 200
    full = start(ON + f"[upload]\nkeep_free = {1 << 60}\n")
    refused = send(full, b"x" * 10_000)
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "30")
    assert "no disk space" in Page(refused).text


def test_views_count_for_the_rate(start: Start) -> None:
    """As requests for a machine's keys do."""
    daemon = start(ON + "[upload]\nrate = 2\n")
    statuses = [get(daemon).status_code for _ in range(3)]
    assert statuses == [200, 200, 429]
    assert send(daemon, b"x" * 100).status_code == 429


def test_workers_show_what_the_host_does(start: Start) -> None:
    """Each of them answers; the page says how many there are."""
    daemon = start(ON.replace("[page]", "[daemon]\nworkers = 2\n[page]"))
    for _ in range(4):
        page = Page(get(daemon))
        assert page.facts()["Worker processes"] == "2"
        assert "Ready to sign" in page.text


def test_requests_under_way_are_shown(start: Start) -> None:
    """With their stage and machine, as soon as that has arrived."""
    daemon = start(ON)
    host, port = daemon.url.removeprefix("http://").split(":")
    head = (
        f"POST /sign/imx HTTP/1.1\r\nHost: {host}\r\nX-Request-Id: mine\r\nContent-Length: 100000\r\n"
        "Content-Type: multipart/form-data; boundary=b\r\n\r\n"
        f'--b\r\nContent-Disposition: form-data; name="machine"\r\n\r\n{MACHINE}\r\n'
        '--b\r\nContent-Disposition: form-data; name="cstversion"\r\n\r\n'
    )
    assert not Page(get(daemon)).table("Requests under way")
    with socket.create_connection((host, int(port))) as upload:
        upload.sendall(head.encode())

        def is_there() -> bool:
            rows = Page(get(daemon)).table("Requests under way")
            return [row[:4] for row in rows] == [["mine", "receiving", MACHINE, "anonymous"]]

        daemon.wait_for(is_there, what="the request")
    daemon.wait_for(lambda: not Page(get(daemon)).table("Requests under way"), what="its end")


def test_what_is_missing_is_told(start: Start) -> None:
    """As /readyz does."""
    daemon = start(ON)
    shutil.rmtree(daemon.keys)
    daemon.wait_for(lambda: "Not ready to sign" in Page(get(daemon)).text, what="the reason")
    assert "the key store cannot be read" in Page(get(daemon)).text
    assert "the key store cannot be read" in Page(get(daemon, "/page/machines")).text


def test_a_cst_that_fails_its_self_test_is_shown(start: Start, tmp_path: Path) -> None:
    """With the reason, but without paths of the host; the log has it all."""
    bad = tmp_path / "cst"
    bad.write_text("#!/bin/sh\nexit 3\n")
    bad.chmod(0o755)
    daemon = start(ON + f'[cst.versions]\n"9.9" = "{bad}"\n')
    daemon.wait_for(lambda: "failed: cst 9.9" in Page(get(daemon)).text, what="the result")
    assert str(tmp_path) not in get(daemon).text
    daemon.wait_for_log("the self-test of cst 9.9 failed")


def test_a_thousand_machines_are_shown_in_parts(start: Start, pki: TrialPki) -> None:
    """25 on a page, by name or by what ends first; a search finds any of them."""
    daemon = start(ON)
    first = daemon.put_keys("board-0000", pki.tarball())
    for number in range(1, 999):
        path = daemon.keys / f"board-{number:04}" / "imxsign"
        path.mkdir(parents=True)
        (path / first.name).hardlink_to(first)
    daemon.put_keys("soon", TrialPki.make("p256", srks=1, valid_days=20).tarball())
    daemon.wait_for(lambda: "1001 machines" in Page(get(daemon, "/page/machines")).text, what="the new machines")
    page = Page(get(daemon, "/page/machines"))
    rows = page.table("Machines")
    assert [row[0] for row in rows] == [f"board-{number:04}" for number in range(25)]
    assert all(row[4] == pki.fuse_value.hex() for row in rows)
    assert "page 1 of 41" in page.text
    last = Page(get(daemon, "/page/machines?page=41")).table("Machines")
    assert [row[0] for row in last] == ["soon"]
    found = Page(get(daemon, "/page/machines?machine=D-099"))
    assert [row[0] for row in found.table("Machines")] == [f"board-{number:04}" for number in range(990, 999)]
    # It was read, so that it comes first, whether or not the rest was read meanwhile.
    by_end = Page(get(daemon, "/page/machines?order=expiry"))
    assert by_end.table("Machines")[0][0] == "soon"
    assert Page(get(daemon)).table("Certificates that end next")[0][0] == "soon"
    assert MACHINE in Page(get(daemon, f"/page/machines?machine={MACHINE}")).text


@pytest.mark.parametrize("path", ["/", "/page/machines", "/page/signatures"])
def test_a_stop_does_not_wait_for_views(start: Start, path: str) -> None:
    """What was begun with a view, such as self-tests, ends with the daemon."""
    daemon = start(ON)
    assert get(daemon, path).status_code == 200
    daemon.stop()
