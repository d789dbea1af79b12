"""The valid forms of names in requests and settings, for server and client."""

from __future__ import annotations

import re

# `MACHINE.fullmatch(text)` checks a machine name; `MACHINE_FORM` is the text for people. The same for VERSION.
MACHINE = re.compile(r"[A-Za-z0-9_+-][A-Za-z0-9._+-]{0,63}")
MACHINE_FORM = "1-64 of A-Z a-z 0-9 . _ + -, not starting with a dot"
# A version of cst, as clients request it. It becomes one segment of a path on the signing host.
VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,31}")
VERSION_FORM = "1-32 of A-Z a-z 0-9 . _ + -, first a letter or digit"
# Where private keys are: in the key tarball, or on a token.
BACKENDS = ("ssl", "pkcs11")
# Chips by the name that requests and settings give them: of HAB's, all are one. `digsigd.ahab` has the facts.
HAB_SOC = "mx8m"
AHAB_SOCS = ("mx8", "mx8x", "mx8dxl", "mx8ulp", "mx91", "mx93", "mx94", "mx95", "mx95-a0", "mx95-b0", "mx952")
REQUEST_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

# W3C Trace Context, 3.2: version, trace id, parent id, flags. Later versions may have more after them.
_TRACEPARENT = re.compile(r"(?:00-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}|(?!ff|00)[0-9a-f]{2}-([0-9a-f]{32})-.*)")


def trace_id_of(traceparent: str) -> str:
    """Return the trace id of a traceparent, 32 hexadecimal digits; empty if it is not valid."""
    found = _TRACEPARENT.fullmatch(traceparent) if traceparent else None
    trace_id = (found and (found[1] or found[2])) or ""
    return trace_id if trace_id.strip("0") else ""
