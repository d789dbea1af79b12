"""What other verifiers and signers say: cst 4.0.1's ahab_image_verifier, and SPSDK 3.12, by what it has left here."""

from __future__ import annotations

import gzip
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import asymmetric

from digsigd import ahab
from tests.helpers import ahab_forge
from tests.helpers.ahab_cst import second_opinion, signed_by_cst
from tests.helpers.ahab_forge import Forged, Kind
from tests.helpers.blobs import Signing, changed_at

SAMPLES = Path(__file__).parents[1] / "samples" / "ahab"
SIGNED_BY_SPSDK = [
    ("spsdk-93-p521", 0x400, "mx93"),
    ("spsdk-93-pss2048", 0x400, "mx93"),
    ("spsdk-95-p384-certificate", 0x4000, "mx95"),
    ("spsdk-95-p384-mldsa65", 0x4000, "mx95"),
    ("spsdk-95-p256-mldsa65-certificate", 0x4000, "mx95"),
]
# SPSDK's errors, as `nxpimage ahab verify -f FAMILY -b FILE` counts them, after the lowest bit of a byte was changed.
# What does not parse any more has no count. (The container in NXP's place is one error of its own: SPSDK has written it
# anew when it signed ours, shorter, below a signature that does not fit any more.)
SPSDK_VERDICTS: list[tuple[str, str, int | None, int | None]] = [
    ("spsdk-93-p521", "nothing", None, 0),
    ("spsdk-93-p521", "software version", 0x408, 1),
    ("spsdk-93-p521", "load address", 0x418, 1),
    ("spsdk-93-p521", "hash of an image", 0x430, 2),
    ("spsdk-93-p521", "image", 0x2807, 1),
    ("spsdk-93-p521", "SRK record", 0x540, None),
    ("spsdk-93-p521", "signature", 0x77C, 1),
    ("spsdk-95-p384-mldsa65", "nothing", None, 1),
    ("spsdk-95-p384-mldsa65", "software version", 0x4008, 3),
    ("spsdk-95-p384-mldsa65", "load address", 0x4018, 3),
    ("spsdk-95-p384-mldsa65", "hash of an image", 0x4030, 4),
    ("spsdk-95-p384-mldsa65", "image", 0xC407, 2),
    ("spsdk-95-p384-mldsa65", "SRK record", 0x4140, 3),
    ("spsdk-95-p384-mldsa65", "first signature", 0x4BB4, 2),
    ("spsdk-95-p384-mldsa65", "SRK data", 0x4270, 5),
    ("spsdk-95-p384-mldsa65", "second signature", 0x4C38, 2),
]


def checkable(rows: Sequence[Any]) -> list[Any]:
    """Those whose signatures this cryptography knows."""
    return [row for row in rows if ahab_forge.HAS_ML_DSA or "mldsa" not in row[0]]


def sample(name: str) -> bytes:
    return gzip.decompress((SAMPLES / f"{name}.bin.gz").read_bytes())


@pytest.mark.parametrize(("name", "offset", "chip"), checkable(SIGNED_BY_SPSDK))
def test_what_spsdk_signs_holds(name: str, offset: int, chip: str) -> None:
    """Nothing of it is ours: layout, hashes, salts, both signatures of a hybrid, certificates."""
    found = ahab.verify(sample(name), offset, chip=ahab.chip(chip), srk_index=1)
    assert found.certificate == ("certificate" in name)
    assert (found.pqc_fuse_value is not None) == ("mldsa" in name)
    block = found.container.block
    assert block is not None
    if block.certificate is not None:
        # Not one of cst's: it has permissions for debugging with data, and their extension.
        assert (block.certificate.permissions, block.certificate.fuse_version) == (5, 3)
        assert block.certificate.permission_data_extension == 7
        assert block.certificate.permission_data.hex() == "00001111aaaabbbb22223333"


@pytest.mark.parametrize(("name", "what", "place", "errors"), checkable(SPSDK_VERDICTS))
def test_verdicts_of_spsdk(name: str, what: str, place: int | None, errors: int | None) -> None:
    """Where it is right: ECDSA, ML-DSA, and hashes of images."""
    offset = 0x400 if "93" in name else 0x4000
    data = sample(name)
    of_nxp = 0 if offset == 0x400 else 1
    if place is None:
        assert errors == of_nxp
        ahab.verify(data, offset)
        return
    assert errors is None or errors > of_nxp
    with pytest.raises(ahab.AhabError):
        ahab.verify(changed_at(data, place), offset)


def test_ml_dsa_cannot_be_checked_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """With an older cryptography nobody is told that a hybrid container holds."""
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.asymmetric.mldsa", None)
    monkeypatch.delattr(asymmetric, "mldsa", raising=False)
    with pytest.raises(ahab.VerificationError, match="this version of cryptography has no ML-DSA") as raised:
        ahab.verify(sample("spsdk-95-p384-mldsa65"), 0x4000)
    assert raised.value.check == "signature"
    assert raised.value.hint


@pytest.mark.parametrize("version", [0, 2])
@pytest.mark.parametrize("sgk", [None, "p256"], ids=["srk", "sgk"])
def test_ahab_image_verifier_agrees(signing: Signing, tmp_path: Path, sgk: Kind | None, version: int) -> None:
    """What cst has signed holds for both; what is changed afterwards for neither."""
    signed = signed_by_cst(signing, "4.0.1", "p384", version=version, sgk=sgk)
    signed.verify()
    assert second_opinion(signing, tmp_path, signed.data, signed.offset) == "good"
    for name, place in places(signed).items():
        data = changed_at(signed.data, place)
        with pytest.raises(ahab.AhabError):
            signed.verify(data)
        assert second_opinion(signing, tmp_path, data, signed.offset) != "good", name


def places(signed: Forged) -> dict[str, int]:
    """Bytes of a container whose change both verifiers notice."""
    container = signed.container
    block, start = container.block, container.offset
    assert block is not None
    found = {
        "software version": start + 8,
        "fuse version": start + 10,
        "load address": start + 0x18,
        "hash of an image": start + 0x30,
        "first image": start + container.images[0].offset,
        "last image": start + container.images[1].offset + container.images[1].size - 1,
        "first record": start + block.offset + 0x30,
        "signature": start + block.signature_offset + 20,
        "last byte of the signature": start + block.signature_offset + 8 + len(block.signatures[0]) - 1,
    }
    if certificate := block.certificate:
        at = start + certificate.offset
        found["permissions of the certificate"] = at + 7
        found["key of the certificate"] = at + len(certificate.signed) - 9
        found["signature of the certificate"] = at + len(certificate.signed) + 30
    return found
