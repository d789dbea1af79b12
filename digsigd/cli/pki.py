"""`digsign pki new`: make keys, as a folder in the layout of NXP's scripts or as a key tarball."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from digsigd.cli.console import Console, Trouble, shown
from digsigd.cli.soc import add_soc_argument

if TYPE_CHECKING:
    from digsigd.pki import KeyKind, Pki

HELP = """Make keys: a CA, Super Root Keys (SRKs), a CSF and an IMG key signed by each SRK, and the SRK table for the
fuses of the boards. See `digsign pki new --help`.
"""
NEW = """Make a HAB4 PKI with the names and the layout of NXP's hab4_pki_tree.sh: certificates in crts/, private keys in
keys/, encrypted with the pass phrase in keys/key_pass.txt, the SRK table and the fuse file as srktool makes them, and
imx-cst-keys.tar.gz, the key tarball for a signing host: everything except the private key of the CA.

Existing files are never overwritten. No private key and no pass phrase is shown.
"""
TARBALL = "imx-cst-keys.tar.gz"
# hab4_pki_tree.sh supports the same sizes (and RSA with 1024 bits, which is no longer safe).
_KINDS = ("rsa2048", "rsa3072", "rsa4096", "p256", "p384", "p521")
_LONGEST_PASS_FILE = 4096
# cst reads a line of key_pass.txt into OpenSSL's buffer of 1024 bytes; this length was tested with 3.4.1 and 4.0.1.
_SHORTEST_PHRASE, _LONGEST_PHRASE = 8, 128
# With TRIAL and the longest name of a key, IMG1_1_sha256_2048_65537_v3_usr, it fits the 64 characters of a common name.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,25}")
_MOST_YEARS = 50
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
# That a ROM may not look at the fuses of an open board: NXP AN4581, "SRK HASH and HAB events".
_NEXT = """\
  1. Copy {tarball}
     to the key store of the signing host, as ${{KEYFILE_URI}}/${{machine}}/imxsign/{name}
  2. {keep} Anyone who has the keys can sign for your boards; without the keys nobody can.
  3. Sign an image with `digsign sign`, and boot it on an open board: `hab_status` must show no events.
  4. Only then burn the fuses. `digsign fuses {table} --soc {soc}`
     shows the words, and what to check before and after.
"""
_ECDSA = """\

