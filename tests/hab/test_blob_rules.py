"""The rules of the boot ROM that cst keeps by itself: forged blobs that break one each, with everything else right."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, padding

from digsigd import hab
from digsigd.hab.der import elements
from tests.helpers.blobs import Signed
from tests.helpers.forge import (
    Named,
    Piece,
    authenticate,
    certificate_of,
    cms,
    decrypt,
    forge,
    install,
    install_srk,
    named,
    other,
    secret_key,
)

BLOCK = (0x7E0FC0, 0x40)
DATA = bytes(range(0x40))
SRK = named("SRK", ca=True)
USER_SRK = named("SRK of its own")
CSFK = named("CSFK", SRK)
IMG = named("IMG", SRK, serial=8)
OTHER_IMG = named("another IMG", SRK, serial=9)
TABLE = hab.build_srk_table([SRK.certificate])
USER_TABLE = hab.build_srk_table([USER_SRK.certificate])
SRK_CSFK = install(CSFK.der, 0, 1, flags=2)
SRK_IMG = install(IMG.der, 0, 2)
SET_ENGINE = other(0xB1, 3, bytes([0, 0x17, 0x1D, 0]))
DER = serialization.Encoding.DER


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
        (install_srk(TABLE, target=1),),
        (install_srk(TABLE, flags=1),),
        (install_srk(TABLE, hashed=0x1B),),
        (install_srk(TABLE), install_srk(TABLE)),
    ],
    ids=["another-target", "flags", "another-hash", "twice"],
)
def test_the_srk_is_installed_first_and_in_one_way(install_it: tuple[Piece, ...]) -> None:
    """As key 0, hashed with SHA-256, once."""
    says = judged(*install_it, SRK_CSFK, CSF, SRK_IMG, IMAGE)
    assert says == "srk-table: the SRK must be installed first, as key 0, with SHA-256"


def test_what_needs_no_key_may_stand_before_the_srk() -> None:
    """HABv4 API, 3.8 and 4.3.4: Set and NOP may come at any time."""
    before = other(0xC0), other(0xB1, 3, bytes([0, 0x17, 0x1D, 0]))
    assert "-> CSFK, IMG ->" in judged(*before, install_srk(TABLE), SRK_CSFK, CSF, SRK_IMG, IMAGE)


def test_a_csf_without_an_srk_is_refused() -> None:
    """Nothing stands between its keys and the fuses."""
    assert judged(other(0xC0)) == "srk-table: the CSF installs no SRK"
    assert "key 0, which is not installed" in judged(SRK_CSFK)
    assert "not installed" in judged(authenticate(1, by(CSFK)))


def test_a_csf_that_does_not_authenticate_itself_is_refused() -> None:
    """Before all, whoever can write it chooses what it does."""
    assert judged(install_srk(TABLE), SRK_CSFK) == "csf-signature: the CSF's commands are not authenticated"


@pytest.mark.parametrize(
    ("piece", "says"),
    [
        (install(CSFK.der, 0, 1), "certificate: the CSF key is installed with the flags 0x0"),
        (install(CSFK.der, 0, 1, flags=3), "certificate: the CSF key is installed with the flags 0x3"),
        (install(CSFK.der, 0, 2, flags=2), "certificate: key 2 is installed with the flags 0x2"),
        (install(CSFK.der, 0, 1, flags=2, protocol=0xBB), "certificate: the CSF installs a key with the protocol 0xbb"),
        (install(CSFK.der, 0, 1, flags=2, hashed=0x17), "certificate: the CSF key cannot be installed there"),
        (install(CSFK.der, 0, 0), "certificate: key 0 cannot be installed there"),
        (
            install(CSFK.der, 1, 1, flags=2),
            "certificate: the CSF key is verified by key 1, which is not installed",
        ),
        (
            install(CSFK.der, 3, 1, flags=2),
            "certificate: the CSF key is verified by key 3, which is not installed",
        ),
        (install(IMG.der, 0, 2), "order: key 2 must be installed after Authenticate CSF"),
    ],
)
def test_a_csf_key_is_installed_in_one_way(piece: Piece, says: str) -> None:
    """As key 1, with its flag, as an X.509 certificate below the SRK, before the commands are authenticated."""
    assert judged(install_srk(TABLE), piece, CSF, SRK_IMG, IMAGE).startswith(says)


@pytest.mark.parametrize(
    ("pieces", "says"),
    [
        ((install(IMG.der, 0, 5),), "certificate: key 5 cannot be installed there"),
        ((install(IMG.der, 0, 6),), "certificate: key 6 cannot be installed there"),
        ((SRK_IMG, install(OTHER_IMG.der, 0, 2)), "certificate: key 2 cannot be installed: a different key is"),
        ((SRK_CSFK,), "order: the CSF key must be installed before Authenticate CSF"),
        ((install(IMG.der, 1, 2),), "certificate: key 2 is verified by key 1, which is not installed"),
        ((install(IMG.der, 4, 2),), "certificate: key 2 is verified by key 4, which is not installed"),
        ((SRK_IMG, install(IMG.der, 2, 3)), "ca-flag: key 3 is verified by key 2, which has no CA flag"),
        ((install(USER_SRK.der, 0, 2),), "certificate: key 2 (SRK of its own) is not signed by the chosen SRK"),
    ],
)
def test_an_image_key_is_installed_in_one_way(pieces: tuple[Piece, ...], says: str) -> None:
    """In a free place from 2 to 4, below the SRK or a key that may certify."""
    assert judged(install_srk(TABLE), SRK_CSFK, CSF, *pieces, IMAGE).startswith(says)


def test_a_csf_key_behind_authenticate_csf_is_refused() -> None:
    """With fast authentication before it."""
    csf = authenticate(1, by(USER_SRK))
    says = judged(install_srk(USER_TABLE), csf, SRK_CSFK, table=USER_TABLE)
    assert says.startswith("order: the CSF key must be installed before")


def test_image_keys_may_stand_in_a_chain() -> None:
    """SRK, then a key with the CA flag, then the one that signs."""
    middle = Named(IMG.key, certificate_of(IMG.key.public_key(), "middle", ("SRK", SRK.key), ca=True))
    last = Named(OTHER_IMG.key, certificate_of(OTHER_IMG.key.public_key(), "last", ("middle", IMG.key)))
    pieces = install(middle.der, 0, 2), install(last.der, 2, 4), authenticate(4, over(DATA, last), BLOCK)
    assert "-> CSFK, middle, last ->" in judged(install_srk(TABLE), SRK_CSFK, CSF, *pieces)
    stranger = install(certificate_of(IMG.key.public_key(), "stranger", ("SRK", SRK.key)).public_bytes(DER), 2, 4)
    says = judged(install_srk(TABLE), SRK_CSFK, CSF, pieces[0], stranger, pieces[2])
    assert says == "certificate: key 4 (stranger) is not signed by key 2"


def test_the_same_key_again_in_its_place_is_passed_over() -> None:
    """HABv4 API, 4.3.7; it is told once. A certificate that nobody of the chain signed is refused there as well."""
    assert "-> CSFK, IMG ->" in judged(install_srk(TABLE), SRK_CSFK, SRK_CSFK, CSF, SRK_IMG, SRK_IMG, IMAGE)
    renewed = install(certificate_of(IMG.key.public_key(), "IMG", ("SRK", SRK.key), serial=10).public_bytes(DER), 0, 2)
    assert "-> CSFK, IMG ->" in judged(install_srk(TABLE), SRK_CSFK, CSF, SRK_IMG, renewed, IMAGE)
    forged = install(certificate_of(IMG.key.public_key(), "IMG", ("SRK", CSFK.key)).public_bytes(DER), 0, 2)
    says = judged(install_srk(TABLE), SRK_CSFK, CSF, SRK_IMG, forged, IMAGE)
    assert says == "certificate: key 2 (IMG) is not signed by the chosen SRK"


def test_a_ca_signs_no_commands_and_no_data() -> None:
    """HABv4 API, 4.3.8: HAB_INV_KEY. It may stand between the SRK and a key that does."""
    csfk = Named(CSFK.key, certificate_of(CSFK.key.public_key(), "CSFK", ("SRK", SRK.key), ca=True))
    says = judged(install_srk(TABLE), install(csfk.der, 0, 1, flags=2), authenticate(1, by(csfk)), SRK_IMG, IMAGE)
    assert (
        says
        == "ca-flag: the signature over the commands is for key 1, whose certificate has the CA flag: HAB refuses it"
    )
    img = Named(IMG.key, certificate_of(IMG.key.public_key(), "IMG", ("SRK", SRK.key), ca=True))
    says = judged(install_srk(TABLE), SRK_CSFK, CSF, install(img.der, 0, 2), authenticate(2, over(DATA, img), BLOCK))
    assert (
        says == "ca-flag: the signature over the data is for key 2, whose certificate has the CA flag: HAB refuses it"
    )


@pytest.mark.parametrize(
    ("algorithm", "name"), [(hashes.SHA384(), "sha384"), (hashes.SHA512(), "sha512"), (None, "sha1")]
)
def test_certificates_are_signed_with_sha256(algorithm: hashes.SHA384 | hashes.SHA512 | None, name: str) -> None:
    """HABv4 API, 5.2 to 5.8: no engine is there for others."""
    if algorithm is None:
        der = without_sha256(IMG.der)
    else:
        der = certificate_of(IMG.key.public_key(), "IMG", ("SRK", SRK.key), algorithm=algorithm).public_bytes(DER)
    says = judged(install_srk(TABLE), SRK_CSFK, CSF, install(der, 0, 2), IMAGE)
    assert says == f"certificate: key 2 (IMG) is signed with {name}; the engines of HAB4 support sha256 only"


def without_sha256(der: bytes) -> bytes:
    """The certificate with the identifier of SHA-1 with RSA instead, which is as long."""
    return der.replace(bytes.fromhex("2a864886f70d01010b"), bytes.fromhex("2a864886f70d010105"))


def test_certificates_are_of_version_3() -> None:
    """HABv4 API, 6.4: HAB_PCL_X509 is the format of X.509v3."""
    says = judged(install_srk(TABLE), SRK_CSFK, CSF, install(version_1(IMG, SRK), 0, 2), IMAGE)
    assert says == "certificate: key 2 (IMG) is an X.509 certificate of version 1, not 3"


def version_1(of: Named, issuer: Named) -> bytes:
    """The certificate without version and extensions, signed anew: cryptography and newer openssl make none."""
    (whole,) = elements(of.der)
    body, algorithm, _ = elements(whole.content)
    parts = [part.whole for part in elements(body.content) if part.tag not in {0xA0, 0xA3}]
    tbs = sequence(b"".join(parts))
    signature = issuer.key.sign(tbs, padding.PKCS1v15(), hashes.SHA256())
    bits = b"\x03\x82" + (len(signature) + 1).to_bytes(2, "big") + b"\0" + signature
    return sequence(tbs + algorithm.whole + bits)


def sequence(content: bytes) -> bytes:
    """A SEQUENCE of 256 bytes and more."""
    return b"\x30\x82" + len(content).to_bytes(2, "big") + content


def test_an_extended_key_usage_is_noted() -> None:
    """Some boards are told not to boot with it; it is not known which."""
    usage = x509.ExtendedKeyUsage([x509.ObjectIdentifier("1.3.6.1.5.5.7.3.3")])
    der = certificate_of(IMG.key.public_key(), "IMG", ("SRK", SRK.key), serial=8, more=usage).public_bytes(DER)
    signed = Signed(
        forge(install_srk(TABLE), SRK_CSFK, CSF, install(der, 0, 2), IMAGE),
        TABLE,
        ((hab.Block(*BLOCK[:1], 0, 0x40),),),
        image=DATA,
    )
    assert "has an extended key usage" in signed.verify().notes[0]


def test_an_srk_without_the_ca_flag_signs_no_certificates() -> None:
    """Its record says so, whatever its certificate says."""
    csfk = Named(CSFK.key, certificate_of(CSFK.key.public_key(), "CSFK", ("SRK of its own", USER_SRK.key)))
    says = judged(install_srk(USER_TABLE), install(csfk.der, 0, 1, flags=2), table=USER_TABLE)
    assert says.startswith("ca-flag: the CSF key is verified by key 0, which has no CA flag")


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
        ((SRK_CSFK, CSF, CSF), "order: the CSF's commands are authenticated twice"),
        ((SRK_CSFK, IMAGE, CSF), "order: data is authenticated before the commands are"),
        (
            (SRK_CSFK, authenticate(0, by(CSFK))),
            "csf-signature: the CSF's commands are authenticated with key 0, not 1",
        ),
        ((SRK_CSFK, authenticate(1, by(IMG))), "csf-signature: the signature over the commands does not name"),
        (
            (SRK_CSFK, authenticate(1, by(CSFK), protocol=0xC6)),
            "csf-signature: the signature over the commands has the protocol",
        ),
        (
            (SRK_CSFK, decrypt(1, b"")),
            "csf-signature: the signature over the commands has the protocol 0xa3",
        ),
        ((SRK_CSFK, authenticate(1, by(CSFK), engine=0x1E)), "csf-signature: SNVS cannot hash"),
        ((SRK_CSFK, authenticate(1, by(CSFK), engine=0x42)), "csf-signature: engine 0x42 cannot hash"),
        ((SRK_CSFK, authenticate(1, by(CSFK), engine=0x1D, configuration=1)), "csf-signature: the configuration 0x1"),
        ((SRK_CSFK, authenticate(1, by(CSFK), flags=1)), "csf-signature: the signature over the commands has"),
        ((SRK_CSFK, authenticate(1, over(b"", CSFK))), "csf-signature: the signature over the commands is for the"),
    ],
)
def test_commands_are_authenticated_once_and_by_the_csf_key(pieces: tuple[Piece, ...], says: str) -> None:
    """Before any data, with CMS, over all commands."""
    assert judged(install_srk(TABLE), *pieces).startswith(says)


@pytest.mark.parametrize(
    ("piece", "says"),
    [
        (
            authenticate(1, over(DATA, CSFK), BLOCK),
            "data-signature: data is authenticated by key 1, which cannot sign data",
        ),
        (
            authenticate(3, over(DATA, IMG), BLOCK),
            "data-signature: data is authenticated by key 3, which cannot sign data",
        ),
        (authenticate(0, over(DATA, SRK), BLOCK), "data-signature: data is authenticated with the SRK, although"),
        (authenticate(2, over(DATA, CSFK), BLOCK), "data-signature: the signature over the data does not name"),
        (authenticate(2, over(DATA, IMG), BLOCK, protocol=0xC6), "data-signature: the signature over the data has"),
        (decrypt(2, b"", BLOCK), "data-signature: the signature over the data has the protocol 0xa3, not CMS"),
        (
            authenticate(2, over(DATA, IMG), BLOCK, configuration=1),
            "data-signature: the engine ANY must have configuration 0",
        ),
        (authenticate(2, over(DATA, IMG), BLOCK, engine=0x1D, configuration=0x40), "data-signature: the configuration"),
        (authenticate(2, over(DATA, IMG), BLOCK, engine=0x05, configuration=0x81), "data-signature: the configuration"),
        (authenticate(2, over(DATA, IMG), BLOCK, engine=0x21), "data-signature: OCOTP cannot hash"),
        (authenticate(2, over(DATA, IMG), BLOCK, flags=1), "data-signature: the signature over the data has"),
        (authenticate(2, over(DATA[1:], IMG), BLOCK), "data-signature: the signature over the data is for the digest"),
        (authenticate(2, over(DATA, IMG), BLOCK, BLOCK), "blocks: the command has 2 blocks, but must have 1"),
        (authenticate(2, lambda _: cms(DATA, IMG, hashes.SHA512()), BLOCK), "data-signature: the signature over the"),
    ],
)
def test_data_is_authenticated_by_an_image_key(piece: Piece, says: str) -> None:
    """With CMS and SHA-256, over the image's own bytes."""
    assert judged(install_srk(TABLE), SRK_CSFK, CSF, SRK_IMG, piece).startswith(says)


