"""SPSDK's own nxpimage with the signature provider, as docs/spsdk.md has it: `make test-spsdk`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from digsigd import ahab
from tests.helpers import ahab_cases
from tests.helpers.daemons import Daemon
from tests.helpers.spsdk_regions import CASE, SPL, UBOOT

pytestmark = [pytest.mark.spsdk, pytest.mark.timeout(300)]
DOCUMENT = Path(__file__).parents[2] / "docs/spsdk.md"
Nxpimage = Callable[..., str]


@pytest.fixture
def nxpimage(pytestconfig: pytest.Config, tmp_path: Path) -> Nxpimage:
    """Run nxpimage in the folder of a test; return what it prints. `code` is the exit code that it must have."""
    program = pytestconfig.getoption("--spsdk")

    def run(*arguments: str, code: int = 0) -> str:
        # What SPSDK logs goes to the home directory.
        environ = {**os.environ, "HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path)}
        done = subprocess.run(
            [program, "ahab", *arguments], cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=200
        )
        said = done.stdout + done.stderr
        assert done.returncode == code, said
        return said

    return run


def signer(host: Daemon, machine: str, image: str, more: str = "") -> str:
    return f"type=digsigd;server={host.url};machine={machine};token_file={host.folder}/token;image={image}{more}"


def certificates(keys: str, folder: Path) -> list[str]:
    """The names of the certificates of a machine's SRKs, which are then in a folder."""
    found = sorted(name for name in ahab_cases.members(keys) if re.match(r"crts/SRK[1-4]_.*crt\.pem", name))
    for name in found:
        (folder / Path(name).name).write_bytes(ahab_cases.members(keys)[name])
    return [Path(name).name for name in found]


def configuration(tmp_path: Path, line: str, keys: str = "p384", **values: str) -> str:
    """The name of a file with the configuration in docs/spsdk.md, with other values."""
    yaml = DOCUMENT.read_text().split("```yaml\n")[1].split("```")[0]
    names = certificates(keys, tmp_path)
    assert yaml.count("_crt.pem") == 4
    for number, name in enumerate(names, 1):
        yaml = re.sub(rf"SRK{number}_\S+", name, yaml)
    for name, value in {"signer": line, **values}.items():
        yaml, count = re.subn(rf"^{name}: .*$", f"{name}: {value}", yaml, flags=re.MULTILINE)
        assert count == 1, name
    (tmp_path / "sign.yaml").write_text(yaml)
    return "sign.yaml"


@pytest.fixture
def flash(tmp_path: Path) -> Path:
    path = tmp_path / "flash.bin"
    path.write_bytes(ahab_cases.image(CASE))
    return path


@pytest.mark.parametrize(("keys", "cst"), [("p384", "3.4.1"), ("p256", "4.0.1"), ("pss2048", "3.4.1")])
def test_a_file_is_signed(nxpimage: Nxpimage, host: Daemon, flash: Path, keys: str, cst: str) -> None:
    """Both containers of the OEM, each by a request of its own; NXP's is as it was. SPSDK finds nothing wrong."""
    line = signer(host, keys, "flash.bin", f";cst={cst}")
    config = configuration(flash.parent, line, keys, used_srk_id="2", srk_revoke_mask="'0x01'", sw_version="5")
    nxpimage("sign", "-c", config, "-b", "flash.bin", "-o", "signed.bin")
    signed = (flash.parent / "signed.bin").read_bytes()
    for offset in (SPL, UBOOT):
        verified = ahab.verify(
            signed,
            offset,
            chip=ahab.chip("mx93"),
            srk_index=2,
            srk_table=ahab_cases.members(keys)["crts/SRK_1_2_3_4_table.bin"],
        )
        assert (verified.container.revoke_mask, verified.container.sw_version) == (1, 5)
    assert signed[:SPL] == flash.read_bytes()[:SPL]
    assert "Overall  result: Succeeded" in nxpimage("verify", "-f", "mimx9352", "-b", "signed.bin")


EXPORT = """\
family: mimx9352
revision: latest
target_memory: standard
output: {output}
containers:
  - container:
      srk_set: {srk_set}
      used_srk_id: 0
      srk_revoke_mask: '0x00'
      fuse_version: 0
      sw_version: 0
      images:
        - image_path: spl.bin
          load_address: '0x2049A000'
          entry_point: '0x2049A000'
          image_type: executable
          core_id: cortex-a55
          hash_type: sha384
        - image_path: m33.bin
          load_address: '0x1FFC_0000'
          entry_point: '0x1FFC_0000'
          image_type: executable
          core_id: cortex-m33
          hash_type: sha256
"""


