"""The rules of the boot ROM that cst keeps by itself: forged blobs that break one each, with everything else right."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from digsigd import hab
from tests.hab.blobs import Signed
from tests.hab.forge import (
    Named,
    Piece,
    authenticate,
    certificate_of,
    cms,
    forge,
    install,
    install_srk,
    named,
    other,
)

BLOCK = (0x7E0FC0, 0x40)
DATA = bytes(range(0x40))
SRK = named("SRK", ca=True)
USER_SRK = named("SRK of its own")
CSFK = named("CSFK", SRK)
IMG = named("IMG", SRK, serial=8)
TABLE = hab.build_srk_table([SRK.certificate])
USER_TABLE = hab.build_srk_table([USER_SRK.certificate])
SRK_CSFK = install(CSFK.der, 0, 1, flags=2)
SRK_IMG = install(IMG.der, 0, 2)


def by(key: Named) -> Callable[[bytes], bytes]:
    """A signature over the commands."""
    return lambda area: cms(area, key)


def over(data: bytes, key: Named) -> Callable[[bytes], bytes]:
    return lambda _: cms(data, key)


CSF = authenticate(1, by(CSFK))
IMAGE = authenticate(2, over(DATA, IMG), BLOCK)


def judged(*pieces: Piece, table: bytes = TABLE, count: int = 1, loose: tuple[bytes, ...] = ()) -> str:
    """What the check that refuses a blob says, after its name; or else what was proven."""
    block = hab.Block(BLOCK[0], 0, BLOCK[1])
    signed = Signed(forge(*pieces, loose=loose), table, ((block,),) * count, image=DATA)
    try:
        return str(signed.verify())
    except hab.VerificationError as error:
        return str(error)


def test_a_forged_blob_is_proven() -> None:
    """The rules below break it in one way each; as it stands, it keeps them."""
    assert "-> CSFK, IMG ->" in judged(install_srk(TABLE), SRK_CSFK, CSF, SRK_IMG, IMAGE)


def test_a_forged_blob_with_fast_authentication_is_proven() -> None:
    """With the SRK's certificate and, as the ROM needs none, without."""
    pieces = install_srk(USER_TABLE), authenticate(1, by(USER_SRK)), authenticate(0, over(DATA, USER_SRK), BLOCK)
    for loose in ((), (USER_SRK.der,)):
        assert "fast authentication" in judged(*pieces, table=USER_TABLE, loose=loose)


@pytest.mark.parametrize(
    "install_it",
    [
        (other(0xC0), install_srk(TABLE)),
        (install_srk(TABLE, target=1),),
        (install_srk(TABLE, flags=1),),
        (install_srk(TABLE, hashed=0x1B),),
        (install_srk(TABLE), install_srk(TABLE)),
    ],
    ids=["second", "another-target", "flags", "another-hash", "twice"],
)
def test_the_srk_is_installed_first_and_in_one_way(install_it: tuple[Piece, ...]) -> None:
    """As key 0, hashed with SHA-256, once."""
    says = judged(*install_it, SRK_CSFK, CSF, SRK_IMG, IMAGE)
    assert says == "srk-table: the SRK is not installed first, with SHA-256, as key 0"


def test_a_csf_without_an_srk_is_refused() -> None:
    """Nothing stands between its keys and the fuses."""
    assert judged(other(0xC0)) == "srk-table: it installs no SRK"
    assert "key 0, which is none" in judged(SRK_CSFK)
    assert "not installed" in judged(authenticate(1, by(CSFK)))


def test_a_csf_that_does_not_authenticate_itself_is_refused() -> None:
    """Before all, whoever can write it chooses what it does."""
    assert judged(install_srk(TABLE), SRK_CSFK) == "csf-signature: its commands are not authenticated"


@pytest.mark.parametrize(
    ("piece", "says"),
    [
        (install(CSFK.der, 0, 1), "certificate: the CSF key is installed with the flags 0x0"),
        (install(CSFK.der, 0, 1, flags=3), "certificate: the CSF key is installed with the flags 0x3"),
        (install(CSFK.der, 0, 2, flags=2), "certificate: key 2 is installed with the flags 0x2"),
        (install(CSFK.der, 0, 1, flags=2, protocol=0xBB), "certificate: it installs a key by the protocol 0xbb"),
        (install(CSFK.der, 0, 1, flags=2, hashed=0x17), "certificate: the CSF key cannot be installed there"),
        (install(CSFK.der, 0, 0), "certificate: key 0 cannot be installed there"),
        (install(CSFK.der, 1, 1, flags=2), "certificate: the CSF key is to be verified by key 1, which is none"),
        (install(CSFK.der, 3, 1, flags=2), "certificate: the CSF key is to be verified by key 3, which is none"),
        (install(IMG.der, 0, 2), "order: key 2 is installed on the wrong side of Authenticate CSF"),
    ],
)
def test_a_csf_key_is_installed_in_one_way(piece: Piece, says: str) -> None:
    """As key 1, with its flag, as an X.509 certificate below the SRK, before the commands are authenticated."""
    assert judged(install_srk(TABLE), piece, CSF, SRK_IMG, IMAGE).startswith(says)


