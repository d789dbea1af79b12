"""Engines, and what HAB4 asks of the commands that use them.

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
# Those that compute hashes, and how many blocks one hash of theirs may go over: HAB_*_BLOCK_MAX. For those without a
# bound of their own, and where HAB chooses the engine, it is what the User Guide's table 10 tells. SW has none.
MOST_BLOCKS = {ANY: 8, RTIC: 8, SAHARA: 12, DCP: 6, CAAM: 8}
HASHING = (*MOST_BLOCKS, SW)
# What they compute, 5.2 to 5.8, but for SHA-1, which has no future: SHA-384 is unknown to HAB4, and no engine is said
# to compute SHA-512, though 6.5 has a number for it.
ALGORITHMS = ("sha256",)
# 5.2: all blocks but the last are of multiples of this.
DCP_UNIT = 64
# HAB_RTIC_KEEP. All other configurations swap bytes on the way in or out: NXP's tools sign them as they stand.
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
# What these leave open is bound to one chip, by a unique id of 8 bytes behind the features: "Unlock".
OF_ONE_CHIP = frozenset({"FIELD RETURN", "SCS", "JTAG"})
_UID_SIZE = 8


def name(engine: int) -> str:
    """What people call it."""
    return NAMES.get(engine, f"engine {engine:#x}")


def features(engine: int, bits: int) -> list[str]:
    """Return the names of an engine's features in a word of an Unlock or an Init; bits without a name are a number."""
    known = UNLOCKS.get(engine, {})
    rest = bits & ~sum(known.values())
    return [feature for feature, bit in known.items() if bits & bit] + ([f"{rest:#x}"] if rest else [])


def check_hashing(engine: int, configuration: int, check: str) -> None:
    """Whether an engine computes a hash over bytes as they stand. Raises `VerificationError` of this check."""
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
    """Whether an engine can hash blocks of these lengths in one command. Raises `VerificationError` of this check."""
    most = MOST_BLOCKS.get(engine)
    if most is not None and len(lengths) > most:
        raise VerificationError(
            check, f"{len(lengths)} blocks in one Authenticate Data; {name(engine)} allows at most {most}"
        )


def remark(engine: int, lengths: Sequence[int]) -> str:
    """What boards are seen to warn of, and to go on; empty where there is nothing.

    DCP hashes multiples of 64 bytes, but for the last block. What does not fit it, boards hash by another engine, and
    log the warning HAB_UNS_ENGINE (4.3.8): SPSDK's images for i.MX RT, with a DCD between others, are like that.
    """
    odd = next((length for length in lengths[:-1] if length % DCP_UNIT), None)
    if engine != DCP or odd is None:
        return ""
    return (
        f"a block of {odd:#x} bytes stands before others, and DCP takes multiples of {DCP_UNIT} there: boards hash"
        " them by another engine, and log the warning HAB_UNS_ENGINE"
    )


def check_features(command: str, engine: int, body: bytes, known: dict[int, dict[str, int]]) -> None:
    """Whether an Unlock or an Init is one that cst makes. Raises `VerificationError`."""
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
    """The default engine that a Set command sets from here on. Raises `VerificationError`."""
    if len(body) != 4 or body[0] or body[1] != SHA256:
        raise VerificationError("command", f"Set of an engine by {body.hex(' ') or 'nothing'}: it is for SHA-256 alone")
    check_hashing(body[2], body[3], "command")
    return body[2]
