"""What a real daemon tells of a machine's keys, to whom, and what it never tells."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import re
import signal
import socket
import subprocess
import tarfile
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import jsonschema  # type: ignore[import-untyped]
import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID
from twisted.internet import reactor as installed
from twisted.internet.endpoints import serverFromString
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.web.resource import Resource
from twisted.web.server import Site

from digsigd import Settings, SigningService, hab
from digsigd.settings import CstSettings, DaemonSettings, KeysSettings, ListenSettings
from digsigd.testing import TrialPki
from tests.helpers import ahab_cases
from tests.helpers.daemons import DEADLINE, MACHINE, TOKEN, Daemon, Start
from tests.helpers.keys import trial_keys

ROOT = Path(__file__).parent.parent.parent
PKIS: dict[str, Callable[[], TrialPki]] = {
    "rsa": lambda: trial_keys("rsa2048", srks=2),
    "p521": lambda: trial_keys("p521", srks=4),
    "fast": lambda: trial_keys("p384", srks=2, fast_auth=True),
    "fast-rsa": lambda: trial_keys("rsa2048", srks=1, fast_auth=True),
    "der": lambda: TrialPki.make("p256", srks=1, encoding="der"),
    "bare": lambda: TrialPki.make("p256", srks=1, encrypted=False),
}


@cache
def made(name: str) -> TrialPki:
    """The keys of a kind, made once."""
    return PKIS[name]()


def with_files(pki: TrialPki, **changed: bytes | None) -> bytes:
    """Its tarball with files in place of others; `None` leaves one out. `__` stands for a slash."""
    files = dict(pki.files)
    for key, content in changed.items():
        name = key.replace("__", "/")
        files.pop(name, None)
        if content is not None:
            files[name] = content
    return packed(files)


def packed(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def odd_certificate(subject: str | None, *, serial: int = 1) -> bytes:
    """A certificate with a kind of key that HAB4 has not, and any name; signed by itself."""
    key = ed25519.Ed25519PrivateKey.generate()
    name = x509.Name([] if subject is None else [x509.NameAttribute(NameOID.COMMON_NAME, subject)])
    today = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(today - timedelta(days=1))
        .not_valid_after(today)
        .sign(key, None)
    )
    return certificate.public_bytes(serialization.Encoding.PEM)


def odd_tarball(pki: TrialPki) -> bytes:
    """Keys where certificates and tables are looked for, garbage, other keys' certificates, and far too many."""
    files = dict(pki.files)
    key = files[pki.certificate("CSF").replace("crts/", "keys/").replace("_crt", "_key")]
    good = files[pki.certificate("CSF")]
    files |= {
        "crts/0_key_crt.pem": key,
        "crts/0_both_crt.pem": key + good,
        "crts/0_garbage_crt.der": b"\x30\x82\xff\xff" + bytes(100),
        "crts/0_empty_crt.pem": b"",
        "crts/0_pem_in_der_crt.der": good,
        "crts/0_huge_crt.pem": good + b"#" * (64 << 10),
        "crts/0_odd_crt.pem": odd_certificate("a\x1b[31m\nname"),
        "crts/0_nameless_crt.pem": odd_certificate(None),
        "crts/0_stranger_crt.pem": made("bare").files[made("bare").certificate("CSF")],
        "crts/SRK_1_fuse.bin": pki.fuse_value,
        "crts/A_broken_table.bin": pki.srk_table[:-5],
        "crts/A_key.bin": key,
        "crts/A_pass.bin": pki.pass_phrase.encode(),
        "crts/note.txt": b"a note",
        **{f"crts/z{number:03d}_crt.pem": good for number in range(100)},
    }
    return packed(files)


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory, cst_base: Path, pki: TrialPki) -> Iterator[Daemon]:
    wrong = "".join(
        f'[machines.{name}]\n{key} = "{"7" * 64}"\n'
        for name, key in (("pinned-fuses", "fuses"), ("pinned-sha256", "keys_sha256"))
    )
    daemon = Daemon(
        tmp_path_factory.mktemp("machines"),
        cst_base,
        f'{wrong}[machines.pinned-to-one]\nfuses = "{pki.fuse_value.hex().upper()}"\n',
    )
    for machine in (MACHINE, "pinned-fuses", "pinned-sha256"):
        daemon.put_keys(machine, pki.tarball())
    for machine in PKIS:
        daemon.put_keys(machine, made(machine).tarball())
    other = {f"crts/A_{made('p521').table()[5:]}": made("p521").srk_table}
    daemon.put_keys("pinned-to-one", packed({**pki.files, **other}))
    daemon.put_keys("two-tables", packed({**pki.files, **other}))
    daemon.put_keys("odd", odd_tarball(pki))
    daemon.put_keys("garbage", b"no tarball at all")
    daemon.put_keys("without-a-table", with_files(pki, **{pki.table().replace("/", "__"): None}))
    daemon.put_keys("broken-table", with_files(pki, **{pki.table().replace("/", "__"): pki.srk_table[:-5]}))
    daemon.put_keys("no-certificate", packed({pki.table(): pki.srk_table}))
    daemon.put_keys("ahab", ahab_cases.tarball("p384ca"))
    of_ahab = {f"ahab/{name}": data for name, data in ahab_cases.members("pss2048").items()}
    daemon.put_keys("hab-and-ahab", packed({**pki.files, **of_ahab}))
    yield daemon.start()
    assert daemon.left_behind() == []
    daemon.stop()