def test_a_signature_by_another_key_under_the_right_name_is_refused() -> None:
    """The certificate it names, issuer and serial number, is the installed one's; the key is not."""
    says = judged(install_srk(TABLE), SRK_CSFK, authenticate(1, by(Named(IMG.key, CSFK.certificate))))
    assert says == "csf-signature: the signature over the commands was not made with key 1"
    impostor = authenticate(2, over(DATA, Named(CSFK.key, IMG.certificate)), BLOCK)
    says = judged(install_srk(TABLE), SRK_CSFK, CSF, SRK_IMG, impostor)
    assert says == "data-signature: the signature over the data was not made with key 2"


def test_loose_certificates_belong_to_fast_authentication() -> None:
    """Beside a CSF key there is none, and with fast authentication one, the SRK's."""
    whole = install_srk(TABLE), SRK_CSFK, CSF, SRK_IMG, IMAGE
    assert judged(*whole, loose=(SRK.der,)) == "certificate: the CSF has a certificate that no command installs"
    fast = install_srk(USER_TABLE), authenticate(1, by(USER_SRK)), authenticate(0, over(DATA, USER_SRK), BLOCK)
    says = judged(*fast, table=USER_TABLE, loose=(IMG.der,))
    assert says == "certificate: the CSF has a certificate that is not the chosen SRK's"


