"""What is checked before anything is uploaded: whether boards would boot what these keys sign."""

from __future__ import annotations

from digsigd import hab
from digsigd.client._internal.errors import ClientError
from digsigd.client._internal.machine_keys import SrkTableInfo
from digsigd.image.chip_support import is_ecdsa
from digsigd.image.chips import Chip, ChipError, NotConfirmedError
from digsigd.image.errors import ImageError
from digsigd.image.model import Plan


def check_plan(plan: Plan) -> None:
    """Check that the image can be signed as it is, and that it is known for which chip. Raise `ImageError`."""
    if plan.encrypted:
        raise ImageError(
            f"the image is encrypted: {plan.encrypted[0]}",
            hint="signing anew would drop what decrypts it; sign and encrypt the plain image with cst",
        )
    if plan.chip is None and plan.ask:
        hints = "; ".join(note for note in plan.notes if "a hint" in note)
        raise ChipError(plan.ask, hint="say --soc CHIP, such as imx6ul or imx6ull" + (f"; {hints}" if hints else ""))
    if plan.chip is not None:
        plan.chip.engine  # noqa: B018 - raises where it is not known for certain


def fast_auth_note(plan: Plan, soc: object) -> str:
    """Return what is to be said of fast authentication on the image's chip, which the image alone tells."""
    if soc is not None or plan.chip is None or plan.chip.nocak:
        return ""
    return f"older silicon of {plan.boards} (HAB before 4.1.2) takes no fast authentication"


def check_machine(
    machine: str, table: SrkTableInfo, plan: Plan, *, soc_given: bool, fast_auth: bool, fuse_value: bytes | None
) -> None:
    """Check that the boards have this fuse value, and that their chip takes such keys.

    Raises `ClientError` for other boards' keys, `ChipError` for keys that the chip does not take.
    """
    ecdsa = any(is_ecdsa(record.key) for record in hab.SrkTable.parse(table.data).records)
    if soc_given and plan.chip is not None:
        check_keys(plan.chip, ecdsa=ecdsa, fast_auth=fast_auth)
    elif ecdsa:
        _check_ecdsa(machine, plan)
    if fuse_value is not None and table.fuse_value != fuse_value:
        raise ClientError(
            f"machine {machine!r} has the fuse value {table.fuse_value.hex()}, --fuses says {fuse_value.hex()}",
            hint="boards with those fuses would not boot the image; is it the right machine?",
        )


def check_keys(chip: Chip, *, ecdsa: bool, fast_auth: bool) -> None:
    """Check that the chip's ROM takes such keys. Raise `ChipError` where it does not, or where that is not known."""
    if ecdsa and not chip.ecdsa:
        raise ChipError(
            f"the ROM of {chip.title} takes no ECDSA keys: it has HAB {chip.hab.text}, and they need 4.5",
            hint="make RSA keys",
        )
    if fast_auth and not chip.nocak:
        raise ChipError(
            f"not every {chip.title} takes SRKs that sign images themselves (fast authentication): it has HAB"
            f" {chip.hab.text}, and that needs 4.1.2",
            hint="leave out --fast-auth; for silicon that is new enough, and that alone, leave out --soc instead",
        )


def _check_ecdsa(machine: str, plan: Plan) -> None:
    """Check that a chip that the image can be for takes such keys; which it is, the report tells later."""
    why = ""
    for chip in plan.possible:
        try:
            if chip.ecdsa:
                return
            why = why or f"{chip.title} has HAB {chip.hab.text}, which takes RSA keys only"
        except NotConfirmedError as error:
            why = why or error.what
    if why:
        raise ChipError(
            f"machine {machine!r} has ECDSA keys, and the image is for a chip that does not take them: {why}",
            hint="sign with a machine that has RSA keys, such as `digsign pki new --kind rsa4096` makes",
        )
