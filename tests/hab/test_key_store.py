"""What is kept of installed keys: one in each place, with its flag, and the dates that its certificate has."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from digsigd import hab
from digsigd.hab.der import elements
from tests.hab.test_blob_rules import BLOCK, CSF, CSFK, DATA, DER, IMAGE, IMG, SRK, SRK_CSFK, SRK_IMG, TABLE, by, judged
from tests.hab.test_cms_form import der
from tests.helpers.blobs import Signed
from tests.helpers.forge import Named, authenticate, certificate_of, forge, install, install_srk

SIGNED = Signed(
    forge(install_srk(TABLE), SRK_CSFK, CSF, SRK_IMG, IMAGE),
    TABLE,
    ((hab.Block(BLOCK[0], 0, BLOCK[1]),),),
    image=DATA,
)
SECOND = timedelta(seconds=1)
SMALL = rsa.generate_private_key(65537, 1536)  # noqa: S505 -- that is what is refused
SHA256_WITH_RSA = der(0x30, bytes.fromhex("06092a864886f70d01010b"), der(5))


def test_a_key_does_not_become_an_authority_in_its_place() -> None:
    """HABv4 API, 4.3.7: what is there stays as it is; only the same again is passed over."""
    now_ca = certificate_of(IMG.key.public_key(), "IMG", ("SRK", SRK.key), serial=8, ca=True).public_bytes(DER)
    for first, second in ((IMG.der, now_ca), (now_ca, IMG.der)):
        pieces = install(first, 0, 2), install(second, 0, 2)
        says = judged(install_srk(TABLE), SRK_CSFK, CSF, *pieces, IMAGE)
        assert says == "certificate: key 2 cannot be installed: a different key is installed there already"


def test_a_certificate_is_valid_from_its_first_second_to_its_last() -> None:
    """RFC 5280, 4.1.2.5."""
    of_csfk, of_img = CSFK.certificate, IMG.certificate
    first = max(of_csfk.not_valid_before_utc, of_img.not_valid_before_utc)
    last = min(of_csfk.not_valid_after_utc, of_img.not_valid_after_utc)
    assert SIGNED.verify(now=first).notes == SIGNED.verify(now=last).notes == ()
    assert "is not valid before" in SIGNED.verify(now=first - SECOND).notes[-1]
    assert "expired on" in SIGNED.verify(now=last + SECOND).notes[0]
    assert SIGNED.verify(now=datetime.now(UTC)).notes == ()


def resigned(edit: Callable[[list[bytes]], list[bytes]], algorithm: bytes = SHA256_WITH_RSA) -> bytes:
    """The image key's certificate with some of its parts others, and signed anew by the SRK."""
    (whole,) = elements(IMG.der)
    body = der(0x30, *edit([one.whole for one in elements(elements(whole.content)[0].content)]))
    signature = SRK.key.sign(body, padding.PKCS1v15(), hashes.SHA256())
    return der(0x30, body, algorithm, der(3, b"\0" + signature))


def test_certificates_of_another_form_are_refused_by_name() -> None:
    """Of X.509 v1, and with a kind of signature that is none of HAB4's, though the SRK signed them."""

    def says(certificate: bytes) -> str:
        return judged(install_srk(TABLE), SRK_CSFK, CSF, install(certificate, 0, 2), IMAGE)

    assert "-> CSFK, IMG ->" in says(resigned(lambda parts: parts))
    version_1 = resigned(lambda parts: parts[1:-1])
    assert says(version_1) == "certificate: key 2 (IMG) is an X.509 certificate of version 1, not 3"
    pss = der(0x30, bytes.fromhex("06092a864886f70d01010a"))
    unknown = resigned(lambda parts: [*parts[:2], pss, *parts[3:]], pss)
    assert says(unknown).startswith("certificate: key 2 (IMG) is signed with an unknown algorithm; ")


def test_a_table_of_keys_that_hab_does_not_have_is_refused() -> None:
    """Where the SRK that is chosen is one; what certificates it signed, nobody needs to know."""
    odd = Named(SMALL, certificate_of(SMALL.public_key(), "odd", ("odd", SMALL), ca=True))
    table = hab.build_srk_table([odd.certificate, SRK.certificate])
    says = judged(install_srk(table), table=table)
    assert says.startswith("srk-table: SRK 1 is an RSA key of 1536 bits")
    below = certificate_of(ec.generate_private_key(ec.SECP256K1()).public_key(), "IMG", ("SRK", SRK.key))
    says = judged(install_srk(TABLE), SRK_CSFK, CSF, install(below.public_bytes(DER), 0, 2), IMAGE)
    assert says.startswith("certificate: key 2 is an ECDSA key on secp256k1")


def test_an_srk_behind_the_end_of_the_table_is_refused() -> None:
    """Whoever asked for it."""
    blob = forge(install_srk(TABLE, source=1), SRK_CSFK, authenticate(1, by(CSFK)))
    signed = Signed(blob, TABLE, SIGNED.blocks, 1, DATA)
    assert str(signed.refused()) == "srk-index: it uses SRK 2 of a table with 1"
    assert str(signed.refused(source_index=0)) == "srk-index: it uses SRK 2, not 1"


def test_an_image_key_has_no_flags() -> None:
    """Those that Install Key has are for CSF keys and for keys elsewhere in memory."""
    for flags in (0x01, 0x03, 0x80):
        says = judged(install_srk(TABLE), SRK_CSFK, CSF, install(IMG.der, 0, 2, flags=flags), IMAGE)
        assert says == f"certificate: key 2 is installed with the flags {flags:#x}"
