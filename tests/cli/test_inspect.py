"""`digsign inspect`: what is in a file, what is damaged in it, and never what is secret."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import struct
import subprocess
import tarfile
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from digsigd import hab
from digsigd.cli.inspect import inspect
from digsigd.cli.inspect.csf_blob import signing_time
from digsigd.cli.inspect.facts import Part
from digsigd.cli.inspect.keys import LARGEST_PEM, MOST_LISTED
from digsigd.cli.inspect.tarball import MOST_UNPACKED
from digsigd.hab.csf_blob import Authenticate, InstallKey
from digsigd.image.plan import plan
from digsigd.pki import pack
from digsigd.testing import TrialImage, TrialPki
from digsigd.testing.pki import KeyKind
from tests.conftest import CST_VERSIONS
from tests.helpers import golden
from tests.helpers.blobs import IMAGE, KINDS, SRKS, Signing, changed_at
from tests.helpers.commands import Digsign
from tests.helpers.inspecting import Inspect, damage, notes, parts
from tests.helpers.work import CountedBytes, calls

both_versions = pytest.mark.parametrize("version", CST_VERSIONS)
both_ways = pytest.mark.parametrize("fast", [False, True], ids=["csf-and-img-keys", "fast"])


@pytest.fixture
def digsign(capsys: pytest.CaptureFixture[str]) -> Digsign:
    return Digsign(capsys)


@pytest.fixture
def show(digsign: Digsign, tmp_path: Path) -> Inspect:
    return Inspect(digsign, tmp_path)


@pytest.mark.parametrize("soc", golden.SOCS)
@pytest.mark.parametrize("layout", golden.LAYOUTS)
def test_an_image_is_taken_apart(show: Inspect, soc: str, layout: str) -> None:
    """Each IVT that signing it would use, and the FIT with all of its images."""
    data = golden.flash(soc, layout)
    known = plan(data)
    values = show.values(data)
    assert values["kind"] == "image"
    assert (values["layout"], values["soc"], values["size"]) == (known.layout, known.soc, len(data))
    assert [one["offset"] for one in values["regions"]] == [one.offset for one in known.regions]
    found = {int(one["title"].removeprefix("IVT at "), 16): one for one in parts(values, "ivt")}
    written = {one.offset for one in known.patches}
    for signing in known.signings:
        if signing.ivt.offset not in written:
            ivt = found[signing.ivt.offset]
            assert ivt["loaded_to"] == signing.ivt.self_address
            assert ivt["csf_offset"] == signing.csf_offset
            assert "not signed" in notes(ivt) or "no CSF: its place" in notes(ivt)
    (fit,) = parts(values, "fit")
    names = {region.name for region in known.regions}
    for image in fit["images"]:
        assert hashlib.sha256(data[image["offset"] :][: image["size"]]).digest()
        assert any(image["name"] in name for name in names), (image["name"], names)
    assert [one["name"] for one in fit["configurations"]] == [fit["default"]]


def sign_parts(signing: Signing, pki: TrialPki, version: str, data: bytes) -> bytes:
    """An image with the CSFs of all its parts, by the real cst."""
    whole = bytearray(data)
    for part in plan(data).signings:
        blocks = [f'{block} "flash.bin"' for block in part.blocks]
        text = pki.csf(*blocks, unlock=part.unlock).encode()
        folder = signing.folder({**pki.files, "flash.bin": bytes(whole), "description.csf": text})
        command = [str(signing.tool(version)), "-i", "description.csf", "-o", "csf.bin"]
        subprocess.run(command, cwd=folder, capture_output=True, check=True)
        blob = (folder / "csf.bin").read_bytes()
        whole[part.csf_offset : part.csf_offset + len(blob)] = blob
    return bytes(whole)


@both_versions
@pytest.mark.parametrize("layout", ["nxp-old", "nxp-new", "u-boot"])
def test_the_csfs_of_a_signed_image_are_followed(show: Inspect, signing: Signing, layout: str, version: str) -> None:
    """From each IVT; their blocks are found in the file."""
    pki = signing.pki("p256")
    data = sign_parts(signing, pki, version, golden.flash("mp", layout))
    known = plan(data)
    values = show.values(data)
    csfs = parts(values, "csf")
    assert len(csfs) == len(known.signings)
    for part in known.signings:
        (csf,) = (one for one in csfs if one["title"].startswith(f"CSF at {part.csf_offset:#x}, "))
        assert csf["fuse_value"] == pki.fuse_value.hex()
        assert [(one["address"], one["length"], one["in_the_file"]) for one in csf["blocks"]] == [
            (one.address, one.length, one.offset) for one in part.blocks
        ]
        assert ("CAAM MID is unlocked" in str(csf["commands"])) is part.unlock


@both_versions
@both_ways
@pytest.mark.parametrize("kind", KINDS)
def test_a_blob_is_explained(show: Inspect, signing: Signing, kind: KeyKind, fast: bool, version: str) -> None:
    """Header, commands, table, certificates and signatures, of every kind that cst makes."""
    pki = signing.pki(kind, fast)
    srk = SRKS[kind]
    signed = signing.plain(kind, version, fast, srk)
    values = show.values(signed.blob)
    blob = hab.CsfBlob.parse(signed.blob)
    assert values["kind"] == "csf"
    assert (values["version"], values["commands_length"]) == ("4.3", blob.header_length)
    assert (values["srk"], values["fuse_value"]) == (srk, pki.fuse_value.hex())
    assert [one["at"] for one in values["commands"]] == [one.offset for one in blob.commands]
    assert f"SRK {srk} of the table" in values["commands"][0]["meaning"]
    roles = ("SRK",) if fast else ("CSF", "IMG")
    assert len(values["certificates"]) == len(roles)
    for told, role in zip(values["certificates"], roles, strict=True):
        certificate = x509.load_pem_x509_certificate(pki.files[pki.certificate(role, srk)])  # type: ignore[arg-type]
        assert told["subject"] == certificate.subject.rfc4514_string()
        assert told["serial"] == certificate.serial_number
        assert told["not_after"] == certificate.not_valid_after_utc.strftime("%Y-%m-%dT%H:%M:%SZ")
        assert told["kind"] == {"r": f"RSA {kind[3:]}", "p": f"ECDSA secp{kind[1:]}r1"}[kind[0]]
        assert told["in_the_chain"] == (f"SRK {srk}" if fast else f"signed by SRK {srk}")
    over_commands, over_data = values["signatures"]
    assert over_commands["digest"] == hashlib.sha256(signed.blob[: blob.header_length]).hexdigest()
    assert over_data["digest"] == hashlib.sha256(IMAGE.data[: IMAGE.signed_size]).hexdigest()
    for told in values["signatures"]:
        when = datetime.strptime(told["signed"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
        assert timedelta() <= datetime.now(UTC) - when < timedelta(days=1)
        assert told["kind"] == f"{'RSA' if kind[0] == 'r' else 'ECDSA'} with sha256"
    (table,) = parts(values, "srk-table")
    assert [one["CA_flag"] for one in table["SRKs"]] == [not fast] * SRKS[kind]
    assert "fast authentication" in str(values["commands"]) or not fast


@both_versions
def test_all_commands_have_a_meaning(show: Inspect, signing: Signing, version: str) -> None:
    """As the real cst writes them."""
    more = (
        "[Unlock]\nEngine = CAAM\nFeatures = MID, MFG\n[Unlock]\nEngine = SNVS\nFeatures = LP SWR, ZMK WRITE\n"
        "[Unlock]\nEngine = OCOTP\nFeatures = FIELD RETURN\nUID = 0x1, 0x2, 0x3, 0x4, 0x5, 0x6, 0x7, 0x8\n"
        "[Unlock]\nEngine = SRTC\n[Init]\nEngine = CAAM\nFeatures = RNG\n[NOP]\n"
        "[Set Engine]\nEngine = SW\nHash Algorithm = sha256\n"
    )
    old = "[Unlock]\n    Engine = CAAM\n    Features = MID\n"
    signed = signing.sign(signing.pki("p256"), version, edit=lambda text: text.replace(old, more))
    told = [one["meaning"] for one in show.values(signed.blob)["commands"]]
    assert "CAAM MID, MFG is unlocked" in told
    assert "SNVS LP SWR, ZMK WRITE is unlocked" in told
    assert "OCOTP FIELD RETURN is unlocked, for the chip 0102030405060708" in told
    assert "SRTC is unlocked" in told
    assert "CAAM RNG is initialised" in told
    assert "nothing" in told
    assert any(one.startswith("SHA-256 is computed by software") for one in told)


def csf_of(*commands: bytes) -> bytes:
    body = b"".join(commands)
    return struct.pack(">BHB", 0xD4, 4 + len(body), 0x43) + body


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (struct.pack(">BHB2I", 0xCC, 12, 4, 0x30340004, 1), "U-Boot refuses images with this command"),
        (struct.pack(">BHBI", 0xB1, 8, 1, 0x01020304), "MID is set to 01020304; U-Boot refuses"),
        (struct.pack(">BHBI", 0xB2, 8, 0x1D, 0x80000001), "CAAM MID, 0x80000000 is unlocked"),
        (struct.pack(">BHBI", 0xB2, 8, 0x55, 0x4), "engine 0x55 0x4 is unlocked"),
        (struct.pack(">BHBI", 0xB2, 8, 0x1D, 0), "CAAM nothing is unlocked"),
        (struct.pack(">BHBBBBBII", 0xBE, 12, 0, 0xBB, 0, 0, 2, 0x100, 0)[:12], "secret key blob at 0x100"),
        (struct.pack(">BHBBBBBIII", 0xCA, 20, 0, 2, 0xA3, 0, 0, 0x100, 1, 2), "decrypted with secret key 2"),
    ],
)
def test_rare_commands_have_a_meaning_too(show: Inspect, command: bytes, says: str) -> None:
    """Though no signing host makes them."""
    path = show.path
    path.write_bytes(csf_of(command))
    assert says in show.digsign("inspect", path).out


@pytest.mark.parametrize("fast", [False, True])
def test_every_truncation_of_a_blob_is_damaged(signing: Signing, fast: bool) -> None:
    """What can be read of it is told; nothing is raised."""
    blob = signing.plain("p256", "4.0.1", fast).blob
    for length in range(4, len(blob)):
        part = inspect(blob[:length])
        assert part is not None
        # The last bytes may be padding.
        assert part.damaged or length == 32 or length >= hab.blob_length(blob), length
        if length > 0x200:
            assert part.facts["fuse_value"] == signing.pki("p256", fast).fuse_value.hex()


def test_a_damaged_blob_says_what_and_where(show: Inspect, signing: Signing) -> None:
    """A table, a certificate, a signature, the commands, what lies between; the rest is still told."""
    blob = signing.plain("p256", "3.4.1").blob
    parsed = hab.CsfBlob.parse(blob)
    installs = [one for one in parsed.commands if isinstance(one, InstallKey)]
    signature = next(one for one in parsed.commands if isinstance(one, Authenticate))

    values = show.values(changed_at(blob, installs[0].data_offset + 4), code=1)
    assert any("SRK record begins with" in text for text in damage(values))
    assert len(values["certificates"]) == 2
    values = show.values(changed_at(blob, installs[1].data_offset + 4), code=1)
    assert any(f"certificate at {installs[1].data_offset:#x} cannot be read" in text for text in damage(values))
    assert values["certificates"][1]["in_the_chain"] == "signed by SRK 1"
    values = show.values(changed_at(blob, signature.data_offset + 4), code=1)
    assert any(
        text.startswith(f"at {signature.data_offset:#x}: a signature that is not CMS") for text in damage(values)
    )
    values = show.values(changed_at(blob, 0x2C), code=1)
    assert "the commands are not those that were signed: their digest differs" in damage(values)
    values = show.values(changed_at(blob, 0x11), code=1)
    assert any("at offset 0x10" in text or "at 0x10" in text for text in damage(values))
    assert values["commands"][0]["command"] == "Install Key"


def test_a_certificate_of_another_srk_is_noted(show: Inspect, signing: Signing) -> None:
    """Which the boot ROM would refuse."""
    signed = signing.sign(signing.pki("p256"), "3.4.1", image_srk=2)
    told = notes(show.values(signed.blob))
    assert "must be signed by SRK 1, but it is signed by SRK 2" in told


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_damaged_csf_in_an_image_is_told(show: Inspect, signing: Signing, place: int) -> None:
    """With what stands there instead, or what of it cannot be read."""
    blob = signing.plain("p256", "3.4.1").blob
    image = IMAGE.with_csf([b"no CSF", b"\xd4\0\x08\x43\xbe\0\x0c\0" + bytes(32), blob[:0x300]][place])
    signature = next(one for one in hab.CsfBlob.parse(blob).commands if isinstance(one, Authenticate))
    missing = f"at offset {signature.data_offset:#x}"
    told = damage(show.values(image, code=1))
    expected = ["expected a CSF at 0x2000, found 6e 6f 20 43", "at offset 0x4", missing][place]
    assert any(expected in text for text in told), told


def image_with(*, dcd: bytes | None = None, boot_data: int = 0x20, csf: int | None = None) -> bytes:
    """An IVT with its boot data and a DCD; pointers as offsets from the IVT."""
    base = 0x912000
    place = IMAGE.signed_size if csf is None else csf
    ivt = b"\xd1\0\x20\x41" + struct.pack(
        "<7I", base + 0x40, 0, base + 0x40 if dcd else 0, base + boot_data if boot_data else 0, base, base + place, 0
    )
    data = ivt + struct.pack("<3I", base, 0x2000, 1) + bytes(20)
    return (data + (dcd or b"")).ljust(0x2000, b"\0")


def test_a_dcd_and_boot_data_are_told(show: Inspect) -> None:
    """By their lengths, and how many commands there are."""
    write = struct.pack(">BHB2I", 0xCC, 12, 4, 0x30340004, 1)
    dcd = struct.pack(">BHB", 0xD2, 4 + 24, 0x41) + write * 2
    (ivt,) = parts(show.values(image_with(dcd=dcd, csf=0x1000)), "ivt")
    assert (ivt["dcd_length"], ivt["dcd_commands"]) == (28, 2)
    assert (ivt["image_start"], ivt["image_length"], ivt["plugin"]) == (0x912000, 0x2000, True)


@pytest.mark.parametrize(
    ("image", "says"),
    [
        (image_with(dcd=b"\xd2\0\x10\x41\xcc\0\x20\x04", csf=0x1000), "DCD of 16 bytes at 0x40 ends in the middle"),
        (image_with(dcd=b"\xd3\0\x10\x41", csf=0x1000), "is not a DCD: d3 00 10 41"),
        (image_with(boot_data=0x4000, csf=0x1000), "boot data, 0x916000 in memory, is not in the file"),
    ],
)
def test_pointers_that_lead_nowhere_are_damage(show: Inspect, image: bytes, says: str) -> None:
    """With where they lead."""
    assert any(says in text for text in damage(show.values(image, code=1)))


def test_an_ivt_alone_is_shown(show: Inspect) -> None:
    """As genIVT writes it into a file: its CSF is to come behind it."""
    (ivt,) = parts(show.values(IMAGE.data[:0x20], code=1), "ivt")
    assert ivt["loaded_to"] == IMAGE.address
    assert "after the end of the file" in notes(ivt)


def test_kernels_with_and_without_an_ivt_are_known(show: Inspect) -> None:
    """An Image without one has no place for a CSF."""
    values = show.values(golden.kernel_with_ivt())
    assert values["layout"] == "arm64 kernel"
    assert len(parts(values, "ivt")) == 1
    values = show.values(golden.kernel())
    assert not parts(values, "ivt")
    assert "no IVT" in notes(values)


def test_a_fit_alone_is_shown(show: Inspect) -> None:
    """With data embedded or external."""
    for external in (None, 0x3000):
        (fit,) = parts(show.values(golden.itb("mm", external=external)), "fit")
        assert {one["type"] for one in fit["images"]} >= {"standalone", "flat_dt", "firmware"}
        assert fit["title"] == "FIT at 0x0"


def test_a_damaged_fit_says_what_and_where(show: Inspect) -> None:
    """A tree that cannot be read, and images that are cut off; their names are told."""
    data = golden.itb("mm", external=0x3000)
    told = damage(show.values(changed_at(data, 8, 0x80), code=1))
    assert any("device tree at 0x0" in text for text in told)
    values = show.values(data[:-0x100], code=1)
    (fit,) = parts(values, "fit")
    assert any("is outside the file" in text for text in fit["damage"])
    assert "atf-1" in [one["name"] for one in fit["images"]]


@pytest.mark.parametrize("kind", KINDS)
@both_ways
def test_an_srk_table_is_explained(show: Inspect, signing: Signing, kind: KeyKind, fast: bool) -> None:
    """Its fuse value and words, and each record."""
    pki = signing.pki(kind, fast)
    table = hab.SrkTable.parse(pki.srk_table)
    values = show.values(pki.srk_table)
    assert values["kind"] == "srk-table"
    assert values["fuse_value"] == pki.fuse_value.hex()
    assert values["fuse_words"] == [f"0x{word:X}" for word in table.fuse_words]
    assert [(one["CA_flag"], one["SHA-256"]) for one in values["SRKs"]] == [
        (not fast, record.hash.hex()) for record in table.records
    ]
    values = show.values(pki.fuse_value)
    assert (values["kind"], values["fuse_value"]) == ("fuse-file", pki.fuse_value.hex())


def test_a_damaged_table_shows_the_records_before_the_damage(show: Inspect, signing: Signing) -> None:
    """And no fuse value, which would be that of no board."""
    table = signing.pki("p256").srk_table
    third = 4 + 2 * 76
    for data, readable in ((changed_at(table, third), 2), (table[:-1], 3), (table[:5], 0), (table + b"\0", 4)):
        values = show.values(data, code=1)
        assert len(values.get("SRKs", ())) == readable
        assert "fuse_value" not in values
        assert "at offset" in damage(values)[0]


def test_a_table_with_weak_records_is_noted(show: Inspect, signing: Signing) -> None:
    """One key twice, or only its hash."""
    table = hab.SrkTable.parse(signing.pki("p256").srk_table)
    one = table.records[0]
    hashed = struct.pack(">BHB", 0xEE, 36, 0x17) + one.hash
    data = struct.pack(">BHB", 0xD7, 4 + 2 * len(one.data) + 36, 0x40) + one.data * 2 + hashed
    values = show.values(data)
    assert "two SRKs are the same key" in notes(values)
    assert values["SRKs"][2]["key"] == "only its hash"


def secrets_of(pki: TrialPki) -> Iterator[str]:
    """Text that nobody is to see."""
    yield pki.pass_phrase
    for name, data in pki.files.items():
        if name.startswith("keys/") and name.endswith(".pem"):
            yield from (line for line in data.decode().splitlines() if "-----" not in line)


@pytest.mark.parametrize("kind", ["rsa2048", "p256"])
@pytest.mark.parametrize("encrypted", [True, False])
@both_ways
def test_a_tarball_is_told_without_its_secrets(show: Inspect, kind: KeyKind, encrypted: bool, fast: bool) -> None:
    """Its files by kind, fuse values, and which certificate is below which SRK."""
    pki = TrialPki.make(kind, fast_auth=fast, srks=2, encrypted=encrypted)
    data = pki.tarball()
    text, values = show(data), show.values(data)
    for secret in secrets_of(pki):
        assert secret not in text + json.dumps(values)
    assert values["sha256"] == hashlib.sha256(data).hexdigest()
    assert values["fuse_values"] == [{"of": pki.table(), "kind": "SRK table", "fuse_value": pki.fuse_value.hex()}]
    chain = {one["name"]: one["in_the_chain"] for one in values["certificates"]}
    for number in (1, 2):
        assert chain[pki.certificate("SRK", number)] == f"SRK {number}"
        if not fast:
            assert chain[pki.certificate("CSF", number)] == f"signed by SRK {number}"
    kinds = {one["name"]: one["kind"] for one in values["files_beside_certificates"]}
    state = "encrypted" if encrypted else "in the clear"
    assert {kind for name, kind in kinds.items() if "_key." in name} == {f"private key, {state}"}
    assert kinds.get("keys/key_pass.txt") == ("pass phrase" if encrypted else None)
    assert ("in the clear" in notes(values)) is not encrypted


@pytest.mark.parametrize("encrypted", [True, False])
def test_keys_and_certificates_in_der_are_known(show: Inspect, encrypted: bool) -> None:
    """In a tarball without folders too, or one that is not compressed."""
    pki = TrialPki.make("p256", srks=1, encoding="der", encrypted=encrypted)
    for data in (pki.tarball(), pki.tarball(flat=True), gzip.decompress(pki.tarball(top="./"))):
        values = show.values(data)
        assert len(values["certificates"]) == 3
        kinds = {one["kind"] for one in values["files_beside_certificates"]}
        assert f"private key, {'encrypted' if encrypted else 'in the clear'}" in kinds
        assert not notes(values) or not encrypted


def test_what_is_wrong_with_the_keys_of_a_tarball_is_noted(show: Inspect) -> None:
    """A CA's key, a missing key, an expired certificate, a table that is none, a fuse file of other keys."""
    pki = TrialPki.make("p256", srks=1, valid_days=-3)
    name = pki.certificate("IMG")
    files = {**pki.files, "crts/SRK_1_fuse.bin": bytes(32)}
    files["keys/CA1_sha256_key.pem"] = files.pop(name.replace("crts/", "keys/").replace("_crt.", "_key."))
    told = notes(show.values(pack(files)))
    assert f"the private key for {name} is missing" in told
    assert "keys/CA1_sha256_key.pem is the private key of the CA: no signing host needs it" in told
    assert f"{name} expired on" in told
    assert "the fuse value in crts/SRK_1_fuse.bin matches no SRK table" in told
    files[pki.table()] = files[pki.table()][:-1]
    files[name] = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    values = show.values(pack(files), code=1)
    assert any(text.startswith(f"{pki.table()}: the SRK table has ") for text in damage(values))
    assert f"{name} is not a readable certificate" in damage(values)
    assert "no SRK table found" in notes(values)