def test_other_commands_change_nothing_and_some_are_noted() -> None:
    """U-Boot refuses what writes, checks or sets the MID; the boot ROM does not."""
    more = other(0xB2, 0x1D, bytes(4)), other(0xB4, 0x1D, bytes([0, 0, 0, 2])), other(0xC0, 5), SET_ENGINE
    refused = other(0xCC, 4, bytes(8)), other(0xCF, 4, bytes(8)), other(0xB1, 1, bytes(4))
    pieces = install_srk(TABLE), SRK_CSFK, CSF, *more, *refused, SRK_IMG, IMAGE
    block = hab.Block(BLOCK[0], 0, BLOCK[1])
    digest = hashlib.sha256(DATA).digest()
    verified = hab.verify(forge(*pieces), srk_table=TABLE, expected_blocks=[[block]], source_index=0, digests=[digest])
    assert [note.removeprefix("U-Boot refuses images whose CSF has ") for note in verified.notes] == [
        "Write Data",
        "Check Data",
        "Set MID",
    ]


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (other(0xB2, 0x1D, bytes([0, 0, 0, 8])), "command: Unlock of CAAM with the unknown features 0x8"),
        (other(0xB2, 0x1D), "command: Unlock of CAAM with 0 bytes; it must have 4"),
        (other(0xB2, 0x1D, bytes(8)), "command: Unlock of CAAM with 8 bytes; it must have 4"),
        (other(0xB2, 0x1E, bytes([0, 0, 0, 4])), "command: Unlock of SNVS with the unknown features 0x4"),
        (other(0xB2, 0x0C, bytes(4)), "command: Unlock of SRTC with 4 bytes; it must have none"),
        (other(0xB2, 0xFF, bytes(4)), "command: Unlock of SW with 4 bytes; it must have none"),
        (other(0xB2, 0x1B), "command: Unlock of DCP, which does not support it"),
        (other(0xB2, 0x00), "command: Unlock of ANY, which does not support it"),
        (other(0xB2, 0x21, bytes([0, 0, 0, 1])), "command: Unlock of OCOTP 0x1 needs a chip's unique id"),
        (other(0xB2, 0x21, bytes([0, 0, 0, 2]) + bytes(8)), "command: Unlock of OCOTP 0x2 must not have a unique id"),
        (other(0xB2, 0x21, bytes([0, 0, 0, 1]) + bytes(7)), "command: Unlock of OCOTP with 11 bytes; it must have 4"),
        (other(0xB4, 0x1D, bytes([0, 0, 0, 1])), "command: Init of CAAM with the unknown features 0x1"),
        (other(0xB4, 0x0C, bytes(4)), "command: Init of SRTC with 4 bytes; it must have none"),
        (other(0xB4, 0x1E, bytes(4)), "command: Init of SNVS, which does not support it"),
        (other(0xB1, 0x02, bytes(4)), "command: Set of the unknown item 0x2"),
        (other(0xB1, 0x03, bytes(4)), "command: Set of an engine with 00 00 00 00, not for SHA-256"),
        (other(0xB1, 0x03), "command: Set of an engine with nothing"),
        (other(0xB1, 0x03, bytes([1, 0x17, 0x1D, 0])), "command: Set of an engine with 01 17 1d 00"),
        (other(0xB1, 0x03, bytes([0, 0x17, 0x1D, 2])), "command: the configuration 0x2 makes CAAM swap bytes"),
        (other(0xB1, 0x03, bytes([0, 0x17, 0x1E, 0])), "command: SNVS cannot hash"),
    ],
)
def test_commands_that_cst_does_not_make_are_refused(command: Piece, says: str) -> None:
    """What HAB does with them, no manual tells."""
    assert judged(install_srk(TABLE), SRK_CSFK, CSF, SRK_IMG, IMAGE, command).startswith(says)