def get(daemon: Daemon, machine: str, **more: Any) -> httpx.Response:
    return httpx.get(f"{daemon.url}/machines/{machine}", timeout=DEADLINE, **more)


def keys_of(daemon: Daemon, machine: str) -> Any:
    """A good answer, which is as docs/openapi.yaml has it."""
    answer = get(daemon, machine)
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Cache-Control"] == "no-store"
    told = answer.json()
    schema = yaml.safe_load((ROOT / "docs/openapi.yaml").read_text())["components"]["schemas"]["Machine"]
    jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker()).validate(told)
    return told


@pytest.mark.parametrize("machine", PKIS)
def test_a_machines_keys_are_told(daemon: Daemon, machine: str) -> None:
    """Of every kind: the table byte for byte, each certificate with the SRK it is of or below, what can sign."""
    pki = made(machine)
    told = keys_of(daemon, machine)
    assert told["machine"] == machine
    (table,) = told["srk_tables"]
    assert table == {
        "name": pki.table(),
        "fuse_value": pki.fuse_value.hex(),
        "data": base64.b64encode(pki.srk_table).decode(),
    }
    # The number of the SRK is in the names that TrialPki gives.
    expected = {
        name: (int(re.findall(r"\d+", name)[0]), name.startswith("crts/SRK")) for name in pki.files if "_crt." in name
    }
    assert {one["name"]: (one["srk"], one["is_srk"]) for one in told["certificates"]} == expected
    assert [one["name"] for one in told["certificates"]] == sorted(expected)
    for one in told["certificates"]:
        assert one["subject"] == one["name"].removeprefix("crts/").partition("_crt.")[0]
        ends = datetime.fromisoformat(one["not_after"])
        assert timedelta(days=3648) < ends - datetime.now(UTC) < timedelta(days=3651)
        assert one["not_after"].endswith("Z")
    assert (told["versions"], told["backends"]) == (["3.4.1", "4.0.1"], ["ssl"])
    # It is what can be pinned, and what signs.
    assert re.fullmatch("[0-9a-f]{64}", told["tarball_sha256"])
    signed = daemon.post(pki, machine=machine, cstversion=told["versions"][0])
    assert signed.status_code == 200, signed.text