@pytest.mark.parametrize(
    ("pieces", "says"),
    [
        ((install(IMG.der, 0, 6),), "certificate: key 6 cannot be installed there"),
        ((SRK_IMG, SRK_IMG), "certificate: key 2 cannot be installed there, or is there already"),
        ((SRK_CSFK,), "certificate: the CSF key cannot be installed there, or is there already"),
        ((install(IMG.der, 1, 2),), "certificate: key 2 is to be verified by key 1, which is none"),
        ((install(IMG.der, 4, 2),), "certificate: key 2 is to be verified by key 4, which is none"),
        ((SRK_IMG, install(IMG.der, 2, 3)), "ca-flag: key 3 is verified by key 2, which lacks the CA flag"),
        ((install(USER_SRK.der, 0, 2),), "certificate: key 2 (SRK of its own) is not signed by the chosen SRK"),
    ],
)
def test_an_image_key_is_installed_in_one_way(pieces: tuple[Piece, ...], says: str) -> None:
    """In a free place from 2 to 5, below the SRK or a key that may certify."""
    assert judged(install_srk(TABLE), SRK_CSFK, CSF, *pieces, IMAGE).startswith(says)


def test_a_csf_key_behind_authenticate_csf_is_refused() -> None:
    """With fast authentication before it."""
    csf = authenticate(1, by(USER_SRK))
    says = judged(install_srk(USER_TABLE), csf, SRK_CSFK, table=USER_TABLE)
    assert says.startswith("order: the CSF key is installed on the wrong side")


def test_image_keys_may_stand_in_a_chain() -> None:
    """SRK, then a key with the CA flag, then the one that signs."""
    middle = named("middle", SRK, ca=True)
    last = named("last", middle)
    pieces = install(middle.der, 0, 2), install(last.der, 2, 5), authenticate(5, over(DATA, last), BLOCK)
    assert "-> CSFK, middle, last ->" in judged(install_srk(TABLE), SRK_CSFK, CSF, *pieces)
    stranger = install(named("stranger", SRK).der, 2, 5)
    says = judged(install_srk(TABLE), SRK_CSFK, CSF, pieces[0], stranger, pieces[2])
    assert says == "certificate: key 5 (stranger) is not signed by key 2"


def test_an_srk_without_the_ca_flag_signs_no_certificates() -> None:
    """Its record says so, whatever its certificate says."""
    csfk = named("CSFK", USER_SRK)
    says = judged(install_srk(USER_TABLE), install(csfk.der, 0, 1, flags=2), table=USER_TABLE)
    assert says.startswith("ca-flag: the CSF key is verified by key 0, which lacks the CA flag")


def test_an_srk_with_the_ca_flag_signs_no_data() -> None:
    """Fast authentication with an SRK made for certificates: cst has nothing against it."""
    says = judged(install_srk(TABLE), authenticate(1, by(SRK)), authenticate(0, over(DATA, SRK), BLOCK))
    assert says.startswith("ca-flag: the SRK has the CA flag")


def test_only_rsa_and_ecdsa_keys_are_installed() -> None:
    """Nothing else is HAB4's."""
    key = ed25519.Ed25519PrivateKey.generate().public_key()
    certificate = certificate_of(key, issuer=("SRK", SRK.key)).public_bytes(serialization.Encoding.DER)
    says = judged(install_srk(TABLE), install(certificate, 0, 1, flags=2))
    assert says == "certificate: the CSF key is neither RSA nor ECDSA"


