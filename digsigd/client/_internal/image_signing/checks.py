"""Checks before an upload: whether boards would boot an image signed with these keys."""

from __future__ import annotations

from digsigd import hab
from digsigd.client._internal.errors import ClientError
from digsigd.client._internal.machine_keys import SrkTableInfo
from digsigd.image.chip_support import is_ecdsa
from digsigd.image.chips import Chip, ChipError, NotConfirmedError
from digsigd.image.errors import ImageError
from digsigd.image.model import Plan


def check_plan(plan: Plan) -> None:
    """Check that the image is not encrypted and that its chip is known. Raises `ImageError`, `ChipError`."""
    if plan.encrypted:
        raise ImageError(
            f"the image is encrypted: {plan.encrypted[0]}",
            hint="signing it again would remove what decrypts it; sign and encrypt the plain image with cst",
        )
    if plan.chip is None and plan.ask:
        hints = "; ".join(note for note in plan.notes if "a hint" in note)
        raise ChipError(plan.ask, hint="set --soc CHIP, such as imx6ul or imx6ull" + (f"; {hints}" if hints else ""))
    if plan.chip is not None:
        plan.chip.engine  # noqa: B018 - raises where it is not known for certain


def fast_auth_note(plan: Plan, soc: object) -> str:
    """Return a note on fast authentication if only the image says which chip it is for, else ""."""
    if soc is not None or plan.chip is None or plan.chip.nocak:
        return ""
    return f"older silicon of {plan.boards} (HAB before 4.1.2) does not support fast authentication"


def check_machine(
    machine: str, table: SrkTableInfo, plan: Plan, *, soc_given: bool, fast_auth: bool, fuse_value: bytes | None
) -> None:
    """Check that the machine's fuse value is that of the boards, and that their chip supports the keys.

    Raises `ClientError` for the keys of other boards, `ChipError` for keys that the chip does not support.
    """
    ecdsa = any(is_ecdsa(record.key) for record in hab.SrkTable.parse(table.data).records)
    if soc_given and plan.chip is not None:
        check_keys(plan.chip, ecdsa=ecdsa, fast_auth=fast_auth)
    elif ecdsa:
        _check_ecdsa(machine, plan)
    if fuse_value is not None and table.fuse_value != fuse_value:
        raise ClientError(
            f"machine {machine!r} has the fuse value {table.fuse_value.hex()}, --fuses says {fuse_value.hex()}",
            hint="boards with the fuses of --fuses would not boot the image; check the machine name: --machine",
        )


def check_keys(chip: Chip, *, ecdsa: bool, fast_auth: bool) -> None:
    """Check that the chip's ROM supports the keys. Raises `ChipError` if it does not, or if that is not known."""
    if ecdsa and not chip.ecdsa:
        raise ChipError(
            f"the ROM of {chip.title} does not support ECDSA keys: it has HAB {chip.hab.text}, they need HAB 4.5",
            hint="use RSA keys",
        )
    if fast_auth and not chip.nocak:
        raise ChipError(
            f"not every {chip.title} supports SRKs that sign images themselves (fast authentication): it has HAB"
            f" {chip.hab.text}, fast authentication needs HAB 4.1.2",
            hint="remove --fast-auth; or, if all boards have silicon with HAB 4.1.2 or later, remove --soc",
        )


def _check_ecdsa(machine: str, plan: Plan) -> None:
    """Check that at least one chip that the image can be for supports ECDSA keys. Raises `ChipError`."""
    why = ""
    for chip in plan.possible:
        try:
            if chip.ecdsa:
                return
            why = why or f"{chip.title} has HAB {chip.hab.text}, which supports RSA keys only"
        except NotConfirmedError as error:
            why = why or error.what
    if why:
        raise ChipError(
            f"machine {machine!r} has ECDSA keys, and the image is for a chip that does not support them: {why}",
            hint="sign for a machine that has RSA keys, such as those from `digsign pki new --kind rsa4096`",
        )