@pytest.mark.parametrize(
    "command",
    [
        other(0xB2, 0x1D, bytes([0, 0, 0, 7])),
        other(0xB2, 0x1E, bytes([0, 0, 0, 3])),
        other(0xB2, 0x21, bytes([0, 0, 0, 2])),
        other(0xB2, 0x21, bytes([0, 0, 0, 13]) + bytes(8)),
        other(0xB2, 0x0C),
        other(0xB2, 0xFF),
        other(0xB4, 0x0C),
        other(0xB4, 0x1D, bytes([0, 0, 0, 2])),
    ],
)
def test_unlock_and_init_come_behind_authenticate_csf(command: Piece) -> None:
    """HABv4 API, 4.3.5 and 4.3.6: used outside of an authenticated CSF, they fail on a closed board."""
    assert "-> CSFK, IMG ->" in judged(install_srk(TABLE), SRK_CSFK, CSF, command, SRK_IMG, IMAGE)
    says = judged(install_srk(TABLE), SRK_CSFK, command, CSF, SRK_IMG, IMAGE)
    assert says.endswith("is before Authenticate CSF")


def test_the_engine_that_was_set_bounds_the_blocks_of_any() -> None:
    """HABv4 API, 4.3.4: from there on, until another is set."""
    blocks = [(0x7E0FC0 + at, 4) for at in range(0, 0x40, 4)]
    dcp = other(0xB1, 3, bytes([0, 0x17, 0x1B, 0]))
    software = other(0xB1, 3, bytes([0, 0x17, 0xFF, 0]))
    many = authenticate(2, over(DATA, IMG), *blocks)

    def tried(*pieces: Piece) -> str:
        expected = (tuple(hab.Block(address, address - 0x7E0FC0, length) for address, length in blocks),)
        signed = Signed(forge(install_srk(TABLE), SRK_CSFK, CSF, SRK_IMG, *pieces), TABLE, expected, image=DATA)
        try:
            return str(signed.verify())
        except hab.VerificationError as error:
            return str(error)

    assert tried(many) == "blocks: 16 blocks in one Authenticate Data; ANY allows at most 8"
    assert tried(dcp, many) == "blocks: 16 blocks in one Authenticate Data; DCP allows at most 6"
    assert tried(dcp, software, many).endswith("64 bytes of data in 16 blocks")
    caam = authenticate(2, over(DATA, IMG), *blocks, engine=0x1D)
    assert tried(software, caam) == "blocks: 16 blocks in one Authenticate Data; CAAM allows at most 8"


