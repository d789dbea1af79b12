"""Make the output of cst fit for a log: one line, without secrets and without paths of the host."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from digsigd.csf.cst_files import RUN

MAX_REASON = 500
# Replacing shorter pass phrases would blank out ordinary words, and they protect nothing.
_SHORTEST_SECRET = 4
# cst prints this for every failure. It adds nothing to the cause.
_EMPTY = ("error: undefined error", "undefined error")


def reason_of(output: bytes, workdir: Path, client_name_of: Mapping[str, str], secrets: Iterable[bytes]) -> str:
    """Return the messages in the output of cst as one line of at most 500 characters.

    File names become the client's names from `client_name_of`. Each line of `secrets` (contents of files) with at least
    4 bytes is replaced with `***`. The path of the work directory is removed.
    """
    phrases = {phrase for secret in secrets for phrase in secret.splitlines() if len(phrase) >= _SHORTEST_SECRET}
    # Replace the longest first: if one begins with another, its rest would be left.
    for phrase in sorted(phrases, key=len, reverse=True):
        output = output.replace(phrase, b"***")
    text = output.decode("utf-8", "replace")
    for folder in (f"{workdir}/{RUN}", str(workdir)):
        text = text.replace(f"{folder}/", "").replace(folder, ".")
    if client_name_of:
        # Replace all in one pass, because a client's name can contain one of ours.
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
