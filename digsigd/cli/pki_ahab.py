"""`digsign pki new --ahab`: keys for AHAB, checked against the chip."""

from __future__ import annotations

import argparse
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

if TYPE_CHECKING:
    from digsigd.ahab import AhabChip
    from digsigd.pki_ahab import AhabKind, AhabPki

# uboot-imx, doc/imx/ahab/guides: ahab_status before and after the SRK fuses are burnt.
_NEXT = """\
  3. Tell the signing host the chip, in its configuration: soc = "{name}" below [machines.MACHINE].
  4. Sign an image with `digsign sign`, and boot it on an open board. Before the fuses are burnt, `ahab_status` shows
     0x0287FAD6 (the fuses are not those of the table), and nothing else.
  5. Only then burn the fuses. {fuses}
"""
_FUSES = """\
`digsign fuses {table} --soc {soc}`
     shows the words, and what to check before and after."""
_NO_FUSES = "`digsign` does not know the words for this chip: ask NXP for them."
_ANY_CHIP = """\
The fuse value depends on the chip: i.MX 8 and 8X have the SHA-512 of the table, 8ULP, 91, 93 and 95 A0/A1 its SHA-256,
95 B0, 952 and 94 the SHA-512 of the table of version 2. With --soc, only what the chip uses is made.

"""


def run_ahab(options: argparse.Namespace, console: Console) -> int:
    """Make the keys, check them, write them, and return the exit code. Raises `Trouble`, `AhabError`."""
    from digsigd.pki import Protection, Validity, pack
    from digsigd.pki_ahab import SRKS, VERSIONS, AhabPki, der_files

    chip = None if options.soc is None else _chip(options.soc)
    kind: AhabKind = options.kind or "p384"
    if options.fast_auth or options.srks not in (None, SRKS):
        wrong = "--fast-auth" if options.fast_auth else f"--srks {options.srks}"
        hint = "SRKs sign containers themselves, unless --srk-ca is given" if options.fast_auth else "leave it out"
        raise Trouble(f"{wrong} is for HAB4: AHAB has {SRKS} SRKs without CSF and IMG keys", hint=hint, code=2)
    target = target_of(options)
    phrase = pass_phrase(options.pass_file)
    if chip is not None:
        _check(chip, kind, sgk=options.srk_ca)
    count = 1 + SRKS * (2 if options.srk_ca else 1)
    console.tell(f"digsign: making {count} keys ({kind})")
    pki = AhabPki.make(
        kind,
        Validity.of_years(years_of(options)),
        Protection(phrase),
        sgk=options.srk_ca,
        prefix=prefix_of(options),
        versions=chip.versions if chip is not None else VERSIONS,
        on_key=Counter(console, count),
    )
    pki.files.update(pki.fuse_files(_hashes(chip)))
    ca_certificates = {name: data for name, data in pki.ca_files.items() if name.startswith("crts/")}
    every = {**pki.files, **pki.ca_files}
    prove(every, phrase)
    tarball = pack({**pki.files, **ca_certificates})
    store(options, target, tarball, {**every, **der_files(every)}, pki.next_serial, console)
    below = "each with an SGK, which signs containers" if pki.sgk else "which sign containers themselves"
    console.say(f"{shown(str(target))}: {SRKS} SRKs ({pki.kind}), {below}")
    _say_fuse_value(pki, chip, console)
    rows = [("crts/", "certificates, each as PEM and as DER"), *_rows(pki)]
    version = min(pki.tables)
    tarball_name, table = describe(options, target, rows, pki.table_name(version), pki.ca_files, console)
    console.say("Next:")
    say_lines(console, keeping(options, tarball_name))
    say_lines(console, _NEXT.format(name=chip.name if chip is not None else "CHIP", fuses=_fuses(table, chip)))
    return 0


def _fuses(table: str, chip: AhabChip | None) -> str:
    """Return how to get the words for the fuses."""
    from digsigd.ahab import Unconfirmed
    from digsigd.cli.ahab_fuse_texts import certain_name

    if chip is not None and isinstance(chip.fuse_cell, Unconfirmed):
        return _NO_FUSES
    return _FUSES.format(table=table, soc=certain_name(chip) if chip is not None else "CHIP")


def _chip(name: str) -> AhabChip:
    """Return the chip with this name. Raises `Trouble` if there is none with AHAB."""
    from digsigd.ahab import AhabError, chip

    try:
        return chip(name)
    except AhabError as error:
        raise Trouble(f"--soc: {error.what}", hint=error.hint, code=2) from None


def _check(chip: AhabChip, kind: AhabKind, *, sgk: bool) -> None:
    """Raise `Trouble` unless it is known for certain that the chip accepts such keys."""
    from digsigd.ahab import Refused, Unconfirmed
    from digsigd.ahab.srk import ECDSA, RSA, RSA_PSS
    from digsigd.pki_ahab import is_pss

    algorithm = ECDSA if kind.startswith("p") else RSA_PSS if is_pss(kind) else RSA
    for what, rule in ((f"{kind} keys", chip.allows(algorithm)), ("SGKs (--srk-ca)", chip.sgk if sgk else True)):
        if isinstance(rule, Refused):
            raise Trouble(f"{chip.title} does not accept {what}", hint=rule.why)
        if isinstance(rule, Unconfirmed):
            raise Trouble(
                f"that {chip.title} accepts {what} is not confirmed: {rule.why}",
                hint="use p384 keys without --srk-ca",
            )


def _hashes(chip: AhabChip | None) -> tuple[str, ...]:
    """Return the hashes for which fuse files are made: the chip's, or those of all chips."""
    if chip is None:
        return ("sha256", "sha512")
    return (chip.fuse_hash_cell,) if isinstance(chip.fuse_hash_cell, str) else ()


def _say_fuse_value(pki: AhabPki, chip: AhabChip | None, console: Console) -> None:
    from digsigd.ahab import Unconfirmed

    if chip is None:
        console.say()
        say_lines(console, _ANY_CHIP)
        return
    for name in _hashes(chip):
        value = pki.fuse_value(name, min(pki.tables))
        console.say(f"fuse value of {chip.title} ({name.replace('sha', 'SHA-')}) {value.hex()}")
    if isinstance(chip.fuse_hash_cell, Unconfirmed):
        console.say(f"no fuse value: {shown(chip.fuse_hash_cell.why)}")
    for note in chip.notes:
        console.say(f"note: {note}")
    console.say()


def _rows(pki: AhabPki) -> list[tuple[str, str]]:
    tables = {0: "the SRK table, as srktool makes it", 2: "the SRK table for containers of version 2"}
    found = [(pki.table_name(version), tables[version]) for version in sorted(pki.tables)]
    fuses = sorted(name for name in pki.files if "_fuse" in name)
    for name in fuses:
        if "_v2_" in name:
            found.append((name, "the fuse value for it, the SHA-512: i.MX 95 B0, 952, 94"))
        else:
            chips = "i.MX 8ULP, 91, 93, 95 A0/A1" if "sha256" in name else "i.MX 8, 8X"
            found.append((name, f"the fuse value, its {'SHA-256' if 'sha256' in name else 'SHA-512'}: {chips}"))
    return found
