"""Texts that are no description: lines, words, strings, commands and their arguments."""

from __future__ import annotations

import pytest

from digsigd import csf
from tests.csf.texts import BASE, BLOCK, changed

COMMANDS = (
    "Header, Install SRK, Install CSFK, Install NOCAK, Authenticate CSF, Install Key, Authenticate Data, Unlock,"
    " Set Engine, Init, NOP"
)
NUMBER = "is no number (decimal, octal from 0, hexadecimal from 0x)"
SRK_ARGUMENTS = "File, Source index, Hash Algorithm"
# By what is wrong: what of the description is replaced, by what, and the error's place and words. With None in place of
# the first, the second is the whole text.
CASES: dict[str, tuple[str | None, str | bytes, str, str]] = {
    "an empty text": (None, "", "", "the CSF description is empty; it begins with [Header]"),
    "comments alone": (None, "# nothing\n\n  # here\n", "", "the CSF description is empty; it begins with [Header]"),
    "text before the first command": (None, "hello\n" + BASE, "1:1", "the description begins with [Header]"),
    "an argument before the first command": (
        None,
        "Version = 4.3\n" + BASE,
        "1:1",
        "the description begins with [Header]",
    ),
    "a name never closed": ("[Install SRK]", "[Install SRK", "3:10", "a command's name stands in [ and ]"),
    "a name never opened": ("[Install SRK]", "Install SRK]", "3:1", "expected [Command] or Argument = value"),
    "an empty name": ("[Install SRK]", "[]", "3:2", "a command's name stands in [ and ]"),
    "a name in quotation marks": ("[Install SRK]", '["Install SRK"]', "3:2", "a command's name stands in [ and ]"),
    "a name in two pairs": ("[Install SRK]", "[[Install SRK]]", "3:2", "a command's name stands in [ and ]"),
    "an argument behind a name": ("[Install SRK]\n", "[Install SRK] ", "3:15", "behind a command's name the line ends"),
    "an unknown command": ("[Unlock]", "[Unlok]", "9:1", 'the command "Unlok" is not known: did you mean [Unlock]?'),
    "a command far from any": (
        "[Unlock]",
        "[Make Coffee]",
        "9:1",
        f'the command "Make Coffee" is not known: there are {COMMANDS}',
    ),
    "a command of AHAB": (
        "[Unlock]",
        "[Install Certificate]",
        "9:1",
        "[Install Certificate] is a command of AHAB; this host signs for HAB4",
    ),
    "a long command": (
        "[Unlock]",
        "[" + "Un" * 200 + "]",
        "9:1",
        f'the command "{"Un" * 8}U...{"Un" * 20}" is not known: there are {COMMANDS}',
    ),
    "no equals sign": ("Source index = 0", "Source index 0", "5:1", "expected [Command] or Argument = value"),
    "two equals signs": ("Source index = 0", "Source index == 0", "5:15", '"=" does not belong in a value'),
    "no label": ("Source index = 0", "= 0", "5:1", "expected [Command] or Argument = value"),
    "a label in quotation marks": (
        "Source index = 0",
        '"Source index" = 0',
        "5:1",
        "expected [Command] or Argument = value",
    ),
    "a label in brackets": ("Source index = 0", "Source [index] = 0", "5:1", "expected [Command] or Argument = value"),
    "an unknown argument": (
        "Source index = 0",
        "Source indx = 0",
        "5:1",
        '[Install SRK] has no argument "Source indx": did you mean Source index?',
    ),
    "an argument far from any": (
        "Source index = 0",
        "Colour = 0",
        "5:1",
        f'[Install SRK] has no argument "Colour": it has {SRK_ARGUMENTS}',
    ),
    "an argument of a command without any": (
        "[Authenticate CSF]",
        "[NOP]\nEngine = SW\n[Authenticate CSF]",
        "9:1",
        '[NOP] has no argument "Engine": it has none',
    ),
    "an argument of another command": (
        "Source index = 0",
        "Source index = 0\nUID = 1",
        "6:1",
        f'[Install SRK] has no argument "UID": it has {SRK_ARGUMENTS}',
    ),
    "an argument twice": (
        "Source index = 0",
        "Source index = 0\nSOURCE_INDEX = 0",
        "6:1",
        '"SOURCE_INDEX" is given twice',
    ),
    "an ignored argument twice": ("Version = 4.3", "Version = 4.3\nCode = 0\nCode = 0", "4:1", '"Code" is given twice'),
    "a label beyond cst's buffer": (
        "Source index = 0",
        "S" * 120 + " = 0",
        "5:1",
        f'[Install SRK] has no argument "{"S" * 17}...{"S" * 40}": it has {SRK_ARGUMENTS}',
    ),
    "label and number beyond cst's buffer": (
        "Source index = 0",
        "Source index = " + "0" * 120,
        "5:16",
        f'Source index: "{"0" * 17}...{"0" * 40}" {NUMBER}',
    ),
    "a missing argument": ("Source index = 0\n", "", "3:1", "[Install SRK] needs Source index"),
    "a missing version": ("Version = 4.3\n", "", "1:1", "[Header] needs Version"),
    "a missing last argument": ("Blocks = " + BLOCK + "\n", "", "16:1", "[Authenticate Data] needs Blocks"),
    "a quotation mark never closed": (
        '"SRK_1_2_3_4_table.bin"',
        '"SRK_1_2_3_4_table.bin',
        "4:8",
        "the quotation mark is never closed",
    ),
    "a quotation mark too many": (
        '"SRK_1_2_3_4_table.bin"',
        '"SRK_1_2_3_4_table.bin""',
        "4:31",
        "the quotation mark is never closed",
    ),
    "a NUL in a name": ('"flash.bin"', '"fla\0sh.bin"', "18:30", "the string holds control characters"),
    "a control character in a name": ('"flash.bin"', '"fla\x1bsh.bin"', "18:30", "the string holds control characters"),
    "a tab in a name": ('"flash.bin"', '"fla\tsh.bin"', "18:30", "the string holds control characters"),
    "a line separator in a name": ('"flash.bin"', '"fla\u2028sh.bin"', "18:30", "the string holds control characters"),
    "a direction mark in a name": ('"flash.bin"', '"fla\u202esh.bin"', "18:30", "the string holds control characters"),
    "a name in Latin-1": ('"flash.bin"', '"fla\udce4sh.bin"', "18:30", "the string is not UTF-8"),
    "a surrogate in UTF-8": ('"flash.bin"', '"\udced\udca0\udc80"', "18:30", "the string is not UTF-8"),
    "a NUL between words": (
        "Source index = 0",
        "Source\0index = 0",
        "5:1",
        '"Source\\x00index" is no word of the language',
    ),
    "a control character in a word": (
        "Features = MID",
        "Features = M\x07ID",
        "11:12",
        '"M\\x07ID" is no word of the language',
    ),
    "a byte beyond ASCII in a word": (
        "Features = MID",
        "Features = M\udcffD",
        "11:12",
        '"MÿD" is no word of the language',
    ),
    "a command behind a carriage return": (
        "[Unlock]",
        "\r[Install Secret Key]",
        "9:1",
        '"\\r" is no word of the language',
    ),
    "a byte order mark within": ("[Unlock]", "\ufeff[Unlock]", "9:1", '"ï»¿" is no word of the language'),
    "UTF-16": (None, BASE.encode("utf-16"), "1:1", '"ÿþ" is no word of the language'),
    "a backslash in a line": ("Source index = 0", "Source index = \\ 0", "5:16", '"\\" does not belong here'),
    "a backslash in a word": ("Source index = 0", "Source\\index = 0", "5:7", '"\\" does not belong here'),
    "a line of 16 KiB and one": (
        "[Unlock]",
        "#" + "x" * 16384 + "\n[Unlock]",
        "9",
        "the line has 16385 characters; at most 16384 are read",
    ),
    "1025 words": (
        "Features = MID",
        "Features = " + ", \\\n".join(["MID"] * 512) + " MID",
        "522:1",
        "more than 1024 words and marks in a line and what continues it",
    ),
    "129 commands": ("", "[NOP]\n" * 123, "140:1", "more than 128 commands"),
    "a refused command's argument without a value sign": (
        "",
        "[Write Data]\nWidth 4\n",
        "20:1",
        "expected [Command] or Argument = value",
    ),
    "17 arguments": (
        "",
        "[Write Data]\n" + "".join(f"Argument{chr(97 + n)} = 1\n" for n in range(17)),
        "36:1",
        "more than 16 arguments",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_place_and_the_reason_are_told(name: str) -> None:
    """Line and column are those of what is wrong, and the words are the same every time."""
    old, new, where, words = CASES[name]
    text = new if old is None or isinstance(new, bytes) else changed(old, new)
    with pytest.raises(csf.CsfSyntaxError) as caught:
        csf.parse(text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape"))
    line, _, column = where.partition(":")
    assert caught.value.line == (int(line) if line else None)
    assert caught.value.column == (int(column) if column else None)
    place = f"line {line}, column {column}: " if column else f"line {line}: " if line else ""
    assert str(caught.value) == place + words


def test_too_many_bytes_are_not_read() -> None:
    """The limit is on the bytes as they came, and the error gives both numbers."""
    assert csf.parse(BASE.encode(), max_bytes=len(BASE)) == csf.parse(BASE.encode())
    with pytest.raises(csf.CsfSyntaxError, match="of 393 bytes; at most 392 are read"):
        csf.parse(BASE.encode(), max_bytes=392)
    with pytest.raises(csf.CsfSyntaxError, match="of 1048577 bytes; at most 1048576 are read"):
        csf.parse(b"\n" * ((1 << 20) + 1))


# What is read although it looks odd: how the base has to be changed, and to what it is equal.
SAME = {
    "a comment within a continued value": (BLOCK, f"\\\n # {BLOCK}, \\\n {BLOCK}"),
    "a comment behind a backslash": (BLOCK, f"\\ # here\n {BLOCK}"),
    "spaces behind a backslash": (BLOCK, f"\\ \t\n {BLOCK}"),
    "a backslash that nothing follows": (BLOCK + "\n", BLOCK + " \\"),
    "a backslash and an empty line": (BLOCK, BLOCK + " \\\n"),
    "a backslash at the end of a comment": ("[Unlock]", "# x \\\n[Unlock]"),
    "a line continued in a name": ("[Install SRK]", "[Install \\\n SRK]"),
    "a quotation mark in a comment": ("[Unlock]", '# "\n[Unlock]'),
    "the longest line": ("[Unlock]", "#" + "x" * 16383 + "\n[Unlock]"),
    "no spaces": ("Source index = 0", "Sourceindex=0"),
    "many spaces": ("Source index = 0", " \t Source \t index \v = \f 0 \t "),
    "words taken apart": ("[Install SRK]", "[ Inst all S RK ]"),
    "octal": ("0x7e0fc0", "037407700"),
    "decimal": ("0x2000", "8192"),
    "leading zeroes": ("0x2000", "0x0000000000002000"),
    "arguments of older tools": (
        "Version = 4.3",
        "Version = 4.3\nSecurity Configuration = Engineering\nUID = Generic\nCode = 0",
    ),
    "the defaults, spelled out": (
        "Version = 4.3",
        "Version = 4 3\nHash Algorithm = SHA256\nCertificate Format = x509\nSignature Format = cms",
    ),
}


@pytest.mark.parametrize("name", SAME)
def test_what_only_looks_odd_is_read(name: str) -> None:
    """It means what it means to cst, or what its author plainly meant."""
    assert csf.parse(changed(*SAME[name]).encode()) == csf.parse(BASE.encode())


@pytest.mark.parametrize("name", ["a" * 255, "ä" * 127, "a b\\c'd#e[f]=g,h", "日本.bin", "."])
def test_names_may_hold_anything_printable(name: str) -> None:
    """What stands between quotation marks is taken as it is, up to 255 bytes."""
    description = csf.parse(changed("flash.bin", name).encode())
    command = description.commands[-1]
    assert isinstance(command, csf.model.AuthenticateData)
    assert command.blocks[0].file == name


def test_as_much_as_is_signed_is_read() -> None:
    """64 blocks and 128 commands are not too many."""
    many = changed(BLOCK, ", \\\n".join([BLOCK] * 64)) + "[NOP]\n" * 121
    assert len(csf.parse(many.encode()).commands) == 128