ECDSA needs a boot ROM with HAB 4.5 or later, which few chips have. With --soc, keys are made only for a chip that is
known to support them. See the security reference manual of the chip, and do not skip step 3.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the sub-command `new` and its arguments."""
    commands = parser.add_subparsers(dest="pki_command", metavar="new", required=True)
    new = commands.add_parser(
        "new", help="make a PKI", description=NEW, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    new.add_argument("folder", type=Path, nargs="?", metavar="DIR", help="the folder to make; it must not exist")
    new.add_argument(
        "--tarball", type=Path, metavar="OUT",
        help="write only the key tarball, without a folder; the CA's private key is then not saved",
    )  # fmt: skip
    new.add_argument("--kind", choices=_KINDS, help="the kind of keys (default: rsa4096, with --trial rsa2048)")
    add_soc_argument(new, "make only keys that the boot ROM of this chip supports, such as imx6ull or imx8mp")
    new.add_argument("--srks", type=int, choices=(1, 2, 3, 4), default=4, help="the number of SRKs (default: 4)")
    authority = new.add_mutually_exclusive_group()
    authority.add_argument(
        "--srk-ca", action="store_true", help="SRKs with the CA flag, which sign CSF and IMG keys (default)"
    )
    authority.add_argument(
        "--fast-auth", action="store_true", help="SRKs without the CA flag, which sign images themselves"
    )
    new.add_argument(
        "--years",
        type=_years,
        metavar="N",
        help="validity of the certificates in years (default: 10, with --trial 1)",
    )
    new.add_argument(
        "--name", type=_name, metavar="TEXT", help="the owner of the keys: a prefix for the names in the certificates"
    )
    new.add_argument(
        "--pass-file", type=Path, metavar="FILE",
        help="read the pass phrase from the first line of FILE (default: a random one of 256 bits)",
    )  # fmt: skip
    new.add_argument(
        "--trial", action="store_true", help="throw-away keys: the names in their certificates start with TRIAL"
    )


def _years(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:9]) <= _MOST_YEARS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of years from 1 to {_MOST_YEARS}")
    return int(text)


def _name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not valid: use 1 to 26 letters, digits, spaces and . _ -, starting with a letter or digit"
        )
    return text


def run(options: argparse.Namespace, console: Console) -> int:
    """Make the keys, check them, write them, and return the exit code. Raises `Trouble`."""
    from digsigd.hab import TRIAL
    from digsigd.pki import PASS_PHRASE_FILE, Pki, Protection, Validity, pack

    target = _target(options)
    phrase = _pass_phrase(options.pass_file)
    kind: KeyKind = options.kind or ("rsa2048" if options.trial else "rsa4096")
    prefix = " ".join(part for part in (TRIAL if options.trial else "", options.name or "") if part)
    if options.soc is not None:
        from digsigd.client._internal.image_signing.checks import check_keys

        check_keys(options.soc, ecdsa=kind.startswith("p"), fast_auth=options.fast_auth)
    count = 1 + options.srks * (1 if options.fast_auth else 3)
    console.tell(f"digsign: making {count} keys ({kind})")
    pki = Pki.make(
        kind,
        Validity.of_years(options.years or (1 if options.trial else 10)),
        Protection(phrase),
        fast_auth=options.fast_auth,
        srks=options.srks,
        prefix=f"{prefix} " if prefix else "",
        on_key=_Counter(console, count),
    )
    pki.files[pki.fuse_name] = pki.fuse_value
    ca_certificates = {name: data for name, data in pki.ca_files.items() if name.startswith("crts/")}
    _prove(pki, phrase)
    tarball = pack({**pki.files, **ca_certificates})
    if options.folder is None:
        _put(target, lambda place: _write(place, tarball), folder=False)
    else:
        # NXP's add_key.sh and `openssl ca` need these.
        more = {
            "keys/serial": f"{pki.next_serial:08X}\n".encode(),
            "keys/index.txt": b"",
            "keys/index.txt.attr": b"unique_subject = no\n",
            TARBALL: tarball,
        }
        _put(target, lambda place: _write_all(place, {**pki.files, **pki.ca_files, **more}), folder=True)
    if not options.trial and not _is_private(target):
        console.tell(f"digsign: warning: other users can read {target}, which contains keys and {PASS_PHRASE_FILE}")
    _explain(options, pki, target, console)
    return 0


class _Counter:
    """Prints on a terminal which key is being made."""

    def __init__(self, console: Console, count: int) -> None:
        self._console = console
        self._count = count
        self._done = 0

    def __call__(self, name: str) -> None:
        self._done += 1
        if self._console.err.isatty():
            self._console.tell(f"  {self._done:2} of {self._count}  {name}")


def _target(options: argparse.Namespace) -> Path:
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


def _pass_phrase(path: Path | None) -> str:
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


def _prove(pki: Pki, phrase: str) -> None:
    """Check that the pass phrase decrypts each key, and that each key matches its certificate. Raises `Trouble`."""
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization

    every = {**pki.files, **pki.ca_files}
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


def _put(target: Path, write: Callable[[Path], None], *, folder: bool) -> None:
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


def _write_all(folder: Path, files: Mapping[str, bytes]) -> None:
    for part in ("crts", "keys"):
        (folder / part).mkdir(mode=0o700)
    for name, data in files.items():
        _write(folder / name, data)
    for place in (folder / "crts", folder / "keys", folder):
        place.chmod(0o700)
        _sync(place)


def _write(path: Path, data: bytes) -> None:
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


def _explain(options: argparse.Namespace, pki: Pki, target: Path, console: Console) -> None:
    """Print what was made, and the next steps."""
    place = shown(str(target))
    below = "which sign images themselves (fast authentication)" if pki.fast_auth else "each with a CSF and an IMG key"
    console.say(f"{place}: {options.srks} SRKs ({pki.kind}), {below}")
    console.say(f"fuse value {pki.fuse_value.hex()}")
    console.say()
    if options.folder is None:
        tarball = table = place
        _say(console, _ALONE)
        keep = _KEEP_TARBALL
    else:
        tarball, table = f"{place}/{TARBALL}", f"{place}/{pki.table_name}"
        console.table(
            ("in the folder", "what it is"),
            [
                ("crts/", "certificates"),
                (pki.table_name, "the SRK table, as srktool makes it"),
                (pki.fuse_name, "the fuse value of the boards, as srktool makes it"),
                ("keys/", "private keys, and the pass phrase they are encrypted with: key_pass.txt"),
                (TARBALL, "the key tarball for a signing host: everything except the private key of the CA"),
            ],
        )
        console.say()
        _say(console, _CA.format(name=next(name for name in pki.ca_files if name.startswith("keys/"))))
        keep = _KEEP_FOLDER
    if options.trial:
        _say(console, _TRIAL)
    console.say("Next:")
    soc = options.soc.name if options.soc is not None else "CHIP"
    _say(console, _NEXT.format(tarball=tarball, table=table, keep=keep, name=TARBALL, soc=soc))
    if pki.kind.startswith("p") and options.soc is None:
        _say(console, _ECDSA)


def _say(console: Console, text: str) -> None:
    for line in text.splitlines():
        console.say(line)
