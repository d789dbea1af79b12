"""`digsign sign`: sign an image with a signing host, and verify the result."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from digsigd.cli.console import Console, Trouble, shown
from digsigd.cli.reports import add_fit_fdt, address, file_name, fuse_value, planned, show_plan, show_report
from digsigd.cli.server import ask_server
from digsigd.cli.sign_ahab import add_ahab_arguments, check_options, plan_for, run_ahab
from digsigd.cli.soc import add_any_soc_argument, without_containers
from digsigd.client._internal.files import mapped, replacing, write_atomically
from digsigd.client._internal.settings import add_server_arguments

if TYPE_CHECKING:
    from digsigd.cli.provenance import Provenance
    from digsigd.client import ClientSettings, KeyNames, Report, SignedPart, SigningClient
    from digsigd.image.model import Buffer, Plan

HELP = """Sign an image: flash.bin of imx-mkimage or binman, u-boot.imx, an SPL, u-boot-ivt.img, barebox, an image for
i.MX RT, a FIT, a kernel as Image, zImage or uImage, or a file with AHAB containers (i.MX 8QM, 8X, 8ULP, 9).
docs/digsign.md has the command for each.

digsign computes from the image itself what has to be signed. The host signs each part, digsign inserts the CSFs (and a
missing IVT) and verifies the whole image as the boot ROM, SPL and U-Boot would, before it writes OUT. An image that it
cannot identify for certain is refused. Of a file with AHAB containers, the host signs all but NXP's, one after the
other.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `digsign sign`."""
    parser.add_argument("image", type=Path, metavar="IMAGE", help="the image to sign")
    parser.add_argument("-o", "--output", type=Path, metavar="OUT", help="the signed image; can be IMAGE itself")
    parser.add_argument("--srk", type=int, choices=(1, 2, 3, 4), default=1, help="the SRK to sign with (default: 1)")
    parser.add_argument(
        "--fast-auth",
        action="store_true",
        help="fast authentication: the SRK signs the image itself, and has no CA flag",
    )
    add_ahab_arguments(parser)
    add_any_soc_argument(
        parser,
        "the chip, needed where the image does not identify it: imx6ul, imx6ull, imx7d, imxrt1060, ..., and for AHAB"
        " always: imx93, imx8qxp, ...",
    )
    parser.add_argument(
        "--load-address",
        type=address,
        metavar="ADDRESS",
        help="where a kernel or a FIT without an IVT is loaded, such as 0x40480000",
    )
    parser.add_argument(
        "--sdp",
        type=address,
        metavar="ADDRESS",
        help="write a second file, for serial download to a closed board: ADDRESS is where the host writes the DCD,"
        " the -dcdaddr of uuu (i.MX 6: 0x910000)",
    )
    parser.add_argument(
        "--sdp-output", type=Path, metavar="FILE", help="the file for serial download (default: OUT.sdp)"
    )
    parser.add_argument(
        "--fuses", type=fuse_value, metavar="HEX", help="the fuse value of the boards: refuse to sign with other keys"
    )
    parser.add_argument(
        "--configuration",
        metavar="NAME",
        help="the configuration of the FIT, if its configurations load different images",
    )
    add_fit_fdt(parser)
    parser.add_argument("--dry-run", action="store_true", help="show what would be signed, and exit")
    parser.add_argument(
        "--csf-only", type=Path, metavar="FOLDER", help="write the CSF descriptions to FOLDER, and exit"
    )
    parser.add_argument(
        "--provenance", type=Path, metavar="FILE", help="write an in-toto statement of what was signed with which keys"
    )
    parser.add_argument("--quiet", action="store_true", help="print errors only")
    add_server_arguments(parser)


def run(options: argparse.Namespace, console: Console) -> int:
    """Sign an image, print what was done, and return the exit code. Raises `Trouble`, `ClientError`."""
    from digsigd.image.ahab_detect import is_ahab
    from digsigd.image.chips import Chip

    of_ahab = None
    with mapped(options.image) as data:
        if is_ahab(data):
            of_ahab = plan_for(data, options)
    if of_ahab is not None:
        return run_ahab(of_ahab, options, console)
    check_options(options, ahab=False)
    if options.soc is not None and not isinstance(options.soc, Chip):
        with mapped(options.image) as data:
            raise without_containers(shown(str(options.image)), data, options.soc)
    with mapped(options.image) as data:
        plan = _planned(data, options)
        download = _planned(data, options, sdp=options.sdp) if options.sdp is not None else None
    if plan.encrypted:
        raise Trouble(
            f"{shown(str(options.image))} is encrypted: {shown(plan.encrypted[0])}",
            hint="Signing it again would remove what decrypts it. Sign and encrypt the plain image with cst.",
        )
    if options.dry_run:
        show_plan(plan, options.image, console)
        if download is not None:
            console.say()
            show_plan(download, options.image, console)
        return 0
    if options.output is None and options.csf_only is None:
        raise Trouble(
            "-o OUT is missing", hint="pass -o with the file for the signed image; it can be IMAGE itself", code=2
        )
    if options.sdp_output is not None and (download is None or options.sdp_output == options.output):
        raise Trouble("--sdp-output needs --sdp, and a file other than OUT", code=2)
    _check(plan, options, console)
    settings = _settings(options)
    if options.csf_only is not None:
        return _write_descriptions(options, settings, plan, download, console)
    return _sign(options, settings, plan, download, console)


def _planned(data: Buffer, options: argparse.Namespace, *, sdp: int | None = None) -> Plan:
    return planned(
        data,
        options.image,
        options.load_address,
        options.configuration,
        fit_fdt=options.fit_fdt,
        soc=options.soc,
        sdp=sdp,
    )


def _check(plan: Plan, options: argparse.Namespace, console: Console) -> None:
    """Check the image and its chip before a host is asked. Raise `Trouble`."""
    from digsigd.client import ImageError
    from digsigd.client._internal.image_signing.checks import check_plan, fast_auth_note
    from digsigd.image.chips import NotConfirmedError

    try:
        check_plan(plan)
        if options.fast_auth and (note := fast_auth_note(plan, options.soc)):
            console.tell(f"note: {note}")
    except NotConfirmedError:
        # About the chip, not the image.
        raise
    except ImageError as error:
        raise Trouble(f"{shown(str(options.image))}: {shown(error.what)}", hint=shown(error.hint)) from None


def _settings(options: argparse.Namespace) -> ClientSettings:
    from digsigd.client._internal.image_signing.sign import machine_of
    from digsigd.client._internal.settings import from_options

    settings = from_options(options, os.environ)
    machine_of(settings, None)
    return settings


def _sign(
    options: argparse.Namespace, settings: ClientSettings, plan: Plan, download: Plan | None, console: Console
) -> int:
    """Sign, verify and write: with a file for serial download, both files or neither."""
    if not options.quiet:
        for note in plan.notes:
            console.tell(f"note: {shown(note)}")
    wanted: list[tuple[Path, int | None]] = [(options.output, None)]
    if download is not None:
        wanted.append((options.sdp_output or options.output.with_name(options.output.name + ".sdp"), options.sdp))
    from digsigd.cli.provenance import Provenance

    provenance = Provenance(options.image) if options.provenance is not None else None
    with ExitStack() as stack:
        places = [stack.enter_context(replacing(path)) if download else path for path, _ in wanted]
        files = [(place, path, sdp) for place, (path, sdp) in zip(places, wanted, strict=True)]
        reports = ask_server(settings, lambda client: _signed(client, files, options, console, provenance), console)
    if provenance is not None:
        write_atomically(options.provenance, provenance.statement(options.output, options, settings, reports[0]))
    if not options.quiet:
        fuses = reports[-1].fuse_value
        console.say(
            f"{shown(str(options.output))}: signed and verified, for boards with the fuse value"
            f" {fuses.hex() if fuses else ''}"
        )
        for path, sdp in wanted[1:]:
            console.say(
                f"{shown(str(path))}: the same image, for serial download only: uuu -dcdaddr {sdp:#x} -cleardcd"
            )
    return 0


async def _signed(
    client: SigningClient,
    files: Sequence[tuple[Path, Path, int | None]],
    options: argparse.Namespace,
    console: Console,
    provenance: Provenance | None,
) -> list[Report]:
    """Sign into each of `files`: (path to write, final path, address of the DCD for serial download or None)."""
    from digsigd.client import VerificationFailed, sign_image

    told: set[str] = set()

    def tell(part: SignedPart) -> None:
        if options.quiet:
            return
        console.tell(
            f"{part.name}: {part.csf_length} bytes of CSF at {part.csf_offset:#x}, request {shown(part.request_id)}"
        )
        note_once(part.notes)

    def note_once(notes: Iterable[str]) -> None:
        """Print remarks on the keys, which are the same for each part."""
        for note in notes:
            if not options.quiet and note not in told:
                console.tell(f"note: {shown(note)}")
            told.add(note)

    def signed_part(part: SignedPart, *, download: bool) -> None:
        tell(part)
        if provenance is not None and not download:
            provenance.parts.append(part)

    async def signed(place: Path, path: Path, sdp: int | None) -> Report:
        try:
            report = await sign_image(
                client,
                options.image,
                place,
                srk=options.srk,
                fast_auth=options.fast_auth,
                fuse_value=options.fuses,
                soc=options.soc,
                load_address=options.load_address,
                sdp=sdp,
                configuration=options.configuration,
                fit_fdt=options.fit_fdt,
                on_part=partial(signed_part, download=sdp is not None),
            )
        except VerificationFailed as error:
            show_report(error.report, path, console)
            raise Trouble(
                "the signed image fails verification, so nothing was written",
                hint="see the failed checks in the report above",
            ) from None
        # Those of a host that sends none.
        note_once(note for one in report.csfs if one.proven for note in one.proven.notes)
        return report

    return [await signed(*file) for file in files]


def _write_descriptions(
    options: argparse.Namespace, settings: ClientSettings, plan: Plan, download: Plan | None, console: Console
) -> int:
    """Write the CSF descriptions, to be signed with other tools."""
    from digsigd import csf
    from digsigd.client._internal.image_signing.description import describe
    from digsigd.client._internal.image_signing.sign import default_name

    names = ask_server(settings, lambda client: _names(client, plan, options), console)
    folder: Path = options.csf_only
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Trouble(f"{folder}: {error.strerror}") from None
    for one, suffix in ((plan, ""), (download, "_sdp")):
        for signing in one.signings if one is not None else ():
            path = folder / f"csf_{file_name(signing.name)}{suffix}.txt"
            name = default_name(options.image)
            description = describe(signing, names, srk=options.srk, artifact_name=name, chip=plan.chip)
            write_atomically(path, csf.write(description))
            console.say(
                f"{shown(str(path))}: write its CSF at {signing.csf_offset:#x}, room for {signing.csf_room:#x} bytes"
            )
    for patch in plan.patches:
        zeros = patch.data.count(0) == len(patch.data)
        data = f"{len(patch.data)} zeros" if zeros else patch.data.hex()
        console.say(f"before signing, write at {patch.offset:#x}: {patch.why}: {data}")
    for mask in download.masks if download is not None else ():
        console.say(
            f"for serial download, while signing only, write at {mask.offset:#x}: {mask.why}: {mask.data.hex()}"
        )
    if plan.tail is not None:
        place = plan.size - len(plan.tail.data)
        console.say(
            f"before signing, truncate the file to {plan.tail.offset:#x} bytes; after signing, write the tag for UUU at"
            f" {place:#x}: {plan.tail.data!r}"
        )
    return 0


async def _names(client: SigningClient, plan: Plan, options: argparse.Namespace) -> KeyNames:
    """Return the names of the keys that would sign."""
    from digsigd.client._internal.image_signing.sign import KeyChoice, chosen_keys, machine_of

    choice = KeyChoice(
        machine=machine_of(client.settings, None),
        cst_version=None,
        names=None,
        srk=options.srk,
        fast_auth=options.fast_auth,
        soc_given=options.soc is not None,
        fuse_value=options.fuses,
    )
    return (await chosen_keys(client, plan, choice)).names
