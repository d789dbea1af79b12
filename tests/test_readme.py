"""README, followed word for word: its commands run as they stand, but for the port and the installation."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from digsigd.image.plan import plan
from tests.helpers import golden
from tests.helpers.daemons import DEADLINE

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
MACHINE = "imx8mm-evk"


def blocks(title: str) -> list[str]:
    """The commands of a section, one text for each block."""
    (section,) = re.findall(rf"^##+ {title}\n(.*?)(?=^##|\Z)", README, re.MULTILINE | re.DOTALL)
    found = re.findall(r"(?:^    .*\n|^\n(?=    ))+", section, re.MULTILINE)
    return ["".join(line[4:] or "\n" for line in block.splitlines(keepends=True)).strip() for block in found]


class Newcomer:
    """Somebody with an empty home folder, an installed digsigd, and an image that a build has made."""

    def __init__(self, folder: Path, cst_base: Path) -> None:
        self.home, self.build = folder / "home", folder / "build"
        (self.home / "digsigd/bin").mkdir(parents=True)
        for name in ("digsign", "digsigd"):
            (self.home / "digsigd/bin" / name).symlink_to(Path(sys.executable).with_name(name))
        (self.home / "nxp").symlink_to(cst_base)
        self.build.mkdir()
        (self.build / "flash.bin").write_bytes(golden.flash("mm", "binman"))
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("DIGSIG", "XDG_"))}
        self.environ = {
            **kept,
            "HOME": str(self.home),
            "PATH": f"{self.home}/digsigd/bin:/usr/bin:/bin",
            "TMPDIR": str(folder),
            "no_proxy": "localhost",
        }
        self.port = 0

    def run(self, script: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run commands as a shell does that stops at the first that fails."""
        script = script.replace("localhost:9999", f"127.0.0.1:{self.port}")
        return subprocess.run(
            ["sh", "-eu", "-c", script],
            cwd=cwd or self.build, env=self.environ, capture_output=True, text=True, check=False, timeout=DEADLINE,
        )  # fmt: skip


def test_the_commands_that_install_are_there() -> None:
    """They are run where a release is checked; here the file and the extra that they name are looked at."""
    install, *_ = blocks("Run it")[0].splitlines()
    assert install.startswith("python3 -m venv ~/digsigd && ~/digsigd/bin/pip install .  ")
    assert (ROOT / "etc/make-venv").exists()


@pytest.fixture(scope="module")
def newcomer(tmp_path_factory: pytest.TempPathFactory, cst_base: Path) -> Iterator[Newcomer]:
    """One who has followed "Run it": keys and configuration are made and checked, and the daemon runs."""
    made = Newcomer(tmp_path_factory.mktemp("newcomer"), cst_base)
    (block,) = blocks("Run it")
    install, *setup, start = block.splitlines()
    assert "pip install" in install
    done = made.run("\n".join(setup), ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "FAILED" not in done.stdout
    assert re.search(rf"^ok +{MACHINE} .*SRK", done.stdout, re.MULTILINE), done.stdout
    assert start == "digsigd run --config ~/digsigd.toml"
    process = subprocess.Popen(
        ["sh", "-c", f"exec {start} --listen tcp:0:interface=127.0.0.1"],
        cwd=made.build, env=made.environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if found := re.search(r"listening on 127\.0\.0\.1:(\d+)", line):
            made.port = int(found[1])
            break
    assert made.port, said
    yield made
    process.send_signal(signal.SIGINT)
    said += process.communicate(timeout=DEADLINE)[0]
    assert process.returncode == -signal.SIGINT, said
    assert "Traceback" not in said
    assert not list(made.build.glob("*.pid"))


def test_an_image_is_signed_and_verified(newcomer: Newcomer) -> None:
    """By digsign, with the note that the keys are for trials."""
    (script,) = blocks("Sign")
    done = newcomer.run(script)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "of trial keys" in done.stderr
    assert "Everything holds" in done.stdout


def test_the_same_with_curl(newcomer: Newcomer) -> None:
    """Descriptions by digsign, blobs by curl, written into the image with dd; the offsets are those that were given."""
    describe, send, check = blocks("With curl")
    done = newcomer.run(describe)
    assert done.returncode == 0, done.stderr
    places = dict(re.findall(r"csf_(\w+)\.txt: write its CSF at (0x[0-9a-f]+)", done.stdout))
    assert places["spl"] in send
    done = newcomer.run(send)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert newcomer.run(check).returncode == 1
    done = newcomer.run(send.replace("spl", "fit").replace(places["spl"], places["fit"]))
    assert done.returncode == 0, done.stderr
    done = newcomer.run(check)
    assert done.returncode == 0, done.stdout
    assert "Everything holds" in done.stdout


def test_curl_shows_an_error_and_leaves_no_file(newcomer: Newcomer) -> None:
    """Of the host, in one line; and that no host is there."""
    describe, send, _ = blocks("With curl")
    assert newcomer.run(describe).returncode == 0
    for script, words in (
        (send.replace(f"machine={MACHINE}", "machine=nobody"), "there are no keys for machine 'nobody'"),
        (send.replace("--retry 4", "").replace("localhost:9999", "127.0.0.1:1"), "connect"),
    ):
        done = newcomer.run(f"rm -f *.csf.bin\n{script}")
        assert done.returncode != 0
        assert words in done.stderr
        assert not list(newcomer.build.glob("*.csf.bin"))


def test_the_names_of_keys_are_listed(newcomer: Newcomer) -> None:
    """Trial keys have 2048 bits."""
    (command,) = re.findall(r"`(digsign ping [^`]*)`", README)
    done = newcomer.run(command)
    assert done.returncode == 0, done.stderr
    assert "crts/CSF1_1_sha256_2048_65537_v3_usr_crt.pem" in done.stdout


def test_a_kernel_is_padded_by_hand_as_by_digsign(tmp_path: Path) -> None:
    """docs/csf.md's commands make the same file, and its block."""
    (script,) = re.findall(r"^```sh\n(.*?)^```$", (ROOT / "docs/csf.md").read_text(), re.MULTILINE | re.DOTALL)
    image = bytearray(golden.kernel())
    (tmp_path / "Image").write_bytes(image)
    done = subprocess.run(
        ["sh", "-eu", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=DEADLINE
    )
    assert done.returncode == 0, done.stderr
    made = (tmp_path / "Image-pad-ivt.bin").read_bytes()
    planned = plan(bytes(image), load_address=0x40480000)
    for patch in planned.patches:
        image[patch.offset : patch.offset + len(patch.data)] = patch.data
    assert made == image[: len(made)]
    (signing,) = planned.signings
    assert signing.csf_offset == len(made)
    (block,) = signing.blocks
    assert done.stdout == f'Blocks = {block.address:#x} {block.offset:#x} {block.length:#x} "Image-pad-ivt.bin"\n'