def test_a_damaged_tarball_is_told_as_far_as_it_goes(show: Inspect) -> None:
    """Cut off, or with a damaged byte."""
    pki = TrialPki.make("p256", srks=2)
    whole = pki.tarball()
    for length in range(2, len(whole), 97):
        values = show.values(whole[:length], code=1)
        assert damage(values)
        if length > len(whole) // 2:
            assert values["members_before_the_damage"] > 3
    values = show.values(changed_at(whole, len(whole) * 3 // 4, 0xFF), code=1)
    assert values["kind"] == "key-tarball"


def test_hostile_tarballs_are_refused(show: Inspect) -> None:
    """A bomb, of which no more is unpacked than may be in a tarball, and links that lead elsewhere.

    Bounded are the memory that is taken at once, and the calls of functions.
    """
    bomb = gzip.compress(bytes(256 << 20), 9)
    told: list[Any] = []
    tracemalloc.start()
    try:
        work = calls(lambda: told.append(show.values(bomb, code=1)))
        assert tracemalloc.get_traced_memory()[1] < 4 * MOST_UNPACKED
    finally:
        tracemalloc.stop()
    assert work < 400_000
    assert "decompresses to more than" in damage(told[0])[0]
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        link = tarfile.TarInfo("crts/link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    assert "symbolic link" in damage(show.values(stream.getvalue(), code=1))[0]


def certificate(name: str = "a certificate", days: int = 1) -> x509.Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
    builder = builder.serial_number(0x1234).not_valid_before(now - timedelta(9)).not_valid_after(now + timedelta(days))
    return builder.sign(key, hashes.SHA256())


def test_a_certificate_is_explained(show: Inspect, tmp_path: Path) -> None:
    """In PEM, in DER, and with the text that openssl writes before it."""
    made = certificate()
    pem = made.public_bytes(serialization.Encoding.PEM)
    path = tmp_path / "crt.pem"
    path.write_bytes(pem)
    text = subprocess.run(["openssl", "x509", "-text", "-in", path], capture_output=True, check=True).stdout
    for data in (pem, text, made.public_bytes(serialization.Encoding.DER)):
        values = show.values(data)
        assert values["kind"] == "certificate"
        assert (values["subject"], values["serial"], values["ca"]) == ("CN=a certificate", 0x1234, False)
        assert values["key"] == "ECDSA secp256r1"
        assert values["not_after"] == made.not_valid_after_utc.strftime("%Y-%m-%dT%H:%M:%SZ")
    assert "expired on" in show(certificate(days=-2).public_bytes(serialization.Encoding.PEM))


def test_a_pem_file_may_have_several_things(show: Inspect) -> None:
    """Private keys are named and not shown; a damaged certificate is told."""
    pki = TrialPki.make("p256", srks=1, encrypted=False)
    key = pki.files["keys/SRK1_sha256_secp256r1_v3_ca_key.pem"]
    pem = certificate().public_bytes(serialization.Encoding.PEM)
    out = show(pem + pem + key)
    assert "certificate 2" in out
    assert "private key, in the clear" in out
    assert key.decode().splitlines()[1] not in out
    assert "private key, encrypted" in show(
        TrialPki.make("p256", srks=1).files["keys/SRK1_sha256_secp256r1_v3_ca_key.pem"]
    )
    values = show.values(pem + b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n", code=1)
    assert f"certificate 2 at {len(pem):#x} cannot be read" in damage(values)[0]
    assert "without its END line" in show(b"-----BEGIN CERTIFICATE-----\nMIIB\n", code=1)


def test_older_encrypted_keys_are_known(show: Inspect) -> None:
    """By their header."""
    key = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.BestAvailableEncryption(b"phrase"),
    )
    assert "private key, encrypted" in show(key)


def test_a_csf_description_is_listed(show: Inspect, signing: Signing) -> None:
    """Command by command, with the line of each; what hosts refuse is noted."""
    text = signing.pki("p256").csf(IMAGE.blocks("spl.bin"))
    values = show.values(text.encode())
    assert values["kind"] == "csf-description"
    assert [one["command"] for one in values["commands"]] == [
        "Header", "Install SRK", "Install CSFK", "Authenticate CSF", "Unlock", "Install Key", "Authenticate Data",
    ]  # fmt: skip
    assert values["blocks"] == [
        {"line": 27, "address": IMAGE.address, "offset": 0, "length": IMAGE.signed_size, "file": "spl.bin"}
    ]
    assert show.values(b"\xef\xbb\xbf# a comment\r\n" + text.encode())["kind"] == "csf-description"
    unsafe = text.replace("Engine = CAAM\n    Features = MID", "Engine = OCOTP\n    Features = JTAG")
    told = notes(show.values(unsafe.encode()))
    assert "refuses it unless its operator allows more" in told


def test_a_wrong_description_is_listed_up_to_the_mistake(show: Inspect, signing: Signing) -> None:
    """With its line."""
    lines = signing.pki("p256").csf(IMAGE.blocks("spl.bin")).splitlines()
    lines[18] = "    Engine = ENIAC"
    values = show.values("\n".join(lines).encode(), code=1)
    assert damage(values)[0].startswith("line 19, column ")
    assert [one["command"] for one in values["commands"]][-1] == "Authenticate CSF"
    assert show.values(b"[Header]\n" + b"[\n" * 100, code=1)


def test_control_characters_never_reach_the_terminal(show: Inspect, signing: Signing) -> None:
    """From names in certificates, descriptions or files."""
    made = certificate("a\x1b[2J\r\nname")
    out = show(made.public_bytes(serialization.Encoding.PEM))
    assert "\x1b" not in out
    assert "\r" not in out
    assert r"a\x1b[2J\r\nname" in out
    text = signing.pki("p256").csf(IMAGE.blocks("s\x7f\u202epl.bin")).encode()
    show.path.write_bytes(text)
    out = show.digsign("inspect", show.path).out
    assert "\u202e" not in out
    assert "\x7f" not in out
    assert "U+007F" in out


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0",
        b"text\n",
        bytes(1 << 16),
        b"\x30\x82\x01\x00",
        b"\xd4\0\4",
        b"\x8b\xe0\x1f\xff\x10\x42\x07",
    ],
)
def test_what_is_none_of_all_that_is_said_to_be_so(show: Inspect, data: bytes) -> None:
    """With exit code 1."""
    assert "not a file that digsign knows" in show(data, code=1)


def test_only_files_are_read(digsign: Digsign, tmp_path: Path, signing: Signing) -> None:
    """No folder, no pipe that would never end; a link to a file is one."""
    os.mkfifo(tmp_path / "pipe")
    for name, says in (
        ("pipe", "is not a regular file"),
        (".", "is not a regular file"),
        ("none", "No such file"),
        ("/dev/zero", "is not a regular file"),
    ):
        ended = digsign("inspect", tmp_path / name)
        assert ended.code == 1
        assert says in ended.err
    (tmp_path / "table").write_bytes(signing.pki("p256").srk_table)
    (tmp_path / "link").symlink_to("table")
    assert digsign("inspect", tmp_path / "link").code == 0


@pytest.mark.parametrize(
    "data",
    [
        b"\xd1\0\x20\x41" * (4 << 20),
        (b"\xd1\0\x20\x41" + struct.pack("<7I", 0x40, 0, 0, 0, 0x100, 0x120, 0)) * (1 << 18),
        b"\xd0\x0d\xfe\xed" * (4 << 20),
        golden.itb("mm")[:0x400] * 4096,
        b"-----BEGIN CERTIFICATE-----\n" * (1 << 19),
        b"".join(b"-----BEGIN A%d-----\n" % number for number in range(1 << 19)),
        b"[Header]\n" + b"[x\n" * (1 << 18),
        b"[Header]\n" + b"a = 1 \\\n" * (1 << 17),
        b"#\n" * (1 << 20),
        b"\xd7\0\xff\x40" * (1 << 18),
    ],
    ids=["ivt-starts", "ivts", "fdt-starts", "fits", "begins", "labels", "sections", "lines", "comments", "tables"],
)
def test_no_file_takes_long(data: bytes) -> None:
    """Though it is made to.

    Bounded are the calls of functions, and the bytes that are copied or searched: each a few times at most, and what
    may be PEM once for each of the BEGIN lines that are looked at.
    """
    counted = CountedBytes(data)
    assert calls(lambda: inspect(counted)) < 1_000_000
    times = MOST_LISTED * LARGEST_PEM if data.startswith(b"-----") else 8 * len(data)
    assert counted.looked_at < times + (4 << 20)


SAMPLES = ("blob", "fast", "table", "tarball", "image", "fit", "description", "pem", "der")


@pytest.fixture(scope="session")
def samples(signing: Signing) -> dict[str, bytes]:
    pki = signing.pki("p256")
    made = certificate()
    return {
        "blob": signing.plain("p256", "3.4.1").blob,
        "fast": signing.plain("p256", "4.0.1", fast=True).blob,
        "table": pki.srk_table,
        "tarball": gzip.decompress(pki.tarball()),
        "image": IMAGE.with_csf(signing.plain("p256", "3.4.1").blob),
        "fit": golden.itb("mm")[:0x500],
        "description": pki.csf(IMAGE.blocks("spl.bin")).encode(),
        "pem": made.public_bytes(serialization.Encoding.PEM),
        "der": made.public_bytes(serialization.Encoding.DER),
    }


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_files_are_told_and_raise_nothing(
    samples: dict[str, bytes], capsys: pytest.CaptureFixture[str], data: st.DataObject
) -> None:
    """Whatever is changed in real ones."""
    from digsigd.cli.console import Console
    from digsigd.cli.inspect.facts import show

    whole = bytearray(samples[data.draw(st.sampled_from(SAMPLES))])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(whole) - 1))
        whole[at : at + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=4))
        if not whole:
            return
    part = inspect(bytes(whole))
    assert part is None or isinstance(part, Part)
    if part is not None:
        show(part, Console(), "")
        assert json.dumps(part.as_values())


