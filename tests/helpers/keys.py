"""Trial keys that all workers of a run share: those of RSA take seconds to make."""

from __future__ import annotations

import fcntl
import os
import pickle
from functools import cache
from pathlib import Path

from digsigd.testing import TrialPki
from digsigd.testing.pki import KeyKind

# Where they are kept for as long as the run lasts; see `tests/conftest.py`.
FOLDER = "DIGSIGD_TESTS_KEYS"


@cache
def trial_keys(
    kind: KeyKind, *, srks: int = 4, fast_auth: bool = False, encrypted: bool = True, other: bool = False
) -> TrialPki:
    """Make keys as `TrialPki.make` does, once for all who ask for the same; `other` are of somebody else."""
    folder = os.environ.get(FOLDER)
    if folder is None:
        return TrialPki.make(kind, srks=srks, fast_auth=fast_auth, encrypted=encrypted)
    path = Path(folder) / f"{kind}-{srks}-{fast_auth:d}{encrypted:d}{other:d}"
    with path.open("a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        if data := file.read():
            kept: TrialPki = pickle.loads(data)  # noqa: S301 - a file of this run
            return kept
        made = TrialPki.make(kind, srks=srks, fast_auth=fast_auth, encrypted=encrypted)
        file.write(pickle.dumps(made))
        return made
