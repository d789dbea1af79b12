"""What `digsign pki new` does with any keys: pass phrase, proof that they work, files that are never overwritten."""

from __future__ import annotations

import argparse
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from digsigd.cli.console import Console, Trouble, shown

TARBALL = "imx-cst-keys.tar.gz"
_LONGEST_PASS_FILE = 4096
# cst reads a line of key_pass.txt into OpenSSL's buffer of 1024 bytes; this length was tested with 3.4.1 and 4.0.1.
_SHORTEST_PHRASE, _LONGEST_PHRASE = 8, 128
_ALONE = """\
The tarball contains the keys and their pass phrase. The private key of the CA was not saved: it has signed the SRKs,
and no board and no signing host needs it.

"""
_CA = """\
The private key of the CA is {name}. It is not in the tarball. Keep it offline
with this folder: no board and no signing host needs it.

"""
_TRIAL = """\
These are throw-away keys: do not burn them into boards for real use.

"""
_KEEP_TARBALL = "Keep a copy of it offline."
_KEEP_FOLDER = "Move the folder offline, and keep a copy of it in another place."
_KEEPING = """\
  1. Copy {tarball}
     to the key store of the signing host, as ${{KEYFILE_URI}}/${{machine}}/imxsign/{name}
  2. {keep} Anyone who has the keys can sign for your boards; without the keys nobody can.
"""


class Counter:
    """Prints on a terminal which key is being made."""

    def __init__(self, console: Console, count: int) -> None:
        self._console = console
        self._count = count
        self._done = 0

    def __call__(self, name: str) -> None:
        """Count the key with this name, and print it."""
        self._done += 1
        if self._console.err.isatty():
            self._console.tell(f"  {self._done:2} of {self._count}  {name}")


def target_of(options: argparse.Namespace) -> Path:
    """Return the path for the result. Raises `Trouble` if it exists or cannot be written, before keys are made."""
    if (options.folder is None) == (options.tarball is None):
        raise Trouble("pass either a folder DIR or --tarball OUT", hint="see `digsign pki new --help`", code=2)
    target = Path(os.path.abspath(options.folder if options.tarball is None else options.tarball))  # noqa: PTH100 - as it is said, links and all
    if os.path.lexists(target):
        raise _in_the_way(target)
    if not target.parent.is_dir():
        raise Trouble(f"{target.parent} is not a folder", hint="make it first")
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise Trouble(f"{target.parent} cannot be written to")
    return target


def _in_the_way(target: Path) -> Trouble:
    return Trouble(
        f"{target} already exists, and was not changed", hint="keys are never overwritten: pass another name"
    )


def pass_phrase(path: Path | None) -> str:
    """Return the pass phrase. Raises `Trouble`; no error contains the pass phrase."""
    import secrets

    if path is None:
        return secrets.token_urlsafe(32)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY)
        with os.fdopen(descriptor, "rb") as file:
            text = file.read(_LONGEST_PASS_FILE + 1)
    except OSError as error:
        raise Trouble(f"{path}: {error.strerror}") from None
    lines = text.splitlines()
    # As in key_pass.txt, the same line can be there twice.
    if len(text) > _LONGEST_PASS_FILE or not lines or len(lines) > 2 or lines[0] != lines[-1]:
        raise Trouble(f"{path} is not a pass phrase file", hint="pass a file with one line, or the same line twice")
    phrase = lines[0].decode("ascii", "replace")
    if not phrase.isascii() or not phrase.isprintable():
        raise Trouble(
            f"the pass phrase in {path} has characters other than printable ASCII",
            hint="use printable ASCII characters only",
        )
    if not _SHORTEST_PHRASE <= len(phrase) <= _LONGEST_PHRASE:
        raise Trouble(f"the pass phrase in {path} must have {_SHORTEST_PHRASE} to {_LONGEST_PHRASE} characters")
    return phrase


def prove(every: Mapping[str, bytes], phrase: str) -> None:
    """Check that the pass phrase decrypts each key, and that each key matches its certificate. Raises `Trouble`."""
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization

    for name, data in every.items():
        if name.endswith("_key.pem"):
            key = serialization.load_pem_private_key(data, phrase.encode())
            certificate = x509.load_pem_x509_certificate(
                every[name.replace("keys/", "crts/").replace("_key.", "_crt.")]
            )
            if key.public_key() != certificate.public_key():
                raise Trouble(
                    f"{name} does not match its certificate", hint="this computer makes errors: use another one"
                )


