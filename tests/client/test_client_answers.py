"""What hosts tell of a machine's keys, read strictly, and the names of keys that come of it."""

from __future__ import annotations

import base64
import hashlib
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.web.http_headers import Headers

from digsigd.client._internal.errors import ClientError
from digsigd.client._internal.image_signing.key_names import KeyNames, configured_names, key_names
from digsigd.client._internal.machine_keys import AhabTableInfo, CertificateInfo, MachineKeys, SrkTableInfo
from digsigd.client._internal.responses import Answer, clean, error_of, read_machine_keys, read_missing
from digsigd.client._internal.settings import ClientSettings
from digsigd.testing import TrialPki
from tests.helpers import ahab_cases

AHAB_TABLE = ahab_cases.members("p384")["crts/SRK_1_2_3_4_table.bin"]
KINDS = ("application/json", "application/json; charset=utf-8", "Application/JSON")


def answered(body: bytes, kind: str = "application/json", status: int = 200) -> Answer:
    return Answer(status, Headers({"content-type": [kind]}), body)


@pytest.fixture(scope="module")
def told(pki: TrialPki) -> dict[str, Any]:
    """What a host tells."""
    certificate = {"name": "crts/a_crt.pem", "subject": "a", "srk": 1, "is_srk": False}
    certificate |= {"tables": ["crts/SRK_1_2_3_4_table.bin"], "key": "ECDSA P-384"}
    return {
        "machine": "m",
        "tarball_sha256": "0" * 64,
        "srk_tables": [
            {
                "name": pki.table(),
                "fuse_value": pki.fuse_value.hex(),
                "data": base64.b64encode(pki.srk_table).decode(),
            }
        ],
        "certificates": [
            {**certificate, "not_after": "2036-11-20T00:00:00Z"},
            {"name": "b", "subject": "", "srk": None, "is_srk": True, "not_after": "2036-11-20T02:00:00+02:00"},
        ],
        "versions": ["3.4.1"],
        "backends": ["ssl", "pkcs11"],
        "ahab_tables": [
            {
                "name": "crts/SRK_1_2_3_4_table.bin",
                "version": 1,
                "sha256": hashlib.sha256(AHAB_TABLE).hexdigest(),
                "sha512": hashlib.sha512(AHAB_TABLE).hexdigest(),
                "keys": ["ECDSA P-384"] * 4,
                "data": base64.b64encode(AHAB_TABLE).decode(),
            }
        ],
        "of a later version": {"anything": 1},
    }


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_told_is_read(told: dict[str, Any], pki: TrialPki, kind: str) -> None:
    """Also by a later version, which tells more."""
    noon = datetime(2036, 11, 20, tzinfo=UTC)
    assert read_machine_keys(answered(json.dumps(told).encode(), kind), "m") == MachineKeys(
        machine="m",
        tarball_sha256="0" * 64,
        srk_tables=(SrkTableInfo(pki.table(), pki.fuse_value, pki.srk_table),),
        certificates=(
            CertificateInfo(
                "crts/a_crt.pem", "a", 1, False, noon, None, ("crts/SRK_1_2_3_4_table.bin",), "ECDSA P-384"
            ),
            CertificateInfo("b", "", None, True, noon),
        ),
        versions=("3.4.1",),
        backends=("ssl", "pkcs11"),
        ahab_tables=(
            AhabTableInfo(
                "crts/SRK_1_2_3_4_table.bin",
                1,
                hashlib.sha256(AHAB_TABLE).digest(),
                hashlib.sha512(AHAB_TABLE).digest(),
                ("ECDSA P-384",) * 4,
                AHAB_TABLE,
            ),
        ),
    )


