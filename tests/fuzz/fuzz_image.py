"""Fuzz the parsers of images with atheris: `python tests/fuzz/fuzz_image.py -max_total_time=60`.

Everything but ImageError is a crash, and so is a plan that does not fit its file. Arguments are libFuzzer's; a folder
among them keeps what was found interesting, else that is forgotten.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import atheris  # type: ignore[import-untyped, import-not-found, unused-ignore]

sys.path.insert(0, str(Path(__file__).parent.parent.parent))

with atheris.instrument_imports(include=["digsigd.image", "digsigd.hab"]):
    from digsigd.image.errors import ImageError
    from digsigd.image.fdt import Tree
    from digsigd.image.fit import Fit
    from digsigd.image.plan import plan

from tests.helpers import damage, golden
from tests.image.test_plan_layouts import check

MOST_EDITS = 8


def one(data: bytes) -> None:
    """The first byte says what the others are: damage to an image, a device tree, a FIT, or a whole file."""
    kind, rest = data[:1], data[1:]
    try:
        if kind == b"\1":
            Tree.read(rest)
        elif kind == b"\2":
            Fit.read(rest)
        elif kind == b"\3":
            check(rest, plan(rest, load_address=0x40480000))
        else:
            seed, image = damaged(rest)
            check(image, plan(image, load_address=seed.load_address))
    except ImageError as error:
        if not f"{error.what} {error.hint}".isprintable():
            raise AssertionError(error.what) from error


def damaged(data: bytes) -> tuple[damage.Seed, bytes]:
    """The number of a golden image, then what is written into it: part, offset, how many bytes, and the bytes."""
    seed = damage.seeds()[data[0] % len(damage.seeds()) if data else 0]
    edits: list[tuple[int, int, bytes]] = []
    data = data[1:]
    while len(data) > 4 and len(edits) < MOST_EDITS:
        length = data[3] % 16 + 1
        edits.append((data[0], int.from_bytes(data[1:3], "little"), data[4 : 4 + length]))
        data = data[4 + length :]
    return seed, damage.damaged(seed, edits, None)


def starts() -> list[bytes]:
    """Something good of each kind."""
    found = [bytes([0, n, part, 8, 0, 3]) + b"\0\0\0\0" for n in range(len(damage.seeds())) for part in range(6)]
    for external in (0x3000, None):
        fit = golden.mkimage((golden.Part("a", b"xy", "standalone", 16),), (golden.Config("b", "a", (), ()),), external)
        found += [kind + fit for kind in (b"\1", b"\2", b"\3")]
    found += [b"\3" + golden.spl("mm", code=b"code"), b"\3" + golden.kernel(0x1000, 0x400)]
    return found


def main() -> None:
    """Run until libFuzzer's arguments say that it is enough."""
    if not all(argument.startswith("-") for argument in sys.argv[1:]):
        atheris.Setup(sys.argv, one)
        atheris.Fuzz()
    # libFuzzer ends the process, so that nothing could be removed behind it.
    with tempfile.TemporaryDirectory() as folder:
        for n, start in enumerate(starts()):
            (Path(folder) / f"start{n}").write_bytes(start)
        sys.exit(subprocess.run([sys.executable, __file__, *sys.argv[1:], folder], check=False).returncode)


if __name__ == "__main__":
    main()
