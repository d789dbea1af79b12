"""Check that a chip supports what is in a CSF: the engines of its commands, and the keys."""

from __future__ import annotations

from collections.abc import Sequence

from cryptography.hazmat.primitives.asymmetric import ec

from digsigd import hab
from digsigd.hab import csf_blob, engines
from digsigd.image.chips import Chip, NotConfirmedError
from digsigd.image.report import Check, CsfReport


def engines_of(blob: bytes) -> tuple[int, ...]:
    """Return the numbers of the engines of the commands that authenticate. Raises `FormatError`."""
    commands = hab.CsfBlob.parse(blob).commands
    return tuple(dict.fromkeys(one.engine for one in commands if isinstance(one, csf_blob.Authenticate)))


def check_chips(one: CsfReport, blob: bytes, chips: Sequence[Chip]) -> Check:
    """Check that a chip that the image can be for supports what this accepted CSF uses."""
    found = [(chip, check_chip(one, blob, chip)) for chip in chips]
    taken = [chip.title for chip, check in found if check.holds]
    check = next((check for _, check in found if check.holds), found[0][1])
    if not taken or len(taken) == len(found):
        return check
    return Check(check.what, True, f"{check.detail}; of the possible chips, only these support it: {', '.join(taken)}")


def check_chip(one: CsfReport, blob: bytes, chip: Chip) -> Check:
    """Check that the chip's ROM supports what this accepted CSF uses."""
    what = "what it asks of the chip"
    try:
        engine, crypto = chip.engine, chip.crypto
        found = engines_of(blob)
        for code in found:
            name = engines.name(code)
            if code not in (engines.ANY, engines.SW, engines.NUMBERS[crypto]):
                asked = f"the {one.signing.name}'s CSF uses the engine {name}"
                return Check(what, False, f"{asked}, but the chip has {crypto}")
            if engine == "SW" and code != engines.SW:
                return Check(
                    what,
                    False,
                    f"the {one.signing.name}'s CSF uses the engine {name}: on this chip it must be SW (erratum"
                    " ERR010449)",
                )
        table = one.srk_table
        ecdsa = table is not None and any(is_ecdsa(record.key) for record in hab.SrkTable.parse(table).records)
        if ecdsa and not chip.ecdsa:
            return Check(what, False, f"its SRKs are ECDSA keys, which the ROM's HAB {chip.hab.text} does not support")
    except NotConfirmedError as error:
        return Check(what, False, error.what, meaning="unknown")
    except hab.HabError as error:
        return Check(what, False, str(error))
    return Check(what, True, "engine " + ", ".join(engines.name(code) for code in found))


def is_ecdsa(key: object) -> bool:
    """Return whether a key of an SRK table is an ECDSA key."""
    return isinstance(key, ec.EllipticCurvePublicKey)
