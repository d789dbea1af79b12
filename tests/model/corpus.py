"""The daemon and the model of the ROM on many random CSFs: what a board refuses, the daemon must refuse.

    python -m tests.model.corpus [--cases N] [--seed S]

The daemon may refuse more, for a reason that stands in `STRICTER`. Of the signatures that the model takes, some are
shown to `openssl cms -verify` too.
"""

from __future__ import annotations

import argparse
import random
import re
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from tests.model import fits, flash, ours
from tests.model.faults import FAULTS
from tests.model.rom import Key, Refused, Rom
from tests.model.shapes import BASE, SIZE, Case, right

# What the ROM takes and the daemon does not: how it says so, and why it is stricter.
STRICTER = {
    r"blocks in one Authenticate Data; \S+ allows at most": "which one is taken for ANY is the board's to"
    " choose, and one that was set is taken for all that follows",
    r"uses the engine \S+, but the chip has": "what boards do without that engine is not known of all",
    r"overlap in memory": "no tool signs bytes twice with one command",
    r"no block covers the (boot data|DCD) that": "the ROM acts on all of it, and asserts the first byte",
    r"it must be at the start, or 0x100, 0x400, 0x1000 after it": "boot devices have the IVT at these offsets alone",
    r"the SRK is not installed first": "the table again: cst makes no such CSF",
    r"not CMS as HAB4 requires it": "every field of a signature has one right value, whatever the ROM looks at",
    r"the certificate of .* (is not valid|names two algorithms|has unused bits)": "the same of certificates",
    r"names another certificate than key": "who signed is said twice, and has to be the same",
    r"is verified by key \d, which is not installed": "a CSF that relies on keys of one before it: cst makes none",
    r"Set of an engine by .* it is for SHA-256 alone": "the only digest that is accepted",
    r"with the unknown features": "of engines' features those that the manual names",
    r"of OCOTP .* (needs a chip's|must not have a) unique id": "cst makes no other: User Guide, table 24",
    r"bytes that belong to no command|point at the same bytes|points into the commands": "cst's form",
    r"of version 0x.. in a CSF of version": "cst writes one version throughout",
    r"which puts the FIT at": "an entry point that no tool writes",
    r"U-Boot takes the first of them for": "two nodes that libfdt takes for one",
    r"they overlap": "one image loaded twice to one place",
    r"but HAB only has 32-bit addresses": "what HAB cannot look at",
    r"has 8 bytes, not 4": "a size of two cells, of which U-Boot reads the first",
    r"unknown data at": "what belongs to nothing is asked about, though no board looks at it",
    r"has version 17, compatible with \d+": "trees of format 17",
}


OPENSSL_EVERY = 50


@dataclass(frozen=True)
class Outcome:
    """What both say of one case: `board` and `daemon` are why they refuse it, None where they do not."""

    number: int
    fault: str
    board: str | None
    daemon: str | None
    unsaid: tuple[str, ...]

    @property
    def verdict(self) -> str:
        if self.board is not None:
            return "both refuse" if self.daemon is not None else "ACCEPTED THOUGH A BOARD REFUSES IT"
        if self.daemon is None:
            return "unsaid, and accepted" if self.unsaid else "both accept"
        if self.unsaid:
            return "unsaid, and refused"
        return "stricter" if any(re.search(text, self.daemon) for text in STRICTER) else "REFUSED WITHOUT A REASON"


def case(seed: int, number: int) -> Case:
    """The case of this number: the seed decides all but the keys."""
    chance = random.Random(f"{seed}/{number}")
    made = right(chance)
    if chance.random() < 0.8:
        name = chance.choice(sorted(FAULTS))
        FAULTS[name](chance, made)
        made.fault = name
    return made


def judged(made: Case, number: int = 0) -> Outcome:
    """What both say of it."""
    blob = bytearray(made.blob())
    if made.spoil is not None:
        made.spoil(blob)
    data = bytes(blob)
    rom = Rom(made.fuses, made.memory)
    board = None
    try:
        start, length = (int.from_bytes(made.image[at : at + 4], "little") for at in (0x20, 0x24))
        rom.authenticate_image(BASE, start, length, BASE + SIZE, data)
    except Refused as error:
        board = str(error)
    if not number % OPENSSL_EVERY:
        for signature, content, key in rom.signatures:
            _openssl(made, signature, content, key)
    return Outcome(number, made.fault, board, ours.refused(made, data), tuple(rom.unsaid))


def _openssl(made: Case, signature: bytes, content: bytes, key: Key) -> None:
    """Raise unless openssl takes a signature that the model took."""
    certificate = made.keys.srks[made.source].der if key.content[0] == 0xE1 else key.content
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pem = x509.load_der_x509_certificate(certificate).public_bytes(Encoding.PEM)
        for file, data in (("sig.der", signature), ("content", content), ("signer.pem", pem)):
            (folder / file).write_bytes(data)
        command = "openssl cms -verify -binary -inform DER -in sig.der -content content -certfile signer.pem"
        subprocess.run(
            [*command.split(), "-nointern", "-noverify", "-out", "/dev/null"],
            cwd=folder, check=True, capture_output=True, timeout=60,
        )  # fmt: skip


def fit_judged(seed: int, number: int) -> Outcome:
    """The same of a FIT."""
    chance = random.Random(f"{seed}/fit/{number}")
    made = fits.right(chance)
    if chance.random() < 0.85:
        made.fault = chance.choice(sorted(fits.FAULTS))
        fits.FAULTS[made.fault](chance, made)
    file = made.file()
    board, unsaid = fits.board(made, file)
    return Outcome(number, f"FIT: {made.fault}", board, fits.daemon(file, made.case.fuses), tuple(unsaid))


def flash_judged(seed: int, number: int) -> Outcome:
    """The same of an SPL with a FIT."""
    chance = random.Random(f"{seed}/flash/{number}")
    made = flash.right(chance)
    if chance.random() < 0.7:
        made.fault = chance.choice(sorted(flash.FAULTS))
        flash.FAULTS[made.fault](chance, made)
    file = made.file()
    board, unsaid = flash.board(made, file)
    return Outcome(number, f"SPL and FIT: {made.fault}", board, fits.daemon(file, made.spl.fuses), tuple(unsaid))


def run(cases: int, seed: int) -> list[Outcome]:
    """Three CSFs for each FIT, and each SPL with a FIT."""
    found = []
    for number in range(cases):
        if number % 5 < 3:
            found.append(judged(case(seed, number), number))
        else:
            found.append((fit_judged if number % 5 == 3 else flash_judged)(seed, number))
    return found


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="tests.model.corpus")
    parser.add_argument("--cases", type=int, default=20000)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    given = parser.parse_args(arguments)
    print(f"seed {given.seed}, {given.cases} cases", flush=True)
    outcomes = run(given.cases, given.seed)
    for verdict, count in sorted(Counter(one.verdict for one in outcomes).items()):
        print(f"{count:8} {verdict}")
    wrong = [one for one in outcomes if one.verdict.isupper()]
    for (fault, board, daemon), count in Counter((one.fault, one.board, one.daemon) for one in wrong).most_common(60):
        example = next(one.number for one in wrong if (one.fault, one.board, one.daemon) == (fault, board, daemon))
        print(f"{count:5} {fault}, such as case {example}: board: {board or 'accepts'}; daemon: {daemon or 'accepts'}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
