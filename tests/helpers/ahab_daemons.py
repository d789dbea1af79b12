"""A daemon with the keys of tests/samples/ahab, and requests to it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import httpx

from digsigd import ahab
from tests.helpers.ahab_cases import description, image, members, tarball
from tests.helpers.daemons import DEADLINE, Daemon

KEYS = ("p256", "p384", "p384ca", "p521", "pss2048", "r2048")
# Where the owner's first container of the samples is.
OFFSET = 0x400


def ahab_daemon(folder: Path, cst_base: Path, config: str = "", **environ: str) -> Daemon:
    """A daemon, not started, whose machines are called ahab-p384 and so on."""
    folder.mkdir(parents=True, exist_ok=True)
    daemon = Daemon(folder, cst_base, config, environ=environ)
    for keys in KEYS:
        daemon.put_keys(f"ahab-{keys}", tarball(keys))
    return daemon


def post_ahab(
    daemon: Daemon,
    keys: str = "p384",
    text: str | None = None,
    data: bytes | None = None,
    *,
    name: str = "flash.bin",
    headers: Mapping[str, str] | None = None,
    **fields: str,
) -> httpx.Response:
    """Send a request that would be signed, but for what is given."""
    form = {"machine": f"ahab-{keys}", "cstversion": "4.0.1", **fields}
    sent = {
        "csf": ("csf.txt", (text or description("good-93-sd-spl")).encode(), "text/plain"),
        "artifact": (name, image("good-93-sd-spl") if data is None else data, "application/octet-stream"),
    }
    return httpx.post(f"{daemon.url}/sign/imx", data=form, files=sent, headers=headers, timeout=DEADLINE)


def holds(
    answer: bytes, original: bytes, keys: str, *, offset: int = OFFSET, table: str = "crts/SRK_1_2_3_4_table.bin"
) -> ahab.Verified:
    """Verify a signed file as a board with these keys does, and that nothing else of it has changed."""
    srk_table = members(keys)[table]
    parsed = ahab.parse_table(srk_table)
    return ahab.verify(answer, offset, srk_table=srk_table, fuse_value=parsed.hash("sha512"), original=original)
