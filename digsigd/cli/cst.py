"""`digsign cst`, and `digsign-cst` to be linked as `cst`: a replacement for NXP's cst that signs with a signing host.

Options, exit codes and the output on success are those of cst 3.4.1 and 4.0.1, tested one by one; where the two
differ (3.4.1 exits with 0 when it cannot read the description or an option is missing), they are those of 4.0.1.
"""

from __future__ import annotations

import argparse
import getopt
import os
import shutil
import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, TypeVar

from digsigd import Error
from digsigd.cli.commands import guarded
from digsigd.cli.console import Console, Trouble, shown
from digsigd.client._internal.files import replacing

if TYPE_CHECKING:
    from digsigd.cli.cst_ahab import AhabJob
    from digsigd.cli.cst_description import Job
    from digsigd.cli.cst_files import NamedKey
    from digsigd.cli.cst_names import Compared
    from digsigd.client import ClientSettings, MachineKeys, SignedBlob, SignedFile, SigningClient

T = TypeVar("T")
HELP = """Sign like NXP's cst, with the keys of a signing host: read the CSF description, upload the files that its
blocks name, and write the CSF that the host returns; with AHAB (i.MX 8QM, 8X, 8ULP, 9) the signed file.

Set the host and the machine with DIGSIGN_SERVER and DIGSIGN_MACHINE, or in digsign.toml. `digsign-cst` is the same
with the command line of cst itself: link it as `cst` where a build expects cst.
"""
# Letter, word, value, help: all options in `cst --help`, and -d and -s, which cst accepts without documenting them.
# barebox (scripts/imx/imx-image.c) looks for "Input CSF text filename": the first csts have no -i.
_OPTIONS = (
    ("i", "input", "CSF", "Input CSF text filename: the description; without it, standard input is read"),
    ("o", "output", "OUT", "Output binary CSF filename"),
    ("b", "backend", "BACKEND", "where the host has its keys: ssl or pkcs11 (default: DIGSIGN_BACKEND, else ssl)"),
    ("c", "cert", "CERT", "ignored: it is for the key of encrypted images, which are not supported"),
    ("g", "verbose", "", "print progress on standard error"),
    ("d", "dek", "", "refused: it is for encrypted images, which are not supported"),
    ("s", "skip", "", "ignored: it needs -d"),
    ("l", "license", "", "show the licence, and exit"),
    ("v", "version", "", "show the version, and exit"),
)
_BACKENDS = ("ssl", "pkcs11")
_SAY_INPUT = "pass -i CSF with the CSF description"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `digsign cst`."""
    for letter, word, value, text in _OPTIONS:
        if value:
            parser.add_argument(f"-{letter}", f"--{word}", metavar=value, help=text)
        else:
            parser.add_argument(f"-{letter}", f"--{word}", action="store_true", help=text)


def run(options: argparse.Namespace, console: Console) -> int:
    """Sign, and return the exit code: 0 if the CSF is written, else 1."""
    return _run(options, console)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run as cst, and return the exit code: 0 if the CSF is written, else 1."""
    arguments = sys.argv[1:] if arguments is None else arguments
    return guarded(lambda console: _cst(arguments, console))


def _cst(arguments: Sequence[str], console: Console) -> int:
    """Parse arguments like getopt_long(3): words can be abbreviated (NXP's signer uses --i), the last counts."""
    letters = "".join(letter + (":" if value else "") for letter, _, value, _ in _OPTIONS)
    words = [word + ("=" if value else "") for _, word, value, _ in _OPTIONS]
    try:
        found, _ = getopt.gnu_getopt(list(arguments), letters + "h", [*words, "help"])
    except getopt.GetoptError as error:
        console.tell(f"cst: {shown(error.msg)}")
        return _usage(console, 1)
    options = argparse.Namespace(**{word: None if value else False for _, word, value, _ in _OPTIONS})
    long = {f"-{letter}": word for letter, word, _, _ in _OPTIONS}
    for name, value in found:
        if name in {"-h", "--help"}:
            return _usage(console, 0)
        word = long.get(name, name.removeprefix("--"))
        setattr(options, word, value if isinstance(getattr(options, word), str | None) else True)
    if not found:
        return _usage(console, 1)
    return _run(options, console)


def _usage(console: Console, code: int) -> int:
    console.say("Usage: cst --output OUT --input CSF [options]\n")
    for letter, word, value, text in (*_OPTIONS, ("h", "help", "", "show this help, and exit")):
        console.say(f"  -{letter}, --{word} {value}".rstrip())
        console.say(f"        {text}")
    console.say(
        "\nThis is digsign's cst: it signs with a signing host. Set the host with DIGSIGN_SERVER and the machine with"
    )
    console.say("DIGSIGN_MACHINE, or both in digsign.toml.")
    return code


