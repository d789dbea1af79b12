"""What the log has of cst's words: no secret, no path of this host, one line of bounded length."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from digsigd.signing.pkcs11 import forms_of
from digsigd.signing.redact import MAX_REASON, reason_of
from tests.helpers.work import instructions

WORKDIR = Path("/var/lib/digsigd/work/d-4711/r0123456789abcdef")
PHRASE = b"a pass phrase of the release team"


def reason(output: bytes, *secrets: bytes, **names: str) -> str:
    """The reason in an output; `names` are the client's names for `artifact` and the like."""
    return reason_of(output, WORKDIR, names, secrets)


# Secrets


@pytest.mark.parametrize(
    "file",
    [
        PHRASE,
        PHRASE + b"\n",
        PHRASE + b"\r\n" + PHRASE + b"\r\n",
        PHRASE + b"\r" + b"another phrase",
        b"another phrase\n" + PHRASE + b"\n",
        b"\n\nabc\n" + PHRASE,
    ],
    ids=["no line end", "line end", "carriage returns", "old line ends", "second line", "after short lines"],
)
def test_each_line_of_a_file_of_secrets_is_blanked_out(file: bytes) -> None:
    """However its lines end, and wherever in cst's words one stands."""
    output = b"no key opens with '" + PHRASE + b"'\nin" + PHRASE + b"side, twice: " + PHRASE
    assert reason(output, file) == "no key opens with '***'; in***side, twice: ***"


def test_the_secrets_of_all_files_are_blanked_out() -> None:
    """A tarball may hold several files with pass phrases, and a token adds its PIN."""
    assert (
        reason(b"first-phrase second-phrase 73917391", b"first-phrase", b"second-phrase", b"73917391") == "*** *** ***"
    )


def test_a_secret_that_is_no_text_is_blanked_out() -> None:
    """A pass phrase may be in any encoding, and is printed as the bytes that it is."""
    latin = "Prüfschlüssel".encode("latin-1")
    assert reason(b"with " + latin + b" it fails", latin) == "with *** it fails"
    assert reason(b"with \x1b[31m\x00ab it fails", b"\x1b[31m\x00ab") == "with *** it fails"


@pytest.mark.parametrize("pin", ['p "i\\n$7391', "4711-0815", "'\"$\\"])
def test_a_pin_is_blanked_out_in_both_forms(pin: str) -> None:
    """As it is, and as it is quoted in OpenSSL's configuration."""
    plain, quoted = forms_of(pin)
    assert (
        reason(b"PIN " + plain + b' of line: PIN = "' + quoted + b'"', *forms_of(pin)) == 'PIN *** of line: PIN = "***"'
    )


@pytest.mark.parametrize("secrets", [(b"release", b"release-2026"), (b"release-2026", b"release")])
def test_of_a_secret_that_begins_with_another_nothing_is_left(secrets: tuple[bytes, bytes]) -> None:
    """In whatever order the files have them."""
    assert reason(b"not release-2026, not release", *secrets) == "not ***, not ***"
    assert reason(b"not release-2026, not release", b"\n".join(secrets)) == "not ***, not ***"


def test_what_is_too_short_for_a_secret_is_left() -> None:
    """Three letters would blank out ordinary words; four are blanked out."""
    assert reason(b"the key is no key", b"key") == "the key is no key"
    assert reason(b"the keys are no keys", b"keys") == "the *** are no ***"


@pytest.mark.parametrize("before", range(MAX_REASON - len(PHRASE) - 8, MAX_REASON + 2))
def test_no_part_of_a_secret_is_left_where_a_reason_is_cut(before: int) -> None:
    """It is blanked out before anything is cut."""
    told = reason(b"." * before + PHRASE + b"." * 99, PHRASE)
    assert not any(character.isalpha() for character in told)
    assert len(told) == MAX_REASON


# Paths and names


def test_the_work_directory_is_left_out() -> None:
    """Names in it are relative, and of the directory itself a dot is left."""
    folder = str(WORKDIR).encode()
    assert reason(b"cannot open " + folder + b"/csf.bin") == "cannot open csf.bin"
    assert reason(b"'" + folder + b"' is full; " + folder + b"/a and " + folder + b"/b") == "'.' is full; a and b"


