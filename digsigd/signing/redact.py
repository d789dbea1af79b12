"""Make the output of cst fit for a log: one line, without secrets and without paths of the host."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from digsigd.csf.cst_files import RUN

MAX_REASON = 500
# Replacing shorter pass phrases would blank out ordinary words, and they protect nothing.
_SHORTEST_SECRET = 4
# cst prints this for every failure. It adds nothing to the cause.
_EMPTY = ("error: undefined error", "undefined error")


# Words of at least so many characters are looked for in private keys.
_KEY_WORD = re.compile(r"\S{16,}")


def reason_of(
    output: bytes,
    workdir: Path,
    client_name_of: Mapping[str, str],
    secrets: Iterable[bytes],
    keys: Collection[bytes] = (),
) -> str:
    """Return the messages in the output of cst as one line of at most 500 characters.

    File names become the client's names from `client_name_of`. Each line of `secrets` (contents of files) with at least
    4 bytes is replaced with `***`, and each word of at least 16 bytes that is in one of `keys`. The path of the work
    directory is removed.
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
        # Keys are not split: their lines would be small objects, which stay in memory after they are freed.
        line = _KEY_WORD.sub(lambda word: "***" if any(word[0].encode() in key for key in keys) else word[0], line)
        line = "".join(c if c.isprintable() else " " for c in line).strip()
        if line and line not in kept and line.lower().rstrip(".") not in _EMPTY:
            kept[line] = None
            length += len(line) + 2
        if length > MAX_REASON + 2:
            break
    reason = "; ".join(kept)
    return reason if len(reason) <= MAX_REASON else reason[: MAX_REASON - 4] + " ..."
