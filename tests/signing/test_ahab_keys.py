"""Keys, tables, chips and fuse values for AHAB: what belongs together, and what does not."""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path

import pytest

from digsigd import ahab, csf
from digsigd.errors import BadTarball, Refused
from digsigd.names import AHAB_SOCS, HAB_SOC
from digsigd.reloading import rules_of
from digsigd.settings import MachineSettings, Settings, SettingsError
from digsigd.signing.ahab_keys import check_fuse_value, check_hab_chip, chip_of, fuse_value_of, signer_of, srk_of
from digsigd.signing.request import Artifact, SigningRequest
from digsigd.signing.rules import MachineRules
from tests.helpers.ahab_cases import FOLDER, members

TABLE, V2_TABLE = "crts/SRK_1_2_3_4_table.bin", "crts/SRK_1_2_3_4_v2_table.bin"
KEYS = sorted(path.name.removesuffix(".tar.gz") for path in (FOLDER / "keys").glob("*.tar.gz"))
TABLES = [(keys, name) for keys in KEYS for name in (TABLE, V2_TABLE) if name in members(keys)]


def request(soctype: str | None) -> SigningRequest:
    return SigningRequest(
        request_id="a", machine="m", cst_version="4.0.1", description=b"", soctype=soctype,
        artifacts=(Artifact(Path("a"), "a", 1),),
    )  # fmt: skip


def rules(soc: str | None) -> MachineRules:
    return MachineRules(csf.Policy(), soc=soc)


def test_every_chip_has_a_name_for_requests() -> None:
    """Those of the table, and none that it does not have."""
    assert sorted(set(AHAB_SOCS) - {"mx95-b0"}) == sorted(chip.name for chip in ahab.CHIPS)
    assert ahab.chip("mx95-b0") is ahab.chip("mx95")
    with pytest.raises(ahab.AhabError):
        ahab.chip(HAB_SOC)


def test_the_chip_is_that_of_the_request_or_of_the_machine() -> None:
    """The same in both is fine; of two, neither is believed."""
    assert chip_of(request(None), rules(None), 0) is None
    for soctype, soc in (("mx93", None), (None, "mx93"), ("mx93", "mx93")):
        chip = chip_of(request(soctype), rules(soc), 0)
        assert chip is not None
        assert chip.name == "mx93"
    with pytest.raises(Refused, match="but machine 'm' has mx93"):
        chip_of(request("mx8"), rules("mx93"), 0)
    with pytest.raises(Refused, match="have no AHAB containers"):
        chip_of(request("mx8m"), rules(None), 0)


@pytest.mark.parametrize(
    ("soctype", "soc", "version", "name"),
    [
        ("mx95", None, 0, "mx95-a0"),
        ("mx95", None, 2, "mx95"),
        (None, "mx95", 0, "mx95-a0"),
        ("mx95-b0", None, 0, "mx95"),
        ("mx95-a0", None, 2, "mx95-a0"),
        ("mx95", "mx95-b0", 0, "mx95"),
        ("mx95-a0", "mx95", 2, "mx95-a0"),
    ],
)
def test_containers_say_which_silicon_an_imx95_has(
    soctype: str | None, soc: str | None, version: int, name: str
) -> None:
    """Unless the request or the machine does."""
    chip = chip_of(request(soctype), rules(soc), version)
    assert chip is not None
    assert chip.name == name


def test_one_silicon_is_not_another() -> None:
    """Neither is another chip."""
    for soctype, soc in (("mx95-a0", "mx95-b0"), ("mx952", "mx95"), ("mx95", "mx952")):
        with pytest.raises(Refused, match=f"but machine 'm' has {soc}"):
            chip_of(request(soctype), rules(soc), 2)


def test_hab_is_for_chips_without_ahab() -> None:
    """With mx8m, or when nobody says which chip it is."""
    check_hab_chip(request("mx8m"), rules(None))
    check_hab_chip(request(None), rules(None))
    for soctype, soc in (("mx91", None), (None, "mx91")):
        with pytest.raises(Refused, match=r"i\.MX 91 boots AHAB containers"):
            check_hab_chip(request(soctype), rules(soc))


@pytest.mark.parametrize(("keys", "name"), TABLES)
def test_an_srk_is_known_by_its_certificate(keys: str, name: str) -> None:
    """In tables of both versions; an SGK is none, nor is a certificate of another PKI, or of RSA instead of PSS."""
    table = ahab.parse_table(members(keys)[name])
    for member, data in members(keys).items():
        if member.endswith("_crt.pem"):
            number = int(member.split("SRK")[1][0]) - 1 if "SRK" in member else None
            assert srk_of(table, data, member) == ([] if number is None else [number])
    for other in KEYS:
        if other != keys:
            certificate = next(name for name in members(other) if "SRK1" in name and name.endswith("_crt.pem"))
            assert srk_of(table, members(other)[certificate], certificate) == []
    with pytest.raises(BadTarball, match="in the key tarball"):
        srk_of(table, b"nothing", "crts/a_crt.pem")


@pytest.mark.parametrize("case", ["good-93-sd-spl", "good-qxp-spl-sgk"])
def test_the_signer_of_a_container_is_found(case: str) -> None:
    """By its signature, with a certificate by that of the certificate; none if it is of another key."""
    data = gzip.decompress((FOLDER / f"{case}.bin.gz").read_bytes())
    container = ahab.parse(data, 0x400)
    signed = data[0x400 : 0x400 + container.signed_length]
    assert signer_of(container, signed) == container.srk_index
    if "sgk" not in case:
        assert signer_of(container, signed + b"x") is None
    assert signer_of(replace(container, block=None), signed) is None


def test_the_fuse_value_is_known_by_pin_chip_or_version() -> None:
    """SHA-256 or SHA-512 of the table; None where nobody can say which."""
    table = ahab.parse_table(members("p384")[TABLE])
    array = ahab.parse_table(members("p384")[V2_TABLE])
    assert fuse_value_of(table, None, None) is None
    assert fuse_value_of(array, None, None) == array.hash("sha512")
    assert fuse_value_of(table, ahab.chip("mx93"), None) == table.hash("sha256")
    assert fuse_value_of(table, ahab.chip("mx8"), None) == table.hash("sha512")
    assert fuse_value_of(table, ahab.chip("mx8dxl"), None) is None
    assert fuse_value_of(table, None, bytes(32)) == table.hash("sha256")
    assert fuse_value_of(table, ahab.chip("mx8"), bytes(64)) == table.hash("sha512")


def test_a_fuse_value_has_the_length_of_the_chips() -> None:
    """The configuration is refused otherwise, with the key. Of a chip that is not known for certain, both pass."""
    assert check_fuse_value(bytes(32), "mx93") == ""
    assert check_fuse_value(bytes(64), "mx95") == check_fuse_value(bytes(32), "mx95") == ""
    assert "has 64 bytes, not 32" in check_fuse_value(bytes(32), "mx95-b0")
    assert check_fuse_value(bytes(64), "mx8dxl") == check_fuse_value(bytes(32), "mx8dxl") == ""
    assert check_fuse_value(bytes(64), None) == check_fuse_value(None, "mx93") == ""
    settings = Settings(machines={"a": MachineSettings(soc="mx93", fuses="0" * 128)})
    with pytest.raises(SettingsError, match=r"machines.a.fuses: the fuse value of i\.MX 93 has 32 bytes, not 64"):
        rules_of(settings)
    assert rules_of(Settings(machines={"a": MachineSettings(soc="mx8", fuses="0" * 128)})).of("a").soc == "mx8"
    assert rules_of(Settings()).of("b").soc is None
