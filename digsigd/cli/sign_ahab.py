"""`digsign sign` of files with AHAB containers."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from digsigd.cli.ahab_reports import show_ahab_plan, show_ahab_report
from digsigd.cli.console import Console, Trouble, shown
from digsigd.cli.reports import file_name
from digsigd.cli.server import ask_server
from digsigd.cli.soc import wrong_kind
from digsigd.client._internal.files import write_atomically
from digsigd.client._internal.settings import from_options

if TYPE_CHECKING:
    from digsigd.ahab import AhabChip
    from digsigd.cli.provenance import Provenance
    from digsigd.client import AhabReport, ClientSettings, KeyNames, SignedContainer, SigningClient
    from digsigd.image.ahab_model import AhabPlan
    from digsigd.image.model import Buffer

# Options for images of one kind: their names, and what they are when they are not given.
_HAB_OPTIONS = {
    "fast_auth": ("--fast-auth", False),
    "load_address": ("--load-address", None),
    "sdp": ("--sdp", None),
    "sdp_output": ("--sdp-output", None),
    "configuration": ("--configuration", None),
    "fit_fdt": ("--fit-fdt", "auto"),
}
_AHAB_OPTIONS = {
    "sgk": ("--sgk", False),
    "sw_version": ("--sw-version", None),
    "fuse_version": ("--fuse-version", None),
}


def add_ahab_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that are for AHAB alone."""
    parser.add_argument(
        "--sgk",
        action="store_true",
        help="AHAB: sign with the SGK that the SRK has signed, SGK1_1... for SRK 1, instead of the SRK itself",
    )
    parser.add_argument(
        "--sw-version",
        type=_number(0xFFFF),
        metavar="N",
        help="AHAB: refuse to sign containers with another software version",
    )
    parser.add_argument(
        "--fuse-version",
        type=_number(0xFF),
        metavar="N",
        help="AHAB: refuse to sign containers with another fuse version",
    )


def check_options(options: argparse.Namespace, *, ahab: bool) -> None:
    """Raise `Trouble` for options that are for images of the other kind."""
    others = _HAB_OPTIONS if ahab else _AHAB_OPTIONS
    for name, (text, default) in others.items():
        if getattr(options, name) != default:
            kind, other = ("an AHAB", "HAB") if ahab else ("a HAB", "AHAB")
            raise Trouble(
                f"{shown(str(options.image))} is {kind} image, but {text} is for {other} images",
                hint="leave it out",
                code=2,
            )


def plan_for(data: Buffer, options: argparse.Namespace) -> AhabPlan:
    """Return the plan of a file with AHAB containers. Raises `Trouble`."""
    from digsigd.ahab import AhabChip
    from digsigd.image.ahab_plan import plan_ahab
    from digsigd.image.errors import ImageError

    if options.soc is not None and not isinstance(options.soc, AhabChip):
        raise wrong_kind(str(options.image), options.soc)
    check_options(options, ahab=True)
    try:
        return plan_ahab(data, options.soc)
    except ImageError as error:
        raise _about(options.image, error) from None


def run_ahab(plan: AhabPlan, options: argparse.Namespace, console: Console) -> int:
    """Sign a file whose plan is `plan`, and return the exit code. Raises `Trouble`, `ClientError`, `AhabError`."""
    from digsigd.client import ImageError
    from digsigd.client._internal.image_signing.ahab_plan import ahab_chip, check_ahab_plan

    if options.dry_run:
        show_ahab_plan(plan, options.image, console)
    elif options.output is None and options.csf_only is None:
        raise Trouble(
            "-o OUT is missing", hint="pass -o with the file for the signed image; it can be IMAGE itself", code=2
        )
    try:
        check_ahab_plan(plan, sw_version=options.sw_version, fuse_version=options.fuse_version)
    except ImageError as error:
        raise _about(options.image, error) from None
    if options.dry_run:
        return 0
    settings = from_options(options, os.environ)
    chip = plan.chip if plan.chip is not None or settings.soc is None else ahab_chip(settings.soc)
    if chip is None:
        raise Trouble(
            f"{shown(str(options.image))} has AHAB containers of version {plan.version}, which do not say for which"
            " chip they are",
            hint="set --soc CHIP, such as imx93 or imx8qxp, DIGSIGN_SOC, or soc in digsign.toml: chips have different"
            " hashes in their fuses",
            code=2,
        )
    if options.csf_only is not None:
        return _write_descriptions(plan, chip, options, settings, console)
    return _sign(plan, chip, options, settings, console)