def test_keys_for_ahab_are_told(daemon: Daemon) -> None:
    """Tables byte for byte with both hashes, one of which is in the fuses, and each certificate with its SRK."""
    files = ahab_cases.members("p384ca")
    told = keys_of(daemon, "ahab")
    assert told["srk_tables"] == []
    first, second = told["ahab_tables"]
    assert (first["name"], first["version"]) == ("crts/SRK_1_2_3_4_table.bin", 1)
    assert (second["name"], second["version"]) == ("crts/SRK_1_2_3_4_v2_table.bin", 2)
    assert first["sha256"] == files["crts/SRK_1_2_3_4_fuse_sha256.bin"].hex()
    assert first["sha512"] == files["crts/SRK_1_2_3_4_fuse_sha512.bin"].hex()
    assert second["sha512"] == files["crts/SRK_1_2_3_4_v2_fuse.bin"].hex()
    for table in (first, second):
        assert base64.b64decode(table["data"]) == files[table["name"]]
        assert table["keys"] == ["ECDSA P-384"] * 4
    assert len(told["certificates"]) == 8
    for one in told["certificates"]:
        assert (one["srk"], one["is_srk"]) == (int(one["name"][8]), "SRK" in one["name"])
        assert one["tables"] == [first["name"], second["name"]]
        assert one["key"] == "ECDSA P-384"


def test_keys_for_both_are_told(daemon: Daemon, pki: TrialPki) -> None:
    """A tarball may have keys for HAB and for AHAB: what is told of the first is as without the second."""
    told, alone = keys_of(daemon, "hab-and-ahab"), keys_of(daemon, MACHINE)
    assert told["srk_tables"] == alone["srk_tables"]
    assert alone["ahab_tables"] == []
    assert [one["keys"][0] for one in told["ahab_tables"]] == ["RSA-PSS 2048"] * 2
    ours = [one for one in told["certificates"] if one["tables"] == [pki.table()]]
    assert ours == alone["certificates"]
    others = [one for one in told["certificates"] if one not in ours]
    assert [(one["srk"], one["is_srk"], len(one["tables"])) for one in others] == [(n, True, 2) for n in (1, 2, 3, 4)]
    assert daemon.post(pki, machine="hab-and-ahab").status_code == 200


STATUSES: dict[str, tuple[str, str, int, list[str]]] = {
    "told": ("GET", MACHINE, 200, []),
    "told with its name escaped": ("GET", "imx8mm%2Devk", 200, []),
    "told with a query": ("GET", MACHINE + "?a=b", 200, []),
    "a name with a dot": ("GET", ".hidden", 400, ["1-64 of A-Z"]),
    "a name with a blank": ("GET", "a%20b", 400, ["1-64 of A-Z"]),
    "a name with a line end": ("GET", MACHINE + "%0a", 400, ["1-64 of A-Z"]),
    "a name with a NUL": ("GET", MACHINE + "%00", 400, ["1-64 of A-Z"]),
    "a name of other letters": ("GET", "%C3%A4", 400, ["1-64 of A-Z"]),
    "a name that leads up": ("GET", "..%5c..", 400, ["1-64 of A-Z"]),
    "a name too long": ("GET", "m" * 65, 400, ["1-64 of A-Z"]),
    "a name far too long": ("GET", "m" * 10_000, 400, ["1-64 of A-Z"]),
    "a name that is no text": ("GET", "%ff", 404, []),
    "a path": ("GET", "a/b", 404, []),
    "a path in disguise": ("GET", "..%2F" + MACHINE, 404, []),
    "with a slash": ("GET", MACHINE + "/", 404, []),
    "no name": ("GET", "", 404, []),
    "no keys": ("GET", "unheard-of", 404, ["unheard-of", "no keys"]),
    "garbage": ("GET", "garbage", 500, ["tarball"]),
    "no table": ("GET", "without-a-table", 500, ["no readable SRK table"]),
    "a broken table": ("GET", "broken-table", 500, ["no readable SRK table"]),
    "other fuses": ("GET", "pinned-fuses", 500, ["fuse value", "7" * 64]),
    "another tarball": ("GET", "pinned-sha256", 500, ["SHA-256", "7" * 64]),
    "posted": ("POST", MACHINE, 405, ["GET and HEAD"]),
    "deleted": ("DELETE", "unheard-of", 405, ["GET and HEAD"]),
    "put with an odd name": ("PUT", "a%20b", 405, []),
}


