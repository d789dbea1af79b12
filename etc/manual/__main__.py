"""Write the man pages and the shell completions: `python -m etc.manual FOLDER`.

FOLDER gets share/man, and bash-completion/completions, zsh/vendor-completions and fish/vendor_completions.d in share,
where Debian's man and shells look.
"""

from __future__ import annotations

import argparse
import os
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from etc.manual.completions import SHELLS, completion
from etc.manual.pages import PAGES, roff
from etc.manual.programs import programs


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m etc.manual", description=__doc__)
    parser.add_argument("folder", type=Path, help="the folder to write to, such as /usr/local")
    share = parser.parse_args().folder / "share"
    date = datetime.fromtimestamp(int(os.environ.get("SOURCE_DATE_EPOCH") or 0) or datetime.now(UTC).timestamp(), UTC)
    for name, section in PAGES.items():
        write(share / f"man/man{section}/{name}.{section}", roff(name, version("digsigd"), f"{date:%Y-%m-%d}"))
    for shell, place in SHELLS.items():
        for program, one in programs().items():
            write(share / place.format(program), completion(one, shell))


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


if __name__ == "__main__":
    main()
