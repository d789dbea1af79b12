"""Headers as clients, good and odd, send them: what they accept, and the boundary of a form."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from digsigd.errors import BadRequest
from digsigd.web.answers import MAX_HEADER, wants_json
from digsigd.web.form import boundary_of


@pytest.mark.parametrize(
    "accept",
    [
        "application/json",
        "application/problem+json",
        "APPLICATION/JSON",
        "application/*",
        "application/json, text/plain",
        "application/json, text/plain, */*",
        "text/plain;q=0.5, application/json",
        "text/plain; q=0.1, application/problem+json; q=0.2",
        "text/*;q=0.1, application/json;q=0.1",
        "*/*, application/json;q=0.1",
        "application/json; charset=utf-8",
        "application/json;version=1;q=0.3, text/plain;q=0.2",
        "application/json;q=0.5;x=y",
        'application/json;q="0.5", text/plain;q=0.4',
        "application/json;q=nonsense, application/json",
        'text/html;a="x, y", application/json',
    ],
)
def test_who_prefers_json(accept: str) -> None:
    """JSON is named with a weight that is no smaller than that of plain text."""
    assert wants_json(accept)


@pytest.mark.parametrize(
    "accept",
    [
        "",
        "*/*",
        "*/*;q=0.1",
        "text/plain",
        "text/plain, application/json;q=0.9",
        "application/json;q=0.5, text/*",
        "application/json;q=0",
        "application/json;q=0.0, */*",
        "application/json;q=2",
        "application/json;q=-1",
        "application/json;q=1e3",
        "application/vnd.api+json",
        "text/html, application/xhtml+xml, */*;q=0.8",
        "\ufffd",
        "\0",
        ",,;;=",
        "a/b," * MAX_HEADER + "application/json",
    ],
)
def test_who_does_not(accept: str) -> None:
    """Nothing that names no JSON, rates it lower, rates it with what is no weight, or names it too late."""
    assert not wants_json(accept)


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        ("multipart/form-data; boundary=b", "b"),
        ("Multipart/Form-Data;BOUNDARY=b", "b"),
        ("multipart/form-data ;\tboundary=b ; charset=utf-8", "b"),
        (
            "multipart/form-data; charset=utf-8; boundary=----WebKitFormBoundary7MA4YWxk",
            "----WebKitFormBoundary7MA4YWxk",
        ),
        ('multipart/form-data; boundary="a b"', "a b"),
        ('multipart/form-data; boundary="===============1234=="', "===============1234=="),
        ("multipart/form-data; boundary=__X_PAW_BOUNDARY__'+.!", "__X_PAW_BOUNDARY__'+.!"),
        ('multipart/form-data; boundary="a;b"', "a;b"),
        (r'multipart/form-data; boundary="a\"b"', 'a"b'),
        ('multipart/form-data; x="; boundary=q"; boundary=b', "b"),
        ("multipart/form-data; xboundary=a; boundary=b", "b"),
        ("multipart/form-data; boundary=a; boundary=b", "b"),
        ("multipart/form-data; boundary=" + "b" * 200, "b" * 200),
    ],
)
def test_the_boundary_of_a_form(content_type: str, boundary: str) -> None:
    """A token or a quoted string, wherever it stands; of several the last, as with other servers that use werkzeug."""
    assert boundary_of(content_type) == boundary


@pytest.mark.parametrize(
    "parameters",
    [
        "",
        "; boundary",
        "; boundary=",
        '; boundary=""',
        '; boundary="b',
        "; boundary = b",
        "; boundary=(a)",
        "; boundary=\ufffd",
        '; boundary="\xfc"',
        '; boundary="a\0b"',
        "; boundary*=utf-8''%0d%0a--b",
        "; boundary=" + "b" * 201,
        "; a=b" * MAX_HEADER + "; boundary=b",
    ],
)
def test_a_boundary_that_is_none(parameters: str) -> None:
    """What is missing, no token, no printable ASCII, longer than 200, or behind a kilobyte of other parameters."""
    with pytest.raises(BadRequest, match="has no boundary"):
        boundary_of(f"multipart/form-data{parameters}")


@pytest.mark.parametrize(
    "content_type",
    ["", "; boundary=b", "multipart/mixed; boundary=b", "multipart/form-data, multipart/form-data; boundary=b"],
)
def test_what_is_no_form(content_type: str) -> None:
    """Only multipart/form-data is."""
    with pytest.raises(BadRequest, match="not multipart/form-data"):
        boundary_of(content_type)


PARTS = ["multipart/form-data", "application/json", ";", ",", "=", '"', "\\", "boundary", "q", "*", "''", "%22", "0.5"]


@given(st.lists(st.sampled_from(PARTS) | st.text(max_size=3), max_size=30).map("".join))
def test_no_header_is_a_fault(text: str) -> None:
    """Whatever a header holds, it is judged: with yes or no, a boundary of printable ASCII or `BadRequest`."""
    wants_json(text)
    with contextlib.suppress(BadRequest):
        boundary = boundary_of(f"multipart/form-data; {text}")
        assert boundary.isascii()
        assert boundary.isprintable()
        assert boundary
