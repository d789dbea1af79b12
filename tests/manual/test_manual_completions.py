"""What TAB offers in real shells: commands, options, choices, files."""

from __future__ import annotations

import os
import pty
import shlex
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from etc.manual.completions import SHELLS, completion
from etc.manual.programs import commands, programs

Offer = Callable[[str], set[str]]


@pytest.fixture(scope="module")
def completions(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder for each shell with the files of all programs, named as the shell needs it."""
    folders = {}
    for shell, place in SHELLS.items():
        folders[shell] = tmp_path_factory.mktemp(shell)
        for name, parser in programs().items():
            (folders[shell] / Path(place.format(name)).name).write_text(completion(parser, shell))
    return folders


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working directory with two files and a folder."""
    (tmp_path / "flash.bin").touch()
    (tmp_path / "spl.csf").touch()
    (tmp_path / "out").mkdir()
    return tmp_path


def bash(completions: Path, folder: Path, line: str) -> set[str]:
    """What bash offers for the last word: it calls the function that the file has registered for the program."""
    words = line.split(" ")
    script = f"""
        source {shlex.quote(str(completions / words[0]))}
        set -- $(complete -p {words[0]})
        while [ "$1" != -F ]; do shift; done
        COMP_WORDS=({shlex.join(words[:-1])} {shlex.quote(words[-1])}) COMP_CWORD={len(words) - 1}
        COMP_LINE={shlex.quote(line)} COMP_POINT={len(line)}
        "$2" {words[0]} {shlex.quote(words[-1])} {shlex.quote(words[-2])}
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    return offered(["bash", "--norc", "--noprofile", "-c", script], folder)


def fish(completions: Path, folder: Path, line: str) -> set[str]:
    """What fish offers; a description is after a tab."""
    file = completions / f"{line.split(' ')[0]}.fish"
    script = f"source {shlex.quote(str(file))}; complete --do-complete {shlex.quote(line)}"
    return {one.split("\t")[0] for one in offered(["fish", "--no-config", "--command", script], folder)}


def offered(command: list[str], folder: Path) -> set[str]:
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "LC_ALL": "C.UTF-8", "TERM": "dumb"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False,
                          stdin=subprocess.DEVNULL)  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    return {line.rstrip("/") for line in done.stdout.splitlines() if line}


def zsh(completions: Path, folder: Path, line: str) -> set[str]:
    """What zsh offers: its line editor on a terminal gets the line and TAB, and a widget then writes the matches."""
    setup = Path(tempfile.mkdtemp(dir=completions.parent))
    result = setup / "matches"
    (setup / ".zshrc").write_text(f"""
        fpath=({shlex.quote(str(completions))} $fpath)
        autoload -Uz compinit && compinit -u -d {shlex.quote(str(setup / "dump"))}
        # Each match goes through compadd: -O has it collect those that fit instead of showing them.
        compadd() {{
            local -a found
            builtin compadd -O found "$@"
            print -rl -- $found >>{shlex.quote(str(result))}
            builtin compadd "$@"
        }}
        finish() {{ exit 0 }}
        zle -N finish
        bindkey '^I' complete-word
        bindkey '^X' finish
        zstyle ':completion:*' list-prompt ''
        LISTMAX=1000000 PS1='ready>'
    """)
    environment = {
        "PATH": os.environ["PATH"], "HOME": str(folder), "LC_ALL": "C.UTF-8", "TERM": "dumb", "ZDOTDIR": str(setup),
    }  # fmt: skip
    result.touch()
    terminal, its_side = pty.openpty()
    # The terminal has to control the shell. No fork in this process: it may have threads.
    process = subprocess.Popen(["setsid", "--ctty", "zsh", "--no-globalrcs", "-i"], cwd=folder, env=environment,
                               stdin=its_side, stdout=its_side, stderr=its_side)  # fmt: skip
    os.close(its_side)
    screen = b""
    typed = False
    with process:
        try:
            while part := os.read(terminal, 4096):
                screen += part
                # The prompt is printed when the editor reads keys. Keys are read in their order.
                if not typed and b"ready>" in screen:
                    os.write(terminal, line.encode() + b"\t\x18")
                    typed = True
        except OSError:
            pass  # EIO: zsh has ended.
        finally:
            # If it has not, it ends now.
            os.close(terminal)
    assert typed, screen
    return {one.rstrip("/") for one in result.read_text().splitlines() if one}


@pytest.fixture(params=SHELLS)
def offer(request: pytest.FixtureRequest, completions: dict[str, Path], folder: Path) -> Offer:
    """What a shell offers after a line."""
    shell = {"bash": bash, "zsh": zsh, "fish": fish}[request.param]
    return lambda line: shell(completions[request.param], folder, line)


@pytest.mark.parametrize("name", ["digsign", "digsigd"])
def test_commands_are_offered(offer: Offer, name: str) -> None:
    """All of them after the program's name."""
    assert offer(f"{name} ") >= set(commands(programs()[name]))


def test_a_command_is_completed(offer: Offer) -> None:
    """Only those that begin with what was typed."""
    found = offer("digsign veri")
    assert "verify" in found
    assert "sign" not in found


def test_options_of_a_command_are_offered(offer: Offer) -> None:
    """Those of the command, not of others."""
    found = {one.partition("=")[0] for one in offer("digsign sign --f")}
    assert found >= {"--fast-auth", "--fuses", "--fit-fdt"}
    assert "--trial" not in found


def test_commands_below_commands_are_offered(offer: Offer) -> None:
    """`digsigd record` has several."""
    assert offer("digsigd record ") >= {"verify", "list", "prune", "check-proof"}


def test_choices_of_an_option_are_offered(offer: Offer) -> None:
    """Where only some values are permitted."""
    assert offer("digsign sign --backend ") >= {"ssl", "pkcs11"}


def test_files_are_offered(offer: Offer) -> None:
    """For an image."""
    assert "flash.bin" in offer("digsign verify fl")


def test_the_replacement_of_cst_has_files_for_its_options(offer: Offer) -> None:
    """It has no commands."""
    assert "spl.csf" in offer("digsign-cst -i sp")
    found = {one.partition("=")[0] for one in offer("digsign-cst --")}
    assert found >= {"--input", "--output", "--backend"}
