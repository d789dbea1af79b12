"""What is read of a description for AHAB, and what is not, by its line and column."""

from __future__ import annotations

from pathlib import Path

import pytest

from digsigd import csf
from digsigd.csf import ahab, grammar
from digsigd.csf.ahab import grammar as ahab_grammar
from tests.csf import texts
from tests.csf.ahab_texts import BASE, SGK, SRK, TABLE, V2, WITH_SGK, another
from tests.csf.texts import changed

SAMPLE = Path(__file__).parent / "samples/nxp-cst-signer-ahab.csf"
NUMBER = "is not a number (decimal, octal from 0, hexadecimal from 0x)"
FOR_AHAB = "the description is for AHAB; for HAB4, leave Target = AHAB out of [Header]"
FOR_HAB4 = "the description is for HAB4; for AHAB, write Target = AHAB in [Header]"
PAIR = "takes 2 numbers without commas: HEADER BLOCK"


def wrong(text: str | bytes) -> csf.CsfError:
    with pytest.raises(csf.CsfSyntaxError) as caught:
        ahab.parse(text if isinstance(text, bytes) else text.encode())
    return caught.value


def test_a_description_is_its_values() -> None:
    """Every command and argument of containers of version 0."""
    assert ahab.parse(WITH_SGK.encode()) == ahab.Description(
        (
            ahab.Header(version=(1, 0)),
            ahab.InstallSrk(file=TABLE, source=SRK, source_index=0, source_set="OEM", revocations=0),
            ahab.InstallCertificate(file=SGK, permissions=1),
            ahab.AuthenticateData(file="flash.bin", offsets=(0x400, 0x490)),
        )
    )


def test_version_2_has_more_arguments() -> None:
    """Those that cst 4.0.1 has brought."""
    text = changed("Revocations = 0x0", "Revocations = 0x8\nCheck All Signatures = all\nFast Boot = 7", V2)
    more = "Permissions = 0x3\nPermissions Data = 1 0x2 3\nUUID = 1 2 3 0xffffffff\nFuse Version = 255"
    description = ahab.parse(changed("Permissions = 0x1", f'{more}\nSignature = "sgk.sig"', text).encode())
    srk, certificate = description.srk, description.certificate
    assert (description.header.version, description.header.container_version) == ((2, 0), 2)
    assert (srk.revocations, srk.check_all_signatures, srk.fast_boot) == (8, "All", 7)
    assert certificate is not None
    assert (certificate.permissions, certificate.permissions_data) == (3, (1, 2, 3))
    assert (certificate.uuid, certificate.fuse_version) == ((1, 2, 3, 0xFFFFFFFF), 255)
    assert certificate.signature == "sgk.sig"


def test_the_parts_of_a_description_are_found_by_name() -> None:
    """Wherever they are, after the header."""
    description = ahab.parse((BASE + another("0x4000 0x4110", "other.bin")).encode())
    assert description.header.container_version == 0
    assert description.srk.source == SRK
    assert description.certificate is None
    assert [(one.file, one.container_offset, one.block_offset) for one in description.data] == [
        ("flash.bin", 0x400, 0x490),
        ("other.bin", 0x4000, 0x4110),
    ]


def test_the_text_of_nxps_cst_signer_is_read() -> None:
    """Tabs, absolute paths and numbers of eight digits."""
    description = ahab.parse(SAMPLE.read_bytes())
    assert description.srk.file == "/opt/cst/crts/SRK_1_2_3_4_table.bin"
    assert description.data[0].offsets == (0x400, 0x590)
    assert ahab.is_ahab(SAMPLE.read_bytes())


def test_case_blanks_and_comments_do_not_matter() -> None:
    """As in descriptions for HAB4."""
    text = BASE.replace("[Install SRK]", "[ install_srk ]  # the table").replace("Source set", "SOURCESET")
    text = text.replace("OEM", "oem").replace("0x400 0x490", "1024 \\\n # header\n 02220")
    assert ahab.parse(text.replace("\n", "\r\n").encode()) == ahab.parse(BASE.encode())


