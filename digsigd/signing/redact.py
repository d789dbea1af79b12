"""Make cst's error output fit for a client: one line, without secrets and without paths of the host."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

MAX_REASON = 500
# Replacing shorter pass phrases would blank out ordinary words, and they protect nothing.
_SHORTEST_SECRET = 4
# cst prints this for every failure. It adds nothing to the cause.
_EMPTY = ("error: undefined error", "undefined error")


def reason_of(output: bytes, workdir: Path, client_name_of: Mapping[str, str], secrets: Iterable[bytes]) -> str:
    """Return the messages in the output of cst as one line of at most 500 characters.

    File names become the client's names from `client_name_of`. Each line of each of `secrets` (contents of files) is
    replaced by `***`. The path of the work directory is removed.
    """
    for secret in secrets:
        for phrase in secret.splitlines():
            if len(phrase) >= _SHORTEST_SECRET:
                output = output.replace(phrase, b"***")
    text = output.decode("utf-8", "replace").replace(f"{workdir}/", "").replace(str(workdir), ".")
    for ours in sorted(client_name_of, key=len, reverse=True):
        text = text.replace(ours, client_name_of[ours])
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
