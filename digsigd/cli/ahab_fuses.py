"""`digsign fuses` of chips with AHAB: the words for an SRK table, as commands for U-Boot and for SPSDK's nxpele."""

from __future__ import annotations

import argparse
import json
from shlex import quote
from typing import TYPE_CHECKING

from digsigd.cli.ahab_fuse_texts import ahab_fuse_values, places_of, show_ahab_fuses
from digsigd.cli.console import Console, Trouble, shown
from digsigd.cli.fuse_compare import compare
from digsigd.cli.inspect.ahab_fuses import FoundTable, ahab_tables
from digsigd.client._internal.files import mapped

if TYPE_CHECKING:
    from digsigd.ahab import AhabChip


def which_ahab_chip(source: str) -> Trouble:
    """Return the error for an AHAB table without a chip."""
    from digsigd.ahab import CHIPS

    names = ", ".join({"mx8": "mx8qm", "mx95": "mx95-b0"}.get(chip.name, chip.name) for chip in CHIPS)
    return Trouble(
        f"{source} is of AHAB, and no chip is given: chips have different hashes of the same table in different fuses,"
        " and burning fuses cannot be undone",
        hint=f"set --soc to one of: {names}",
        code=2,
    )


def show_or_compare(options: argparse.Namespace, chip: AhabChip | None, console: Console) -> int:
    """Show or compare the words, and return the exit code. Raises `Trouble`, and `AhabError` for unconfirmed values.

    `chip` is None if only values are compared.
    """
    found, source = _found(options)
    one = _chosen(found, options.table, source)
    again = source
    if options.table is not None:
        again += f" --table {quote(options.table)}"
    if chip is not None:
        again += f" --soc {chip.name if chip.name not in ('mx8', 'mx95') else {'mx8': 'mx8qm', 'mx95': 'mx95-b0'}[chip.name]}"
    if options.compare is not None:
        return _compare(one, chip, options, again, console)
    if chip is None:
        raise which_ahab_chip(source)
    if options.json:
        console.say(json.dumps(ahab_fuse_values(one, chip, again), indent=2))
    else:
        show_ahab_fuses(one, chip, source, again, console)
    return 0