@pytest.mark.parametrize("name", STATUSES)
def test_each_case_has_its_status(daemon: Daemon, name: str) -> None:
    """As signing has it, with a request id, in text or as a problem."""
    method, path, status, words = STATUSES[name]
    headers = {"X-Request-Id": "build-17"}
    url = f"{daemon.url}/machines/{path}"
    answer = httpx.request(method, url, headers=headers, timeout=DEADLINE)
    assert answer.status_code == status, answer.text
    assert answer.headers["X-Request-Id"] == "build-17" or name == "a name that is no text"
    assert answer.headers["Cache-Control"] == "no-store"
    assert str(daemon.folder) not in answer.text
    for word in words:
        assert word in answer.text
    if status == 405:
        assert answer.headers["Allow"] == "GET, HEAD"
    if status >= 400:
        assert answer.text.endswith(f"[request {answer.headers['X-Request-Id']}]\n")
        problem = httpx.request(method, url, headers={**headers, "Accept": "application/json"}).json()
        assert problem["status"] == status


@pytest.mark.parametrize("machine", ["pinned-fuses", "pinned-sha256", "garbage", "unheard-of"])
def test_what_cannot_sign_is_not_told(daemon: Daemon, pki: TrialPki, machine: str) -> None:
    """With the status, the problem and the words of signing."""
    wanted = {"Accept": "application/json"}
    asked = get(daemon, machine, headers=wanted).json()
    signing = daemon.post(pki, machine=machine, headers=wanted).json()
    del asked["request_id"], signing["request_id"]
    assert asked == signing


def test_only_tables_of_the_pinned_value_are_told(daemon: Daemon, pki: TrialPki) -> None:
    """Certificates are told by the first of them; without a pin all tables are there, by name."""
    told = keys_of(daemon, "pinned-to-one")
    assert [one["fuse_value"] for one in told["srk_tables"]] == [pki.fuse_value.hex()]
    assert {one["srk"] for one in told["certificates"]} == {1, 2}
    told = keys_of(daemon, "two-tables")
    assert [one["fuse_value"] for one in told["srk_tables"]] == [made("p521").fuse_value.hex(), pki.fuse_value.hex()]
    assert {(one["srk"], one["is_srk"]) for one in told["certificates"]} == {(None, False)}


def test_a_tarball_without_certificates(daemon: Daemon) -> None:
    """As with keys in an HSM: the table alone."""
    told = keys_of(daemon, "no-certificate")
    assert (len(told["srk_tables"]), told["certificates"]) == (1, [])


def test_odd_files_are_left_out(daemon: Daemon, pki: TrialPki) -> None:
    """What is no certificate or table is not even named; strangers have no SRK; copies are told once."""
    told = keys_of(daemon, "odd")
    assert [one["name"] for one in told["srk_tables"]] == [pki.table()]
    found = {one["name"]: one for one in told["certificates"]}
    assert len(found) == 3 + len([name for name in pki.files if "_crt." in name])
    names = [name for name in found if name.startswith("crts/0_")]
    assert names == [f"crts/0_{one}_crt.pem" for one in ("nameless", "odd", "stranger")]
    for name in ("nameless", "odd", "stranger"):
        assert found[f"crts/0_{name}_crt.pem"]["srk"] is None
    assert found["crts/0_odd_crt.pem"]["subject"].isprintable()
    assert found["crts/0_odd_crt.pem"]["not_after"] == "2030-01-02T03:04:05Z"
    assert found["crts/0_nameless_crt.pem"]["subject"] == ""
    assert set(pki.files) & set(found) == {name for name in pki.files if "_crt." in name}
    assert daemon.log().count("critical") == 0


