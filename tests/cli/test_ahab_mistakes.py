"""Mistakes with AHAB that `digsign` tells, and what it asks a running daemon for besides signatures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from digsigd import ahab
from tests.helpers import golden
from tests.helpers.ahab_cases import fuse_value, image, tarball
from tests.helpers.commands import Run, host
from tests.helpers.daemons import Daemon

SD, V2 = "good-93-sd-spl", "good-v2-p384"


@pytest.fixture(scope="module")
def daemon(cst_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """One for all tests; the operator allows fast boot for one machine."""
    daemon = Daemon(tmp_path_factory.mktemp("daemon"), cst_base, '[machines.fast]\nallow = ["ahab-fast-boot"]\n')
    for machine, keys in (("p384", "p384"), ("p256", "p256"), ("p384ca", "p384ca"), ("fast", "p384")):
        daemon.put_keys(machine, tarball(keys))
    yield daemon.start()
    assert daemon.left_behind() == []
    daemon.stop()


def received(daemon: Daemon) -> int:
    """How many files were sent to the daemon."""
    return daemon.log().count("] received ")


@pytest.mark.parametrize(
    ("machine", "soc", "fuses"), [("p384", "imx93", "fuse_sha256"), ("p384", "imx95-b0", "v2_fuse")]
)
def test_the_fuses_of_a_machine_are_those_of_its_tables(
    digsign: Run, daemon: Daemon, machine: str, soc: str, fuses: str
) -> None:
    """Of the two tables that the host has for it, the chip's; also to compare with a file, or with digits."""
    value = fuse_value(machine, fuses)
    shown = digsign("fuses", "--machine", machine, "--soc", soc, "--json", **host(daemon))
    assert shown.returncode == 0, shown.stderr
    assert value.hex() in shown.stdout
    text = digsign("fuses", "--machine", machine, "--soc", soc, **host(daemon)).stdout
    assert f"fuse prog 16 0 0x{int.from_bytes(value[:4], 'little'):X}\n" in text
    same = digsign("fuses", "--machine", machine, "--soc", soc, "--compare", value.hex(), **host(daemon))
    assert (same.returncode, same.stdout[:8]) == (0, "The same"), same.stderr
    other = digsign("fuses", "--machine", "p256", "--soc", "imx93", "--compare", value[:32].hex(), **host(daemon))
    assert (other.returncode, "different keys" in other.stdout) == (1, True)
    nothing = digsign("fuses", "--machine", "nobody", "--soc", soc, **host(daemon))
    assert (nothing.returncode, "there are no keys for machine 'nobody'" in nothing.stderr) == (1, True)


@pytest.mark.parametrize("soc", [(), ("--soc", "imx8mm")])
def test_fuses_of_a_machine_with_ahab_need_a_chip_with_ahab(digsign: Run, daemon: Daemon, soc: tuple[str, ...]) -> None:
    """Which ones there are is told, whether it was asked for none or for one with HAB4."""
    for more in ((), ("--compare", "00" * 32)):
        done = digsign("fuses", "--machine", "p384", *soc, *more, **host(daemon))
        assert done.returncode == 2
        assert ("and none of HAB" in done.stderr) == bool(soc or more)
        assert "mx8ulp, mx91, mx93, mx95-a0, mx95-b0" in done.stderr


def test_an_sgk_that_is_not_there_and_a_hash_of_the_wrong_length_are_told(
    digsign: Run, daemon: Daemon, flash: Path
) -> None:
    """With what to do: without certificates there is nothing to look for among the SRKs."""
    before = received(daemon)
    done = digsign("sign", flash, "-o", "out.bin", "--soc", "imx8qxp", "--sgk", **host(daemon))
    assert (done.returncode, "leave out --sgk" in done.stderr) == (1, True)
    value = fuse_value("p384", "fuse_sha512").hex()
    done = digsign("sign", flash, "-o", "out.bin", "--soc", "imx93", "--fuses", value, **host(daemon))
    assert done.returncode == 1
    assert "--fuses has 128 digits, but i.MX 93 has a SHA-256 in its fuses, which has 64" in done.stderr
    assert received(daemon) == before


def test_the_flags_of_fast_boot_are_those_of_the_container(digsign: Run, daemon: Daemon, tmp_path: Path) -> None:
    """imx-mkimage sets them with -cntr_flags; the host signs them if its operator allows it."""
    data = bytearray(image(V2))
    data[6] |= 0x3
    (tmp_path / "flash.bin").write_bytes(data)
    done = digsign("sign", "flash.bin", "-o", "out.bin", "--soc", "imx95", **host(daemon, "fast"))
    assert done.returncode == 0, done.stderr
    assert ahab.parse((tmp_path / "out.bin").read_bytes(), 0).fast_boot == 3
    done = digsign("sign", "flash.bin", "-o", "new.bin", "--soc", "imx95", **host(daemon))
    assert (done.returncode, "the operator can allow it as 'ahab-fast-boot'" in done.stderr) == (1, True)


@pytest.mark.parametrize("command", [("sign", "-o", "out.bin"), ("verify",)])
def test_a_file_without_a_container_is_not_called_an_image_for_other_chips(
    digsign: Run, daemon: Daemon, tmp_path: Path, command: tuple[str, ...]
) -> None:
    """U-Boot alone, or a flash.bin whose start is missing: nobody knows what else it is for."""
    (tmp_path / "u-boot.bin").write_bytes(image(SD)[0x2000:])
    done = digsign(command[0], "u-boot.bin", *command[1:], "--soc", "imx93", **host(daemon))
    assert done.returncode == 1
    assert "u-boot.bin has no AHAB container, which images for the i.MX 93 have\n  pass flash.bin" in done.stderr
    assert not (tmp_path / "out.bin").exists()


def test_a_machine_for_ahab_has_no_keys_for_hab(digsign: Run, daemon: Daemon, tmp_path: Path) -> None:
    """Another SRK would not help."""
    (tmp_path / "flash.bin").write_bytes(golden.flash("mm", "nxp-new"))
    done = digsign("sign", "flash.bin", "-o", "out.bin", **host(daemon))
    assert done.returncode == 1
    assert "has no SRK table for HAB; its table is for AHAB\n  check the machine name" in done.stderr


def test_only_a_fuse_value_pins_the_keys(digsign: Run, daemon: Daemon, flash: Path) -> None:
    """Names in `digsign.toml` only name keys on the host, which may have others: the value of the image is shown."""
    names = 'srk_table = "crts/SRK_1_2_3_4_table.bin"\nsrk_certificate = "SRK1_sha384_secp384r1_v3_usr_crt.pem"\n'
    (flash.parent / "digsign.toml").write_text(f'cst = "4.0.1"\n{names}')
    command = ("sign", "flash.bin", "-o", "out.bin", "--soc", "imx93")
    done = digsign(*command, **host(daemon))
    assert (done.returncode, fuse_value("p384", "fuse_sha256").hex() in done.stdout) == (0, True), done.stderr
    (flash.parent / "out.bin").unlink()
    done = digsign(*command, "--fuses", fuse_value("p256", "fuse_sha256").hex(), **host(daemon))
    assert done.returncode == 1
    assert "so nothing was written" in done.stderr
    assert not (flash.parent / "out.bin").exists()
