"""Whether a closed board would boot an image file. Needs no client, no reactor and no Twisted."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Literal, TypeAlias

from digsigd.client._internal.files import mapped
from digsigd.hab import SrkTable
from digsigd.image.chips import Chip, find
from digsigd.image.model import Buffer, Plan
from digsigd.image.plan import plan
from digsigd.image.report import Report
from digsigd.image.verify import verify

# "required": the SPL has CONFIG_IMX_SPL_FIT_FDT_SIGNATURE, and insists on the signature of a FIT's tree.
FitFdt: TypeAlias = Literal["auto", "required"]
Planner: TypeAlias = Callable[[Buffer], Plan]


def verify_image(
    path: Path,
    *,
    fuse_value: bytes | None = None,
    srk_table: bytes | None = None,
    soc: str | Chip | None = None,
    load_address: int | None = None,
    sdp: int | None = None,
    configuration: str | None = None,
    fit_fdt: FitFdt = "auto",
    now: datetime | None = None,
) -> Report:
    """Return what holds of the signed image in a file, and what does not, as the boot ROM, SPL and U-Boot judge it.

    `Report.holds` is True only if a closed board boots it; `Report.csfs` has the checks of each part, `Report.checks`
    those of the whole. Give `fuse_value` (the 32 bytes in the boards' SRK fuses) or `srk_table` (a file's bytes), or
    the keys may be anybody's: `Report.fuse_value` says for which boards it holds.

    `soc` is the boards' chip, such as "imx6ull"; `load_address` where a kernel or FIT is loaded that does not say so;
    `sdp` where a host writes the DCD of an image for serial download; `configuration` that of a FIT whose
    configurations load different images. `fit_fdt="required"` is for SPLs that insist on the signature of a FIT's tree.
    `now`, with a time zone, is what notes on the dates of certificates go by: by default the present.

    It blocks: call it in a thread where a reactor runs. Raises `ClientError` where the file cannot be read,
    `ImageError` where the image, or the chip `soc`, is not known for certain, and `HabError` where `srk_table` is not
    an SRK table.
    """
    if srk_table is not None:
        SrkTable.parse(srk_table)
    asked = planner(soc=soc, load_address=load_address, sdp=sdp, configuration=configuration, fit_fdt=fit_fdt)
    return verify_file(path, asked, fuse_value=fuse_value, srk_table=srk_table, now=now)


def planner(
    *, soc: str | Chip | None, load_address: int | None, sdp: int | None, configuration: str | None, fit_fdt: FitFdt
) -> Planner:
    """Return what plans an image as it is asked for. Raise `ChipError` where no chip, or several, are called `soc`.

    What it returns raises `ImageError`.
    """
    return partial(
        plan,
        load_address=load_address,
        configuration=configuration,
        fdt_signature=fit_fdt == "required",
        chip=find(soc) if isinstance(soc, str) else soc,
        sdp=sdp,
    )


def plan_file(path: Path, asked: Planner) -> Plan:
    """Return the plan of the image in a file. Raise `ClientError`, `ImageError`."""
    with mapped(path) as data:
        return asked(data)


def verify_file(
    path: Path, asked: Planner, *, fuse_value: bytes | None, srk_table: bytes | None, now: datetime | None = None
) -> Report:
    """Return the report on the image in a file, planned by `asked`. Raise what `verify_image` raises."""
    with mapped(path) as data:
        return verify(
            data, asked(data), fuse_value=fuse_value, srk_table=srk_table, now=now if now else datetime.now(UTC)
        )