ENCRYPTED = (0x7E1000, 0x1000)


def judged_encrypted(*pieces: Piece) -> hab.Verified | str:
    """What is proven of an encrypted image, or what refuses it."""
    block = hab.Block(BLOCK[0], 0, BLOCK[1])
    signed = Signed(forge(install_srk(TABLE), SRK_CSFK, CSF, *pieces), TABLE, ((block,),), image=DATA)
    try:
        return signed.verify(encrypted_ok=True)
    except hab.VerificationError as error:
        return str(error)


def test_an_encrypted_image_is_proven_as_far_as_it_can_be() -> None:
    """Where it is asked for. Its key is an address in memory, and never taken for an offset in the blob."""
    pieces = SRK_IMG, IMAGE, secret_key(0x7EC000, 0, 0), decrypt(0, b"nonce and mac", ENCRYPTED)
    found = judged_encrypted(*pieces)
    assert isinstance(found, hab.Verified)
    assert found.encrypted == (ENCRYPTED,)
    assert found.bytes_covered == 0x40
    blob = forge(install_srk(TABLE), SRK_CSFK, CSF, *pieces)
    assert hab.blob_length(blob + bytes(0x100)) == len(blob.rstrip(b"\0"))
    assert len(hab.wanted(blob)) == 1
    says = judged(install_srk(TABLE), SRK_CSFK, CSF, *pieces)
    assert says == "certificate: the CSF installs a key with the protocol 0xbb"


