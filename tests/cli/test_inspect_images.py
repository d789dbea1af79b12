"""`digsign inspect` shows what tools other than digsign make, and calls damaged only what is."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.serialization import Encoding

from digsigd import hab
from digsigd.hab.certificate import load
from tests.helpers import golden, golden_kinds
from tests.helpers.blobs import IMAGE, Signing
from tests.helpers.commands import Digsign
from tests.helpers.forge import authenticate, certificate_of, cms, decrypt, forge, install, install_srk, named
from tests.helpers.forge import secret_key as install_secret_key
from tests.helpers.inspecting import Inspect, notes, parts

BODY = golden.filler("u-boot", 0x5000)


@pytest.fixture
def show(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Inspect:
    return Inspect(Digsign(capsys), tmp_path)


def u_boot(folder: Path, boot_from: str) -> bytes:
    """u-boot.imx of an i.MX 6, with a DCD and a pointer to a CSF, by mkimage."""
    (folder / "u-boot.bin").write_bytes(BODY)
    (folder / "imximage.cfg").write_text(
        f"IMAGE_VERSION 2\nBOOT_FROM {boot_from}\nCSF 0x2000\n"
        "DATA 4 0x020c4068 0xffffffff\nSET_BIT 4 0x021b0800 0x1\nCHECK_BITS_SET 4 0x021b0018 0x2\n"
    )
    command = ["mkimage", "-n", "imximage.cfg", "-T", "imximage", "-e", "0x17800000", "-d", "u-boot.bin", "u-boot.imx"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return (folder / "u-boot.imx").read_bytes()


@pytest.mark.parametrize(("boot_from", "ivt"), [("sd", 0x177FF400), ("nand", 0x177FF400), ("qspi", 0x177FF8E8)])
def test_u_boot_of_mkimage_is_shown_with_its_dcd(show: Inspect, tmp_path: Path, boot_from: str, ivt: int) -> None:
    """An i.MX 6 image is undamaged before it is signed, wherever its CSF is to be."""
    (told,) = parts(show.values(u_boot(tmp_path, boot_from)), "ivt")
    assert (told["loaded_to"], told["entry"]) == (ivt, 0x17800000)
    assert (told["dcd"], told["dcd_commands"]) == (ivt + 0x2C, 3)
    assert "no CSF: its place" in notes(told)


def test_chips_that_an_image_can_be_for_are_told(show: Inspect, tmp_path: Path) -> None:
    """By the registers in its DCD; where they are several that are signed for differently, that is said."""
    data = u_boot(tmp_path, "sd")
    assert "signing it needs --soc" in notes(show.values(data))
    quad = data.replace(bytes.fromhex("020c4068"), bytes.fromhex("020e050c"))
    values = show.values(quad)
    assert "i.MX 6Quad" in values["boards"]
    assert "needs --soc" not in notes(values)


def test_dcd_without_commands_is_noted(show: Inspect, tmp_path: Path) -> None:
    """It is whole, and what the ROM makes of it is not for inspect to judge; a DCD that is cut short is damaged."""
    data = u_boot(tmp_path, "sd")
    (told,) = parts(show.values(data[:0x30] + b"\1" * 0x2C + data[0x5C:]), "ivt")
    assert "has a command unknown in HAB at 0x30: 01 01 01 01" in notes(told)
    show.values(data[:0x31] + b"\7" + data[0x32:], code=1)
    show.values(data[:0x40], code=1)


@pytest.mark.parametrize("pad", [b"\0", b"\xff", b"\x5a"])
def test_room_for_a_csf_is_no_damage(show: Inspect, tmp_path: Path, pad: bytes) -> None:
    """Tools pad it with bytes of their own: barebox with 5a."""
    data = u_boot(tmp_path, "sd")
    assert "not signed" in notes(show.values(data + pad * 0x2000))


@pytest.mark.parametrize(("front", "place", "title"), [
    (b"FCFB".ljust(0x1000, b"\0"), 0x1000, "FlexSPI configuration at 0x0"),
    (bytes(0x400) + b"FCFB".ljust(0xC00, b"\0"), 0x1000, "FlexSPI configuration at 0x400"),
    ((bytes(0x5FC) + b"\x01\xee\xff\xc0").ljust(0x1000, b"\0"), 0x1000, "QSPI configuration at 0x400"),
    ((bytes(0x5FC) + b"\xc0\xff\xee\x01").ljust(0x1000, b"\0"), 0x1000, "QSPI configuration at 0x400"),
    (b"\0\0\0\0FCB \x01".ljust(0x400, b"\0"), 0x400, "NAND boot control block at 0x0"),
], ids=["FlexSPI", "FlexSPI of RT", "QSPI", "QSPI of imx-mkimage", "NAND"])  # fmt: skip
def test_configuration_of_a_boot_device_is_named(
    show: Inspect, tmp_path: Path, front: bytes, place: int, title: str
) -> None:
    """Together with the IVT behind it."""
    values = show.values(front + u_boot(tmp_path, "sd"))
    assert [one["title"] for one in parts(values, "boot-configuration")] == [title]
    assert [one["title"] for one in parts(values, "ivt")] == [f"IVT at {place:#x}"]


def test_uimage_is_known_with_and_without_an_ivt(show: Inspect, tmp_path: Path) -> None:
    """With what its header says; the IVT behind it is found."""
    (tmp_path / "u-boot.bin").write_bytes(BODY)
    command = ["mkimage", "-A", "arm", "-O", "u-boot", "-T", "firmware", "-C", "none", "-a", "0x17800000"]
    more = ["-e", "0x17800000", "-n", "U-Boot", "-d", "u-boot.bin", "u-boot.img"]
    subprocess.run([*command, *more], cwd=tmp_path, check=True, capture_output=True)
    plain = (tmp_path / "u-boot.img").read_bytes()
    (told,) = parts(show.values(plain), "uimage")
    assert (told["name"], told["type"], told["size"], told["load"]) == ("U-Boot", "firmware", len(BODY), 0x17800000)
    padded = plain.ljust(0x6000, b"\0")
    behind = golden.ivt(0x17800000, 0x17800000 - 0x40 + 0x6000, 0x17800000 - 0x40 + 0x6020)
    values = show.values(padded + behind)
    assert [one["title"] for one in parts(values, "ivt")] == ["IVT at 0x6000"]
    assert len(parts(values, "uimage")) == 1


def test_kernel_for_32_bits_is_known(show: Inspect) -> None:
    """A zImage, alone or with an IVT behind it."""
    data = (bytes(0x24) + struct.pack("<3I", 0x016F2818, 0, 0x5000)).ljust(0x5000, b"\xa5")
    (told,) = parts(show.values(data), "zimage")
    assert told["size"] == 0x5000
    values = show.values(data + golden.ivt(0x12000000, 0x12005000, 0x12005020))
    assert len(parts(values, "ivt")) == 1
    assert len(parts(values, "zimage")) == 1


def test_barebox_is_known(show: Inspect, tmp_path: Path) -> None:
    """Its header stands in front of the IVT."""
    data = (bytes(0x20) + b"barebox\0").ljust(0x400, b"\0") + u_boot(tmp_path, "sd")
    values = show.values(data)
    assert len(parts(values, "barebox")) == 1
    assert [one["title"] for one in parts(values, "ivt")] == ["IVT at 0x400"]


def test_hdmi_firmware_is_said_to_be_nxps(show: Inspect, signing: Signing) -> None:
    """It has an IVT in front, too, whose CSF is behind the other one: it is not unsigned."""
    data = golden.flash("mq", "nxp-new", hdmi=True)
    (first, *_) = parts(show.values(data), "ivt")
    assert "HDMI or DisplayPort firmware, which NXP signs" in notes(first)
    assert first["plugin"] is False

    blob = signing.plain("p256", "3.4.1").blob
    head = data[:0x40]
    twice = head + bytes(0x1000 - 0x40) + head + blob
    front, behind = parts(show.values(twice.ljust(0x3000, b"\0")), "ivt")
    assert "it is a copy of the IVT at 0x1000, which has the CSF" in notes(front)
    assert len(parts(behind, "csf")) == 1


SRK = named("SRK", ca=True)
CSFK = named("CSF", SRK)
TABLE = hab.build_srk_table([SRK.certificate])


def signed_with(der: bytes, *pieces: object) -> bytes:
    """A blob whose CSF key has this certificate."""
    first = (install_srk(TABLE), install(der, 0, 1, flags=2), authenticate(1, lambda commands: cms(commands, CSFK)))
    return forge(*first, *pieces)  # type: ignore[arg-type]


def resigned(der: bytes, old: bytes, new: bytes) -> bytes:
    """The certificate with a part of what is signed changed, and signed again by the SRK."""
    parsed = load(der)
    tbs = parsed.tbs.replace(old, new)
    assert tbs != parsed.tbs
    assert len(tbs) == len(parsed.tbs)
    signature = SRK.key.sign(tbs, padding.PKCS1v15(), hashes.SHA256())
    return der.replace(parsed.tbs, tbs).replace(parsed.signature, signature)


def test_encrypted_image_is_explained(show: Inspect) -> None:
    """The wrapped key's place is an address in memory and no offset, and what it decrypts is said to be encrypted."""
    image = bytearray(IMAGE.data)
    block = (IMAGE.address + 0x1000, 0x1000)
    key_at = IMAGE.address + 0x3800
    blob = signed_with(CSFK.der, install_secret_key(key_at, 0, 0), decrypt(0, b"nonce and mac", block))
    image[IMAGE.signed_size : IMAGE.signed_size + len(blob)] = blob
    (told,) = parts(show.values(bytes(image)), "csf")
    meanings = [one["meaning"] for one in told["commands"]]
    assert (
        f"the wrapped key at {key_at:#x} in memory, 0x3800 in the file, becomes secret key 0,"
        " unwrapped with master key 0" in meanings
    )
    assert "1 block, 0x1000 bytes, decrypted with secret key 0" in meanings
    assert "Decrypt Data" in [one["command"] for one in told["commands"]]
    assert "only the board has the key to it" in notes(told)
    alone = parts(show.values(blob), "csf")[0]["commands"]
    assert any(f"the wrapped key at {key_at:#x} in memory becomes" in one["meaning"] for one in alone)


