"""`digsign sign`: an image in, a signed and verified image out."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from digsigd.cli.console import Console, Trouble, shown
from digsigd.cli.files import mapped, replacing, write_atomically
from digsigd.cli.reports import add_fit_fdt, address, file_name, fuse_value, planned, show_plan, show_report
from digsigd.cli.server import ask_server, newest_cst
from digsigd.cli.soc import add_soc_argument, check_keys
from digsigd.client._internal.settings import add_server_arguments

if TYPE_CHECKING:
    from digsigd.client._internal.api import MachineKeys, SigningClient
    from digsigd.client._internal.names import KeyNames
    from digsigd.client._internal.settings import ClientSettings
    from digsigd.image.model import Buffer, Plan, Signing

HELP = """Sign an image: flash.bin of imx-mkimage or binman, u-boot.imx, an SPL, u-boot-ivt.img, barebox, an image for
i.MX RT, a FIT, or a kernel as Image, zImage or uImage. docs/digsign.md has the command for each.

What has to be signed is computed from the image itself. Each part is signed by the host, the CSFs (and an IVT where
one is missing) are inserted, and the whole is verified as the boot ROM, SPL and U-Boot would before OUT is written.
An image that is not known for certain is refused.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `digsign sign` takes."""
    parser.add_argument("image", type=Path, metavar="IMAGE", help="the image to sign")
    parser.add_argument("-o", "--output", type=Path, metavar="OUT", help="the signed image; may be IMAGE itself")
    parser.add_argument("--srk", type=int, choices=(1, 2, 3, 4), default=1, help="the SRK to sign with (default: 1)")
    parser.add_argument(
        "--fast-auth", action="store_true", help="fast authentication: the SRK signs by itself, and has no CA flag"
    )
    add_soc_argument(
        parser, "the chip, asked for where the image does not tell: imx6ul, imx6ull, imx7d, imxrt1060, ..."
    )
    parser.add_argument(
        "--load-address",
        type=address,
        metavar="ADDRESS",
        help="where a kernel, or a FIT without an IVT, is loaded, e.g. 0x40480000",
    )
    parser.add_argument(
        "--sdp",
        type=address,
        metavar="ADDRESS",
        help="make a second file, for serial download to a closed board: ADDRESS is where the host writes the DCD,"
        " what uuu has as -dcdaddr (i.MX 6: 0x910000)",
    )
    parser.add_argument(
        "--sdp-output", type=Path, metavar="FILE", help="the file for serial download (default: OUT.sdp)"
    )
    parser.add_argument(
        "--fuses", type=fuse_value, metavar="HEX", help="what the boards' SRK fuses hold: sign for no others"
    )
    parser.add_argument("--configuration", metavar="NAME", help="of a FIT whose configurations load different images")
    add_fit_fdt(parser)
    parser.add_argument("--dry-run", action="store_true", help="show what would be signed, and end")
    parser.add_argument("--csf-only", type=Path, metavar="FOLDER", help="write the CSF descriptions there, and end")
    parser.add_argument("--quiet", action="store_true", help="say only what goes wrong")
    add_server_arguments(parser)


def run(options: argparse.Namespace, console: Console) -> int:
    """Sign, and say what was done."""
    from digsigd.client._internal.settings import from_options

    with mapped(options.image) as data:
        plan = _planned(data, options, options.image)
        download = _planned(data, options, options.image, sdp=options.sdp) if options.sdp is not None else None
    if plan.encrypted:
        raise Trouble(
            f"{shown(str(options.image))} is encrypted: {shown(plan.encrypted[0])}",
            hint="Signing anew would drop what decrypts it. Sign and encrypt the plain image with cst.",
        )
    if options.dry_run:
        show_plan(plan, options.image, console)
        if download is not None:
            console.say()
            show_plan(download, options.image, console)
        return 0
    if options.output is None and options.csf_only is None:
        raise Trouble("-o OUT is missing", hint="it says where the signed image goes; it may be IMAGE itself", code=2)
    if options.sdp_output is not None and (download is None or options.sdp_output == options.output):
        raise Trouble("--sdp-output is a file of its own, and goes with --sdp", code=2)
    _check_chip(plan, options, console)
    settings = from_options(options, os.environ)
    job = _Job(options, settings, plan, download, console)
    if options.csf_only is not None:
        return job.write_descriptions(options.csf_only)
    return job.sign()


def _planned(data: Buffer, options: argparse.Namespace, path: Path, *, sdp: int | None = None) -> Plan:
    return planned(
        data,
        path,
        options.load_address,
        options.configuration,
        fit_fdt=options.fit_fdt,
        soc=options.soc,
        sdp=sdp,
    )


def _check_chip(plan: Plan, options: argparse.Namespace, console: Console) -> None:
    """See that it is known for which chip descriptions are, and what they say for it. Raises `Trouble`."""
    if plan.chip is None and plan.ask:
        hints = "; ".join(note for note in plan.notes if "a hint" in note)
        raise Trouble(
            f"{shown(str(options.image))}: {plan.ask}",
            hint="say --soc CHIP, such as imx6ul or imx6ull" + (f"; {shown(hints)}" if hints else ""),
        )
    if plan.chip is not None:
        plan.chip.engine  # noqa: B018 - raises where it is not known for certain
        if options.fast_auth and options.soc is None and not plan.chip.nocak:
            console.tell(f"note: older silicon of {plan.boards} (HAB before 4.1.2) takes no fast authentication")


class _Job:
    """One image, and how it is to be signed; `download` is the plan of the file for serial download, if any."""

    def __init__(
        self,
        options: argparse.Namespace,
        settings: ClientSettings,
        plan: Plan,
        download: Plan | None,
        console: Console,
    ) -> None:
        if settings.machine is None:
            raise Trouble("which machine?", hint="say --machine M, or set DIGSIGN_MACHINE", code=2)
        self._options = options
        self._settings = settings
        self._machine = settings.machine
        self._plan = plan
        self._download = download
        self._console = console
        # What the host is told: descriptions take any name but one with a quotation mark.
        self._name = shown(options.image.name).replace('"', "_")
        self._table: bytes | None = None
        self._version = settings.cst or ""

    def write_descriptions(self, folder: Path) -> int:
        """Write the CSF descriptions, for whoever signs by other means."""
        from digsigd import csf
        from digsigd.client._internal.describe import describe

        names = ask_server(self._settings, self._names, self._console)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise Trouble(f"{folder}: {error.strerror}") from None
        for plan, suffix in ((self._plan, ""), (self._download, "_sdp")):
            for signing in plan.signings if plan is not None else ():
                path = folder / f"csf_{file_name(signing.name)}{suffix}.txt"
                description = describe(
                    signing, names, srk=self._options.srk, artifact_name=self._name, chip=self._plan.chip
                )
                write_atomically(path, csf.write(description))
                self._console.say(
                    f"{shown(str(path))}: its CSF goes to {signing.csf_offset:#x}, room for {signing.csf_room:#x} bytes"
                )
        for patch in self._plan.patches:
            zeros = patch.data.count(0) == len(patch.data)
            data = f"{len(patch.data)} zeros" if zeros else patch.data.hex()
            self._console.say(f"first, at {patch.offset:#x}: {patch.why}: {data}")
        for mask in self._download.masks if self._download is not None else ():
            self._console.say(
                f"for serial download, while it is signed only, at {mask.offset:#x}: {mask.why}: {mask.data.hex()}"
            )
        if self._plan.tail is not None:
            place = self._plan.size - len(self._plan.tail.data)
            self._console.say(
                f"first, take off what is behind {self._plan.tail.offset:#x}, and last write at {place:#x} the tag for"
                f" UUU: {self._plan.tail.data!r}"
            )
        return 0

    def sign(self) -> int:
        """Sign copies, verify them, and put them where they belong."""
        options = self._options
        for note in self._plan.notes:
            self._tell(f"note: {shown(note)}")
        wanted = [(self._plan, options.output, None)]
        if self._download is not None:
            path = options.sdp_output or options.output.with_name(options.output.name + ".sdp")
            wanted.append((self._download, path, options.sdp))
        with ExitStack() as stack:
            copies = [stack.enter_context(replacing(path, like=options.image)) for _, path, _ in wanted]
            plans = [plan for plan, _, _ in wanted]
            ask_server(self._settings, lambda client: self._sign(client, copies, plans), self._console)
            for copy, (_, path, sdp) in zip(copies, wanted, strict=True):
                fuses = self._verified(copy, path, sdp=sdp)
        if not options.quiet:
            self._console.say(
                f"{shown(str(options.output))}: signed and verified, for boards with the fuse value {fuses}"
            )
            for _, path, sdp in wanted[1:]:
                self._console.say(
                    f"{shown(str(path))}: the same for serial download, and for nothing else: uuu -dcdaddr {sdp:#x}"
                    " -cleardcd"
                )
        return 0

    def _verified(self, copy: Path, path: Path, *, sdp: int | None) -> str:
        """The fuse value of the boards that it holds for. Raises `Trouble` where it does not hold."""
        from datetime import UTC, datetime

        from digsigd.image.verify import verify

        with mapped(copy) as data:
            plan = _planned(data, self._options, path, sdp=sdp)
            report = verify(data, plan, fuse_value=self._options.fuses, srk_table=self._table, now=datetime.now(UTC))
        if not report.holds:
            show_report(report, path, self._console)
            raise Trouble(
                "what came back does not hold, so nothing was written", hint="the report above says what fails"
            )
        return report.fuse_value.hex() if report.fuse_value else ""

    async def _sign(self, client: SigningClient, copies: Sequence[Path], plans: Sequence[Plan]) -> None:
        from digsigd.client._internal.images import Order, sign_in_place

        names = await self._names(client)
        order = Order(
            machine=self._machine,
            names=names,
            cst_version=self._version,
            backend=self._settings.backend or "ssl",
            srk=self._options.srk,
        )

        def tell(signing: Signing, length: int, request_id: str) -> None:
            self._tell(f"{signing.name}: {length} bytes of CSF at {signing.csf_offset:#x}, request {shown(request_id)}")

        for copy, plan in zip(copies, plans, strict=True):
            await sign_in_place(client, copy, plan, order, name=self._name, on_part=tell)

    async def _names(self, client: SigningClient) -> KeyNames:
        """The names of keys on the host: as configured, else as the host tells them."""
        from digsigd.client._internal.names import configured_names, key_names

        fast_auth = self._options.fast_auth
        names = configured_names(self._settings, fast_auth=fast_auth)
        keys = None
        if names is None or self._settings.cst is None:
            keys = await client.machine_keys(self._machine)
        self._version = self._settings.cst or newest_cst(keys)
        if names is None and keys is not None:
            names = key_names(keys, srk=self._options.srk, fast_auth=fast_auth)
        if names is None:
            raise Trouble("which keys?")
        if keys is not None:
            self._check_fuses(keys, names)
        return names

    def _check_fuses(self, keys: MachineKeys, names: KeyNames) -> None:
        """Sign for the boards that are meant, or not at all; and verify with the machine's own table later."""
        table = next((one for one in keys.srk_tables if one.name == names.table), None)
        if table is None:
            return
        self._table = table.data
        if self._options.soc is not None:
            check_keys(self._options.soc, ecdsa=_has_ecdsa(table.data), fast_auth=self._options.fast_auth)
        elif _has_ecdsa(table.data):
            self._check_ecdsa()
        if self._options.fuses is not None and table.fuse_value != self._options.fuses:
            raise Trouble(
                f"machine {self._machine!r} has the fuse value {table.fuse_value.hex()}, --fuses says"
                f" {self._options.fuses.hex()}",
                hint="boards with those fuses would not boot the image; is it the right machine?",
            )

    def _check_ecdsa(self) -> None:
        """See that a chip that the image can be for takes such keys; which it is, the report tells later."""
        from digsigd.image.chips import NotConfirmedError

        why = ""
        for chip in self._plan.possible:
            try:
                if chip.ecdsa:
                    return
                why = why or f"{chip.title} has HAB {chip.hab.text}, which takes RSA keys only"
            except NotConfirmedError as error:
                why = why or error.what
        if why:
            raise Trouble(
                f"machine {self._machine!r} has ECDSA keys, and the image is for a chip that does not take them: {why}",
                hint="sign with a machine that has RSA keys, such as `digsign pki new --kind rsa4096` makes",
            )

    def _tell(self, text: str) -> None:
        if not self._options.quiet:
            self._console.tell(text)


def _has_ecdsa(table: bytes) -> bool:
    from digsigd import hab
    from digsigd.image.chip_support import is_ecdsa

    return any(is_ecdsa(record.key) for record in hab.SrkTable.parse(table).records)