@pytest.mark.parametrize(
    ("pieces", "says"),
    [
        ((decrypt(0, b"", ENCRYPTED),), "secret-key: data is decrypted by the secret key 0, which is not installed"),
        ((secret_key(0, 0, 1), decrypt(0, b"", ENCRYPTED)), "secret-key: data is decrypted by the secret key 0"),
        ((secret_key(0, 4, 0),), "secret-key: a secret key is installed as 0, with the master key 4"),
        ((secret_key(0, 0, 4),), "secret-key: a secret key is installed as 4, with the master key 0"),
        ((secret_key(0, 0, 0, hashed=0x17),), "secret-key: a secret key is installed with the flags 0x1"),
        ((secret_key(0, 0, 0, flags=3),), "secret-key: a secret key is installed with the flags 0x3"),
        ((secret_key(0, 0, 0), decrypt(0, b"", ENCRYPTED, engine=0x1B)), "secret-key: data is decrypted with DCP"),
        ((secret_key(0, 0, 0), decrypt(0, b"", *[ENCRYPTED] * 9)), "blocks: 9 blocks in one Authenticate Data"),
        (
            (secret_key(0, 0, 0), decrypt(0, b"", ENCRYPTED), decrypt(0, b"", ENCRYPTED)),
            "secret-key: data is decrypted by the secret key 0, which is not installed",
        ),
    ],
)
def test_the_commands_of_an_encrypted_image_have_their_rules(pieces: tuple[Piece, ...], says: str) -> None:
    """HABv4 API, 4.3.7, 4.3.8 and 5.6."""
    found = judged_encrypted(SRK_IMG, IMAGE, *pieces)
    assert isinstance(found, str)
    assert found.startswith(says)
