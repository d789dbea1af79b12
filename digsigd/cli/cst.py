"""`digsign cst`, and `digsign-cst` to be linked as `cst`: NXP's cst with the signing done by a server.

Options, exit codes and what is said on success are those of cst 3.4.1 and 4.0.1, tried one by one; where the two
differ (3.4.1 ends with 0 when it cannot read the description or an option is missing) they are 4.0.1's.
"""

from __future__ import annotations

import argparse
import getopt
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from digsigd import Error
from digsigd.cli.console import Console, Trouble, shown
from digsigd.cli.files import write_atomically
from digsigd.cli.main import guarded

if TYPE_CHECKING:
    from digsigd.cli.cst_description import Job, NamedKey
    from digsigd.cli.cst_names import Compared
    from digsigd.client._internal.api import SignedBlob, SigningClient
    from digsigd.client._internal.machine_keys import MachineKeys
    from digsigd.client._internal.settings import ClientSettings

HELP = """Sign as NXP's cst does, with the keys of a signing host: read the CSF description, upload the files that its
blocks name, and write the CSF that comes back.

The host and the machine are said by DIGSIGN_SERVER and DIGSIGN_MACHINE, or by digsign.toml. `digsign-cst` is the same
with the command line of cst itself: link it as `cst` where a build looks for that one.
"""
# Letter, word, value, what it does: all that `cst --help` has, and -d and -s, which it takes and does not tell of.
# barebox (scripts/imx/imx-image.c) looks for "Input CSF text filename", to tell csts that have -i from the first ones.
_OPTIONS = (
    ("i", "input", "CSF", "Input CSF text filename: the description; without it, standard input is read"),
    ("o", "output", "OUT", "Output binary CSF filename"),
    ("b", "backend", "BACKEND", "ssl or pkcs11: where the server has its keys (default: DIGSIGN_BACKEND, else ssl)"),
    ("c", "cert", "CERT", "has no meaning: it is for the key of an encrypted image, which is not signed here"),
    ("g", "verbose", "", "say on standard error what is done"),
    ("d", "dek", "", "refused: it is for encrypted images"),
    ("s", "skip", "", "has no meaning without -d"),
    ("l", "license", "", "show the licence, and end"),
    ("v", "version", "", "show the version, and end"),
)
_BACKENDS = ("ssl", "pkcs11")
_SAY_INPUT = "-i CSF names the description"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `digsign cst` takes."""
    for letter, word, value, text in _OPTIONS:
        if value:
            parser.add_argument(f"-{letter}", f"--{word}", metavar=value, help=text)
        else:
            parser.add_argument(f"-{letter}", f"--{word}", action="store_true", help=text)


def run(options: argparse.Namespace, console: Console) -> int:
    """Sign, as `digsign cst`."""
    return _run(options, console)


def main(arguments: Sequence[str] | None = None) -> int:
    """Do as cst does; the result is its exit code: 0 when the CSF is written, else 1."""
    arguments = sys.argv[1:] if arguments is None else arguments
    return guarded(lambda console: _cst(arguments, console))


def _cst(arguments: Sequence[str], console: Console) -> int:
    """Take the command line as getopt_long(3) does: words may be shortened (NXP's signer says --i), the last counts."""
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
    for letter, word, value, text in (*_OPTIONS, ("h", "help", "", "show this, and end")):
        console.say(f"  -{letter}, --{word} {value}".rstrip())
        console.say(f"        {text}")
    console.say("\nThis is digsign's cst: a server signs. DIGSIGN_SERVER and DIGSIGN_MACHINE say which, and for which")
    console.say("machine; digsign.toml can say it as well.")
    return code


def _run(options: argparse.Namespace, console: Console) -> int:
    if options.version:
        return _version(console)
    if options.license:
        console.say("digsign is free software under the MIT license. It has no code of NXP's Code Signing Tool.")
        return 0
    try:
        _sign(options, console)
    except Error as error:
        # Scripts read what cst prints and look for the word. cst has one exit code for all that goes wrong.
        console.say("Error: the CSF was not processed, and nothing was written")
        console.trouble(error)
        return 1
    console.say(f"CSF Processed successfully and signed data available in {shown(options.output)}")
    return 0


def _version(console: Console) -> int:
    """In the form of cst's own, with the version that the server is asked for."""
    from importlib.metadata import version

    from digsigd.client._internal.settings import ClientSettingsError, load

    wanted = ""
    # Builds ask for the version where nothing is configured yet.
    with suppress(ClientSettingsError):
        wanted = load(None, os.environ, server_needed=False).cst or ""
    console.say(f"\nCode Signing Tool Version: {shown(wanted)}\n")
    console.say(f"digsign {version('digsigd')}: a server signs\n")
    return 0


def _sign(options: argparse.Namespace, console: Console) -> None:
    if options.output is None:
        raise Trouble("missing --o argument", hint="-o OUT says where the CSF goes")
    # The first csts read standard input; older versions of barebox and of scripts count on it.
    if options.input is None and (sys.stdin is None or sys.stdin.isatty()):
        raise Trouble("missing --i argument", hint=_SAY_INPUT)
    if options.backend is not None and options.backend not in _BACKENDS:
        raise Trouble(f"unsupported backend: {shown(options.backend)}", hint=f"there are {' and '.join(_BACKENDS)}")
    if options.dek:
        raise Trouble("-d reuses the key of an encrypted image; encrypted images are not signed by a server")

    from digsigd.cli.cst_description import read_job

    job = read_job(options.input)
    _check_output(options.output)
    settings = _settings()

    from digsigd.cli.cst_names import local_keys
    from digsigd.cli.cst_proof import prove, strangers

    local = local_keys(job)
    backend = options.backend or settings.backend or "ssl"
    signed, found = _signed(job, local, backend, settings, console, verbose=options.verbose)
    proven = prove(signed.blob, job)
    for key in strangers(signed.blob, local):
        if key in found.same:
            raise Trouble(
                f"{shown(key.name)}: the signing host says that it has this one, and has signed with another",
                hint="were its keys changed meanwhile? Then try again",
            )
        if key not in found.others:
            console.tell(f"{shown(key.name)}: what lies here is another than the signing host has signed with")
    _write(options.output, signed.blob)
    if options.verbose:
        console.tell(f"request {shown(signed.request_id)}: {len(signed.blob)} bytes, {shown(str(proven))}")


def _settings() -> ClientSettings:
    from digsigd.client._internal.settings import load

    settings = load(None, os.environ, server_needed=False)
    if not settings.server:
        raise Trouble("no signing host given", hint="set DIGSIGN_SERVER, or server in digsign.toml")
    if settings.machine is None:
        raise Trouble("no machine given", hint="set DIGSIGN_MACHINE, or machine in digsign.toml")
    return settings


def _signed(
    job: Job,
    local: Mapping[NamedKey, bytes],
    backend: str,
    settings: ClientSettings,
    console: Console,
    *,
    verbose: bool,
) -> tuple[SignedBlob, Compared]:
    """What the server makes of it, and what of its keys lies here, as far as it tells of them. Raises `Trouble`."""
    from digsigd.cli.cst_names import Compared, compared
    from digsigd.cli.server import ask_server, newest_cst
    from digsigd.client._internal.errors import ClientError

    machine = settings.machine or ""

    async def told(client: SigningClient) -> MachineKeys | None:
        """What the host tells of its keys, where that is needed."""
        if settings.cst is not None and not local:
            return None
        try:
            return await client.machine_keys(machine)
        except ClientError as error:
            # A server of another kind tells nothing; what else is wrong there, it says again.
            if settings.cst is None or error.status is None:
                raise
            return None

    async def ask(client: SigningClient) -> tuple[SignedBlob, Compared]:
        keys = await told(client)
        version = settings.cst or newest_cst(keys)
        found = compared(local, keys, console) if keys is not None else Compared()
        if verbose:
            for one in job.files:
                console.tell(
                    f"{shown(str(one.path))}, {one.path.stat().st_size} bytes: to {shown(settings.server)} for"
                    f" {shown(machine)}, cst {shown(version)}, backend {backend}"
                )
            for key in job.keys:
                if key.place in found.names:
                    console.tell(f"{shown(key.name)}: {shown(found.names[key.place])} on the signing host")
        first, *more = job.files
        signed = await client.sign(
            machine=machine,
            description=job.sent(found.names),
            artifact=first.path,
            artifact_name=first.name,
            more={one.name: one.path for one in more},
            cst_version=version,
            backend=backend,
        )
        return signed, found

    return ask_server(settings, ask, console)


def _check_output(path: str) -> None:
    """What cannot be written is said before anything is uploaded."""
    target = Path(os.path.realpath(path))
    why = ""
    if not path or target.is_dir():
        why = "it is not a file name"
    elif target.exists():
        why = "" if os.access(target, os.W_OK) else "it may not be written"
    elif not target.parent.is_dir():
        why = f"no such folder: {shown(str(target.parent))}"
    elif not os.access(target.parent, os.W_OK | os.X_OK):
        why = f"the folder {shown(str(target.parent))} may not be written"
    if why:
        raise Trouble(f'failed opening file "{shown(path)}": {why}', hint="-o OUT says where the CSF goes")


def _write(path: str, blob: bytes) -> None:
    """Put the CSF where cst would, whole or not at all."""
    target = Path(path)
    if target.is_file() or not target.exists():
        write_atomically(target, blob)
        return
    try:
        # /dev/stdout, a pipe: there is nothing to take the place of.
        with target.open("wb") as file:
            file.write(blob)
    except OSError as error:
        raise Trouble(f'failed writing file "{shown(path)}": {error.strerror}') from None


if __name__ == "__main__":
    sys.exit(main())
