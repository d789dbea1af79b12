"""PKCS #11 URIs: what is read of them, what is refused, and that what is written is read again."""

from __future__ import annotations

import re
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from digsigd import csf
from digsigd.csf.uri import KeyUri

PLACE = (7, 8)


def parsed(rest: str) -> KeyUri:
    return KeyUri.parse(f"pkcs11:{rest}", PLACE)


READ = {
    "token=T;object=a;type=cert": KeyUri("T", "a"),
    "object=a;token=T": KeyUri("T", "a"),
    "token=T;id=%01%fF": KeyUri("T", id=b"\x01\xff"),
    "token=My%20Token;object=%c3%bc;serial=0a;manufacturer=M;model=SoftHSM%20v2;id=%01": KeyUri(
        "My Token", "ü", b"\x01", "0a", "M", "SoftHSM v2"
    ),
    "token=T;object=a;pin-value=password": KeyUri("T", "a"),
    "token=T;object=a?pin-value=password": KeyUri("T", "a"),
    "token=T;object=a:b@c!$'()*+,=&/": KeyUri("T", "a:b@c!$'()*+,=&/"),
    "token=T;object=a;": KeyUri("T", "a"),
    "token=T;object=password": KeyUri("T", "password"),
}


@pytest.mark.parametrize("rest", READ)
def test_what_names_an_object_is_read(rest: str) -> None:
    """In any order, escaped or not, with the placeholder that old clients send for the PIN."""
    assert parsed(rest) == READ[rest]


REFUSED = {
    "token=T;object=a;pin-value=1234": (csf.CsfPolicyError, "clients must not send one"),
    "token=T;object=a?pin-value=1234": (csf.CsfPolicyError, "clients must not send one"),
    "token=T;object=a;pin-source=file:/etc/passwd": (
        csf.CsfPolicyError,
        "has pin-source: the signing host configures modules and PINs",
    ),
    "token=T;object=a?pin-source=|id": (
        csf.CsfPolicyError,
        "has pin-source: the signing host configures modules and PINs",
    ),
    "token=T;object=a?module-path=/a.so": (
        csf.CsfPolicyError,
        "has module-path: the signing host configures modules and PINs",
    ),
    "token=T;object=a;module-name=a": (
        csf.CsfPolicyError,
        "has module-name: the signing host configures modules and PINs",
    ),
    "token=T;object=a;type=private": (csf.CsfPolicyError, "type=cert"),
    "token=T;object=a;slot-id=1": (csf.CsfPolicyError, "slot-id"),
    "token=T;object=a;library-version=1": (csf.CsfPolicyError, "library-version"),
    "Token=T;object=a": (csf.CsfPolicyError, "Token"),
    "object=a": (csf.CsfPolicyError, "no token"),
    "token=T": (csf.CsfPolicyError, "no object"),
    "": (csf.CsfPolicyError, "no token"),
    "token=T;object=a;object=b": (csf.CsfSyntaxError, "twice"),
    "token=T;object": (csf.CsfSyntaxError, "not an attribute"),
    "token=T;object=%0a": (csf.CsfSyntaxError, "control characters"),
    "token=T;object=%ff": (csf.CsfSyntaxError, "not UTF-8"),
    "token=T;object=%zz": (csf.CsfSyntaxError, "not an attribute"),
    "token=T;object=%4": (csf.CsfSyntaxError, "not an attribute"),
    "token=T;object=": (csf.CsfSyntaxError, "1 to 128 bytes"),
    "token=T;id=": (csf.CsfSyntaxError, "1 to 64 bytes"),
    f"token={'T' * 33};object=a": (csf.CsfSyntaxError, "1 to 32 bytes"),
    "token=T;object=ü": (csf.CsfSyntaxError, "not an attribute"),
    "token=T;object=a b": (csf.CsfSyntaxError, "not an attribute"),
}


@pytest.mark.parametrize("rest", REFUSED)
def test_all_else_is_refused(rest: str) -> None:
    """With what it is and where it stands."""
    kind, words = REFUSED[rest]
    with pytest.raises(kind, match=words) as caught:
        parsed(rest)
    assert (caught.value.line, caught.value.column) == PLACE
    assert "1234" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "most"), [("token", 32), ("manufacturer", 32), ("model", 16), ("serial", 16), ("object", 128), ("id", 64)]
)
def test_a_name_is_as_long_as_a_token_has_room_for(name: str, most: int) -> None:
    """CK_TOKEN_INFO has so many bytes; objects have as many as people use. One byte more is refused."""
    others = ";".join(f"{one}=x" for one in ("token", "object") if one != name)
    for text in ("x" * most, "%c3%bc" * (most // 2)):
        assert getattr(parsed(f"{others};{name}={text}"), name) is not None
    for text in ("x" * (most + 1), "%c3%bc" * (most // 2) + "x"):
        with pytest.raises(csf.CsfSyntaxError, match=f"1 to {most} bytes"):
            parsed(f"{others};{name}={text}")


texts = st.text(st.characters(exclude_categories=["C", "Z"]) | st.just(" "), min_size=1, max_size=4)
made = st.builds(
    KeyUri,
    token=texts,
    object=texts,
    id=st.none() | st.binary(min_size=1, max_size=9),
    serial=st.none() | texts,
    manufacturer=st.none() | texts,
    model=st.none() | texts,
)


@given(made)
def test_what_is_written_is_read_again(uri: KeyUri) -> None:
    """And has nothing in it that anybody could take for something else."""
    assert KeyUri.parse(str(uri), PLACE) == uri
    assert re.fullmatch(r"pkcs11:(?:[a-z]+=(?:[A-Za-z0-9._~-]|%[0-9a-f]{2})+;)+type=cert", str(uri))


@given(st.text("abtokenidjcpy;=?&%0123456789/ü -"))
def test_nothing_else_is_raised(rest: str) -> None:
    """Whatever a client sends."""
    with suppress(csf.CsfError):
        parsed(f"token=T;{rest}")