def test_a_host_that_tells_nothing_of_ahab_is_read(told: dict[str, Any]) -> None:
    """An older one: there are no tables for AHAB, and certificates are those of the first table for HAB."""
    older = json.loads(json.dumps(told))
    del older["ahab_tables"]
    for one in older["certificates"]:
        one.pop("tables", None)
        one.pop("key", None)
    keys = read_machine_keys(answered(json.dumps(older).encode()), "m")
    assert keys.ahab_tables == ()
    assert [(one.tables, one.key, one.is_in("any")) for one in keys.certificates] == [(None, "", True)] * 2


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        (("machine",), "other", "for another machine, 'other'"),
        (("machine",), "\x1b[2J", r"another machine, '\\\\x1b"),
        (("tarball_sha256",), "0" * 63, "tarball_sha256"),
        (("tarball_sha256",), None, "tarball_sha256"),
        (("srk_tables",), {}, "srk_tables"),
        (("srk_tables", 0, "fuse_value"), "0" * 64, "the fuse value of .*, the response says 000"),
        (("srk_tables", 0, "fuse_value"), "0" * 64 + "\n", "fuse_value"),
        (("srk_tables", 0, "data"), "AAAA", "is not an SRK table"),
        (("srk_tables", 0, "data"), "!", "data"),
        (("srk_tables", 0, "name"), "", "name"),
        (("srk_tables", 0, "name"), "a\nb", "control characters"),
        (("srk_tables", 0, "name"), "a" * 2000, "name"),
        (("certificates", 0, "name"), "a\x1b", "control characters"),
        (("certificates", 0, "srk"), 0, "srk"),
        (("certificates", 0, "srk"), 5, "srk"),
        (("certificates", 0, "srk"), True, "srk"),
        (("certificates", 0, "srk"), "1", "srk"),
        (("certificates", 0, "is_srk"), None, "is_srk"),
        (("certificates", 0, "not_after"), "2036-11-20T00:00:00", "not_after"),
        (("certificates", 0, "not_after"), 1, "not_after"),
        (("certificates", 0, "tables"), "a", "tables"),
        (("ahab_tables", 0, "name"), "a\nb", "control characters"),
        (("ahab_tables", 0, "version"), 2, "has the version 1, the response says 2"),
        (("ahab_tables", 0, "version"), 3, "version"),
        (("ahab_tables", 0, "sha256"), "0" * 64, "the sha256 of .*, the response says 000"),
        (("ahab_tables", 0, "sha512"), "0" * 128, "the sha512 of .*, the response says 000"),
        (("ahab_tables", 0, "sha512"), "0" * 64, "sha512"),
        (("ahab_tables", 0, "data"), "AAAA", "is not an SRK table for AHAB"),
        (("ahab_tables", 0, "keys"), ["a"] * 5, "keys"),
        (("versions",), ["../3"], "versions"),
        (("backends",), ["a b"], "backends"),
        (("certificates",), [{}] * 300, "certificates"),
    ],
)
def test_what_is_otherwise_is_refused(told: dict[str, Any], place: tuple[Any, ...], value: Any, words: str) -> None:
    """And where, in printable words."""
    changed = json.loads(json.dumps(told))
    inside = changed
    for step in place[:-1]:
        inside = inside[step]
    inside[place[-1]] = value
    with pytest.raises(ClientError, match=f"sent an invalid response: .*{words}") as caught:
        read_machine_keys(answered(json.dumps(changed).encode()), "m")
    assert caught.value.what.isprintable()
    assert len(caught.value.what) < 4200


@pytest.mark.parametrize("name", ["machine", "srk_tables", "certificates", "versions", "backends", "tarball_sha256"])
def test_what_is_missing_is_named(told: dict[str, Any], name: str) -> None:
    """A host that does not tell it cannot be worked with."""
    less = {key: value for key, value in told.items() if key != name}
    with pytest.raises(ClientError, match=name):
        read_machine_keys(answered(json.dumps(less).encode()), "m")


@pytest.mark.parametrize("body", [b"", b"null", b"[]", b"{", b"\xff", b"[" * 100_000, b'{"machine": "\xff"}'])
def test_what_is_no_object_is_refused(body: bytes) -> None:
    """Of whatever kind."""
    for read in (read_missing, lambda answer: read_machine_keys(answer, "m")):
        with pytest.raises(ClientError, match="sent an invalid response"):
            read(answered(body))
    with pytest.raises(ClientError, match="without JSON, of type text/html"):
        read_missing(answered(body, "text/html"))


@given(st.binary(max_size=300), st.sampled_from([200, 302, 400, 401, 403, 404, 500, 503, 999]))
def test_any_answer_is_told_in_printable_words(body: bytes, status: int) -> None:
    """Whatever it is said to be."""
    for kind in ("text/plain", "application/problem+json", "\x1b[2J\xff"):
        error = error_of(answered(body, kind, status), request_id="ours", with_token=True)
        assert error.what.isprintable()
        assert error.hint.isprintable()
        assert error.what
        assert (error.status, error.request_id) == (status, "ours")


