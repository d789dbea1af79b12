"""The signature provider for SPSDK with keys on a token: SoftHSM, both csts, and the names in `digsign.toml`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from digsigd.ahab.signature import check_signature
from digsigd.hab.certificate import load_file
from digsigd.spsdk.errors import ProviderError
from digsigd.spsdk.provider import Provider
from digsigd.spsdk.region import parse_region
from tests.helpers.ahab_cases import image, members, packed
from tests.helpers.daemons import Daemon
from tests.helpers.hsm import SoftHsm, provider
from tests.helpers.spsdk_regions import CASE, TABLE, region

NAME = "SRK2_sha384_secp384r1_v3_usr"
CERTIFICATE = f"pkcs11:token=release;object={NAME};type=cert"


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory, cst_base: Path) -> Iterator[Daemon]:
    """One whose machine "hsm" has SRK 2 on a token, and the SRK table in its tarball."""
    folder, files = tmp_path_factory.mktemp("hsm"), members("p384")
    hsm = SoftHsm(folder)
    hsm.init_token("release", "73915")
    hsm.put(
        "release", "73915", NAME, id="02", key_pem=files[f"keys/{NAME}_key.pem"],
        key_password=files["keys/key_pass.txt"].split()[0], certificate=load_file(files[f"crts/{NAME}_crt.pem"]).der,
    )  # fmt: skip
    (folder / "pin").write_text("73915")
    (folder / "d").mkdir()
    config = f"""
[pkcs11]
module = "{SoftHsm.MODULE}"
provider = "{provider(cst_base)}"
paths = ["{hsm.folder}"]
[pkcs11.tokens.release]
pin_file = "{folder}/pin"
[machines.hsm]
soc = "mx93"
"""
    daemon = Daemon(folder / "d", cst_base, config, environ=hsm.environ)
    daemon.put_keys("hsm", packed({TABLE: files[TABLE]}))
    yield daemon.start()
    daemon.stop()


@pytest.mark.parametrize("cst", ["3.4.1", "4.0.1"])
def test_a_key_on_a_token_signs(host: Daemon, tmp_path: Path, cst: str) -> None:
    """SPSDK's line cannot have the URI of its certificate: `digsign.toml` has it, and the line names that file."""
    (tmp_path / "flash.bin").write_bytes(image(CASE))
    (tmp_path / "digsign.toml").write_text(
        f'server = "{host.url}"\nmachine = "hsm"\nbackend = "pkcs11"\nsrk_certificate = "{CERTIFICATE}"\n'
    )
    keys = {"image": "flash.bin", "config": "digsign.toml", "cst": cst, "retries": "0"}
    one = Provider(keys, [str(tmp_path)])
    data = region(index=1)
    assert one.signature_length == 96
    signature = one.sign(data)
    block = parse_region(data).container.block
    assert block is not None
    assert block.srk is not None
    check_signature(block.srk.records[1], signature, data, "signature", "it")  # type: ignore[union-attr]
    with pytest.raises(ProviderError, match="SRK"):
        one.sign(region(index=2))
