"""Engines, and what HAB4 requires of the commands that use them.

Source: HABv4 API Reference Manual, chapter 5, "Security Hardware", and 6.6, "Engine"; NXP Code Signing Tool User Guide,
tables 4 (configurations), 10 (Authenticate Data) and 24 (features), and cst's own encoding of them.
"""

from __future__ import annotations

from collections.abc import Sequence

from digsigd.hab.errors import VerificationError
from digsigd.hab.srk import SHA256

ANY, RTIC, SAHARA, SRTC, DCP, CAAM, SNVS, OCOTP, SW = 0x00, 0x05, 0x06, 0x0C, 0x1B, 0x1D, 0x1E, 0x21, 0xFF
NAMES = {
    ANY: "ANY",
    0x03: "SCC",
    RTIC: "RTIC",
    SAHARA: "SAHARA",
    0x0A: "CSU",
    SRTC: "SRTC",
    DCP: "DCP",
    CAAM: "CAAM",
    SNVS: "SNVS",
    OCOTP: "OCOTP",
    0x22: "DTCP",
    0x24: "HDCP",
    0x36: "ROM",
    SW: "SW",
}
NUMBERS = {name: number for number, name in NAMES.items()}
# The engines that compute hashes, and the most blocks of one hash: HAB_*_BLOCK_MAX. For those without such a constant,
# and where HAB chooses the engine, it is the value in table 10 of the User Guide. SW has no limit.
MOST_BLOCKS = {ANY: 8, RTIC: 8, SAHARA: 12, DCP: 6, CAAM: 8}
HASHING = (*MOST_BLOCKS, SW)
# The hashes that they compute, 5.2 to 5.8, without SHA-1, which is obsolete. HAB4 does not know SHA-384, and no engine
# is documented to compute SHA-512, though 6.5 has a number for it.
ALGORITHMS = ("sha256",)
# 5.2: the length of all blocks but the last is a multiple of this.
DCP_UNIT = 64
# HAB_RTIC_KEEP. All other configurations swap bytes of the input or output, but NXP's tools sign them unswapped.
_RTIC_KEEP = 0x80
# Features by engine, each a bit of one word: for Unlock (HAB_*_UNLOCK_*), and for Init (HAB_CAAM_INIT_RNG). An engine
# without features is unlocked or initialised as a whole.
UNLOCKS: dict[int, dict[str, int]] = {
    CAAM: {"MID": 1, "RNG": 2, "MFG": 4},
    SNVS: {"LP SWR": 1, "ZMK WRITE": 2},
    OCOTP: {"FIELD RETURN": 1, "SRK REVOKE": 2, "SCS": 4, "JTAG": 8},
    SRTC: {},
    SW: {},
}
INITS: dict[int, dict[str, int]] = {CAAM: {"RNG": 2}, SRTC: {}}
# Unlocking these is bound to one chip, by a unique id of 8 bytes after the features: "Unlock".
OF_ONE_CHIP = frozenset({"FIELD RETURN", "SCS", "JTAG"})
_UID_SIZE = 8


def name(engine: int) -> str:
    """Return the name of an engine."""
    return NAMES.get(engine, f"engine {engine:#x}")


def features(engine: int, bits: int) -> list[str]:
    """Return the names of an engine's features in a word of an Unlock or an Init; bits without a name as a number."""
    known = UNLOCKS.get(engine, {})
    rest = bits & ~sum(known.values())
    return [feature for feature, bit in known.items() if bits & bit] + ([f"{rest:#x}"] if rest else [])


def check_hashing(engine: int, configuration: int, check: str) -> None:
    """Check that an engine computes hashes without swapping bytes. Raises `VerificationError` with the name `check`."""
    if engine not in HASHING:
        raise VerificationError(check, f"{name(engine)} cannot hash")
    if engine == ANY and configuration:
        raise VerificationError(check, f"the engine ANY must have configuration 0, not {configuration:#x}")
    if configuration and (engine, configuration) != (RTIC, _RTIC_KEEP):
        raise VerificationError(
            check,
            f"the configuration {configuration:#x} makes {name(engine)} swap bytes: it would hash other bytes than were"
            " signed",
        )


def check_blocks(engine: int, lengths: Sequence[int], check: str) -> None:
    """Check that an engine can hash this many blocks in a command. Raises `VerificationError` with the name `check`."""
    most = MOST_BLOCKS.get(engine)
    if most is not None and len(lengths) > most:
        raise VerificationError(
            check, f"{len(lengths)} blocks in one Authenticate Data; {name(engine)} allows at most {most}"
        )


def remark(engine: int, lengths: Sequence[int]) -> str:
    """Return a note on blocks that boards accept with a warning; "" if there is nothing to note.

    DCP hashes multiples of 64 bytes, except for the last block. Other blocks are hashed by another engine, and the
    board logs the warning HAB_UNS_ENGINE (4.3.8). SPSDK's images for i.MX RT with a DCD have such blocks.
    """
    odd = next((length for length in lengths[:-1] if length % DCP_UNIT), None)
    if engine != DCP or odd is None:
        return ""
    return (
        f"a block of {odd:#x} bytes is before other blocks, where DCP needs multiples of {DCP_UNIT}: boards hash the"
        " blocks with another engine, and log the warning HAB_UNS_ENGINE"
    )


def check_features(command: str, engine: int, body: bytes, known: dict[int, dict[str, int]]) -> None:
    """Check that an Unlock or an Init is one that cst makes. Raises `VerificationError`."""
    if engine not in known:
        raise VerificationError("command", f"{command} of {name(engine)}, which does not support it")
    if not known[engine]:
        if body:
            raise VerificationError("command", f"{command} of {name(engine)} with {len(body)} bytes; it must have none")
        return
    bits = int.from_bytes(body[:4], "big")
    uid = len(body) == 4 + _UID_SIZE and engine == OCOTP
    if len(body) != 4 and not uid:
        raise VerificationError("command", f"{command} of {name(engine)} with {len(body)} bytes; it must have 4")
    if bits & ~sum(known[engine].values()):
        raise VerificationError("command", f"{command} of {name(engine)} with the unknown features {bits:#x}")
    if uid == OF_ONE_CHIP.isdisjoint(features(engine, bits)):
        what = "must not have a unique id" if uid else "needs a chip's unique id"
        raise VerificationError("command", f"{command} of OCOTP {bits:#x} {what}")


def set_engine(body: bytes) -> int:
    """Return the default engine that a Set command sets for the commands after it. Raises `VerificationError`."""
    if len(body) != 4 or body[0] or body[1] != SHA256:
        raise VerificationError("command", f"Set of an engine with {body.hex(' ') or 'nothing'}, not for SHA-256")
    check_hashing(body[2], body[3], "command")
    return body[2]
