"""The part of `etc/demo` for AHAB: a trial file for i.MX 93, signed with curl and digsign, verified, and forged."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

from digsigd import ahab
from digsigd.testing import TrialAhabImage, TrialAhabPki

MACHINE, SOC = "trial-imx93", "mx93"
FILE_SIZE = 0x30000
# The owner's two containers in the file.
PARTS = ("spl", "uboot")


class Failed(Exception):
    """Why the demonstration cannot go on."""


def shown(path: Path) -> str:
    """Return the path relative to the current folder, if it is below it."""
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


def make_keys(folder: Path) -> None:
    """Make the keys, the file and its CSF descriptions, unless an earlier run made them."""
    tarball = folder / "keys" / MACHINE / "imxsign/imx-cst-keys.tar.gz"
    if tarball.exists() and (folder / "flash.bin").exists():
        return
    pki = TrialAhabPki.make("p384", versions=(0,))
    image = TrialAhabImage.of_size(FILE_SIZE)
    for part, (header, block) in zip(PARTS, image.containers, strict=True):
        (folder / f"{part}.csf").write_text(pki.csf("flash.bin", header, block))
    (folder / "fuses").write_text(ahab.fuse_value(ahab.parse_table(pki.srk_table()), ahab.chip(SOC)).hex() + "\n")
    tarball.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    tarball.write_bytes(pki.tarball())
    # Written last: if it exists, everything else exists.
    (folder / "flash.bin").write_bytes(image.data)


def sign_with_curl(folder: Path, port: int, version: str) -> Path:
    """Have both containers signed, one after the other, and return the file with both."""
    artifact = folder / "flash.bin"
    for part in PARTS:
        output = folder / f"flash.{part}-signed.bin"
        output.unlink(missing_ok=True)
        command = ["curl", "--retry", "4", "--silent", "--show-error", "--fail-with-body", "--max-time", "1800",
                   "--noproxy", "*",
                   "-F", f"machine={MACHINE}", "-F", f"soctype={SOC}", "-F", f"cstversion={version}",
                   "-F", f"csf=@{shown(folder / f'{part}.csf')};type=text/plain",
                   "-F", f"artifact=@{shown(artifact)};filename=flash.bin",
                   "-o", shown(output), f"http://127.0.0.1:{port}/sign/imx"]  # fmt: skip
        print(_wrapped(command))
        done = subprocess.run(command, check=False)
        if done.returncode != 0:
            said = output.read_text(errors="replace") if output.exists() else ""
            raise Failed(f"curl exited with {done.returncode}: {said}")
        print(f"    the answer is the whole file, {output.stat().st_size} bytes, in {shown(output)}")
        artifact = output
    return artifact


def sign_with_digsign(folder: Path, port: int) -> Path:
    """Have digsign find the containers and sign both."""
    signed = folder / "flash.signed.bin"
    server = f"http://127.0.0.1:{port}"
    digsign("sign", shown(folder / "flash.bin"), "-o", shown(signed),
            "--server", server, "--machine", MACHINE, "--soc", SOC)  # fmt: skip
    return signed


def verify(folder: Path, signed: Path) -> None:
    """Verify a signed file as the chip does, without the daemon."""
    fuses = (folder / "fuses").read_text().strip()
    digsign("verify", shown(signed), "--soc", SOC, "--fuses", fuses)


def refuse(folder: Path, signed: Path) -> None:
    """Change one byte of the SPL: the file must be refused."""
    data = bytearray(signed.read_bytes())
    spl = ahab.find(data)[1]
    place = spl.offset + spl.images[0].offset + 0x100
    data[place] ^= 1
    forged = folder / "flash.forged.bin"
    forged.write_bytes(data)
    print(f"    one bit at {place:#x} was changed, in the SPL")
    fuses = (folder / "fuses").read_text().strip()
    digsign("verify", shown(forged), "--soc", SOC, "--fuses", fuses, code=1)


def digsign(*arguments: str, code: int = 0) -> None:
    """Run digsign, and show what it says. It must end with `code`."""
    command = [str(Path(sys.executable).with_name("digsign")), *arguments]
    print(_wrapped([shown(Path(command[0])), *arguments]), flush=True)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DIGSIGN_")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    for line in (done.stdout + done.stderr).splitlines():
        print(f"    | {line}")
    if done.returncode != code:
        raise Failed(f"digsign exited with {done.returncode}, not {code}")


def _wrapped(command: list[str]) -> str:
    """Return a command for people: each option with its value on a line of its own."""
    lines: list[str] = []
    for part in command[1:]:
        if not lines or (part.startswith("-") and part not in {"--silent", "--show-error"}):
            lines.append(shlex.quote(part))
        else:
            lines[-1] += " " + shlex.quote(part)
    return f"    {command[0]} " + " \\\n         ".join(lines)