# By what is wrong: what is replaced in the description with an SGK for version 2, by what, the place, the words.
CASES = {
    "a minus before an index": ("index = 0", "index = -1", "7:16", f'Source index: "-1" {NUMBER}'),
    "a minus within a number": ("index = 0", "index = 0x-1", "7:16", f'Source index: "0x-1" {NUMBER}'),
    "a fifth key": ("index = 0", "index = 4", "7:16", "Source index: 4 is more than 3"),
    "an index of 64 bits": ("index = 0", "index = 0x100000000", "7:16", "Source index: 0x100000000 is more than 3"),
    "a revocation of five keys": ("Revocations = 0x0", "Revocations = 16", "9:15", "Revocations: 16 is more than 15"),
    "permissions of nine bits": (
        "Permissions = 0x1",
        "Permissions = 0x100",
        "12:15",
        "Permissions: 0x100 is more than 255",
    ),
    "a fast boot of four bits": (
        "Revocations = 0x0",
        "Revocations = 0x0\nFast Boot = 8",
        "10:13",
        "Fast Boot: 8 is more than 7",
    ),
    "a fuse version of nine bits": (
        "Permissions = 0x1",
        "Permissions = 0x1\nFuse Version = 256",
        "13:16",
        "Fuse Version: 256 is more than 255",
    ),
    "an offset of 33 bits": (
        "0x400 0x490",
        "0x100000400 0x490",
        "15:11",
        "Offsets: 0x100000400 is more than 4294967295",
    ),
    "a block of 33 bits": ("0x400 0x490", "0x400 0x100000490", "15:17", "Offsets: 0x100000490 is more than 4294967295"),
    "a negative offset": ("0x400 0x490", "-0x400 0x490", "15:11", f'Offsets: "-0x400" {NUMBER}'),
    "one offset": ("0x400 0x490", "0x400", "15:11", f"Offsets: {PAIR}"),
    "three offsets": ("0x400 0x490", "0x400 0x490 0x500", "15:11", f"Offsets: {PAIR}"),
    "offsets with a comma": ("0x400 0x490", "0x400, 0x490", "15:18", "Offsets: takes HEADER BLOCK once"),
    "two pairs of offsets": ("0x400 0x490", "0x400 0x490, 0x800 0x890", "15:24", "Offsets: takes HEADER BLOCK once"),
    "no offsets": ("Offsets = 0x400 0x490", "Offsets =", "15:1", "Offsets: has no value"),
    "offsets in quotation marks": ("0x400 0x490", '0x400 "0x490"', "15:17", f'Offsets: "0x490" {NUMBER}'),
    "words with commas": (
        "Permissions = 0x1",
        "Permissions = 0x1\nPermissions Data = 1, 2, 3",
        "13:23",
        "Permissions Data: takes A B C once",
    ),
    "a UUID of three": (
        "Permissions = 0x1",
        "Permissions = 0x1\nUUID = 1 2 3",
        "13:8",
        "UUID: takes 4 numbers without commas: A B C D",
    ),
    "another set": ("set = OEM", "set = OEN", "8:14", 'Source set: "OEN" is not known: did you mean OEM?'),
    "a set of no keys": ("set = OEM", "set = 0", "8:14", 'Source set: "0" is not known: the values are OEM, NXP'),
    "a third check": (
        "Revocations = 0x0",
        "Revocations = 0x0\nCheck All Signatures = 1",
        "10:24",
        'Check All Signatures: "1" is not known: the values are Fuse, All',
    ),
    "a version of HAB4": (
        "2.0",
        "4.3",
        "3:11",
        "Version: takes 1.0 for containers of version 0, or 2.0 for containers of version 2",
    ),
    "a version to come": (
        "2.0",
        "2.1",
        "3:11",
        "Version: takes 1.0 for containers of version 0, or 2.0 for containers of version 2",
    ),
    "another target": ("AHAB", "HAB", "2:10", 'Target: "HAB" is not known: did you mean AHAB?'),
    "another mode": ("2.0", "2.0\nMode = SSL", "4:8", 'Mode: "SSL" is not known: the values are HSM'),
    "a name without quotation marks": (
        f'Source = "{SRK}"',
        "Source = a_crt.pem",
        "6:10",
        "Source: takes a file name in quotation marks",
    ),
    "two sources": (f'"{SRK}"', f'"{SRK}", "{SGK}"', "6:1", "Source: has several values; it takes one"),
    "an empty name": ('File = "flash.bin"', 'File = ""', "14:8", "File: the file name is empty"),
    "an argument twice": ("index = 0", "index = 0\nSource_Index = 1", "8:1", '"Source_Index" is given twice'),
    "an unknown argument": (
        "set = OEM",
        "set = OEM\nRevocation = 0",
        "9:1",
        '[Install SRK] has no argument "Revocation": did you mean Revocations?',
    ),
    "an unknown command": (
        "[Install Certificate]",
        "[Install Certificat]",
        "10:1",
        'the command "Install Certificat" is not known: did you mean [Install Certificate]?',
    ),
    "a command of HAB4": (
        "[Install Certificate]",
        "[Install CSFK]",
        "10:1",
        f"[Install CSFK] is a command of HAB4; {FOR_AHAB}",
    ),
    "a command that is refused for HAB4": (
        "[Install Certificate]",
        "[Write Data]",
        "10:1",
        f"[Write Data] is a command of HAB4; {FOR_AHAB}",
    ),
    "blocks of HAB4": (
        "Offsets = 0x400 0x490",
        'Blocks = 0 0 1 "flash.bin"',
        "15:1",
        f"Blocks is an argument of HAB4; {FOR_AHAB}",
    ),
    "an engine of HAB4": ("2.0", "2.0\nEngine = CAAM", "4:1", f"Engine is an argument of HAB4; {FOR_AHAB}"),
    "no command": ("[Header]", "", "2:1", "a CSF description begins with [Header]"),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_wrong_is_told_with_its_place(name: str) -> None:
    """Where cst reads something else than what is written, or ends without a word about the line."""
    old, new, place, words = CASES[name]
    text = V2
    assert old in text
    error = wrong(text.replace(old, new, 1) if name != "an empty name" else changed(old, new, text))
    assert f"{error.line}:{error.column}" == place
    assert str(error) == f"line {error.line}, column {error.column}: {words}"


@pytest.mark.parametrize(
    ("line", "command", "label"),
    [
        ("Target = AHAB", "Header", "Target"),
        ("Version = 2.0", "Header", "Version"),
        (f'File = "{TABLE}"', "Install SRK", "File"),
        (f'Source = "{SRK}"', "Install SRK", "Source"),
        ("Source index = 0", "Install SRK", "Source index"),
        ("Source set = OEM", "Install SRK", "Source set"),
        ("Revocations = 0x0", "Install SRK", "Revocations"),
        (f'File = "{SGK}"', "Install Certificate", "File"),
        ("Permissions = 0x1", "Install Certificate", "Permissions"),
        ('File = "flash.bin"', "Authenticate Data", "File"),
        ("Offsets = 0x400 0x490", "Authenticate Data", "Offsets"),
    ],
)
def test_a_missing_argument_is_told_with_the_line_of_its_command(line: str, command: str, label: str) -> None:
    """Each that cst needs."""
    error = wrong(changed(f"{line}\n", "", V2))
    at = V2.splitlines().index(f"[{command}]") + 1
    assert str(error) == f"line {at}, column 1: [{command}] needs {label}"


HAB_WITH_AHAB = {
    "a certificate": (
        "[Unlock]",
        "[Install Certificate]",
        f"line 9, column 1: [Install Certificate] is a command of AHAB; {FOR_HAB4}",
    ),
    "a source": ("Source index = 0", "Source = 0", f"line 5, column 1: Source is an argument of AHAB; {FOR_HAB4}"),
    "a set": (
        "Source index = 0",
        "Source set = OEM",
        f"line 5, column 1: Source set is an argument of AHAB; {FOR_HAB4}",
    ),
    "offsets": ("Blocks = ", "Offsets = 0 0x90 #", f"line 18, column 1: Offsets is an argument of AHAB; {FOR_HAB4}"),
    "a target in quotation marks": (
        "Version = 4.3",
        'Target = "AHAB"',
        "line 2, column 10: Target: write AHAB without quotation marks",
    ),
    "a target like AHAB": (
        "Version = 4.3",
        "Target = AHAB2",
        'line 2, column 10: Target: "AHAB2" is not known: did you mean AHAB?',
    ),
    "a target in two words": (
        "Version = 4.3",
        "Target = A HAB",
        "line 2, column 10: Target: the description is for AHAB, not for HAB4",
    ),
}


@pytest.mark.parametrize("name", HAB_WITH_AHAB)
def test_what_is_of_ahab_is_told_in_a_description_for_hab4(name: str) -> None:
    """By what it is, instead of as an unknown word."""
    old, new, words = HAB_WITH_AHAB[name]
    with pytest.raises(csf.CsfSyntaxError) as caught:
        csf.parse(changed(old, new).encode())
    assert str(caught.value) == words


def test_each_language_knows_the_words_of_the_other() -> None:
    """All of them, and none that it has itself."""
    hab, own = grammar.HAB4, ahab_grammar.AHAB
    labels, our_labels = ({label for form in one.commands.values() for label in form.arguments} for one in (hab, own))
    assert hab.foreign_labels == our_labels - labels
    assert own.foreign_labels == labels - our_labels
    assert hab.foreign_commands == (own.commands.keys() | own.refused.keys()) - hab.commands.keys() - hab.refused.keys()
    assert own.foreign_commands == (hab.commands.keys() | hab.refused.keys()) - own.commands.keys() - own.refused.keys()


def test_a_long_text_is_not_read() -> None:
    """The bound is the caller's, or a mebibyte."""
    for length, bound in ((len(BASE), {"max_bytes": len(BASE)}), (1 << 20, {})):
        text = (BASE + "\n" * (length - len(BASE))).encode()
        assert len(text) == length
        assert ahab.parse(text, **bound) == ahab.parse(BASE.encode())
        assert ahab.is_ahab(text, **bound)
        with pytest.raises(csf.CsfSyntaxError, match=f"has {length + 1} bytes; at most {length} are read"):
            ahab.parse(text + b"\n", **bound)
        assert not ahab.is_ahab(text + b"\n", **bound)


def test_commands_are_found_wherever_they_are() -> None:
    """In a description that nobody has checked, too."""
    description = ahab.Description(tuple(reversed(ahab.parse(WITH_SGK.encode()).commands)))
    assert (description.header.version, description.srk.source) == ((1, 0), SRK)
    assert description.certificate is not None
    assert len(description.data) == 1


TOLD = {
    "a description": BASE,
    "in any case": "[HEADER]\ntarget=ahab",
    "with blanks": "  [ Header ] # first\n\tT a r g e t =\tA HAB",
    "on two lines": "[Header]\nTarget = \\\n # now\n AHAB",
    "behind other arguments": "[Header]\nVersion = 1.0\nMode = HSM\nTarget = AHAB # it is",
    "with carriage returns": BASE.replace("\n", "\r\n"),
    "with a byte order mark": "\ufeff" + BASE,
    "with another value behind": "[Header]\nTarget = AHAB, HAB",
    "what follows is damaged": '[Header]\nTarget = AHAB\n[Install SRK\nFile = "',
    "a header that is not first": "[Install SRK]\nTarget = HAB\n[Header]\nTarget = AHAB",
}
NOT_TOLD: dict[str, str | bytes] = {
    "nothing": "",
    "a description for HAB4": texts.BASE,
    "a target of HAB4": "[Header]\nTarget = HAB\n[Install SRK]\nTarget = AHAB",
    "a comment": "[Header]\n# Target = AHAB\nVersion = 4.3 # Target = AHAB",
    "a comment in a continued line": "[Header]\nVersion = \\\n# Target = AHAB\n4.3",
    "a string": '[Header]\nVersion = 4.3\nMode = "\\nTarget = AHAB"',
    "the value as a string": '[Header]\nTarget = "AHAB"',
    "the label as a string": '[Header]\n"Target" = AHAB',
    "a continued line": "[Header]\nVersion = 4.3 \\\nTarget = AHAB",
    "no header": "Target = AHAB",
    "another command": "[Install SRK]\nTarget = AHAB",
    "the second header": "[Header]\nVersion = 4.3\n[Header]\nTarget = AHAB",
    "the second target": "[Header]\nTarget = HAB\nTarget = AHAB",
    "a longer value": "[Header]\nTarget = AHAB2",
    "no equals sign": "[Header]\nTarget AHAB",
    "no value": "[Header]\nTarget =",
    "damage before it": '[Header]\nVersion = "\nTarget = AHAB',
    "a damaged header": "[Header\nTarget = AHAB",
    "something behind the header": "[Header] x\nTarget = AHAB",
    "UTF-16": BASE.encode("utf-16"),
}


@pytest.mark.parametrize("name", TOLD)
def test_a_description_for_ahab_is_told(name: str) -> None:
    """By the target in its header, which is all that is read."""
    assert ahab.is_ahab(TOLD[name].encode())


@pytest.mark.parametrize("name", NOT_TOLD)
def test_what_only_looks_like_the_target_is_not(name: str) -> None:
    """It is then read as a description for HAB4, which says what is wrong."""
    text = NOT_TOLD[name]
    assert not ahab.is_ahab(text if isinstance(text, bytes) else text.encode())
