"""A thousand clients at once, and curl, which asks again as it is told."""

from __future__ import annotations

import asyncio
import resource
import subprocess
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

from digsigd.testing import TrialPki
from tests.daemon.test_wire import address, form_of
from tests.helpers.daemons import IMAGE, MACHINE, Daemon, Start
from tests.helpers.proof import proven
from tests.soak.figures import Figures
from tests.soak.scale import Scale


async def posts(daemon: Daemon, pki: TrialPki, count: int) -> list[str]:
    """What so many clients are told that connect at once: a status, or what is wrong with the answer."""
    headers, body = form_of(pki)
    request = b"POST /sign/imx HTTP/1.1\r\nHost: a\r\nConnection: close\r\n" + headers + b"\r\n" + body

    async def one() -> str:
        try:
            reader, writer = await asyncio.open_connection(*address(daemon))
            writer.write(request)
            head, _, blob = (await reader.read()).partition(b"\r\n\r\n")
            writer.close()
        except OSError as error:
            return repr(error)
        status = head[9:12].decode()
        if status == "200":
            proven(pki, IMAGE, blob)
        return status if status != "503" or b"\r\nRetry-After: " in head else "503 without Retry-After"

    return await asyncio.gather(*(one() for _ in range(count)))


def test_clients_at_once_are_signed_or_told_when_to_come_again(
    scale: Scale, figures: Figures, start: Start, pki: TrialPki
) -> None:
    """With a connection for each: 200 that verifies, or 503 with Retry-After, and nothing is reset."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    try:
        daemon = start("[listen]\nmax_connections = 2048\n")
        began = time.monotonic()
        told = Counter(asyncio.run(posts(daemon, pki, scale.clients)))
        took = time.monotonic() - began
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    figures.add(
        "Clients at once",
        clients=f"{scale.clients} connections",
        **{"200": told["200"], "503": told["503"]},
        **{"asked again": 0, "all answered after s": took},
    )
    assert set(told) <= {"200", "503"}, told
    assert told["200"] >= 64
    assert daemon.post(pki).status_code == 200


def test_curl_that_asks_again_is_signed(scale: Scale, figures: Figures, start: Start, pki: TrialPki) -> None:
    """As many curls at once, each with its own retries and the pauses that it is told: every one gets its blob."""
    daemon = start()
    (daemon.folder / "spl.bin").write_bytes(IMAGE.data)
    (daemon.folder / "spl.csf").write_text(pki.csf(IMAGE.blocks("spl.bin")))
    form = [f"-Fmachine={MACHINE}", "-Fcstversion=3.4.1"]
    form += ["-Fcsf=@spl.csf;type=text/plain", "-Fartifact=@spl.bin"]
    command = ["curl", "--retry", "4", "--silent", "--show-error", "--fail", "--max-time", "300", *form]
    began = time.monotonic()
    said = daemon.folder / "said"
    with ExitStack() as stack, said.open("wb") as log:
        curls = [
            subprocess.Popen([*command, "-o", f"blob{number}", f"{daemon.url}/sign/imx"], cwd=daemon.folder, stderr=log)
            for number in range(scale.curls)
        ]
        for one in curls:
            stack.callback(one.wait)
        ended = Counter(one.wait() for one in curls)
    took = time.monotonic() - began
    asked = daemon.log().count("answered 503")
    signed = daemon.log().count("answered 200")
    figures.add(
        "Clients at once",
        clients=f"{scale.curls} curl --retry 4",
        **{"200": signed, "503": asked},
        **{"asked again": asked, "all answered after s": took},
    )
    assert ended == {0: scale.curls}, said.read_text()[-2000:]
    for number in range(scale.curls):
        proven(pki, IMAGE, Path(daemon.folder / f"blob{number}").read_bytes())