def secrets_of(pki: TrialPki) -> list[bytes]:
    """The pass phrase, and private keys: their files' lines, their DER, and their numbers."""
    secrets = [pki.pass_phrase.encode()]
    for name, content in pki.files.items():
        if "_key." not in name:
            continue
        secrets.append(name.rpartition("/")[2].encode())
        password = pki.pass_phrase.encode()
        if name.endswith(".pem"):
            secrets += [line for line in content.split(b"\n") if len(line) > 20 and b"-----" not in line]
            encrypted = b"ENCRYPTED" in content
            key = serialization.load_pem_private_key(content, password if encrypted else None)
        else:
            secrets.append(content)
            key = serialization.load_der_private_key(content, password)
        if isinstance(key, rsa.RSAPrivateKey):
            numbers = key.private_numbers()
            values = [numbers.d, numbers.p, numbers.q]
        else:
            assert isinstance(key, ec.EllipticCurvePrivateKey)
            values = [key.private_numbers().private_value]
        secrets += [value.to_bytes((value.bit_length() + 7) // 8, "big") for value in values]
    return secrets


@pytest.mark.parametrize("machine", [*PKIS, "odd"])
def test_no_secret_is_told(daemon: Daemon, pki: TrialPki, machine: str) -> None:
    """No pass phrase, no key in any form, no name of a file with one: neither in an answer nor in the log."""
    answer = get(daemon, machine)
    told = answer.json()
    shown = [answer.content, str(answer.headers).encode(), daemon.log().encode()]
    shown += [base64.b64decode(one["data"]) for one in told["srk_tables"]]
    secrets = secrets_of(pki if machine == "odd" else made(machine))
    assert len(secrets) > 4
    for secret in secrets:
        for form in (secret, secret.hex().encode(), base64.b64encode(secret)[:-4]):
            assert not any(form in one for one in shown)
    for word in (b"key_pass", b"_key", b"PRIVATE", b"note.txt", b"0_key", b"A_pass", b"A_key"):
        assert word not in answer.content


def test_head_is_as_get(daemon: Daemon) -> None:
    """Without the body."""
    url = f"{daemon.url}/machines/{MACHINE}"
    head, whole = httpx.head(url), httpx.get(url)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["Content-Length"] == str(len(whole.content))
    assert httpx.head(f"{daemon.url}/machines/unheard-of").status_code == 404


def test_a_body_is_not_taken(daemon: Daemon) -> None:
    """A long one, or one of unknown length, is refused before it is read; a short one is thrown away."""
    url = f"{daemon.url}/machines/{MACHINE}"
    assert httpx.request("GET", url, content=b"x" * 1000).status_code == 200
    host, port = daemon.url.removeprefix("http://").split(":")
    for header, method, status in (
        ("Content-Length: 100000000", "GET", 413),
        ("Transfer-Encoding: chunked", "GET", 413),
        ("Content-Length: 100000000", "POST", 405),
    ):
        with socket.create_connection((host, int(port)), DEADLINE) as connection:
            connection.sendall(f"{method} /machines/{MACHINE} HTTP/1.1\r\nHost: a\r\n{header}\r\n\r\n".encode())
            assert connection.recv(65536).startswith(f"HTTP/1.1 {status} ".encode())


def test_changed_keys_are_told_at_once(start: Start, pki: TrialPki, other_pki: TrialPki) -> None:
    """The store is asked at every request, as for signing; what was kept is used again as long as it is the same."""
    daemon = start(form="json")
    for one in (pki, other_pki, pki):
        daemon.put_keys(MACHINE, one.tarball())
        for _ in range(2):
            assert keys_of(daemon, MACHINE)["srk_tables"][0]["fuse_value"] == one.fuse_value.hex()
    # What was written just now may change within one tick of the file system's clock.
    daemon.wait_for(lambda: get(daemon, MACHINE) and '"how": "revalidated"' in daemon.log(), what="keys to be kept")


def test_what_is_logged(start: Start, pki: TrialPki) -> None:
    """Who asked, for which machine, from where, with the id of the request; then where the keys came from."""
    daemon = start(f'[callers.release]\ntoken_file = "token"\nmachines = ["{MACHINE}", "other"]\n', form="json")
    bearer = {"Authorization": f"Bearer {TOKEN}", "X-Request-Id": "build-17"}
    assert get(daemon, MACHINE, headers=bearer).status_code == 200
    assert get(daemon, "other", headers={**bearer, "X-Request-Id": "build-18"}).status_code == 404
    made_up = get(daemon, "third", headers={"Authorization": f"Bearer {TOKEN}"})
    lines = [json.loads(line) for line in daemon.log().splitlines()]
    mine = [line for line in lines if line.get("request_id") == "build-17"]
    assert [line["event"] for line in mine] == ["machine", "keys", "answered"]
    assert (mine[0]["machine"], mine[0]["caller"], mine[0]["address"]) == (MACHINE, "release", "127.0.0.1")
    assert (mine[1]["origin"], mine[2]["status"]) == (daemon.keys.as_uri(), 200)
    assert [line["event"] for line in lines if line.get("request_id") == "build-18"] == ["machine", "answered"]
    # An id that the daemon has made is the same in the log and in the answer.
    (refused,) = [line for line in lines if line.get("request_id") == made_up.headers["X-Request-Id"]]
    assert (refused["event"], refused["status"]) == ("answered", 403)
    assert TOKEN not in daemon.log()


def test_whoever_may_not_sign_is_not_told(start: Start, pki: TrialPki) -> None:
    """Without or with wrong credentials 401, for another machine 403, whether or not there are keys for it."""
    daemon = start('[callers.release]\ntoken_file = "token"\nmachines = ["imx8mm-*"]\n')
    daemon.put_keys("imx8mp-evk", pki.tarball())
    nobody = get(daemon, MACHINE)
    assert nobody.status_code == 401
    assert nobody.headers["WWW-Authenticate"].startswith("Basic")
    assert get(daemon, "a%20b").status_code == 401
    assert get(daemon, "unheard-of").status_code == 401
    assert get(daemon, MACHINE, headers={"Authorization": "Bearer wrong"}).status_code == 401
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    assert get(daemon, MACHINE, headers=bearer).status_code == 200
    assert get(daemon, MACHINE, auth=("release", TOKEN)).status_code == 200
    assert get(daemon, MACHINE, auth=("somebody", TOKEN)).status_code == 401
    assert get(daemon, "a%20b", headers=bearer).status_code == 400
    there, gone = (get(daemon, machine, headers=bearer) for machine in ("imx8mp-evk", "imx8mp-none"))
    assert (there.status_code, gone.status_code) == (403, 403)
    assert "imx8mp-evk" in there.text
    assert get(daemon, "imx8mm-none", headers=bearer).status_code == 404


def test_each_caller_is_told_its_own_backends(tmp_path: Path, cst_base: Path, pki: TrialPki) -> None:
    """Of those that this host has for the machine, the ones that the caller may use."""
    config = '[pkcs11]\nmodule = "/none.so"\n[pkcs11.tokens.release]\npin_file = "pin"\nmachines = ["imx8mm-*"]\n'
    (tmp_path / "pin").write_text("1234-5678")
    callers = {"none": None, "ssl": ["ssl"], "pkcs11": ["pkcs11"], "both": ["pkcs11", "ssl"]}
    for name, backends in callers.items():
        (tmp_path / name).write_text(f"{name}-{TOKEN}")
        config += f'[callers.{name}]\ntoken_file = "{name}"\nmachines = ["*"]\n'
        if backends is not None:
            config += f"backends = {json.dumps(backends)}\n"
    daemon = Daemon(tmp_path, cst_base, config)
    for machine in (MACHINE, "another"):
        daemon.put_keys(machine, pki.tarball())
    daemon.start()
    try:

        def told(name: str, machine: str) -> Any:
            return get(daemon, machine, headers={"Authorization": f"Bearer {name}-{TOKEN}"}).json()["backends"]

        assert {name: told(name, MACHINE) for name in callers} == {
            "none": [],
            "ssl": ["ssl"],
            "pkcs11": ["pkcs11"],
            "both": ["ssl", "pkcs11"],
        }
        assert {name: told(name, "another") for name in callers} == {
            "none": [],
            "ssl": ["ssl"],
            "pkcs11": [],
            "both": ["ssl"],
        }
    finally:
        daemon.stop()


def test_versions_are_those_of_now(start: Start, tmp_path: Path) -> None:
    """One that is put there is told some seconds later; one that is no program is not."""
    (tmp_path / "broken").write_text("")
    daemon = start(f'[cst.versions]\nmine = "{tmp_path}/mine"\nbroken = "{tmp_path}/broken"\n')
    assert get(daemon, MACHINE).json()["versions"] == ["3.4.1", "4.0.1"]
    (tmp_path / "mine").write_text("#!/bin/sh\n")
    (tmp_path / "mine").chmod(0o755)
    daemon.wait_for(lambda: get(daemon, MACHINE).json()["versions"] == ["3.4.1", "4.0.1", "mine"], what="a version")


def test_a_key_store_in_trouble(start: Start) -> None:
    """One that cannot be reached is 502, one that does not answer in time 504; neither is named."""
    refused = start("[keys]\ntries = 1\n", DIGSIGSERVER_KEYFILE_URI="http://127.0.0.1:1/keys")
    assert get(refused, MACHINE).status_code == 502
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        late = start("[keys]\ntimeout = 1\ntries = 1\n", DIGSIGSERVER_KEYFILE_URI=f"http://127.0.0.1:{port}")
        answer = get(late, MACHINE)
    assert answer.status_code == 504
    assert f":{port}" not in answer.text


def in_background(function: Callable[[], httpx.Response]) -> tuple[threading.Thread, list[httpx.Response]]:
    results: list[httpx.Response] = []
    thread = threading.Thread(target=lambda: results.append(function()))
    thread.start()
    return thread, results


def test_at_the_end_what_was_asked_is_answered(start: Start, pki: TrialPki) -> None:
    """Within the grace what is under way goes on, while whoever comes then is sent away with 503."""
    tarball = pki.tarball()
    with socket.create_server(("127.0.0.1", 0)) as store:
        uri = f"http://127.0.0.1:{store.getsockname()[1]}"
        daemon = start("[keys]\nidle_timeout = 50\n", DIGSIGSERVER_KEYFILE_URI=uri)
        with httpx.Client() as kept:
            assert kept.get(f"{daemon.url}/healthz").status_code == 200
            thread, results = in_background(lambda: get(daemon, MACHINE))
            connection = accepted(store)
            os.kill(daemon.pid, signal.SIGTERM)
            daemon.wait_for_log("1 requests have")
            late = kept.get(f"{daemon.url}/machines/{MACHINE}")
            assert (late.status_code, "shutting down" in late.text) == (503, True)
            assert int(late.headers["Retry-After"]) >= 1
            head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(tarball)}\r\nConnection: close\r\n\r\n"
            connection.sendall(head.encode() + tarball)
            thread.join()
            connection.close()
        daemon.stop()
    assert results[0].status_code == 200


def accepted(server: socket.socket) -> socket.socket:
    """The connection that asks for a tarball: the readiness at the start asks for something else."""
    server.settimeout(DEADLINE)
    while True:
        connection, _ = server.accept()
        connection.settimeout(DEADLINE)
        if f"/{MACHINE}/".encode() in connection.recv(65536):
            return connection
        connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        connection.close()


def test_beyond_the_grace_it_is_ended(start: Start) -> None:
    """And told so."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        daemon = start("[daemon]\nshutdown_grace = 0.2\n[keys]\nidle_timeout = 50\n", DIGSIGSERVER_KEYFILE_URI=uri)
        asked = [in_background(lambda: get(daemon, MACHINE)) for _ in range(6)]
        daemon.wait_for_log("requested by", len(asked))
        daemon.stop()
        for thread, _ in asked:
            thread.join()
    for _, (answer,) in asked:
        assert (answer.status_code, "shutting down" in answer.text) == (503, True)


def test_more_than_can_be_taken_are_sent_away(start: Start, pki: TrialPki) -> None:
    """Four are answered and 128 wait; whoever goes away leaves the line."""
    with contextlib.ExitStack() as stack, socket.create_server(("127.0.0.1", 0), backlog=64) as silent:
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        daemon = start("[daemon]\nshutdown_grace = 0.2\n[keys]\nidle_timeout = 50\n", DIGSIGSERVER_KEYFILE_URI=uri)
        host, port = daemon.url.removeprefix("http://").split(":")
        for _ in range(132):
            connection = stack.enter_context(socket.create_connection((host, int(port)), DEADLINE))
            connection.sendall(f"GET /machines/{MACHINE} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        daemon.wait_for_log("requested by", 132)
        busy = get(daemon, MACHINE)
        assert (busy.status_code, int(busy.headers["Retry-After"]) >= 1) == (503, True)
        stack.close()
        daemon.wait_for_log("the client disconnected", 132)
        thread, results = in_background(lambda: get(daemon, MACHINE))
        daemon.wait_for_log("requested by", 133)
        daemon.stop()
        thread.join()
    assert results[0].status_code == 503
    assert "Unhandled" not in daemon.log()


async def test_below_a_path_of_somebodys_site(tmp_path: Path, cst_base: Path, pki: TrialPki) -> None:
    """By HTTP/1.1 and by HTTP/2, and with the statuses that it has at the root."""
    reactor: Any = installed
    keys, work = tmp_path / "keys", tmp_path / "work"
    (keys / MACHINE / "imxsign").mkdir(parents=True)
    (keys / MACHINE / "imxsign/imx-cst-keys.tar.gz").write_bytes(pki.tarball())
    work.mkdir()
    settings = Settings(
        listen=ListenSettings(endpoint="tcp:0:interface=127.0.0.1"),
        keys=KeysSettings(uri=keys.as_uri()),
        cst=CstSettings(base=cst_base),
        daemon=DaemonSettings(workdir=work),
    )
    service = SigningService(settings, listen=False)
    root = Resource()
    site = Site(root, requestFactory=service.mount(root, "/signing"))
    service.startService()
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += ["-subj", "/CN=localhost", "-keyout", str(key), "-out", str(certificate)]
    await deferToThread(subprocess.run, command, check=True, capture_output=True)
    options = f"ssl:0:interface=127.0.0.1:privateKey={key}:certKey={certificate}"
    port = await serverFromString(reactor, options).listen(site)

    async def by_curl(path: str, *more: str) -> str:
        command = ["curl", "--noproxy", "*", "--insecure", "--silent", "-w", " %{http_version} %{http_code}"]
        command += [*more, f"https://127.0.0.1:{port.getHost().port}/signing/machines/{path}"]
        done = await deferToThread(subprocess.run, command, capture_output=True, check=False, timeout=DEADLINE)
        return done.stdout.decode()

    for version, option in (("1.1", "--http1.1"), ("2", "--http2")):
        told, shown, status = (await by_curl(MACHINE, option)).rsplit(" ", 2)
        assert (shown, status) == (version, "200")
        assert json.loads(told)["srk_tables"][0]["fuse_value"] == pki.fuse_value.hex()
        assert (await by_curl("a%20b", option)).endswith(f" {version} 400")
        assert (await by_curl("unheard-of", option)).endswith(f" {version} 404")
        assert (await by_curl(MACHINE, option, "-X", "DELETE")).endswith(f" {version} 405")
    await port.stopListening()
    await service.stopService()
    await deferLater(reactor, 0.02)


def test_a_table_of_the_answer_is_one(daemon: Daemon, pki: TrialPki) -> None:
    """It can be parsed, and gives the fuse value that stands beside it."""
    (table,) = keys_of(daemon, MACHINE)["srk_tables"]
    assert hab.SrkTable.parse(base64.b64decode(table["data"])).fuse_value == bytes.fromhex(table["fuse_value"])
