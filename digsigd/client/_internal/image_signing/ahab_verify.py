"""Verify whether a closed board would boot a file with AHAB containers, without a client, a reactor or Twisted."""

from __future__ import annotations

from pathlib import Path

from digsigd import ahab
from digsigd.ahab import AhabChip
from digsigd.client._internal.files import mapped
from digsigd.client._internal.image_signing.ahab_plan import ahab_chip
from digsigd.image.ahab_plan import plan_ahab
from digsigd.image.ahab_report import AhabReport, report_ahab


def verify_ahab(
    path: Path, *, soc: str | AhabChip | None = None, fuse_value: bytes | None = None, srk_table: bytes | None = None
) -> AhabReport:
    """Verify a signed file with AHAB containers as ROM, ELE or SECO, and SPL would, and return the report.

    `AhabReport.holds` is True only if a closed board boots it; `AhabReport.containers` has the checks of each
    container, `AhabReport.checks` those of the whole. Pass `fuse_value` (the 32 or 64 bytes in the boards' SRK fuses)
    or `srk_table` (the bytes of the file) to check whose keys signed it; without them any keys pass. `soc` is the
    boards' chip, such as "imx93"; without it, it is not checked that the chip accepts the keys, and the report has no
    fuse value for containers of version 0.

    This blocks: call it in a thread if a reactor runs. Raises `ClientError` if the file cannot be read, `ImageError` if
    it is not one with AHAB containers, and `AhabError` if the chip is not known or `srk_table` is not an SRK table.
    """
    if srk_table is not None:
        ahab.parse_table(srk_table)
    chip = ahab_chip(soc) if soc is not None else None
    with mapped(path) as data:
        return report_ahab(data, plan_ahab(data, chip), fuse_value=fuse_value, srk_table=srk_table)
