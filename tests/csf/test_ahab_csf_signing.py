"""What the policy lets through of descriptions for AHAB, a real cst signs, and the container says the same."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.x509 import load_pem_x509_certificate

from digsigd import csf
from digsigd.csf import ahab
from tests.csf.ahab_signer import AhabSigner, keys, unsigned
from tests.csf.ahab_texts import BASE, SGK, SRK, TABLE, V2, WITH_SGK, another
from tests.csf.texts import changed

ALL = csf.ALLOWABLE
OFFSETS = "0x400 0x490"


@pytest.fixture
def signer(cst: Path, tmp_path: Path) -> AhabSigner:
    """Signs with that cst, each time in a new folder."""
    return AhabSigner(cst, tmp_path)


@pytest.fixture
def newer(cst_base: Path, tmp_path: Path) -> AhabSigner:
    """Signs with cst 4.0.1, the only one for containers of version 2."""
    return AhabSigner(cst_base / "cst-4.0.1/linux64/bin/cst", tmp_path)


def at(text: str, start: int = 0, index: int = 0) -> str:
    """The description for a container with two images at a place, signed by another key."""
    for old in (SRK, SGK):
        text = text.replace(old, old.replace("1_", f"{index + 1}_", 1))
    return text.replace("index = 0", f"index = {index}").replace(OFFSETS, f"{start:#x} {start + 0x110:#x}")


@pytest.mark.parametrize("index", range(4))
@pytest.mark.parametrize("base", [BASE, WITH_SGK], ids=["SRK", "SGK"])
def test_containers_of_version_0_are_signed(signer: AhabSigner, base: str, index: int) -> None:
    """By each key, with and without a certificate below it."""
    _, (verified,) = signer.sign(at(base, 0x400, index), keys(), bytes(0x400) + unsigned(0))
    assert verified.srk == index + 1
    assert verified.certificate == (base == WITH_SGK)
    assert (verified.container.version, verified.container.revoke_mask) == (0, 0)


def test_revocations_and_permissions_are_in_the_container(signer: AhabSigner) -> None:
    """All of their bits that can be."""
    text = changed("Revocations = 0x0", "Revocations = 0xb", at(WITH_SGK, index=2))
    text = changed("Permissions = 0x1", "Permissions = 0xa7", text)
    _, (verified,) = signer.sign(text, keys(), unsigned(0), *ALL)
    assert verified.container.revoke_mask == 0xB
    block = verified.container.block
    assert block is not None
    assert block.certificate is not None
    assert block.certificate.permissions == 0xA7


V2_TABLE = TABLE.replace("_table", "_v2_table")


@pytest.mark.parametrize("index", range(4))
def test_containers_of_version_2_are_signed(newer: AhabSigner, index: int) -> None:
    """With everything that their descriptions can have."""
    text = at(V2, index=index).replace(TABLE, V2_TABLE)
    text = changed("Revocations = 0x0", "Revocations = 0\nCheck All Signatures = All\nFast Boot = 5", text)
    more = "Permissions = 0x11\nPermissions Data = 1 2 0xffffffff\nUUID = 4 5 6 0x80000000\nFuse Version = 255"
    _, (verified,) = newer.sign(changed("Permissions = 0x1", more, text), keys(), unsigned(2), *ALL)
    container = verified.container
    assert (verified.srk, container.version) == (index + 1, 2)
    assert (container.check_all, container.fast_boot) == (True, 5)
    assert container.block is not None
    certificate = container.block.certificate
    assert certificate is not None
    assert certificate.permissions == 0x11
    assert certificate.permission_data == b"\1\0\0\0\2\0\0\0\xff\xff\xff\xff"
    assert certificate.uuid == b"\4\0\0\0\5\0\0\0\6\0\0\0\0\0\0\x80"
    assert certificate.fuse_version == 255


def test_defaults_are_what_cst_does_without_them(newer: AhabSigner) -> None:
    """So they are signed without being allowed."""
    text = changed("Revocations = 0x0", "Revocations = 0\nCheck All Signatures = Fuse\nFast Boot = 0", at(V2))
    text = changed(
        "Permissions = 0x1", "Permissions = 1\nPermissions Data = 0 0 0\nUUID = 0 0 0 0\nFuse Version = 0", text
    )
    made = []
    for one in (text, at(V2)):
        _, (verified,) = newer.sign(one.replace(TABLE, V2_TABLE), keys(), unsigned(2))
        block = verified.container.block
        assert block is not None
        assert block.certificate is not None
        made.append((verified.container.flags, block.certificate.signed))
    assert made[0] == made[1]


def test_every_container_of_a_file_is_signed_by_itself(signer: AhabSigner) -> None:
    """In the order of the file, whatever that of the description."""
    artifact = unsigned(0).ljust(0x400, b"\0") + unsigned(0)
    text = at(BASE, 0x400) + another("0x0 0x110")
    planned, verified = signer.sign(text, keys(), artifact, "ahab-several-containers")
    assert planned.containers == ((0, 0x110), (0x400, 0x510))
    assert [one.srk for one in verified] == [1, 1]


def test_commands_can_have_any_order(signer: AhabSigner) -> None:
    """For cst as well; what it gets is in one order."""
    head, rest = at(WITH_SGK)[: WITH_SGK.index("[Install SRK]")], at(WITH_SGK)[WITH_SGK.index("[Install SRK]") :]
    parts = [f"[{one}" for one in rest.split("[") if one]
    _, (verified,) = signer.sign(head + "".join(reversed(parts)), keys(), unsigned(0))
    assert verified.certificate
    assert [type(one) for one in ahab.parse((head + "".join(reversed(parts))).encode()).commands] == [
        ahab.Header,
        ahab.AuthenticateData,
        ahab.InstallCertificate,
        ahab.InstallSrk,
    ]


# cst 3.4.1 cannot open DER keys without a pass phrase; 4.0.1 can.
@pytest.mark.parametrize(("ending", "encrypted"), [("pem", False), ("der", True)])
def test_every_form_of_keys_for_ahab_is_found_by_cst(signer: AhabSigner, ending: str, encrypted: bool) -> None:
    """Where the plan puts them, in folders and flat; other tests have PEM keys with a pass phrase."""
    word = keys()["keys/key_pass.txt"].split()[0]
    encoding = serialization.Encoding.PEM if ending == "pem" else serialization.Encoding.DER
    how = serialization.BestAvailableEncryption(word) if encrypted else serialization.NoEncryption()
    members = {}
    for name, content in keys().items():
        made = content
        if name.endswith("_crt.pem"):
            made = load_pem_x509_certificate(content).public_bytes(encoding)
        elif name.endswith("_key.pem"):
            key = serialization.load_pem_private_key(content, word)
            made = key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, how)
        members[name.replace(".pem", f".{ending}")] = made
    flat = {name.rpartition("/")[2]: content for name, content in members.items()}
    for one in (members, flat):
        planned, (verified,) = signer.sign(at(WITH_SGK), one, unsigned(0))
        assert verified.certificate
        crts = {needed.name for needed in planned.files if needed.kind == "certificate"}
        assert crts == {f"k1/a_crt.{ending}", f"k2/a_crt.{ending}"}
