"""Which requests are so small that they are served in the reactor's thread.

Handing a call to a thread and back takes as long as all that is done for a small image.
"""

from __future__ import annotations

from digsigd.keys import Keys
from digsigd.signing.request import SigningRequest
from digsigd.signing.workdir import Workdir

# In bytes: artifacts of which all is done in about a millisecond, before cst runs and after it.
QUICK = 128 << 10
# The description length in bytes from which all is done in threads, so that other requests need not wait: a hostile one
# of 16 KiB takes 20 ms to parse.
LONG_TEXT = 4 << 10
# The same of a key tarball: files, and bytes in them. NXP's scripts make some 60 files of 200 KiB for four SRKs.
_FEW_FILES = 256
_SMALL_KEYS = 1 << 20


def is_quick(request: SigningRequest, keys: Keys, workdir: Workdir) -> bool:
    """Return whether the files of a request can be found, checked and written at once, before cst runs.

    A work directory in memory waits for no disk. What this cannot tell is whether a key must be decrypted first.
    """
    return (
        workdir.in_memory
        and request.backend == "ssl"
        and request.size <= QUICK
        and len(request.description) < LONG_TEXT
        and len(keys.tarball.members) <= _FEW_FILES
        and sum(map(len, keys.tarball.members.values())) <= _SMALL_KEYS
        # Files of an embedding program can be anywhere, such as on a file server.
        and all(one.sums is not None for one in request.artifacts)
    )
