"""Texts that are no description: lines, words, strings, commands and their arguments."""

from __future__ import annotations

import pytest

from digsigd import csf
from tests.csf.texts import BASE, BLOCK, changed

FOR_AHAB = "the description is for HAB4; for AHAB, write Target = AHAB in [Header]"
COMMANDS = (
    "Header, Install SRK, Install CSFK, Install NOCAK, Authenticate CSF, Install Key, Authenticate Data, Unlock,"
    " Set Engine, Init, NOP"
)
NUMBER = "is not a number (decimal, octal from 0, hexadecimal from 0x)"
SRK_ARGUMENTS = "File, Source index, Hash Algorithm"
# By what is wrong: what of the description is replaced, by what, and the error's place and words. With None in place of
# the first, the second is the whole text.
CASES: dict[str, tuple[str | None, str | bytes, str, str]] = {
    "an empty text": (None, "", "", "the CSF description is empty; it must begin with [Header]"),
    "comments alone": (
        None,
        "# nothing\n\n  # here\n",
        "",
        "the CSF description is empty; it must begin with [Header]",
    ),
    "text before the first command": (None, "hello\n" + BASE, "1:1", "a CSF description begins with [Header]"),
    "an argument before the first command": (
        None,
        "Version = 4.3\n" + BASE,
        "1:1",
        "a CSF description begins with [Header]",
    ),
    "a name never closed": ("[Install SRK]", "[Install SRK", "3:10", "put the command's name between [ and ]"),
    "a name never opened": ("[Install SRK]", "Install SRK]", "3:1", "expected [Command] or Argument = value"),
    "an empty name": ("[Install SRK]", "[]", "3:2", "put the command's name between [ and ]"),
    "a name in quotation marks": ("[Install SRK]", '["Install SRK"]', "3:2", "put the command's name between [ and ]"),
    "a name in two pairs": ("[Install SRK]", "[[Install SRK]]", "3:2", "put the command's name between [ and ]"),
    "an argument behind a name": (
        "[Install SRK]\n",
        "[Install SRK] ",
        "3:15",
        "nothing may follow a command's name on its line",
    ),
    "a word behind a name": (
        "[Install SRK]",
        "[Install SRK] here",
        "3:15",
        "nothing may follow a command's name on its line",
    ),
    "a value in a name": ("[Install SRK]", "[Install SRK = 0]", "3:14", "put the command's name between [ and ]"),
    "an unknown command": ("[Unlock]", "[Unlok]", "9:1", 'the command "Unlok" is not known: did you mean [Unlock]?'),
    "a command that is nearly one that is refused": (
        "[Unlock]",
        "[Decript Data]",
        "9:1",
        'the command "Decript Data" is not known: did you mean [Decrypt Data]?',
    ),
    "a command far from any": (
        "[Unlock]",
        "[Make Coffee]",
        "9:1",
        f'the command "Make Coffee" is not known: the commands are {COMMANDS}',
    ),
    "a command of AHAB": (
        "[Unlock]",
        "[Install Certificate]",
        "9:1",
        f"[Install Certificate] is a command of AHAB; {FOR_AHAB}",
    ),
    "a long command": (
        "[Unlock]",
        "[" + "Un" * 200 + "]",
        "9:1",
        f'the command "{"Un" * 8}U...{"Un" * 20}" is not known: the commands are {COMMANDS}',
    ),
    "no equals sign": ("Source index = 0", "Source index 0", "5:1", "expected [Command] or Argument = value"),
    "two equals signs": ("Source index = 0", "Source index == 0", "5:15", '"=" is not allowed in a value'),
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
        "the quotation mark is not closed",
    ),
    "a quotation mark too many": (
        '"SRK_1_2_3_4_table.bin"',
        '"SRK_1_2_3_4_table.bin""',
        "4:31",
        "the quotation mark is not closed",
    ),
    "a NUL in a name": ('"flash.bin"', '"fla\0sh.bin"', "18:30", "the string contains U+0000, which is invisible"),
    "a control character in a name": (
        '"flash.bin"',
        '"fla\x1bsh.bin"',
        "18:30",
        "the string contains U+001B, which is invisible",
    ),
    "a tab in a name": ('"flash.bin"', '"fla\tsh.bin"', "18:30", "the string contains U+0009, which is invisible"),
    "a line separator in a name": (
        '"flash.bin"',
        '"fla\u2028sh.bin"',
        "18:30",
        "the string contains U+2028, which is invisible",
    ),
    "a direction mark in a name": (
        '"flash.bin"',
        '"fla\u202esh.bin"',
        "18:30",
        "the string contains U+202E, which is invisible",
    ),
    "a name in Latin-1": ('"flash.bin"', '"fla\udce4sh.bin"', "18:30", "the string is not UTF-8"),
    "a surrogate in UTF-8": ('"flash.bin"', '"\udced\udca0\udc80"', "18:30", "the string is not UTF-8"),
    "a NUL between words": (
        "Source index = 0",
        "Source\0index = 0",
        "5:7",
        "the character U+0000 is not allowed here",
    ),
    "a control character in a word": (
        "Features = MID",
        "Features = M\x07ID",
        "11:13",
        "the character U+0007 is not allowed here",
    ),
    "a byte beyond ASCII in a word": (
        "Features = MID",
        "Features = M\udcffD",
        "11:13",
        "the byte 0xff is not allowed",
    ),
    "a command behind a carriage return": (
        "[Unlock]",
        "\r[Install Secret Key]",
        "9:1",
        "the character U+000D is not allowed here",
    ),
    "Ctrl-Z within": ("[Unlock]", "\x1a\n[Unlock]", "9:1", "the character U+001A is not allowed here"),
    "a letter beyond ASCII in a word": ("Features", "Fe\u00e4tures", "11:3", "\u00e4 (U+00E4) is not allowed here"),
    "a letter of Cyrillic in a word": ("Features", "Fe\u0430tures", "11:3", "\u0430 (U+0430) is not allowed here"),
    "a direction mark in a line": ("Features", "\u202eFeatures", "11:1", "the character U+202E is not allowed here"),
    "a long dash": ("0x2000", "\u20140x2000", "18:23", "\u2014 (U+2014) is not allowed here"),
    "a no-break space in a word of Latin-1": (
        "Features = MID",
        "Features = M\udcfcD",
        "11:13",
        "the byte 0xfc is not allowed",
    ),
    "typographic quotation marks": (
        '"flash.bin"',
        "\u201cflash.bin\u201d",
        "18:30",
        '\u201c (U+201C) is not a quotation mark of CSF descriptions; put file names into plain quotation marks: "',
    ),
    "a typographic quotation mark at the end": (
        '"flash.bin"',
        '"flash.bin\u201d',
        "18:30",
        "the quotation mark is not closed",
    ),
    "UTF-16": (None, BASE.encode("utf-16"), "1:1", "the CSF description is UTF-16; save it as UTF-8, or as plain text"),
    "UTF-16 of the other order": (
        None,
        b"\xfe\xff" + BASE.encode("utf-16-be"),
        "1:1",
        "the CSF description is UTF-16; save it as UTF-8, or as plain text",
    ),
    "a backslash in a line": ("Source index = 0", "Source index = \\ 0", "5:16", '"\\" is not allowed here'),
    "a backslash in a word": ("Source index = 0", "Source\\index = 0", "5:7", '"\\" is not allowed here'),
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
        "more than 1024 words and marks in a line with its continuation lines",
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
    with pytest.raises(csf.CsfSyntaxError, match="has 393 bytes; at most 392 are read"):
        csf.parse(BASE.encode(), max_bytes=392)
    with pytest.raises(csf.CsfSyntaxError, match="has 1048577 bytes; at most 1048576 are read"):
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
    "must not have spaces": ("Source index = 0", "Sourceindex=0"),
    "no-break spaces": ("Source index = 0", "\u00a0\u00a0Source\u00a0index\u00a0=\u00a00\u00a0"),
    "no-break spaces of Latin-1": ("Source index = 0", "\udca0 Source\udca0index\udca0= 0\udca0"),
    "spaces of no width": ("Source index = 0", "\u200bSource\u200b index\ufeff = 0\u2060"),
    "wide spaces": ("Source index = 0", "\u3000Source\u2003index\u202f= 0"),
    "a no-break space behind a backslash": (BLOCK, f"\\\u00a0\n\u00a0{BLOCK}"),
    "a no-break space before a comment in what is continued": (BLOCK, f"\\\n\u00a0# x\n {BLOCK}"),
    "a byte order mark within": ("[Unlock]", "\ufeff[Unlock]"),
    "two carriage returns": ("Source index = 0\n", "Source index = 0\r\r\n"),
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
    assert csf.parse(changed(*SAME[name]).encode("utf-8", "surrogateescape")) == csf.parse(BASE.encode())


