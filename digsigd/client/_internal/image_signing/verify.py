"""Verify whether a closed board would boot an image file, without a client, a reactor or Twisted."""

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

# "required": the SPL has CONFIG_IMX_SPL_FIT_FDT_SIGNATURE, and requires the signature of a FIT's tree.
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
    """Verify the signed image in a file as the boot ROM, SPL and U-Boot would, and return the report.

    `Report.holds` is True only if a closed board boots it; `Report.csfs` has the checks of each part, `Report.checks`
    those of the whole image. Pass `fuse_value` (the 32 bytes in the boards' SRK fuses) or `srk_table` (the bytes of the
    file) to check whose keys signed it; without them any keys pass, and `Report.fuse_value` says for which boards.

    `soc` is the boards' chip, such as "imx6ull"; `load_address` the address of a kernel or FIT that has no IVT; `sdp`
    the address where a host writes the DCD of an image for serial download; `configuration` the one to use in a FIT
    whose configurations load different images. `fit_fdt="required"` is for SPLs that require the signature of a FIT's
    tree. `now`, with a time zone, is the time for notes on the validity of certificates; by default the current time.

    This blocks: call it in a thread if a reactor runs. Raises `ClientError` if the file cannot be read, `ImageError` if
    the image or the chip `soc` is not known for certain, and `HabError` if `srk_table` is not an SRK table.
    """
    if srk_table is not None:
        SrkTable.parse(srk_table)
    asked = planner(soc=soc, load_address=load_address, sdp=sdp, configuration=configuration, fit_fdt=fit_fdt)
    return verify_file(path, asked, fuse_value=fuse_value, srk_table=srk_table, now=now)


def planner(
    *, soc: str | Chip | None, load_address: int | None, sdp: int | None, configuration: str | None, fit_fdt: FitFdt
) -> Planner:
    """Return a function that plans an image with these options; it raises `ImageError`.

    Raises `ChipError` if no chip, or several, have the name `soc`.
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
    """Return the plan of the image in a file. Raises `ClientError`, `ImageError`."""
    with mapped(path) as data:
        return asked(data)


def verify_file(
    path: Path, asked: Planner, *, fuse_value: bytes | None, srk_table: bytes | None, now: datetime | None = None
) -> Report:
    """Return the report on the image in a file, planned by `asked`. Raises `ClientError`, `ImageError`."""
    with mapped(path) as data:
        return verify(
            data, asked(data), fuse_value=fuse_value, srk_table=srk_table, now=now if now else datetime.now(UTC)
        )
