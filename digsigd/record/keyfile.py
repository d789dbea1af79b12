"""The host's own folder: its signing key, and the last checkpoint that it made."""

from __future__ import annotations

import fcntl
import os
import secrets
import socket
from pathlib import Path

from digsigd.record.checkpoint import Checkpoint, open_checkpoint
from digsigd.record.errors import ProofError, RecordError, RecordUnavailable
from digsigd.record.note import SigningKey

KEY = "record.key"
CHECKPOINT = "checkpoint"


class StateFolder:
    """A folder that only this user can read, made when it is first needed."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def make(self) -> None:
        """Make the folder if it is missing. Raises `RecordUnavailable` if it cannot be, or others may write in it."""
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            status = self.path.stat()
        except OSError as error:
            raise RecordUnavailable(f"the folder of the record, {self.path}: {error.strerror}") from error
        if status.st_mode & 0o022:
            raise RecordError(f"the folder of the record, {self.path}, can be written by others: chmod go-w it")

    def key(self) -> SigningKey:
        """Return the host's key; make it, in a file that only this user can read, if there is none.

        Raises `RecordUnavailable` if it cannot be read or made, `RecordError` if the file is malformed or others may
        read it.
        """
        self.make()
        path = self.path / KEY
        try:
            if not path.exists():
                self._make_key(path)
            if path.stat().st_mode & 0o077:
                raise RecordError(f"{path} can be read by others: chmod 600 it, and begin a new record")
            return SigningKey.parse(path.read_text("ascii"))
        except (OSError, UnicodeDecodeError) as error:
            raise RecordUnavailable(f"the key of the record, {path}: {error}") from error

    def last(self, key: SigningKey) -> Checkpoint | None:
        """Return the last checkpoint that this host made; None if there is none, or a crash left it empty.

        Raises `RecordUnavailable` if it cannot be read, `ProofError` if `key` has not signed it.
        """
        path = self.path / CHECKPOINT
        try:
            with path.open(encoding="utf-8") as file:
                fcntl.flock(file, fcntl.LOCK_SH)
                text = file.read()
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise RecordUnavailable(f"the last checkpoint of the record, {path}: {error}") from error
        if not text:
            return None
        try:
            return open_checkpoint(text, key.verifier)
        except ProofError as error:
            raise ProofError(f"{path}: {error}") from None

    def keep(self, note: str) -> None:
        """Replace the last checkpoint. Raises `OSError`.

        The file is written in place: a rename for each commit would make the file system write it to the disk each
        time. A note is shorter than a sector, and hardly ever shorter than the one before.
        """
        data = note.encode()
        descriptor = os.open(self.path / CHECKPOINT, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            # Another daemon with the same folder may write at the same time.
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            os.pwrite(descriptor, data, 0)
            if os.fstat(descriptor).st_size > len(data):
                os.ftruncate(descriptor, len(data))
        finally:
            os.close(descriptor)

    def _make_key(self, path: Path) -> None:
        host = "".join(one if one.isalnum() or one in ".-_" else "-" for one in socket.gethostname()) or "host"
        key = SigningKey.new(f"{host}/digsigd/{secrets.token_hex(4)}")
        draft = self.path / f".{KEY}.{secrets.token_hex(4)}"
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(key.secret() + "\n")
                file.flush()
                os.fsync(file.fileno())
            # Of two daemons that start at once, one makes the key.
            os.link(draft, path)
        except FileExistsError:
            pass
        finally:
            draft.unlink()