def put(target: Path, write: Callable[[Path], None], *, folder: bool) -> None:
    """Write to a temporary name and move the complete result to `target`, which is never overwritten."""
    try:
        if folder:
            new = Path(tempfile.mkdtemp(prefix=f".{target.name[:100]}.", dir=target.parent))
        else:
            descriptor, name = tempfile.mkstemp(prefix=f".{target.name[:100]}.", dir=target.parent)
            os.close(descriptor)
            new = Path(name)
    except OSError as error:
        raise Trouble(f"{target} cannot be made: {error.strerror}") from None
    try:
        write(new)
        # An empty file or folder reserves the name, and fails if it exists; the move replaces it while it is empty.
        if folder:
            target.mkdir(mode=0o700)
        else:
            os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        try:
            new.rename(target)
        except BaseException:
            target.rmdir() if folder else target.unlink()
            raise
        _sync(target.parent)
    except FileExistsError:
        raise _in_the_way(target) from None
    except OSError as error:
        raise Trouble(f"{target} cannot be written: {error.strerror}") from None
    finally:
        if folder:
            shutil.rmtree(new, ignore_errors=True)
        else:
            new.unlink(missing_ok=True)


def store(
    options: argparse.Namespace,
    target: Path,
    tarball: bytes,
    files: Mapping[str, bytes],
    next_serial: int,
    console: Console,
) -> None:
    """Write only the tarball, or the folder with all `files` and the tarball. Raises `Trouble`."""
    if options.folder is None:
        put(target, lambda place: write(place, tarball), folder=False)
    else:
        # NXP's add_key.sh and `openssl ca` need these.
        more = {
            "keys/serial": f"{next_serial:08X}\n".encode(),
            "keys/index.txt": b"",
            "keys/index.txt.attr": b"unique_subject = no\n",
            TARBALL: tarball,
        }
        put(target, lambda place: write_all(place, {**files, **more}), folder=True)
    if not options.trial and not _is_private(target):
        console.tell(f"digsign: warning: other users can read {target}, which contains keys and key_pass.txt")


def write_all(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files into `folder`, which only this user can read."""
    for part in ("crts", "keys"):
        (folder / part).mkdir(mode=0o700)
    for name, data in files.items():
        write(folder / name, data)
    for place in (folder / "crts", folder / "keys", folder):
        place.chmod(0o700)
        _sync(place)


def write(path: Path, data: bytes) -> None:
    """Write a file that only this user can read."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fchmod(file.fileno(), 0o600)
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_private(target: Path) -> bool:
    return not stat.S_IMODE(target.stat().st_mode) & 0o077


def years_of(options: argparse.Namespace) -> int:
    """Return how many years certificates are valid."""
    return int(options.years or (1 if options.trial else 10))


def prefix_of(options: argparse.Namespace) -> str:
    """Return what is put before the names in certificates."""
    from digsigd.hab import TRIAL

    prefix = " ".join(part for part in (TRIAL if options.trial else "", options.name or "") if part)
    return f"{prefix} " if prefix else ""


def describe(
    options: argparse.Namespace,
    target: Path,
    rows: Sequence[tuple[str, str]],
    table: str,
    ca_files: Mapping[str, bytes],
    console: Console,
) -> tuple[str, str]:
    """Print what is in the folder: `rows`, keys and tarball. Return how to name the tarball, and the file `table`."""
    place = shown(str(target))
    tarball, named = place, place
    if options.folder is None:
        say_lines(console, _ALONE)
    else:
        tarball, named = f"{place}/{TARBALL}", f"{place}/{table}"
        more = [
            ("keys/", "private keys, and the pass phrase they are encrypted with: key_pass.txt"),
            (TARBALL, "the key tarball for a signing host: everything except the private key of the CA"),
        ]
        console.table(("in the folder", "what it is"), [*rows, *more])
        console.say()
        say_lines(console, _CA.format(name=next(name for name in ca_files if name.startswith("keys/"))))
    if options.trial:
        say_lines(console, _TRIAL)
    return tarball, named


def keeping(options: argparse.Namespace, tarball: str) -> str:
    """Return the first steps: where the tarball goes, and what to keep."""
    keep = _KEEP_TARBALL if options.folder is None else _KEEP_FOLDER
    return _KEEPING.format(tarball=tarball, name=TARBALL, keep=keep)


def say_lines(console: Console, text: str) -> None:
    """Print a text of several lines."""
    for line in text.splitlines():
        console.say(line)