def _run(options: argparse.Namespace, console: Console) -> int:
    if options.version:
        return _version(console)
    if options.license:
        console.say("digsign is free software under the MIT license. It has no code of NXP's Code Signing Tool.")
        return 0
    try:
        what = _sign(options, console)
    except Error as error:
        # Scripts look for the word "Error" in cst's output. cst has one exit code for all errors.
        console.say("Error: the CSF was not processed, and nothing was written")
        console.trouble(error)
        return 1
    console.say(f"CSF Processed successfully and signed {what} available in {shown(options.output)}")
    return 0


def _version(console: Console) -> int:
    """Print the version in the form of cst, with the version of cst that is requested from the host."""
    from importlib.metadata import version

    from digsigd.client import ClientSettingsError, load

    wanted = ""
    # Builds ask for the version before anything is configured.
    with suppress(ClientSettingsError):
        wanted = load(None, os.environ, server_needed=False).cst or ""
    console.say(f"\nCode Signing Tool Version: {shown(wanted)}\n")
    console.say(f"digsign {version('digsigd')}: signs with a signing host\n")
    return 0


def _sign(options: argparse.Namespace, console: Console) -> str:
    """Sign, and return what cst calls its output."""
    if options.output is None:
        raise Trouble("missing --o argument", hint="pass -o OUT with the file for the CSF")
    # The first csts read standard input; older versions of barebox and of scripts rely on that.
    if options.input is None and (sys.stdin is None or sys.stdin.isatty()):
        raise Trouble("missing --i argument", hint=_SAY_INPUT)
    if options.backend is not None and options.backend not in _BACKENDS:
        raise Trouble(f"unsupported backend: {shown(options.backend)}", hint=f"use {' or '.join(_BACKENDS)}")
    if options.dek:
        raise Trouble("-d reuses the key of an encrypted image; signing hosts do not sign encrypted images")

    from digsigd.cli.cst_ahab import AhabJob
    from digsigd.cli.cst_description import read_job
    from digsigd.cli.cst_names import local_keys

    job = read_job(options.input)
    _check_output(options.output)
    settings = _settings()
    asked = _Asked(local_keys(job.keys), options.backend or settings.backend or "ssl", settings, options.verbose)
    if isinstance(job, AhabJob):
        _sign_file(job, options.output, asked, console)
        return "image"
    _sign_blob(job, options.output, asked, console)
    return "data"


@dataclass(frozen=True, slots=True)
class _Asked:
    """What is asked of the host besides the description. `local` are the local files of keys that it names."""

    local: Mapping[NamedKey, bytes]
    backend: str
    settings: ClientSettings
    verbose: bool


def _sign_blob(job: Job, output: str, asked: _Asked, console: Console) -> None:
    """Sign for HAB, and write the CSF."""
    from digsigd.cli.cst_proof import prove, strangers

    async def send(client: SigningClient, description: bytes, version: str) -> SignedBlob:
        first, *more = job.files
        return await client.sign(
            machine=asked.settings.machine or "",
            description=description,
            artifact=first.path,
            artifact_name=first.name,
            more={one.name: one.path for one in more},
            cst_version=version,
            backend=asked.backend,
        )

    signed, found = _signed(job, asked, send, console)
    proven = prove(signed.blob, job)
    _compare(strangers(signed.blob, asked.local), found, signed.notes, console)
    _write(output, signed.blob)
    if asked.verbose:
        console.tell(f"request {shown(signed.request_id)}: {len(signed.blob)} bytes, {shown(str(proven))}")


def _sign_file(job: AhabJob, output: str, asked: _Asked, console: Console) -> None:
    """Sign for AHAB, and write the whole signed file."""
    from digsigd.cli.cst_ahab import prove_file, strangers_of
    from digsigd.client._internal.image_signing.ahab_plan import ahab_chip

    soc = asked.settings.soc
    chip = ahab_chip(soc) if soc is not None else None
    with _new_file(output) as new:

        async def send(client: SigningClient, description: bytes, version: str) -> SignedFile:
            return await client.sign_file(
                machine=asked.settings.machine or "",
                description=description,
                artifact=job.file.path,
                artifact_name=job.file.name,
                to=new,
                cst_version=version,
                backend=asked.backend,
                soc_type=chip.name if chip is not None else None,
            )

        signed, found = _signed(job, asked, send, console)
        proven = prove_file(new, job, chip)
        _compare(strangers_of(proven, asked.local), found, signed.notes, console)
    if chip is None and any(note.startswith("the chip is not known") for note in signed.notes):
        console.tell("note: set DIGSIGN_SOC to the boards' chip, such as imx93")
    if asked.verbose:
        for one in proven:
            console.tell(f"request {shown(signed.request_id)}: {shown(str(one))}")


