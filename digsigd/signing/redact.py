"""What cst says when it refuses, made fit for a client: no secret, no path of the host, one line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

MAX_REASON = 500
# A pass phrase shorter than this would blank out ordinary words; it is no protection either.
_SHORTEST_SECRET = 4
# cst says this for any failure, and beside the cause it tells nobody anything.
_EMPTY = ("error: undefined error", "undefined error")


def reason_of(output: bytes, workdir: Path, client_name_of: Mapping[str, str], secrets: Iterable[bytes]) -> str:
    """Cst's own words from its output.

    The names of files are given back as the client wrote them, `secrets` (whole files, each line one) are blanked out,
    and so is the directory it ran in.
    """
    phrases = {phrase for secret in secrets for phrase in secret.splitlines() if len(phrase) >= _SHORTEST_SECRET}
    # The longest first: of one that begins with another, the rest would be left.
    for phrase in sorted(phrases, key=len, reverse=True):
        output = output.replace(phrase, b"***")
    text = output.decode("utf-8", "replace").replace(f"{workdir}/", "").replace(str(workdir), ".")
    if client_name_of:
        # All at once, for a client's name may hold one of ours.
        ours = "|".join(map(re.escape, sorted(client_name_of, key=len, reverse=True)))
        text = re.sub(ours, lambda found: client_name_of[found[0]], text)
    kept: dict[str, None] = {}
    length = 0
    for line in text.splitlines():
        line = "".join(c if c.isprintable() else " " for c in line).strip()
        if line and line not in kept and line.lower().rstrip(".") not in _EMPTY:
            kept[line] = None
            length += len(line) + 2
        if length > MAX_REASON + 2:
            break
    reason = "; ".join(kept)
    return reason if len(reason) <= MAX_REASON else reason[: MAX_REASON - 4] + " ..."
