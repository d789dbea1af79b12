"""What is well written and yet not signed: commands, their order, and what an operator can allow."""

from __future__ import annotations

import pytest

from digsigd import csf
from tests.csf.texts import BASE, BLOCK, FAST, changed, lines

CAAM_MID = "Engine = CAAM\nFeatures = MID"
SAFE_ONLY = "of CAAM, MID, RNG and MFG are signed"
DATA = f"[Authenticate Data]\nVerification index = 2\nBlocks = {BLOCK}\n"
KEY = lines(12, 15)
UID = "UID = 1, 2, 3, 4, 5, 6, 7, 8"

OWN = "put the rest into another [Authenticate Data]"
ENCRYPTED = "encrypted boot is not signed here"
BY_HASH = "refers to its certificate by hash; leave it out; the CSF contains the certificate"


def many(count: int, length: int = 0x40, *, last: int = 0) -> str:
    """So many blocks, one a line; `length` is that of the one numbered `last`, the others have 0x40."""
    places = [(number * 0x40, length if number == last else 0x40) for number in range(count)]
    return ", \\\n".join(f'{0x7E0FC0 + at:#x} {at:#x} {one:#x} "flash.bin"' for at, one in places)


# By what is wrong: the text, and the error's place and words.
REFUSED: dict[str, tuple[str, str, str]] = {
    "placeholders for signatures": (
        changed("Version = 4.3", "Version = 4.3\nMode = HSM"),
        "3:8",
        "Mode = HSM makes placeholders instead of signatures",
    ),
    "another hash": (
        changed("Version = 4.3", "Version = 4.3\nHash Algorithm = sha512"),
        "3:18",
        "Hash Algorithm = sha512: HAB4 supports sha256 only",
    ),
    "another hash of the SRK table": (
        changed("Source index = 0", "Source index = 0\nHash Algorithm = sha1"),
        "6:18",
        "Hash Algorithm = sha1: the fuses hold the sha256 of the SRK table",
    ),
    "a key by its hash": (
        changed("Target index = 2", "Target index = 2\nHash Algorithm = sha256"),
        "15:18",
        f"[Install Key] with a Hash Algorithm {BY_HASH}",
    ),
    "a key file that cst writes": (
        changed("", '[Install Secret Key]\nVerification index = 0\nKey = "/etc/passwd"\n'),
        "19:1",
        f"[Install Secret Key] is not signed: cst would write a key file on this host; {ENCRYPTED}",
    ),
    "files that cst encrypts": (
        changed("", '[Decrypt Data]\nVerification index = 0\nBlocks = 0 0 16 "/etc/passwd"\n'),
        "19:1",
        f"[Decrypt Data] is not signed: cst would encrypt files of this host in place; {ENCRYPTED}",
    ),
    "registers written": (
        changed("", "[Write Data]\nWidth = 4\nAddress Data = 0x30391000 0x0\n"),
        "19:1",
        "[Write Data] is not signed: it can write to any register of the board, and U-Boot refuses images with it",
    ),
    "registers checked": (
        changed("", "[Check Data]\nWidth = 4\nAddress Mask = 0x30391000 0x1\n"),
        "19:1",
        "[Check Data] is not signed: U-Boot refuses images with it",
    ),
    "a manufacturing id": (
        changed("", "[Set MID]\nBank = 0\nRow = 0\n"),
        "19:1",
        "[Set MID] is not signed: U-Boot refuses images with it",
    ),
    "no header": (lines(3, 18), "1:1", "the first command must be [Header]"),
    "a refused command first": ("[Write Data]\n", "1:1", "the first command must be [Header]"),
    "a header late": (lines(3, 5) + lines(1, 2), "1:1", "the first command must be [Header]"),
    "a second header": (changed("", "[Header]\nVersion = 4.3\n"), "19:1", "[Header] is given twice"),
    "a second header at once": (lines(1, 2) + BASE, "3:1", "[Header] is given twice"),
    "a header alone": ("[Header]\nVersion = 4.3\n", "1", "the CSF description has no [Install SRK]"),
    "a header and a table": (lines(1, 5), "3", "the CSF description has no [Install CSFK]"),
    "no signature of the commands": (lines(1, 7), "6", "the CSF description has no [Authenticate CSF]"),
    "no data": (lines(1, 15), "12", "the CSF description has no [Authenticate Data]"),
    "the table late": (
        lines(1, 2) + lines(6, 7) + lines(3, 5),
        "3:1",
        "[Install SRK] must be the first command after [Header]",
    ),
    "no table": (lines(1, 2) + lines(6, 18), "3:1", "[Install SRK] must be the first command after [Header]"),
    "a second table": (changed("", lines(3, 5)), "19:1", "[Install SRK] is given twice"),
    "a second CSF key": (
        changed("", lines(6, 7)),
        "19:1",
        "[Install CSFK] or [Install NOCAK] is given twice",
    ),
    "a CSF key and fast authentication": (
        changed("[Authenticate CSF]", '[Install NOCAK]\nFile = "SRK1_crt.pem"\n[Authenticate CSF]'),
        "8:1",
        "[Install CSFK] or [Install NOCAK] is given twice",
    ),
    "commands signed without a key": (
        lines(1, 5) + lines(8, 18),
        "6:1",
        "[Authenticate CSF] must come after [Install CSFK] or [Install NOCAK]",
    ),
    "commands signed twice": (changed("", "[Authenticate CSF]\n"), "19:1", "[Authenticate CSF] is given twice"),
    "a key before the commands": (
        lines(1, 7) + KEY + lines(8, 11) + lines(16, 18),
        "8:1",
        "[Install Key] must come after [Authenticate CSF]",
    ),
    "data before the commands": (
        lines(1, 7, FAST) + lines(9, 11, FAST) + lines(8, 8, FAST),
        "8:1",
        "[Authenticate Data] must come after [Authenticate CSF]",
    ),
    "an unlock before the commands": (
        lines(1, 7) + lines(9, 11) + lines(8, 8) + lines(12, 18),
        "8:1",
        "[Unlock] must come after [Authenticate CSF]",
    ),
    "an initialisation before the commands": (
        changed("[Authenticate CSF]", "[Init]\nEngine = SRTC\n[Authenticate CSF]"),
        "8:1",
        "[Init] must come after [Authenticate CSF]",
    ),
    "a key with fast authentication": (
        changed("[Authenticate Data]", KEY + "[Authenticate Data]", FAST),
        "9:1",
        "with [Install NOCAK] the SRK signs the data, and no key is installed",
    ),
    "a key in the SRK's place": (
        changed("Target index = 2", "Target index = 0"),
        "12:1",
        "Target index must be 2, 3 or 4: 0 and 1 are the SRK and the CSF key",
    ),
    "a key in the CSF key's place": (
        changed("Target index = 2", "Target index = 1"),
        "12:1",
        "Target index must be 2, 3 or 4: 0 and 1 are the SRK and the CSF key",
    ),
    "two keys in one place": (
        changed("", KEY.replace("IMG1_1", "IMG1_2")),
        "19:1",
        "a different key is already installed as 2",
    ),
    "a key in one place by two others": (
        BASE + KEY.replace("index = 2", "index = 3") + KEY.replace("Verification index = 0", "Verification index = 3"),
        "23:1",
        "a different key is already installed as 2",
    ),
    "a key verified by none": (
        changed("Verification index = 0", "Verification index = 3"),
        "12:1",
        "Verification index = 3: this key is not installed; 0 is the SRK",
    ),
    "a key verified by the CSF key": (
        changed("Verification index = 0", "Verification index = 1"),
        "12:1",
        "Verification index = 1: this key is not installed; 0 is the SRK",
    ),
    "data verified by the SRK": (
        changed("Verification index = 2", "Verification index = 0"),
        "16:1",
        "Verification index = 0: data must be verified with one of [2]",
    ),
    "data verified by the CSF key": (
        changed("Verification index = 2", "Verification index = 1"),
        "16:1",
        "Verification index = 1: data must be verified with one of [2]",
    ),
    "data verified by a key to come": (
        lines(1, 11) + DATA + KEY,
        "12:1",
        "Verification index = 2: data must be verified with an installed key",
    ),
    "fast authentication with a key": (
        changed("Verification index = 0", "Verification index = 2", FAST),
        "9:1",
        "Verification index = 2: data must be verified with 0, the SRK",
    ),
    "a block of nothing": (changed("0x2000", "0x0"), "18:10", "the block is empty"),
    "a second block of nothing": (changed(BLOCK, f'{BLOCK}, \\\n 0 0 0 "flash.bin"'), "19:2", "the block is empty"),
    "an unlock of nothing": (changed("Features = MID\n", ""), "9:1", "[Unlock] of CAAM needs Features"),
    "features of a clock": (
        changed(CAAM_MID, "Engine = SRTC\nFeatures = MID"),
        "9:1",
        "[Unlock] of SRTC must not have Features or a UID",
    ),
    "a UID of the software": (
        changed(CAAM_MID, f"Engine = SW\n{UID}"),
        "9:1",
        "[Unlock] of SW must not have Features or a UID",
    ),
    "an unlock of another engine": (changed(CAAM_MID, "Engine = DCP"), "9:1", "[Unlock] of DCP needs Features"),
    "an engine without hashes": (
        changed("Version = 4.3", "Version = 4.3\nEngine = SNVS"),
        "1:1",
        "[Header] with Engine = SNVS, which cannot hash; engines that can: ANY, RTIC, SAHARA, DCP, CAAM, SW",
    ),
    "an engine without hashes for the commands": (
        changed("[Authenticate CSF]", "[Authenticate CSF]\nEngine = OCOTP"),
        "8:1",
        (
            "[Authenticate CSF] with Engine = OCOTP, which cannot hash;"
            " engines that can: ANY, RTIC, SAHARA, DCP, CAAM, SW"
        ),
    ),
    "swapped bytes": (
        changed(BLOCK, f"{BLOCK}\nEngine = CAAM\nEngine Configuration = IN_SWAP_8"),
        "16:1",
        (
            "[Authenticate Data] with Engine Configuration = IN_SWAP_8: CAAM would swap bytes, and hash other"
            " bytes than cst signs; write Engine Configuration = 0"
        ),
    ),
    "swapped bytes for all": (
        changed("Version = 4.3", "Version = 4.3\nEngine = RTIC\nEngine Configuration = KEEP, IN_SWAP_16"),
        "1:1",
        (
            "[Header] with Engine Configuration = KEEP, IN_SWAP_16: RTIC would swap bytes, and hash other"
            " bytes than cst signs; write Engine Configuration = 0"
        ),
    ),
    "a configuration of no engine": (
        changed(BLOCK, f"{BLOCK}\nEngine Configuration = KEEP"),
        "16:1",
        "[Authenticate Data]: Engine = ANY must have Engine Configuration 0",
    ),
    "nine blocks": (
        changed(BLOCK, many(9)),
        "26:1",
        f"9 blocks in one [Authenticate Data], but with Engine = ANY HAB accepts at most 8; {OWN}",
    ),
    "nine blocks for CAAM": (
        changed(BLOCK, f"{many(9)}\nEngine = CAAM"),
        "26:1",
        f"9 blocks in one [Authenticate Data], but with Engine = CAAM HAB accepts at most 8; {OWN}",
    ),
    "seven blocks for the engine that was set": (
        changed(BLOCK, many(7)).replace(
            "[Install Key]", "[Set Engine]\nEngine = DCP\nHash Algorithm = sha256\n[Install Key]"
        ),
        "27:1",
        f"7 blocks in one [Authenticate Data], but with Engine = DCP HAB accepts at most 6; {OWN}",
    ),
    "thirteen blocks for SAHARA": (
        changed(BLOCK, many(13)).replace("Version = 4.3", "Version = 4.3\nEngine = SAHARA"),
        "31:1",
        f"13 blocks in one [Authenticate Data], but with Engine = SAHARA HAB accepts at most 12; {OWN}",
    ),
    "an unlock of a feature of another engine": (
        changed("Features = MID", "Features = JTAG"),
        "9:1",
        f"[Unlock] of CAAM JTAG is not signed; {SAFE_ONLY}",
    ),
    "a safe feature of another engine": (
        changed("Engine = CAAM", "Engine = SNVS"),
        "9:1",
        f"[Unlock] of SNVS MID is not signed; {SAFE_ONLY}",
    ),
    "an unsafe feature behind a safe one": (
        changed(CAAM_MID, "Engine = SNVS\nFeatures = LP SWR, ZMK WRITE"),
        "9:1",
        "[Unlock] of SNVS LP SWR is not signed; the operator can allow it as 'unlock-snvs-lp-swr'",
    ),
    "a UID of no use": (
        changed("Features = MID", f"Features = MID\n{UID}"),
        "9:1",
        "[Unlock] of CAAM must not have a UID",
    ),
    "an initialisation of something else": (
        changed("[Install Key]", "[Init]\nEngine = OCOTP\n[Install Key]"),
        "12:1",
        "[Init] is signed for CAAM RNG and SRTC only",
    ),
    "an initialisation of more": (
        changed("[Install Key]", "[Init]\nEngine = CAAM\nFeatures = RNG, MID\n[Install Key]"),
        "12:1",
        "[Init] is signed for CAAM RNG and SRTC only",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_the_command_and_the_reason_are_told(name: str) -> None:
    """Line and column are those of the command, or of the argument where it is one."""
    text, where, words = REFUSED[name]
    line, _, column = where.partition(":")
    with pytest.raises(csf.CsfPolicyError) as caught:
        csf.check(csf.parse(text.encode()), csf.Policy())
    assert (caught.value.line, caught.value.column) == (int(line), int(column) if column else None)
    place = f"line {line}, column {column}: " if column else f"line {line}: "
    assert str(caught.value) == place + words


ACCEPTED = {
    "a pause and an engine before the table": changed(
        "[Install SRK]", "[NOP]\n[Set Engine]\nEngine = CAAM\nHash Algorithm = sha256\n[Install SRK]"
    ),
    "the hash of the table, spelled out": changed("Source index = 0", "Source index = 0\nHash Algorithm = sha256"),
    "an unlock of a clock": changed(CAAM_MID, "Engine = SRTC"),
    "an unlock of the software": changed(CAAM_MID, "Engine = SW"),
    "the same key once more": changed("[Authenticate Data]", KEY + "[Authenticate Data]"),
    "eight blocks": changed(BLOCK, many(8)),
    "six blocks for DCP, one of them odd": changed(BLOCK, many(6, 0x30, last=2)).replace(
        "Version = 4.3", "Version = 4.3\nEngine = DCP"
    ),
    "a hash to be kept": changed(BLOCK, f"{BLOCK}\nEngine = RTIC\nEngine Configuration = KEEP"),
    "the base": BASE,
    "fast authentication": FAST,
    "no unlock": lines(1, 8) + lines(12, 18),
    "an unlock at the end": lines(1, 8) + lines(12, 18) + lines(9, 11),
    "two unlocks": changed("[Install Key]", "[Unlock]\nEngine = CAAM\nFeatures = RNG, MFG\n[Install Key]"),
    "an initialised generator": changed("[Install Key]", "[Init]\nEngine = CAAM\nFeatures = RNG\n[Install Key]"),
    "an initialised clock": changed("[Install Key]", "[Init]\nEngine = SRTC\n[Install Key]"),
    "an engine before the commands are signed": changed(
        "[Install CSFK]", "[Set Engine]\nEngine = CAAM\nHash Algorithm = sha256\n[Install CSFK]"
    ),
    "pauses": changed("[Install Key]", "[NOP]\n[NOP]\n[Install Key]").replace(
        "[Install CSFK]", "[NOP]\n[Install CSFK]"
    ),
    "three keys and data by each": BASE
    + "".join(KEY.replace("index = 2", f"index = {n}") + DATA.replace("index = 2", f"index = {n}") for n in (3, 4)),
    "a chain of keys": BASE + KEY.replace("index = 2", "index = 3").replace("index = 0", "index = 2"),
    "the same block twice": changed(BLOCK, f"{BLOCK}, {BLOCK}"),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_what_boards_boot_is_signed(name: str) -> None:
    """Nothing is refused that HAB4 takes and that leaves nothing open."""
    csf.check(csf.parse(ACCEPTED[name].encode()), csf.Policy())


@pytest.mark.parametrize("name", csf.ALLOWABLE_UNLOCKS)
def test_what_an_operator_may_allow_is_refused_until_then(name: str) -> None:
    """The refusal gives the name, and with that very name alone it is signed."""
    engine, feature = csf.ALLOWABLE_UNLOCKS[name]
    uid = f"\n{UID}" if feature in {"FIELD RETURN", "SCS", "JTAG"} else ""
    description = csf.parse(changed(CAAM_MID, f"Engine = {engine}\nFeatures = {feature}{uid}").encode())
    others = frozenset(csf.ALLOWABLE) - {name}
    with pytest.raises(csf.CsfPolicyError) as caught:
        csf.check(description, csf.Policy(others))
    assert str(caught.value) == (
        f"line 9, column 1: [Unlock] of {engine} {feature} is not signed; the operator can allow it as '{name}'"
    )
    csf.check(description, csf.Policy(frozenset({name})))


@pytest.mark.parametrize(
    ("feature", "uid", "words"),
    [
        ("FIELD RETURN", False, "needs the chip's UID"),
        ("SCS", False, "needs the chip's UID"),
        ("JTAG", False, "needs the chip's UID"),
        ("SRK REVOKE, JTAG", False, "needs the chip's UID"),
        ("SRK REVOKE", True, "must not have a UID"),
    ],
)
def test_the_uid_is_there_exactly_where_hab_wants_it(feature: str, uid: bool, words: str) -> None:
    """The tool itself refuses the same, without saying where."""
    text = changed(CAAM_MID, f"Engine = OCOTP\nFeatures = {feature}" + (f"\n{UID}" if uid else ""))
    with pytest.raises(csf.CsfPolicyError, match=rf"^line 9, column 1: \[Unlock\] of OCOTP {feature} {words}$"):
        csf.check(csf.parse(text.encode()), csf.Policy(frozenset(csf.ALLOWABLE)))


def test_nothing_else_can_be_allowed() -> None:
    """A policy with a name that nothing stands behind is a mistake in the configuration."""
    with pytest.raises(ValueError, match=r"^'write-data' cannot be allowed; allowed can be: unlock-snvs-lp-swr, "):
        csf.Policy(frozenset({"write-data"}))


def test_no_feature_is_safe_and_allowable_at_once() -> None:
    """Every name in the table allows something, and no two the same."""
    assert len(set(csf.ALLOWABLE_UNLOCKS.values())) == len(csf.ALLOWABLE_UNLOCKS)
    for engine, feature in csf.ALLOWABLE_UNLOCKS.values():
        assert engine != "CAAM"
        assert feature in csf.values.FEATURES
