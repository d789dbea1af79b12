"""Certificates on a token: URIs in a description, resolved for a machine whose keys are there."""

from __future__ import annotations

import pytest

from digsigd import csf
from tests.csf.test_csf_names import CSF, IMG, MEMBERS, TABLE
from tests.csf.texts import BASE, changed

IMG_URI = "pkcs11:token=T;object=IMG1"


def described(csfk: str, img: str) -> str:
    """A description with these two for the certificates."""
    return changed(IMG, img, changed(CSF, csfk))


def resolve(text: str) -> csf.Resolved:
    description = csf.parse(text.encode())
    csf.check(description, csf.Policy())
    return csf.resolve(description, members=MEMBERS, artifacts={"flash.bin": 0x2000}, from_token=True)


def refusal(text: str) -> csf.CsfError:
    with pytest.raises(csf.CsfError) as caught:
        resolve(text)
    return caught.value


def test_certificates_of_one_token_are_taken_and_the_table_from_the_tarball() -> None:
    """However their URIs name the token; nothing but the table is a file."""
    resolved = resolve(described("pkcs11:token=My%20Token;object=CSF1", "pkcs11:object=IMG1;token=%4dy%20Token"))
    assert resolved.token == "My Token"
    assert [uri.object for uri in resolved.uris] == ["CSF1", "IMG1"]
    assert [(one.kind, one.member) for one in resolved.files] == [("srk-table", f"crts/{TABLE}")]
    written = csf.write(resolved.description).decode()
    for name in ("CSF1", "IMG1"):
        ours = f"pkcs11:token=My%20Token;object={name};type=cert"
        assert ours in written
        assert name in resolved.client_names[ours]


@pytest.mark.parametrize("other", ["U", "t", "T%20", "T2"])
def test_keys_on_two_tokens_are_refused(other: str) -> None:
    """There is one PIN, one login and one line for a request: the second token's name is told to nobody."""
    error = refusal(described("pkcs11:token=T;object=CSF1", f"pkcs11:token={other};object=IMG1"))
    assert type(error) is csf.CsfPolicyError
    assert error.what == 'the keys are on different tokens, "T" and another'
    assert error.line == 15


@pytest.mark.parametrize("name", [CSF, f"crts/{CSF}", "gone_crt.pem"])
def test_a_file_is_no_certificate_on_a_token(name: str) -> None:
    """Even if there is one in the tarball."""
    error = refusal(described(name, IMG_URI))
    assert type(error) is csf.CsfPolicyError
    assert "with backend=pkcs11 certificates and keys are on a token" in error.what
    assert error.line == 7


def test_a_table_is_no_object_of_a_token() -> None:
    """It is public, and cst reads it as a file."""
    error = refusal(changed(TABLE, "pkcs11:token=T;object=SRK"))
    assert type(error) is csf.CsfPolicyError
    assert error.what == "the SRK table is a file, not on a token"
    assert error.line == 4


def test_a_uri_that_cst_has_no_room_for_is_refused() -> None:
    """Escaped anew it is longer than it came, and cst has a buffer of 255 bytes for it."""
    name = ":" * 74 + "a"  # written anew %3a, so 22 + 3 * 74 + 1 + 10 bytes in all
    assert max(len(ours) for ours in resolve(described(f"pkcs11:token=T;object={name}", IMG_URI)).client_names) == 255
    error = refusal(described(f"pkcs11:token=T;object={name}a", IMG_URI))
    assert error.what == "the PKCS #11 URI has 256 bytes; cst accepts at most 255"
    assert error.line == 7


def test_without_a_token_uris_are_refused() -> None:
    """The keys of this machine are in its tarball."""
    description = csf.parse(described("pkcs11:token=T;object=CSF1", IMG).encode())
    with pytest.raises(csf.CsfPolicyError, match="keys are in the key tarball"):
        csf.resolve(description, members=MEMBERS, artifacts={"flash.bin": 0x2000})


def test_a_description_for_files_has_no_token() -> None:
    """And none of its certificates is a URI."""
    resolved = csf.resolve(csf.parse(BASE.encode()), members=MEMBERS, artifacts={"flash.bin": 0x2000})
    assert resolved.token is None
    assert resolved.uris == ()