def _compare(strangers: Iterable[NamedKey], found: Compared, notes: Iterable[str], console: Console) -> None:
    """Print which keys of the host differ from the local ones, and its remarks. Raises `Trouble` if it is not clear."""
    for key in strangers:
        if key in found.same:
            raise Trouble(
                f"{shown(key.name)}: the signing host reports this file, but signed with a different one",
                hint="try again: the host's keys may have changed during the request",
            )
        if key not in found.others:
            console.tell(f"{shown(key.name)}: the signing host signed with a different file than the local one")
    for note in notes:
        console.tell(f"note: {shown(note)}")


def _settings() -> ClientSettings:
    from digsigd.client import load

    settings = load(None, os.environ, server_needed=False)
    if not settings.server:
        raise Trouble("no signing host is given", hint="set DIGSIGN_SERVER, or server in digsign.toml")
    if settings.machine is None:
        raise Trouble("no machine is given", hint="set DIGSIGN_MACHINE, or machine in digsign.toml")
    return settings


def _signed(
    job: Job | AhabJob, asked: _Asked, send: Callable[[SigningClient, bytes, str], Awaitable[T]], console: Console
) -> tuple[T, Compared]:
    """Return what `send` returns for a description and a version of cst, and the local keys compared with the host's.

    Raises `ClientError`, `Trouble`.
    """
    from digsigd.cli.cst_names import Compared, compared
    from digsigd.cli.server import ask_server
    from digsigd.client import ClientError
    from digsigd.client._internal.machine_keys import newest_cst

    settings = asked.settings
    machine = settings.machine or ""

    async def public_keys(client: SigningClient) -> MachineKeys | None:
        """Return the keys that the host reports, None if they are not needed or not reported."""
        if settings.cst is not None and not asked.local:
            return None
        try:
            return await client.machine_keys(machine)
        except ClientError as error:
            # Another kind of server does not report keys. For any other error, the request to sign fails as well.
            if settings.cst is None or error.status is None:
                raise
            return None

    async def ask(client: SigningClient) -> tuple[T, Compared]:
        keys = await public_keys(client)
        version = settings.cst or newest_cst(keys)
        found = compared(asked.local, keys, console) if keys is not None else Compared()
        if asked.verbose:
            for one in job.files:
                console.tell(
                    f"{shown(str(one.path))}, {one.path.stat().st_size} bytes: to {shown(settings.server)} for"
                    f" {shown(machine)}, cst {shown(version)}, backend {asked.backend}"
                )
            for key in job.keys:
                if key.place in found.names:
                    console.tell(f"{shown(key.name)}: {shown(found.names[key.place])} on the signing host")
        return await send(client, job.sent(found.names), version), found

    return ask_server(settings, ask, console)


def _check_output(path: str) -> None:
    """Check before an upload that the output can be written. Raises `Trouble`."""
    target = Path(os.path.realpath(path))
    why = ""
    if not path or target.is_dir():
        why = "it is not the name of a file"
    elif target.exists():
        why = "" if os.access(target, os.W_OK) else "it is not writable"
    elif not target.parent.is_dir():
        why = f"its folder does not exist: {shown(str(target.parent))}"
    elif not os.access(target.parent, os.W_OK | os.X_OK):
        why = f"the folder {shown(str(target.parent))} is not writable"
    if why:
        raise Trouble(f'failed opening file "{shown(path)}": {why}', hint="pass -o OUT with the file for the CSF")


def _write(path: str, blob: bytes) -> None:
    """Write the CSF where cst would, completely or not at all."""
    with _new_file(path) as new:
        new.write_bytes(blob)


@contextmanager
def _new_file(path: str) -> Iterator[Path]:
    """Yield the path of a new file whose content goes to where cst would write, completely or not at all."""
    target = Path(path)
    if target.is_file() or not target.exists():
        with replacing(target) as new:
            yield new
        return
    # /dev/stdout, a pipe: not a file that can be replaced.
    with TemporaryDirectory() as folder:
        new = Path(folder) / "signed"
        new.touch()
        yield new
        try:
            with new.open("rb") as source, target.open("wb") as file:
                shutil.copyfileobj(source, file, 1 << 20)
        except OSError as error:
            raise Trouble(f'failed writing file "{shown(path)}": {error.strerror}') from None


if __name__ == "__main__":
    sys.exit(main())