def test_certificate_with_a_name_of_nxps_is_no_damage(show: Inspect) -> None:
    """An @ in a PrintableString, which strict readers refuse; whose it is and who signed it is known all the same."""
    made = certificate_of(CSFK.key.public_key(), "iMX-CA", ("SRK", SRK.key), ca=False).public_bytes(Encoding.DER)
    der = resigned(made, b"\x0c\x06iMX-CA", b"\x13\x06iMX@CA")
    (told,) = parts(show.values(signed_with(der)), "csf")
    assert [(one["subject"], one["in_the_chain"]) for one in told["certificates"]] == [("iMX@CA", "signed by SRK 1")]
    values = show.values(der)
    assert (values["kind"], values["subject"], values["serial"]) == ("certificate", "iMX@CA", 7)


def test_certificate_that_is_none_is_damage(show: Inspect) -> None:
    """Where no reader can read it."""
    values = show.values(signed_with(CSFK.der[:-1] + b"\0\0"), code=1)
    assert any("cannot be read" in text for text in parts(values, "csf")[0]["damage"])


def test_signature_with_zeros_behind_it_is_no_damage(show: Inspect) -> None:
    """As that of NXP's older HDMI firmware has them."""
    blob = forge(
        install_srk(TABLE), install(CSFK.der, 0, 1, flags=2),
        authenticate(1, lambda commands: cms(commands, CSFK) + b"\0"),
    )  # fmt: skip
    (told,) = parts(show.values(blob), "csf")
    assert told["signatures"][0]["kind"] == "RSA with sha256"


def test_an_ivt_whose_boot_data_load_no_csf_is_no_damage(show: Inspect) -> None:
    """That of barebox for FlexSPI without CONFIG_HABV4_QSPI: other data stand where its CSF would be."""
    values = show.values(golden_kinds.barebox_8m(flexspi="mm", qspi=False))
    assert not values["damage"]
    _, second = parts(values, "ivt")
    assert "after the end of what its boot data load" in notes(second)