def _sign(
    plan: AhabPlan, chip: AhabChip, options: argparse.Namespace, settings: ClientSettings, console: Console
) -> int:
    from digsigd.cli.provenance import Provenance

    if not options.quiet:
        for note in (*plan.notes, *plan.replaced):
            console.tell(f"note: {shown(note)}")
    provenance = Provenance(options.image) if options.provenance is not None else None
    report = ask_server(settings, lambda client: _signed(client, chip, options, console, provenance), console)
    if provenance is not None:
        write_atomically(options.provenance, provenance.statement(options.output, options, settings, report))
    if not options.quiet:
        fuses = report.fuse_value
        value = f"the fuse value {fuses.hex()}" if fuses is not None else "this SRK table in their fuses"
        console.say(f"{shown(str(options.output))}: signed and verified, for {chip.title} with {value}")
    return 0


async def _signed(
    client: SigningClient,
    chip: AhabChip,
    options: argparse.Namespace,
    console: Console,
    provenance: Provenance | None,
) -> AhabReport:
    from digsigd.client import AhabVerificationFailed, sign_ahab

    told: set[str] = set()

    def note_once(notes: Iterable[str]) -> None:
        """Print remarks on the keys, which are the same for each container."""
        for note in notes:
            if not options.quiet and note not in told:
                console.tell(f"note: {shown(note)}")
            told.add(note)

    def signed(part: SignedContainer) -> None:
        if not options.quiet:
            console.tell(f"{part.name}: signed, {part.length:#x} bytes, request {shown(part.request_id)}")
        note_once(part.notes)
        if provenance is not None:
            provenance.parts.append(part)

    try:
        report = await sign_ahab(
            client,
            options.image,
            options.output,
            soc=chip,
            srk=options.srk,
            sgk=options.sgk,
            fuse_value=options.fuses,
            sw_version=options.sw_version,
            fuse_version=options.fuse_version,
            on_part=signed,
        )
    except AhabVerificationFailed as error:
        show_ahab_report(error.report, options.output, console)
        raise Trouble(shown(error.what), hint=shown(error.hint)) from None
    note_once(note for one in report.containers if one.proven and one.planned.must_sign for note in one.proven.notes)
    return report


def _write_descriptions(
    plan: AhabPlan, chip: AhabChip, options: argparse.Namespace, settings: ClientSettings, console: Console
) -> int:
    """Write the CSF description of each container, to be signed with other tools."""
    from digsigd.client._internal.image_signing.ahab_plan import describe_container
    from digsigd.client._internal.image_signing.sign import default_name
    from digsigd.csf import ahab as csf

    names = ask_server(settings, lambda client: _names(client, plan, chip, options), console)
    folder: Path = options.csf_only
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Trouble(f"{folder}: {error.strerror}") from None
    name = default_name(options.image)
    for number, one in enumerate(plan.to_sign, 1):
        path = folder / f"csf_{file_name(one.name)}.txt"
        description = describe_container(one, names, srk=options.srk, artifact_name=name)
        write_atomically(path, csf.write(description))
        what = shown(name) if number == 1 else f"the output of the run before, renamed to {shown(name)},"
        console.say(f"{shown(str(path))}: cst signs {what} with it, and writes the whole file")
    return 0


async def _names(client: SigningClient, plan: AhabPlan, chip: AhabChip, options: argparse.Namespace) -> KeyNames:
    """Return the names of the keys that would sign."""
    from digsigd.client._internal.image_signing.ahab_keys import AhabChoice, chosen_ahab_keys
    from digsigd.client._internal.image_signing.sign import machine_of

    choice = AhabChoice(machine_of(client.settings, None), None, None, options.srk, options.sgk, options.fuses)
    return (await chosen_ahab_keys(client, plan, chip, choice)).names


def _about(path: Path, error: Exception) -> Trouble:
    return Trouble(f"{shown(str(path))}: {shown(getattr(error, 'what', ''))}", hint=shown(getattr(error, "hint", "")))


def _number(most: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        try:
            value = int(text, 0)
        except ValueError:
            value = -1
        if not 0 <= value <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to {most}")
        return value

    return number