def test_files_have_the_names_that_the_client_gave_them() -> None:
    """Of names that begin alike the longer one is meant where it stands."""
    names = {
        "artifact": "spl.bin",
        "artifact2": "u-boot.itb",
        "k1/a_crt.pem": "crts/CSF1_crt.pem",
        "k1/a_key.pem": "the key of CSF1_crt.pem",
    }
    output = f"{WORKDIR}/artifact2 and artifact; k1/a_key.pem does not fit {WORKDIR}/k1/a_crt.pem".encode()
    assert reason(output, **names) == "u-boot.itb and spl.bin; the key of CSF1_crt.pem does not fit crts/CSF1_crt.pem"


def test_a_name_of_the_client_is_not_taken_for_one_of_ours() -> None:
    """What stands for one of our names stays as the client wrote it, though there is one of ours in it."""
    names = {"artifact": "spl.bin", "artifact2": "my-artifact.itb"}
    assert reason(b"artifact2 is larger than artifact", **names) == "my-artifact.itb is larger than spl.bin"


# One line of text


def test_lines_become_one_without_what_tells_nothing() -> None:
    """Each line once; empty ones, and cst's undefined errors, are left out."""
    output = b"\n  Error: Undefined error.\nbad header\r\n\t\nbad header\nUNDEFINED ERROR\n  line 3 \n"
    assert reason(output) == "bad header; line 3"
    assert reason(b"Undefined error\n\n") == ""
    assert reason(b"") == ""


def test_what_could_draw_on_a_terminal_is_blank() -> None:
    """Control characters, other line ends and marks of direction; bytes that are not UTF-8 are replaced."""
    assert reason(b"a\x1b[2Jb\x07c\x00d\x7fe\tf") == "a [2Jb c d e f"
    assert reason("one\u2028two\x85three\x0bfour".encode()) == "one; two; three; four"
    assert reason("\u202egnp.exe\u200b!".encode()) == "gnp.exe !"
    assert reason(b"\xff\xfe is \xc3\xbc") == "\ufffd\ufffd is \u00fc"


@pytest.mark.parametrize("length", [MAX_REASON - 1, MAX_REASON, MAX_REASON + 1, MAX_REASON * 100])
def test_a_long_line_is_cut_to_the_longest_reason(length: int) -> None:
    """One that is cut says so at its end; one that just fits is whole."""
    line = "abcdefghij" * (length // 10) + "klmnopqrst"[: length % 10]
    told = reason(line.encode())
    assert told == (line if length <= MAX_REASON else line[: MAX_REASON - 4] + " ...")


def test_the_first_lines_are_told_of_many() -> None:
    """As many as there is room for, and the last one of these cut."""
    lines = [f"line number {number:04d}" for number in range(5000)]
    told = reason("\n".join(lines).encode())
    assert told == "; ".join(lines)[: MAX_REASON - 4] + " ..."


def test_a_line_that_is_repeated_leaves_room_for_others() -> None:
    """It counts once."""
    assert reason(b"no good\n" * 1000 + b"line 3\n") == "no good; line 3"


@pytest.mark.parametrize("width", [2, 60])
def test_lines_that_are_not_told_are_not_looked_at(width: int) -> None:
    """Bounded are the instructions: lines behind those that fill a reason cost little, however many there are."""

    def work(count: int) -> int:
        output = "".join(f"{chr(0x4E00 + number) * width}\n" for number in range(count)).encode()
        assert reason(output).endswith(" ...")
        return instructions(lambda: reason(output))

    assert work(5000) < 1.2 * work(250)


@pytest.mark.parametrize("last", range(5))
def test_lines_that_just_fit_are_all_told(last: int) -> None:
    """Separators count, and nothing else does."""
    lines = ["x" * 100, "y" * 100, "z" * (MAX_REASON - 204 - last)]
    assert reason("\n".join(lines).encode()) == "; ".join(lines)
    assert reason("\n".join([*lines, "v" * (last + 3)]).encode()).endswith("z ..." if last < 2 else " ...")


WORDS = st.text("abcdefghij", min_size=4, max_size=8)
PIECES = st.sampled_from([b"\n", b" ", b"\x1b[1m", b"\xff", b"Undefined error\n", b"artifact ", b"some words, "])


@given(secrets=st.lists(WORDS, min_size=1, max_size=4), pieces=st.lists(PIECES | st.integers(0, 3), max_size=60))
def test_whatever_cst_says_a_reason_is_one_line_without_secrets(secrets: list[str], pieces: list[bytes | int]) -> None:
    """However secrets follow one another in it."""
    files = [secret.encode() for secret in secrets]
    output = b"".join(one if isinstance(one, bytes) else files[one % len(files)] for one in pieces)
    told = reason(output, *files, artifact="SPL.BIN")
    assert len(told) <= MAX_REASON
    assert told.isprintable()
    assert not any(secret in told for secret in secrets)
