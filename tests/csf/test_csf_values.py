"""Values that arguments do not take: numbers, names, keywords, blocks."""

from __future__ import annotations

import pytest

from digsigd import csf
from tests.csf.texts import BLOCK, changed

NUMBER = "is not a number (decimal, octal from 0, hexadecimal from 0x)"
ENGINES = "ANY, CAAM, CSU, DCP, DTCP, HDCP, OCOTP, ROM, RTIC, SAHARA, SCC, SNVS, SRTC, SW"
FEATURES = "MID, RNG, MFG, LP SWR, ZMK WRITE, FIELD RETURN, SRK REVOKE, SCS, JTAG"
SWAPS = "IN_SWAP_8, IN_SWAP_16, OUT_SWAP_8, OUT_SWAP_16, DSC_SWAP_8, DSC_SWAP_16, KEEP"
VERSIONS = "takes 4.0 to 4.5 for HAB4; HAB3 is not signed here, and descriptions for AHAB have Target = AHAB"
BLOCKS = 'a block is ADDRESS OFFSET LENGTH "FILE"'
COMMA = "the value ends with a comma; put a \\ at the end if it continues on the next line"
# By what is wrong: what of the description is replaced, by what, and the error's place and words. With None in place of
# the first, the second is the whole text.
CASES: dict[str, tuple[str | None, str | bytes, str, str]] = {
    "no value": ("Source index = 0", "Source index =", "5:1", "Source index: has no value"),
    "no value for a file": ('File = "SRK_1_2_3_4_table.bin"', "File =", "4:1", "File: has no value"),
    "no value for keywords": ("Features = MID", "Features =", "11:1", "Features: has no value"),
    "no value for a configuration": (
        "Version = 4.3",
        "Version = 4.3\nEngine Configuration =",
        "3:1",
        "Engine Configuration: has no value",
    ),
    "no value for octets": (
        "Features = MID",
        "Features = MID\nUID =",
        "12:1",
        "UID: takes 8 numbers separated by commas",
    ),
    "no value for a version": ("Version = 4.3", "Version =", "2:1", "Version: has no value"),
    "no value for blocks": (BLOCK, "", "18:1", "Blocks: has no block"),
    "a word for a number": ("Source index = 0", "Source index = first", "5:16", f'Source index: "first" {NUMBER}'),
    "a string for a number": ("Source index = 0", 'Source index = "0"', "5:16", f'Source index: "0" {NUMBER}'),
    "a negative number": ("Target index = 2", "Target index = -2", "14:16", f'Target index: "-2" {NUMBER}'),
    "a negative verification index": (
        "Verification index = 0",
        "Verification index = -1",
        "13:22",
        f'Verification index: "-1" {NUMBER}',
    ),
    "a sign before a number": ("Target index = 2", "Target index = +2", "14:16", f'Target index: "+2" {NUMBER}'),
    "a number with a point": ("Target index = 2", "Target index = 2.0", "14:16", f'Target index: "2.0" {NUMBER}'),
    "a wrong octal number": ("Source index = 0", "Source index = 08", "5:16", f'Source index: "08" {NUMBER}'),
    "a hexadecimal number without digits": (
        "Source index = 0",
        "Source index = 0x",
        "5:16",
        f'Source index: "0x" {NUMBER}',
    ),
    "a number beyond the keys": ("Target index = 2", "Target index = 5", "14:16", "Target index: 5 is more than 4"),
    "an index beyond the table": ("Source index = 0", "Source index = 4", "5:16", "Source index: 4 is more than 3"),
    "a number of 33 bits": ("0x7e0fc0", "0x100000000", "18:10", "Blocks: 0x100000000 is more than 4294967295"),
    "the largest decimal number and one": (
        "0x7e0fc0",
        "4294967296",
        "18:10",
        "Blocks: 4294967296 is more than 4294967295",
    ),
    "a number of 65 bits": ("0x7e0fc0", "0x10000000000000000", "18:10", f'Blocks: "0x10000000000000000" {NUMBER}'),
    "two numbers": ("Source index = 0", "Source index = 0 1", "5:18", "Source index: takes one value"),
    "a list of numbers": (
        "Source index = 0",
        "Source index = 0, 1",
        "5:1",
        "Source index: has several values; it takes one",
    ),
    "a number for a file": (
        'File = "SRK_1_2_3_4_table.bin"',
        "File = 1",
        "4:8",
        "File: takes a file name in quotation marks",
    ),
    "a pair for a file": ('File = "SRK_1_2_3_4_table.bin"', "File = 1 2", "4:10", "File: takes one value"),
    "blocks for a file": ('File = "SRK_1_2_3_4_table.bin"', "File = " + BLOCK, "4:17", "File: takes one value"),
    "a bare word for a file": (
        'File = "SRK_1_2_3_4_table.bin"',
        "File = SRK_1_2_3_4_table.bin",
        "4:8",
        "File: takes a file name in quotation marks",
    ),
    "two files": (
        'File = "SRK_1_2_3_4_table.bin"',
        'File = "a", "b"',
        "4:1",
        "File: has several values; it takes one",
    ),
    "a string beside a file": ('File = "SRK_1_2_3_4_table.bin"', 'File = "a" "b"', "4:12", "File: takes one value"),
    "an empty file name": ('File = "SRK_1_2_3_4_table.bin"', 'File = ""', "4:8", "File: the file name is empty"),
    "a path of 256 bytes": (
        '"SRK_1_2_3_4_table.bin"',
        '"' + "a" * 256 + '"',
        "4:8",
        "the string has 256 bytes; cst accepts at most 255",
    ),
    "a path of 128 characters and 256 bytes": (
        '"SRK_1_2_3_4_table.bin"',
        '"' + "ä" * 128 + '"',
        "4:8",
        "the string has 256 bytes; cst accepts at most 255",
    ),
    "the URI has 256 bytes": (
        '"SRK_1_2_3_4_table.bin"',
        "pkcs11:" + "a" * 249,
        "4:8",
        "File: the URI has 256 bytes; cst accepts at most 255",
    ),
    "a URI with a space": (
        '"SRK_1_2_3_4_table.bin"',
        "pkcs11:token=a b",
        "4:23",
        "File: a URI must not have spaces or anything after it",
    ),
    "a URI and a string": (
        '"SRK_1_2_3_4_table.bin"',
        'pkcs11:token="a"',
        "4:21",
        "File: a URI must not have spaces or anything after it",
    ),
    "two URIs": (
        '"SRK_1_2_3_4_table.bin"',
        '"pkcs11:a", "pkcs11:b"',
        "4:18",
        "File: a URI must not have spaces or anything after it",
    ),
    "an unknown keyword": (
        "Engine = CAAM",
        "Engine = CAMM",
        "10:10",
        'Engine: "CAMM" is not known: did you mean CAAM?',
    ),
    "a keyword near two": ("Engine = CAAM", "Engine = DTC", "10:10", 'Engine: "DTC" is not known: did you mean DTCP?'),
    "a keyword far from any": (
        "Engine = CAAM",
        "Engine = Turbo",
        "10:10",
        f'Engine: "Turbo" is not known: the values are {ENGINES}',
    ),
    "a number for a keyword": (
        "Engine = CAAM",
        "Engine = 0x1d",
        "10:10",
        f'Engine: "0x1d" is not known: the values are {ENGINES}',
    ),
    "a string for a keyword": ("Engine = CAAM", 'Engine = "CAAM"', "10:10", f"Engine: takes one of {ENGINES}"),
    "several engines": ("Engine = CAAM", "Engine = CAAM, SW", "10:1", "Engine: has several values; it takes one"),
    "numbers that hang cst": (
        "Features = MID",
        "Features = 1 2",
        "11:12",
        f'Features: "1 2" is not known: the values are {FEATURES}',
    ),
    "features without commas": (
        "Features = MID",
        "Features = MID RNG",
        "11:12",
        'Features: "MID RNG" is not known: separate values with commas',
    ),
    "a feature and a string": ("Features = MID", 'Features = MID "RNG"', "11:12", f"Features: takes one of {FEATURES}"),
    "a feature and something else": (
        "Features = MID",
        "Features = MID Turbo",
        "11:12",
        f'Features: "MID Turbo" is not known: the values are {FEATURES}',
    ),
    "a feature twice": ("Features = MID", "Features = MID, RNG, mid", "11:1", "Features: has a value twice"),
    "a very long keyword": (
        "Features = MID",
        "Features = " + "MID" * 1000,
        "11:12",
        (
            'Features: "MIDMIDMIDMIDMIDMI...DMIDMIDMIDMIDMIDMIDMIDMIDMIDMIDMIDMIDMID" is not known: the values are'
            f" {FEATURES}"
        ),
    ),
    "an unknown hash": (
        "Version = 4.3",
        "Version = 4.3\nHash Algorithm = md5",
        "3:18",
        'Hash Algorithm: "md5" is not known: the values are sha1, sha256, sha512',
    ),
    "a number for a configuration": (
        "Version = 4.3",
        "Version = 4.3\nEngine Configuration = 3",
        "3:24",
        f"Engine Configuration: the only number allowed is 0; names: {SWAPS}",
    ),
    "a configuration that corrupts cst": (
        "Version = 4.3",
        "Version = 4.3\nEngine Configuration = DSC_BE_8_16",
        "3:24",
        'Engine Configuration: "DSC_BE_8_16" is not known: did you mean DSC_SWAP_16?',
    ),
    "another certificate format": (
        "Version = 4.3",
        "Version = 4.3\nCertificate Format = WTLS",
        "3:22",
        'Certificate Format: "WTLS" is not known: the values are X509',
    ),
    "another signature format": (
        "Version = 4.3",
        "Version = 4.3\nSignature Format = PKCS1",
        "3:20",
        'Signature Format: "PKCS1" is not known: the values are CMS',
    ),
    "another target": (
        "Version = 4.3",
        "Version = 4.3\nTarget = AHAB",
        "3:10",
        "Target: the description is for AHAB, not for HAB4",
    ),
    "an unknown mode": (
        "Version = 4.3",
        "Version = 4.3\nMode = SSL",
        "3:8",
        'Mode: "SSL" is not known: the values are HSM',
    ),
    "HAB3": ("4.3", "3.0", "2:11", f"Version: {VERSIONS}"),
    "a version to come": ("4.3", "4.6", "2:11", f"Version: {VERSIONS}"),
    "a version of three parts": ("4.3", "4.3.1", "2:11", f"Version: {VERSIONS}"),
    "a version in quotation marks": ("4.3", '"4.3"', "2:11", f"Version: {VERSIONS}"),
    "a UID of seven": (
        "Features = MID",
        "Features = MID\nUID = 1, 2, 3, 4, 5, 6, 7",
        "12:1",
        "UID: takes 8 numbers separated by commas",
    ),
    "a UID without commas": (
        "Features = MID",
        "Features = MID\nUID = 1 2 3 4 5 6 7 8",
        "12:1",
        "UID: takes 8 numbers separated by commas",
    ),
    "a UID beyond bytes": (
        "Features = MID",
        "Features = MID\nUID = 1, 2, 3, 4, 5, 6, 7, 256",
        "12:28",
        "UID: 256 is more than 255",
    ),
    "a comma first": ("Features = MID", "Features = , MID", "11:12", "the value begins with a comma"),
    "a comma last": ("Features = MID", "Features = MID,", "11:15", f"{COMMA}"),
    "a comma last and a line continued": (BLOCK, BLOCK + ", \\\n", "18:41", f"{COMMA}"),
    "two commas": (BLOCK, BLOCK + ", , " + BLOCK, "18:30", "a value is missing between two commas"),
    "a bracket in a value": ("Features = MID", "Features = [MID]", "11:12", '"[" is not allowed in a value'),
    "a bracket behind a value": ("Features = MID", "Features = MID]", "11:15", '"]" is not allowed in a value'),
    "an equals sign in a value": ("Features = MID", "Features = MID = RNG", "11:16", '"=" is not allowed in a value'),
    "a block without a length": (BLOCK, '0x7e0fc0 0x0 "flash.bin"', "18:10", f"Blocks: {BLOCKS}"),
    "a block of numbers": (BLOCK, "1 2 3", "18:10", f"Blocks: {BLOCKS}"),
    "a block of words": (BLOCK, "MID, RNG", "18:10", f"Blocks: {BLOCKS}"),
    "a block with an empty name": (BLOCK, '0x7e0fc0 0x0 0x2000 ""', "18:10", f"Blocks: {BLOCKS}"),
    "a block with a bare name": (BLOCK, "0x7e0fc0 0x0 0x2000 flash.bin", "18:10", f"Blocks: {BLOCKS}"),
    "a file name alone": (BLOCK, '"flash.bin"', "18:10", f"Blocks: {BLOCKS}"),
    "a negative address": ("0x7e0fc0", "-0x10", "18:10", f'Blocks: "-0x10" {NUMBER}'),
    "a length of 33 bits": ("0x2000", "0x100002000", "18:23", "Blocks: 0x100002000 is more than 4294967295"),
    "blocks without a comma": (BLOCK, BLOCK + " " + BLOCK, "18:42", "Blocks: separate blocks with commas"),
    "a second block on a new line without a comma": (
        BLOCK,
        BLOCK + " \\\n " + BLOCK,
        "19:2",
        "Blocks: separate blocks with commas",
    ),
    "a second block on a new line without a backslash": (BLOCK, BLOCK + ",\n " + BLOCK, "18:41", f"{COMMA}"),
    "65 blocks": (BLOCK, ", ".join([BLOCK] * 65), "18:2122", "Blocks: has 65 blocks; at most 64 are signed"),
    "65 blocks in two commands": (
        BLOCK,
        ", \\\n".join([BLOCK] * 33)
        + "\n[Authenticate Data]\nVerification index = 2\nBlocks = "
        + ", \\\n".join([BLOCK] * 32),
        "84:1",
        "the CSF description has 65 blocks; at most 64 are signed",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_value_and_the_reason_are_told(name: str) -> None:
    """Line and column are those of the value, or of its label where the whole of it is wrong."""
    old, new, where, words = CASES[name]
    text = new if old is None or isinstance(new, bytes) else changed(old, new)
    with pytest.raises(csf.CsfSyntaxError) as caught:
        csf.parse(text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape"))
    line, _, column = where.partition(":")
    assert caught.value.line == (int(line) if line else None)
    assert caught.value.column == (int(column) if column else None)
    place = f"line {line}, column {column}: " if column else f"line {line}: " if line else ""
    assert str(caught.value) == place + words
