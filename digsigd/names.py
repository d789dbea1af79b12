"""The forms of the names that clients send and settings hold, for server and client alike."""

from __future__ import annotations

import re

# `MACHINE.fullmatch(text)` says whether it is one; `MACHINE_FORM` is how that is said to people. So with the others.
MACHINE = re.compile(r"[A-Za-z0-9_+-][A-Za-z0-9._+-]{0,63}")
MACHINE_FORM = "1-64 of A-Z a-z 0-9 . _ + -, not starting with a dot"
# A version of cst, as clients ask for it: part of a path on the signing host, and never a path itself.
VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,31}")
VERSION_FORM = "1-32 of A-Z a-z 0-9 . _ + -, first a letter or digit"
# Where keys are: in a tarball, or on a token.
BACKENDS = ("ssl", "pkcs11")
REQUEST_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
