"""Whether a chip takes what is in a CSF: the engines that its commands name, and the keys."""

from __future__ import annotations

from collections.abc import Sequence

from cryptography.hazmat.primitives.asymmetric import ec

from digsigd import hab
from digsigd.hab import csf_blob, engines
from digsigd.image.chips import Chip, NotConfirmedError
from digsigd.image.report import Check, CsfReport


def engines_of(blob: bytes) -> tuple[int, ...]:
    """The engines of the commands that authenticate. Raises `FormatError`."""
    commands = hab.CsfBlob.parse(blob).commands
    return tuple(dict.fromkeys(one.engine for one in commands if isinstance(one, csf_blob.Authenticate)))


def check_chips(one: CsfReport, blob: bytes, chips: Sequence[Chip]) -> Check:
    """Whether the ROM of a chip that the image can be for has what this CSF, which holds, asks for."""
    found = [(chip, check_chip(one, blob, chip)) for chip in chips]
    taken = [chip.title for chip, check in found if check.holds]
    check = next((check for _, check in found if check.holds), found[0][1])
    if not taken or len(taken) == len(found):
        return check
    return Check(check.what, True, f"{check.detail}; of the chips that it can be for, {', '.join(taken)} take it")


def check_chip(one: CsfReport, blob: bytes, chip: Chip) -> Check:
    """Whether the chip's ROM has what this CSF, which holds, asks for."""
    what = "what it asks of the chip"
    try:
        engine, crypto = chip.engine, chip.crypto
        found = engines_of(blob)
        for code in found:
            name = engines.name(code)
            if code not in (engines.ANY, engines.SW, engines.NUMBERS[crypto]):
                asked = f"the {one.signing.name}'s CSF asks for the engine {name}"
                return Check(what, False, f"{asked}, and the chip has {crypto}")
            if engine == "SW" and code != engines.SW:
                return Check(
                    what,
                    False,
                    f"the {one.signing.name}'s CSF asks for the engine {name}: on this chip it has to be SW (erratum"
                    " ERR010449)",
                )
        table = one.srk_table
        ecdsa = table is not None and any(is_ecdsa(record.key) for record in hab.SrkTable.parse(table).records)
        if ecdsa and not chip.ecdsa:
            return Check(what, False, f"its SRKs are ECDSA keys, and the ROM has HAB {chip.hab.text}")
    except NotConfirmedError as error:
        return Check(what, False, error.what, meaning="unknown")
    except hab.HabError as error:
        return Check(what, False, str(error))
    return Check(what, True, "engine " + ", ".join(engines.name(code) for code in found))


def is_ecdsa(key: object) -> bool:
    """Whether a key of an SRK table is one of elliptic curves."""
    return isinstance(key, ec.EllipticCurvePublicKey)