def test_text_of_servers_is_cleaned() -> None:
    """One line, no control characters, an end."""
    assert clean(" a\r\n\tb\x1b[2J\x00\u202e ") == r"a b\x1b[2J\x00\u202e"
    assert len(clean("\x00" * 10_000)) == 4001


def certificate(name: str, srk: int | None, *, is_srk: bool = False) -> CertificateInfo:
    return CertificateInfo(name, name, srk, is_srk, datetime(2036, 1, 1, tzinfo=UTC))


def keys_of(*certificates: CertificateInfo, tables: tuple[str, ...] = ("t.bin",)) -> MachineKeys:
    made = tuple(SrkTableInfo(name, b"", b"") for name in tables)
    return MachineKeys("m", "", made, certificates, ("3.4.1",), ("ssl",))


WHOLE = (
    certificate("crts/CSF1_1_x_crt.pem", 1),
    certificate("crts/IMG1_1_x_crt.pem", 1),
    certificate("crts/SRK1_x_ca_crt.pem", 1, is_srk=True),
    certificate("crts/csf2_1_x_crt.pem", 2),
    certificate("crts/IMG2_1_x_crt.pem", 2),
    certificate("crts/CSF9_crt.pem", None),
)


def test_there_is_one_key_for_each_use() -> None:
    """By the SRK that signed it, and the name that NXP's scripts give it."""
    keys = keys_of(*WHOLE)
    assert key_names(keys, srk=1, fast_auth=False) == KeyNames("t.bin", WHOLE[0].name, WHOLE[1].name, None)
    assert key_names(keys, srk=2, fast_auth=False) == KeyNames("t.bin", WHOLE[3].name, WHOLE[4].name, None)
    assert key_names(keys, srk=1, fast_auth=True) == KeyNames("t.bin", None, None, WHOLE[2].name)


def test_where_there_is_not_it_says_which_there_are() -> None:
    """And which setting decides."""
    keys = keys_of(*WHOLE)
    words = r"no CSF certificate signed by SRK 3; it has .*CSF1_1_x_crt.pem \(signed by SRK 1\)"
    with pytest.raises(ClientError, match=words) as caught:
        key_names(keys, srk=3, fast_auth=False)
    assert "csf_certificate" in caught.value.hint
    with pytest.raises(ClientError, match="no certificate of SRK 2") as caught:
        key_names(keys, srk=2, fast_auth=True)
    assert "srk_certificate" in caught.value.hint
    double = keys_of(*WHOLE, certificate("crts/IMG1_1_x_crt.der", 1))
    with pytest.raises(ClientError, match=r"more than one IMG certificate signed by SRK 1: .*\.pem, .*\.der"):
        key_names(double, srk=1, fast_auth=False)
    for tables in ((), ("a.bin", "b.bin")):
        with pytest.raises(ClientError, match="SRK table") as caught:
            key_names(keys_of(*WHOLE, tables=tables), srk=1, fast_auth=False)
        assert "srk_table" in caught.value.hint
    with pytest.raises(ClientError, match="it has no certificates"):
        key_names(keys_of(), srk=1, fast_auth=False)


def test_names_that_are_configured_count() -> None:
    """All of those that are needed, or none."""
    settings = ClientSettings(srk_table="t", csf_certificate="c", image_certificate="i", srk_certificate="s")
    assert configured_names(settings, fast_auth=False) == KeyNames("t", "c", "i")
    assert configured_names(settings, fast_auth=True) == KeyNames("t", srk_certificate="s")
    assert configured_names(ClientSettings(), fast_auth=False) is None
    assert configured_names(ClientSettings(srk_certificate="s"), fast_auth=False) is None
    with pytest.raises(ClientError, match="sets srk_table, but not csf_certificate and image_certificate"):
        configured_names(ClientSettings(srk_table="t"), fast_auth=False)
    with pytest.raises(ClientError, match="sets srk_certificate, but not srk_table"):
        configured_names(ClientSettings(srk_certificate="s"), fast_auth=True)
