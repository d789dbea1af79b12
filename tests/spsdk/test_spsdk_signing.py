"""The signature provider for SPSDK, without SPSDK, and a real host with the real cst."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from digsigd import ahab
from digsigd.ahab.signature import check_signature
from digsigd.spsdk.errors import ProviderError
from digsigd.spsdk.provider import Provider
from tests.helpers.ahab_cases import image
from tests.helpers.daemons import Daemon
from tests.helpers.spsdk_regions import CASE, SPL, UBOOT, region, table

MakeProvider = Callable[..., Provider]


@pytest.fixture
def provider(host: Daemon, tmp_path: Path) -> MakeProvider:
    """Makes providers for a machine and a file with images."""
    (tmp_path / "flash.bin").write_bytes(image(CASE))

    def make(machine: str = "p384", **keys: str) -> Provider:
        line = {"server": host.url, "machine": machine, "image": "flash.bin", "token_file": f"{host.folder}/token"}
        return Provider({**line, "retries": "0", **keys}, [str(tmp_path)])

    return make


def holds(data: bytes, signature: bytes) -> None:
    """Check it with the key that the container names."""
    flags = int.from_bytes(data[4:8], "little")
    block = int.from_bytes(data[12:14], "little") + 16
    length = int.from_bytes(data[block + 1 : block + 3], "little")
    srks = ahab.parse_table(data[block : block + length])
    assert isinstance(srks, ahab.SrkTable)
    check_signature(srks.records[flags >> 4 & 3], signature, data, "signature", "it")


@pytest.mark.parametrize("cst", ["3.4.1", "4.0.1"])
@pytest.mark.parametrize(("machine", "length"), [("p384", 96), ("p256", 64), ("pss2048", 256)])
@pytest.mark.parametrize(("offset", "index"), [(SPL, 0), (UBOOT, 3)])
def test_a_container_is_signed(
    provider: MakeProvider, cst: str, machine: str, length: int, offset: int, index: int
) -> None:
    """With each kind of key and each cst: the signature is raw, as long as announced, and holds over SPSDK's bytes."""
    one = provider(machine, cst=cst)
    data = region(offset=offset, srks=table(machine), signature=length, index=index)
    assert one.signature_length == length
    signature = one.sign(data)
    assert len(signature) == length
    holds(data, signature)
    assert any("trial" in note.lower() for note in one.notes) or not one.notes


def test_revocations_and_versions_are_those_of_spsdk(provider: MakeProvider) -> None:
    """They are signed, as far as the host's policy allows them."""
    data = region(index=1, revoked=0b1000, sw_version=7, fuse_version=3)
    holds(data, provider().sign(data))