@settings(deadline=None)
@given(data=st.binary(max_size=400))
def test_any_bytes_are_inspected(data: bytes) -> None:
    """Behind each of the beginnings that things have."""
    for start in (b"", b"\xd4\0\x40\x43", b"\xd7\0\x40\x40", b"\x1f\x8b\x08\0", b"\xd1\0\x20\x41", b"\xd0\x0d\xfe\xed"):
        part = inspect(start + data)
        assert part is None or part.as_values()


def test_times_of_signatures_are_read() -> None:
    """In both forms that there are; attributes without one, or with nonsense, have none."""

    def attributes(tag: int, text: bytes) -> bytes:
        oid = bytes.fromhex("06092a864886f70d010905")
        value = bytes([0x31, len(text) + 2, tag, len(text)]) + text
        one = oid + value
        whole = bytes([0x30, len(one)]) + one
        return bytes([0x31, len(whole)]) + whole

    expected = datetime(2026, 11, 24, 12, 30, 59, tzinfo=UTC)
    assert signing_time(attributes(0x17, b"261124123059Z")) == expected
    assert signing_time(attributes(0x18, b"20261124123059Z")) == expected
    for wrong in (
        b"\x31\0",
        b"",
        b"\x30\0",
        attributes(0x17, b"nonsense"),
        attributes(0x18, b"\xff" * 15),
        b"\x31\x05ab",
    ):
        assert signing_time(wrong) is None


def test_an_image_of_another_kind_says_so(show: Inspect) -> None:
    """An IVT in the middle of a file that is no image that digsign signs."""
    data = bytes(0x8400) + TrialImage.of_size(0x4000).data
    values = show.values(data)
    (ivt,) = parts(values, "ivt")
    assert ivt["title"] == "IVT at 0x8400"
    assert ivt["csf_offset"] == 0x8400 + 0x2000
    assert "digsign cannot sign this file as an image" in notes(values)