def exported(nxpimage: Nxpimage, folder: Path, line: str = "") -> Path:
    """Export a container with two images; unsigned without a signer."""
    (folder / "spl.bin").write_bytes(bytes(range(256)) * 20)
    (folder / "m33.bin").write_bytes(bytes(range(255, -1, -1)) * 37 + b"!")
    output = "signed.bin" if line else "unsigned.bin"
    yaml = EXPORT.format(output=output, srk_set="oem" if line else "none")
    if line:
        names = "".join(f"          - {name}\n" for name in certificates("p384", folder))
        yaml += f"      signer: {line}\n      srk_table:\n        hash_algorithm: default\n        srk_array:\n{names}"
    (folder / "export.yaml").write_text(yaml)
    nxpimage("export", "-c", "export.yaml")
    return folder / output


def test_an_export_is_signed(nxpimage: Nxpimage, host: Daemon, tmp_path: Path) -> None:
    """After one without signatures, in which the host gets the images. SPSDK finds nothing wrong."""
    exported(nxpimage, tmp_path)
    signed = exported(nxpimage, tmp_path, signer(host, "p384", "unsigned.bin")).read_bytes()
    assert len(ahab.verify(signed, chip=ahab.chip("mx93")).images) == 2
    assert "Overall  result: Succeeded" in nxpimage("verify", "-f", "mimx9352", "-b", "signed.bin")


def test_an_export_without_signatures_is_signed_by_digsign(nxpimage: Nxpimage, host: Daemon, tmp_path: Path) -> None:
    """As docs/spsdk.md has it, for builds that do not need SPSDK's signature: SPSDK finds nothing wrong with it."""
    exported(nxpimage, tmp_path)
    digsign = Path(sys.executable).with_name("digsign")
    options = ["--soc", "mx93", "--server", host.url, "--machine", "p384", "--token-file", f"{host.folder}/token"]
    subprocess.run([digsign, "sign", "unsigned.bin", "-o", "signed.bin", *options], cwd=tmp_path, check=True)
    ahab.verify((tmp_path / "signed.bin").read_bytes(), chip=ahab.chip("mx93"))
    assert "Overall  result: Succeeded" in nxpimage("verify", "-f", "mimx9352", "-b", "signed.bin")


def test_a_container_is_signed_again(nxpimage: Nxpimage, host: Daemon, flash: Path) -> None:
    """By `nxpimage ahab re-sign`, in place."""
    line = signer(host, "p384", "flash.bin")
    nxpimage("sign", "-c", configuration(flash.parent, line), "-b", "flash.bin", "-o", "signed.bin")
    before = (flash.parent / "signed.bin").read_bytes()
    line = signer(host, "p384", "signed.bin")
    nxpimage("re-sign", "-f", "mimx9352", "-b", "signed.bin", "-k", line, "-i", "1")
    after = (flash.parent / "signed.bin").read_bytes()
    container = ahab.verify(after, SPL).container
    changed = [at for at in range(len(after)) if before[at] != after[at]]
    assert changed
    assert SPL + container.signed_length <= changed[0]
    assert changed[-1] < container.end


@pytest.mark.parametrize(
    ("keys", "more", "what"),
    [
        ("p521", "", "SPSDK does not pad the signature block"),
        ("p384", ";prehash=sha384", "the host signs no digests"),
        ("p384", ";machin=x", "machin is not a key of this signer; did you mean machine?"),
    ],
)
def test_what_is_refused_is_told(
    nxpimage: Nxpimage, host: Daemon, flash: Path, keys: str, more: str, what: str
) -> None:
    """Nxpimage shows the provider's own words, and writes nothing."""
    config = configuration(flash.parent, signer(host, keys, "flash.bin", more), keys)
    said = nxpimage("sign", "-c", config, "-b", "flash.bin", "-o", "signed.bin", code=2)
    assert what in " ".join(said.split())
    assert not (flash.parent / "signed.bin").exists()


def test_images_that_differ_are_refused(nxpimage: Nxpimage, host: Daemon, flash: Path) -> None:
    """Those of another build."""
    other = bytearray(flash.read_bytes())
    other[SPL + 0x30] ^= 1
    (flash.parent / "other.bin").write_bytes(other)
    config = configuration(flash.parent, signer(host, "p384", "other.bin"))
    said = nxpimage("sign", "-c", config, "-b", "flash.bin", "-o", "signed.bin", code=2)
    assert "was made from something else" in " ".join(said.split())


def test_version_2_is_refused(nxpimage: Nxpimage, host: Daemon, tmp_path: Path) -> None:
    """Cst pads what SPSDK does not."""
    (tmp_path / "v2.bin").write_bytes(ahab_cases.image("good-v2-p384"))
    nxpimage("fix-signature-block-version", "-f", "mimx943", "-b", "v2.bin", "-o", "fixed.bin")
    config = configuration(tmp_path, signer(host, "p384", "fixed.bin"), family="mimx943")
    said = nxpimage("sign", "-c", config, "-b", "fixed.bin", "-o", "signed.bin", code=2)
    assert "the container is of version 2" in " ".join(said.split())