@pytest.mark.parametrize(
    ("pieces", "says"),
    [
        ((SRK_CSFK, CSF, CSF), "order: its commands are authenticated twice"),
        ((SRK_CSFK, IMAGE, CSF), "order: data is authenticated before the commands are"),
        ((SRK_CSFK, authenticate(0, by(CSFK))), "csf-signature: its commands are authenticated by key 0, not 1"),
        ((SRK_CSFK, authenticate(1, by(IMG))), "csf-signature: the signature over its commands names another"),
        ((SRK_CSFK, authenticate(1, by(CSFK), protocol=0xA3)), "csf-signature: the signature over its commands is by"),
        ((SRK_CSFK, authenticate(1, by(CSFK), flags=1)), "csf-signature: the signature over its commands is by"),
        ((SRK_CSFK, authenticate(1, over(b"", CSFK))), "csf-signature: the signature over its commands is for the"),
    ],
)
def test_commands_are_authenticated_once_and_by_the_csf_key(pieces: tuple[Piece, ...], says: str) -> None:
    """Before any data, with CMS, over all commands."""
    assert judged(install_srk(TABLE), *pieces).startswith(says)


@pytest.mark.parametrize(
    ("piece", "says"),
    [
        (authenticate(1, over(DATA, CSFK), BLOCK), "data-signature: data is authenticated by key 1, which is none for"),
        (authenticate(3, over(DATA, IMG), BLOCK), "data-signature: data is authenticated by key 3, which is none for"),
        (authenticate(0, over(DATA, SRK), BLOCK), "data-signature: data is authenticated by the SRK beside a CSF key"),
        (authenticate(2, over(DATA, CSFK), BLOCK), "data-signature: the signature over the data names another"),
        (authenticate(2, over(DATA, IMG), BLOCK, protocol=0xA3), "data-signature: the signature over the data is by"),
        (authenticate(2, over(DATA, IMG), BLOCK, flags=1), "data-signature: the signature over the data is by"),
        (authenticate(2, over(DATA[1:], IMG), BLOCK), "data-signature: the signature over the data is for the digest"),
        (authenticate(2, over(DATA, IMG), BLOCK, BLOCK), "blocks: it has 2 blocks, where 1 were asked for"),
        (authenticate(2, lambda _: cms(DATA, IMG, hashes.SHA512()), BLOCK), "data-signature: the signature over the"),
    ],
)
def test_data_is_authenticated_by_an_image_key(piece: Piece, says: str) -> None:
    """With CMS and SHA-256, over the image's own bytes."""
    assert judged(install_srk(TABLE), SRK_CSFK, CSF, SRK_IMG, piece).startswith(says)


def test_a_signature_by_another_key_under_the_right_name_is_refused() -> None:
    """The certificate it names, issuer and serial number, is the installed one's; the key is not."""
    says = judged(install_srk(TABLE), SRK_CSFK, authenticate(1, by(named("impostor", SRK, serial=7))))
    assert says == "csf-signature: the signature over its commands is not by key 1"
    impostor = authenticate(2, over(DATA, named("impostor", SRK, serial=8)), BLOCK)
    says = judged(install_srk(TABLE), SRK_CSFK, CSF, SRK_IMG, impostor)
    assert says == "data-signature: the signature over the data is not by key 2"


def test_loose_certificates_belong_to_fast_authentication() -> None:
    """Beside a CSF key there is none, and with fast authentication one, the SRK's."""
    whole = install_srk(TABLE), SRK_CSFK, CSF, SRK_IMG, IMAGE
    assert judged(*whole, loose=(SRK.der,)) == "certificate: it holds a certificate that no command installs"
    fast = install_srk(USER_TABLE), authenticate(1, by(USER_SRK)), authenticate(0, over(DATA, USER_SRK), BLOCK)
    says = judged(*fast, table=USER_TABLE, loose=(IMG.der,))
    assert says == "certificate: it holds a certificate that is not the chosen SRK's"


def test_other_commands_change_nothing_and_some_are_noted() -> None:
    """U-Boot refuses what writes, checks or sets the MID; the boot ROM does not."""
    more = other(0xB2, 0x1D, bytes(4)), other(0xB4, 0x1D), other(0xC0, 5), other(0xB1, 3, bytes(4))
    refused = other(0xCC, 4, bytes(8)), other(0xCF, 4, bytes(8)), other(0xB1, 1, bytes(4))
    pieces = install_srk(TABLE), SRK_CSFK, CSF, *more, *refused, SRK_IMG, IMAGE
    block = hab.Block(BLOCK[0], 0, BLOCK[1])
    digest = hashlib.sha256(DATA).digest()
    verified = hab.verify(forge(*pieces), srk_table=TABLE, expected_blocks=[[block]], source_index=0, digests=[digest])
    assert [note.removeprefix("U-Boot refuses images whose CSF holds ") for note in verified.notes] == [
        "Write Data",
        "Check Data",
        "Set MID",
    ]
