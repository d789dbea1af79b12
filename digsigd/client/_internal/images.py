"""Whole images: each part described, signed by the host, and its CSF put where it belongs."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from twisted.internet.threads import deferToThread

from digsigd import csf
from digsigd.client._internal.describe import describe
from digsigd.client._internal.names import KeyNames
from digsigd.image.errors import ImageError
from digsigd.image.model import Plan, Signing

if TYPE_CHECKING:
    from digsigd.client._internal.api import SigningClient


@dataclass(frozen=True, slots=True)
class Order:
    """With which keys an image is signed, and by what."""

    machine: str
    names: KeyNames
    cst_version: str
    backend: str = "ssl"
    srk: int = 1


async def sign_in_place(
    client: SigningClient,
    path: Path,
    plan: Plan,
    order: Order,
    *,
    name: str,
    on_part: Callable[[Signing, int, str], None] | None = None,
) -> None:
    """Sign the image in the file `path`, which is changed: a copy that nobody else has, and `plan` is of.

    `name` is what the host and its log see as the file's name. `on_part` hears of each part that is done, of its CSF's
    bytes and of the request's id. Raises `ClientError`, or `ImageError` where a CSF has no room. That all of it holds
    is for the caller to verify.
    """
    if plan.encrypted:
        raise ImageError(
            f"the image is encrypted: {plan.encrypted[0]}",
            hint="signing anew would drop what decrypts it; sign and encrypt the plain image with cst",
        )
    await deferToThread(_patch, path, plan)
    masked = await deferToThread(_mask, path, plan)
    for signing in plan.signings:
        text = csf.write(describe(signing, order.names, srk=order.srk, artifact_name=name, chip=plan.chip))
        signed = await client.sign(
            machine=order.machine,
            csf=text,
            artifact=path,
            artifact_name=name,
            cst_version=order.cst_version,
            backend=order.backend,
        )
        await deferToThread(_insert, path, signing, signed.blob)
        if on_part is not None:
            on_part(signing, len(signed.blob), signed.request_id)
    await deferToThread(_write, path, masked)
    await deferToThread(_append, path, plan)


def _patch(path: Path, plan: Plan) -> None:
    with path.open("r+b") as file:
        if plan.tail is not None:
            os.ftruncate(file.fileno(), plan.tail.offset)
        for patch in plan.patches:
            # Behind the end of the file, what lies between is zeros.
            os.pwrite(file.fileno(), patch.data, patch.offset)


def _mask(path: Path, plan: Plan) -> list[tuple[int, bytes]]:
    """Write what differs in memory, and give what was there."""
    with path.open("rb") as file:
        there = [(mask.offset, os.pread(file.fileno(), len(mask.data), mask.offset)) for mask in plan.masks]
    _write(path, [(mask.offset, mask.data) for mask in plan.masks])
    return there


def _write(path: Path, parts: list[tuple[int, bytes]]) -> None:
    with path.open("r+b") as file:
        for offset, data in parts:
            os.pwrite(file.fileno(), data, offset)


def _append(path: Path, plan: Plan) -> None:
    if plan.tail is not None:
        with path.open("r+b") as file:
            os.pwrite(file.fileno(), plan.tail.data, plan.size - len(plan.tail.data))


def _insert(path: Path, signing: Signing, blob: bytes) -> None:
    if len(blob) > signing.csf_room:
        raise ImageError(
            f"the CSF of {signing.name} has {len(blob):#x} bytes, the room for it at {signing.csf_offset:#x} only"
            f" {signing.csf_room:#x}",
            hint="keep more room in the image (CSF_SIZE), or use smaller keys",
        )
    with path.open("r+b") as file:
        # What an older CSF left is overwritten.
        os.pwrite(file.fileno(), blob.ljust(signing.csf_room, b"\0"), signing.csf_offset)
