"""What a type checker says of programs that use digsigd."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
DOCUMENTS = (ROOT / "docs/client.md", ROOT / "docs/embedding.md")
EXPECTED = re.compile(r"# error: \[([a-z-]+(?:, [a-z-]+)*)\]$")
SAID = re.compile(r"^(.+?):(\d+): error: .*\[([a-z-]+)\]$")


def examples(document: Path, folder: Path) -> list[Path]:
    """Each Python example of a document as a module of its own, with its lines where they are in the document."""
    text = document.read_text()
    written = []
    for found in re.finditer(r"```python\n(.*?)```", text, re.DOTALL):
        line = text.count("\n", 0, found.start(1))
        path = folder / f"{document.stem}_line_{line + 1}.py"
        path.write_text("\n" * line + found[1])
        written.append(path)
    return written


def test_what_is_meant_is_accepted_and_what_is_not_is_refused(tmp_path: Path) -> None:
    """The programs here and in the documents, and exactly the lines that say why not: by mypy, as strict as here."""
    modules = [HERE / "accepted.py", HERE / "refused.py"]
    for document in DOCUMENTS:
        found = examples(document, tmp_path)
        assert found
        modules += found
    options = ["--no-error-summary", "--no-pretty", "--hide-error-context", "--show-error-codes"]
    command = [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml"), *options]
    done = subprocess.run([*command, *modules], cwd=ROOT, capture_output=True, text=True, timeout=280)
    said = set()
    for line in done.stdout.splitlines():
        if ": note: " not in line:
            error = SAID.match(line)
            assert error, done.stdout + done.stderr
            said.add((Path(error[1]).name, int(error[2]), error[3]))
    expected = {
        ("refused.py", number, code)
        for number, line in enumerate((HERE / "refused.py").read_text().splitlines(), 1)
        if (codes := EXPECTED.search(line))
        for code in codes[1].split(", ")
    }
    assert said == expected, done.stdout + done.stderr
