"""openssl, which knows nothing of HAB, agrees on each signature of a blob, and on each tampered one."""

from __future__ import annotations

import base64
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from digsigd.testing.pki import KeyKind
from tests.conftest import CST_VERSIONS
from tests.helpers.blobs import IMAGE, KINDS, Signed, Signing, changed_at, strips

both_versions = pytest.mark.parametrize("version", CST_VERSIONS)
both_ways = pytest.mark.parametrize("fast", [False, True], ids=["csf-and-img-keys", "fast"])


@dataclass(frozen=True)
class Signature:
    """One signature of a blob: what it goes over, and by which certificate, all DER or plain bytes."""

    name: str
    cms: bytes
    signed: bytes
    certificate: bytes


def part(blob: bytes, offset: int) -> bytes:
    return blob[offset + 4 : offset + int.from_bytes(blob[offset + 1 : offset + 3], "big")]


def signatures(signed: Signed, image: bytes = IMAGE.data) -> Iterator[Signature]:
    """What the blob's Authenticate commands point at, read with nothing of `digsigd.hab`."""
    blob = signed.blob
    end = int.from_bytes(blob[1:3], "big")
    certificates: dict[int, bytes] = {}
    offset = 4
    while offset < end:
        tag, length = struct.unpack_from(">BH", blob, offset)
        if tag == 0xBE:
            protocol, target, place = blob[offset + 4], blob[offset + 7], struct.unpack_from(">I", blob, offset + 8)[0]
            if protocol == 0x09:
                certificates[target] = part(blob, place)
            else:
                # With fast authentication the SRK's certificate comes behind the table, on a multiple of four.
                table_end = place + 4 + len(part(blob, place))
                certificates[0] = part(blob, (table_end + 3) & ~3)
        elif tag == 0xCA:
            key, place = blob[offset + 4], struct.unpack_from(">I", blob, offset + 8)[0]
            pairs = list(struct.iter_unpack(">II", blob[offset + 12 : offset + length]))
            if pairs:
                data = b"".join(image[start - IMAGE.address : start - IMAGE.address + size] for start, size in pairs)
                yield Signature("data", part(blob, place), data, certificates[key])
            else:
                yield Signature("csf", part(blob, place), blob[:end], certificates[key if key in certificates else 0])
        offset += length


def pem(certificate: bytes) -> bytes:
    lines = base64.encodebytes(certificate)
    return b"-----BEGIN CERTIFICATE-----\n" + lines + b"-----END CERTIFICATE-----\n"


def openssl_agrees(signature: Signature, folder: Path) -> bool:
    """Whether `openssl cms -verify` accepts it with no certificate but this one, chains left aside."""
    files = {"cms.der": signature.cms, "data": signature.signed, "certificate.pem": pem(signature.certificate)}
    for name, content in files.items():
        (folder / name).write_bytes(content)
    command = ["openssl", "cms", "-verify", "-binary", "-inform", "DER", "-in", "cms.der", "-content", "data"]
    command += ["-certfile", "certificate.pem", "-nointern", "-noverify", "-out", "verified"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    accepted = done.returncode == 0
    assert ("successful" in done.stderr) == accepted, done.stderr
    if not accepted:
        assert "ailure" in done.stderr, done.stderr
    else:
        assert (folder / "verified").read_bytes() == signature.signed
    return accepted


@both_versions
@both_ways
@pytest.mark.parametrize("kind", KINDS)
def test_openssl_agrees_on_good_blobs(
    signing: Signing, kind: KeyKind, version: str, fast: bool, tmp_path: Path
) -> None:
    """Both signatures, of every kind of key."""
    found = list(signatures(signing.plain(kind, version, fast)))
    assert [signature.name for signature in found] == ["csf", "data"]
    assert all(openssl_agrees(signature, tmp_path) for signature in found)


@both_versions
def test_openssl_agrees_on_many_blocks(signing: Signing, version: str, tmp_path: Path) -> None:
    """Their contents one after the other, in the order of the command."""
    blocks = strips(4, 0x100)[::-1]
    signed = signing.sign(signing.pki("p256"), version, blocks=blocks)
    assert signed.verify().blocks == 4
    assert all(openssl_agrees(signature, tmp_path) for signature in signatures(signed))


@both_versions
@both_ways
@pytest.mark.parametrize("kind", ["rsa2048", "p256"])
def test_openssl_refuses_what_was_tampered_with(
    signing: Signing, kind: KeyKind, version: str, fast: bool, tmp_path: Path
) -> None:
    """A changed image, changed commands, a changed signature, the other signature's data, another certificate."""
    signed = signing.plain(kind, version, fast)
    csf, data = signatures(signed)
    _, other_data = signatures(signed, changed_at(IMAGE.data, 0x100))
    tampered = [
        other_data,
        Signature("csf", csf.cms, changed_at(csf.signed, 0x30), csf.certificate),
        Signature("csf", changed_at(csf.cms, len(csf.cms) - 8), csf.signed, csf.certificate),
        Signature("data", csf.cms, data.signed, data.certificate),
        Signature("data", data.cms, data.signed, next(signatures(signing.plain(kind, version, fast, 2))).certificate),
    ]
    assert [openssl_agrees(signature, tmp_path) for signature in tampered] == [False] * 5


@both_versions
@pytest.mark.parametrize("kind", ["rsa2048", "p256"])
def test_openssl_agrees_on_the_chain(signing: Signing, kind: KeyKind, version: str, tmp_path: Path) -> None:
    """The blob's certificates are issued by the chosen SRK and by no other."""
    pki = signing.pki(kind)
    for number, signature in enumerate(signatures(signing.plain(kind, version, srk=2))):
        (tmp_path / "certificate.pem").write_bytes(pem(signature.certificate))
        for srk in (1, 2):
            (tmp_path / f"srk{srk}.pem").write_bytes(pki.files[pki.certificate("SRK", srk)])
            command = ["openssl", "verify", "-partial_chain", "-trusted", f"srk{srk}.pem", "certificate.pem"]
            done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
            assert (done.returncode == 0) == (srk == 2), (number, done.stdout + done.stderr)
