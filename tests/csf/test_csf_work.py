"""Reading takes work and memory in proportion to the text, whatever the text is. Work is counted, not timed."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise

import pytest

from digsigd import csf
from tests.csf.texts import BASE, BLOCK, changed
from tests.helpers.work import instructions

MIB = 1 << 20


def read(text: bytes) -> None:
    """Take a text as far as it goes."""
    with suppress(csf.CsfError):
        description = csf.parse(text)
        csf.check(description, csf.Policy())
        csf.resolve(description, members=("a_crt.pem",), artifacts={"flash.bin": 1 << 20})


def is_linear(work: Callable[[int], int]) -> bool:
    """Whether twice the size is at most about twice the work; work by the square is four times as much."""
    work(8)  # what is done only once
    nothing = work(0)
    sizes = [work(size) - nothing for size in (8, 16, 32)]
    return all(larger <= 2.2 * max(smaller, 0) + 5000 for smaller, larger in pairwise(sizes))


def in_line(start: str, part: str) -> Callable[[int], str]:
    """A line that repeats something, up to what a line may have."""
    return lambda n: BASE + start + part * (n * 400 // len(part)) + "\n"


def of_lines(start: str, part: str) -> Callable[[int], str]:
    return lambda n: BASE + start + part * (n * 40)


def in_value(old: str, part: str, between: str) -> Callable[[int], str]:
    return lambda n: changed(old, between.join([part] * n * 2))


# Texts by a measure of their size: up to 40, that of 16 KiB in one line.
SHAPES: dict[str, Callable[[int], str]] = {
    "a long comment": in_line("#", "x"),
    "a long comment of quotation marks": in_line("#", '"'),
    "a long line of spaces": in_line("", " "),
    "a long line of tabs and forms": in_line("", "\t\f\v "),
    "a long word": in_line("", "x"),
    "a long name": in_line("[", "x"),
    "many names": in_line("[", "x "),
    "a long label": in_line("", "source "),
    "a long keyword": in_line("[Unlock]\nEngine = ", "CAAM"),
    "many keywords": in_line("[Unlock]\nEngine = CAAM\nFeatures = ", "MID RNG "),
    "many keywords with commas": in_line("[Unlock]\nEngine = CAAM\nFeatures = ", "MID, RNG, "),
    "a long number": in_line("[Install SRK]\nSource index = ", "0"),
    "a long string": in_line('[Install CSFK]\nFile = "', "x"),
    "many strings": in_line("[Install CSFK]\nFile = ", '"x" '),
    "many quotation marks": in_line("[Install CSFK]\nFile = ", '"'),
    "many empty strings": in_line("[Install CSFK]\nFile = ", '"",'),
    "many commas": in_line("[Unlock]\nFeatures = ", ","),
    "many brackets": in_line("", "["),
    "many equals signs": in_line("a", "="),
    "many backslashes": in_line("a ", "\\"),
    "many backslashes with spaces": in_line("a ", "\\   "),
    "a backslash and many spaces": lambda n: BASE + "a \\" + " " * n * 400 + "x\n",
    "a backslash and a long comment": lambda n: BASE + "[Unlock] \\ #" + " \\" * n * 200 + "\n",
    "a long URI": in_line("[Install CSFK]\nFile = pkcs11:", "a"),
    "a long URI of marks": in_line("[Install CSFK]\nFile = pkcs11:", "a=,[]"),
    "many empty lines": of_lines("", "\n"),
    "many comments": of_lines("", "# x\n"),
    "many continued lines": of_lines("[NOP]", "\\\n"),
    "many comments in a continued line": of_lines("[NOP] \\\n", "# \\\n"),
    "many continued words": of_lines("[NOP", " \\\nx"),
    "many carriage returns": of_lines("", "\r\n"),
    "many commands": lambda n: BASE + "[NOP]\n" * (n * 3),
    "many unknown arguments": of_lines("[Write Data]\n", "a = 1\n"),
    "many arguments of refused commands": lambda n: (
        BASE + "".join("[Write Data]\n" + "".join(f"{chr(97 + k)} = 1\n" for k in range(16)) for _ in range(n))
    ),
    "many keys": lambda n: BASE + '[Install Key]\nVerification index=0\nTarget index=2\nFile="a_crt.pem"\n' * n,
    "many blocks": in_value(BLOCK, BLOCK, ", "),
    "many continued blocks": in_value(BLOCK, BLOCK, ", \\\n"),
    "many data commands": lambda n: BASE + f"[Authenticate Data]\nVerification index = 2\nBlocks = {BLOCK}\n" * n,
    "many bytes of a UID": lambda n: changed("Features = MID", "Features = MID\nUID = 1" + ", \\\n1" * n * 10),
    "NULs": in_line("", "\0"),
    "bytes beyond ASCII": in_line("", "\xff"),
}


def bytes_of(shape: str, size: int) -> bytes:
    return SHAPES[shape](size).encode("latin-1")


@pytest.mark.parametrize("shape", SHAPES)
def test_the_work_grows_with_the_text_and_no_faster(shape: str) -> None:
    """Reading takes linear time, or ends at a limit."""
    assert is_linear(lambda size: instructions(lambda: read(bytes_of(shape, size))))


@pytest.mark.parametrize("shape", SHAPES)
def test_a_byte_costs_a_bounded_number_of_instructions(shape: str) -> None:
    """However a text is made, there is no byte in it that is worth more than a few steps."""
    text = bytes_of(shape, 32)
    assert instructions(lambda: read(text)) <= 150 * max(len(text), 1000)


def test_counting_finds_loops_within_loops() -> None:
    """The measure tells linear work from work that grows by the square."""

    def loops(size: int, depth: int) -> None:
        for _ in range(size):
            if depth:
                loops(size, depth - 1)

    assert is_linear(lambda size: instructions(lambda: loops(100 * size, 0)))
    assert not is_linear(lambda size: instructions(lambda: loops(10 * size, 1)))


HUGE = {
    "commas": b"[Unlock]\nFeatures = " + b"," * MIB,
    "commas on continued lines": b"[Unlock]\nFeatures = " + b",\\\n" * (MIB // 3),
    "words on continued lines": b"[Unlock]\nFeatures = " + b"MID,\\\n" * (MIB // 6),
    "continued lines": b"[NOP]" + b"\\\n" * (MIB // 2),
    "empty lines": b"\n" * MIB,
    "comments": b"#x\n" * (MIB // 3),
    "quotation marks": b"[Install CSFK]\nFile = " + b'""' * (MIB // 2),
    "one word": b"x" * MIB,
    "commands": b"[NOP]\n" * (MIB // 6),
    "arguments": b"[Header]\n" + b"Code = 1\n" * (MIB // 10),
}


@pytest.mark.parametrize("name", HUGE)
def test_a_mebibyte_of_anything_takes_little_memory(name: str) -> None:
    """The text is read line by line, and what is kept of it is bounded: a few times its own size at most."""
    text = HUGE[name][:MIB]
    tracemalloc.start()
    try:
        with suppress(csf.CsfSyntaxError):
            csf.parse(text)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak <= 4 * MIB