@pytest.mark.parametrize("end", [b"\0", b"\x1a", b"\0\0\n", b"\r\n\x1a\r\n", b"\\\0", b"  \xc2\xa0\0"])
def test_what_ends_a_text_elsewhere_ends_it(end: bytes) -> None:
    """NUL as C has it and Ctrl-Z as DOS has it, at the end, are nothing."""
    assert csf.parse(BASE.encode() + end) == csf.parse(BASE.encode())


def test_a_byte_order_mark_is_in_no_column() -> None:
    """Editors do not show it, and do not count it."""
    for start in (b"", b"\xef\xbb\xbf"):
        with pytest.raises(csf.CsfSyntaxError, match=r"^line 1, column 1: the command"):
            csf.parse(start + b"[Heading]\n")


def test_utf_16_is_told_by_both_bytes_of_its_mark() -> None:
    """In either order."""
    for start, told in ((b"\xff\xfe", True), (b"\xfe\xff", True), (b"\xfe\xfe", False), (b"\xff\xff", False)):
        with pytest.raises(csf.CsfSyntaxError) as caught:
            csf.parse(start + b"[Header]\n")
        assert ("the CSF description is UTF-16" in str(caught.value)) is told


def test_a_blank_in_a_name_is_told() -> None:
    """Between quotation marks a no-break space is no blank, and nobody would find it."""
    with pytest.raises(
        csf.CsfSyntaxError, match=r"line 18, column 30: the string contains U\+00A0, which is invisible"
    ):
        csf.parse(changed("flash.bin", "fla\u00a0sh.bin").encode())


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
