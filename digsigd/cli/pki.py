"""`digsign pki new`: make keys, as a folder in the layout of NXP's scripts or as a key tarball."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING

from digsigd.cli.console import Console, Trouble, shown
from digsigd.cli.pki_files import (
    Counter,
    describe,
    keeping,
    pass_phrase,
    prefix_of,
    prove,
    say_lines,
    store,
    target_of,
    years_of,
)
from digsigd.cli.soc import chip as hab_chip

if TYPE_CHECKING:
    from digsigd.image.chips import Chip
    from digsigd.pki import KeyKind

HELP = """Make keys: a CA, Super Root Keys (SRKs), a CSF and an IMG key signed by each SRK, and the SRK table for the
fuses of the boards; with --ahab for chips with AHAB. See `digsign pki new --help`.
"""
NEW = """Make a HAB4 PKI with the names and the layout of NXP's hab4_pki_tree.sh: certificates in crts/, private keys in
keys/, encrypted with the pass phrase in keys/key_pass.txt, the SRK table and the fuse file as srktool makes them, and
imx-cst-keys.tar.gz, the key tarball for a signing host: everything except the private key of the CA.

With --ahab, make keys for AHAB (i.MX 8, 8X, 8ULP, 9) as NXP's ahab_pki_tree.sh does: four SRKs, with --srk-ca an SGK
below each, and the SRK tables and fuse files as srktool makes them, for containers of version 0 and 2.

Existing files are never overwritten. No private key and no pass phrase is shown.
"""
# hab4_pki_tree.sh supports the same sizes (and RSA with 1024 bits, which is no longer safe).
_KINDS = ("rsa2048", "rsa3072", "rsa4096", "p256", "p384", "p521")
_AHAB_KINDS = ("rsa-pss2048", "rsa-pss3072", "rsa-pss4096")
MAX_SRKS = 4
# With TRIAL and the longest name of a key, IMG1_1_sha256_2048_65537_v3_usr, it fits the 64 characters of a common name.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,25}")
_MOST_YEARS = 50
# That a ROM may not look at the fuses of an open board: NXP AN4581, "SRK HASH and HAB events".
_NEXT = """\
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
    new.add_argument("--ahab", action="store_true", help="make keys for AHAB (i.MX 8, 8X, 8ULP, 9), not for HAB4")
    new.add_argument(
        "--kind", choices=(*_KINDS, *_AHAB_KINDS),
        help="the kind of keys (default: rsa4096, with --trial rsa2048, with --ahab p384); rsa-pss* only with --ahab",
    )  # fmt: skip
    new.add_argument(
        "--soc",
        metavar="CHIP",
        help="make only keys that this chip supports, such as imx6ull or imx8mp, with --ahab imx93",
    )
    new.add_argument(
        "--srks", type=int, choices=(1, 2, 3, 4), help="the number of SRKs (default: 4; with --ahab always 4)"
    )
    authority = new.add_mutually_exclusive_group()
    authority.add_argument(
        "--srk-ca", action="store_true",
        help="SRKs with the CA flag, which sign CSF and IMG keys (default), with --ahab SGKs (not the default)",
    )  # fmt: skip
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


def _hab_chip(name: str) -> Chip:
    """Return the chip with this name. Raises `Trouble` if there is none with HAB4."""
    from digsigd.ahab import AhabError
    from digsigd.ahab import chip as ahab_chip

    try:
        return hab_chip(name)
    except argparse.ArgumentTypeError as error:
        wrong = str(error)
    try:
        title = ahab_chip(name).title
    except AhabError:
        raise Trouble(f"--soc: {wrong}", code=2) from None
    raise Trouble(f"{title} has AHAB, not HAB4", hint="pass --ahab too", code=2)


def run(options: argparse.Namespace, console: Console) -> int:
    """Make the keys, check them, write them, and return the exit code. Raises `Trouble`, `AhabError`."""
    if options.ahab:
        from digsigd.cli.pki_ahab import run_ahab

        return run_ahab(options, console)
    from digsigd.pki import KINDS, Pki, Protection, Validity, pack

    target = target_of(options)
    phrase = pass_phrase(options.pass_file)
    kind: KeyKind = options.kind or ("rsa2048" if options.trial else "rsa4096")
    if kind not in KINDS:
        raise Trouble(f"HAB4 has no {kind} keys", hint="pass --ahab too, or another kind", code=2)
    chip = None if options.soc is None else _hab_chip(options.soc)
    if chip is not None:
        from digsigd.client._internal.image_signing.checks import check_keys

        check_keys(chip, ecdsa=kind.startswith("p"), fast_auth=options.fast_auth)
    srks = options.srks or MAX_SRKS
    count = 1 + srks * (1 if options.fast_auth else 3)
    console.tell(f"digsign: making {count} keys ({kind})")
    pki = Pki.make(
        kind,
        Validity.of_years(years_of(options)),
        Protection(phrase),
        fast_auth=options.fast_auth,
        srks=srks,
        prefix=prefix_of(options),
        on_key=Counter(console, count),
    )
    pki.files[pki.fuse_name] = pki.fuse_value
    ca_certificates = {name: data for name, data in pki.ca_files.items() if name.startswith("crts/")}
    every = {**pki.files, **pki.ca_files}
    prove(every, phrase)
    store(options, target, pack({**pki.files, **ca_certificates}), every, pki.next_serial, console)
    below = "which sign images themselves (fast authentication)" if pki.fast_auth else "each with a CSF and an IMG key"
    console.say(f"{shown(str(target))}: {srks} SRKs ({pki.kind}), {below}")
    console.say(f"fuse value {pki.fuse_value.hex()}")
    console.say()
    rows = [
        ("crts/", "certificates"),
        (pki.table_name, "the SRK table, as srktool makes it"),
        (pki.fuse_name, "the fuse value of the boards, as srktool makes it"),
    ]
    tarball, table = describe(options, target, rows, pki.table_name, pki.ca_files, console)
    console.say("Next:")
    say_lines(console, keeping(options, tarball))
    say_lines(console, _NEXT.format(table=table, soc=chip.name if chip else "CHIP"))
    if pki.kind.startswith("p") and chip is None:
        say_lines(console, _ECDSA)
    return 0
