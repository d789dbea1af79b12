"""Who a request is from: several tokens, certificates, a proxy, and names of this host."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from digsigd.callers.access import Access, Asking, CurrentAccess, Proxy
from digsigd.callers.certificates import CertificateName
from digsigd.callers.from_settings import access_of
from digsigd.callers.hosts import allowed_hosts, check_host
from digsigd.callers.model import Caller
from digsigd.callers.tokens import new_token, sha256_of
from digsigd.errors import NotAllowed, NotAuthenticated
from digsigd.settings import Settings, SettingsError, load

NOW = datetime(2026, 6, 1, tzinfo=UTC)
KEY = ec.generate_private_key(ec.SECP256R1())


def certificate_of(subject: str = "CN=ci,OU=Build,O=Example", *names: x509.GeneralName) -> x509.Certificate:
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name.from_rfc4514_string(subject))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority")]))
        .public_key(KEY.public_key())
        .serial_number(17)
        .not_valid_before(NOW - timedelta(days=1))
        .not_valid_after(NOW + timedelta(days=1))
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(KEY, hashes.SHA256())


PLAIN = certificate_of()
NAMED = certificate_of(
    "CN=other",
    x509.DNSName("build.example"),
    x509.UniformResourceIdentifier("spiffe://example/ci"),
    x509.RFC822Name("ci@example"),
    x509.IPAddress(ip_address("2001:db8::1")),
)


def asking(headers: Mapping[str, str] | None = None, certificate: x509.Certificate | None = None) -> Asking:
    given = headers or {}
    return Asking(lambda name: [given[name]] if name in given else [], certificate)


def access(tmp_path: Path, text: str, **changes: object) -> Access:
    path = tmp_path / "digsigd.toml"
    path.write_text(text)
    return replace(access_of(load(path, {})), now=lambda: NOW, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "certificate"),
    [
        ("CN=ci,OU=Build,O=Example", PLAIN),
        (f"sha256:{PLAIN.fingerprint(hashes.SHA256()).hex()}", PLAIN),
        (f"sha256:{PLAIN.fingerprint(hashes.SHA256()).hex(':').upper()}", PLAIN),
        ("dns:build.example", NAMED),
        ("dns:BUILD.example", NAMED),
        ("uri:spiffe://example/ci", NAMED),
        ("email:ci@example", NAMED),
        ("ip:2001:db8:0::1", NAMED),
    ],
    ids=["subject", "fingerprint", "fingerprint with colons", "dns", "DNS", "uri", "email", "ip"],
)
def test_a_certificate_is_known_by_each_of_its_names(text: str, certificate: x509.Certificate) -> None:
    """The fingerprint, the whole subject, or one subject alternative name."""
    name = CertificateName.parse(text)
    assert name.fits(certificate)
    assert not name.fits(certificate_of("CN=ci,O=Example"))


@pytest.mark.parametrize(
    "text",
    [
        "CN=ci",
        "CN=ci,O=Example",
        "O=Example,OU=Build,CN=ci",
        "CN=CI,OU=Build,O=Example",
        "dns:ci",
        "CN=*,OU=Build,O=Example",
    ],
)
def test_a_name_that_is_not_the_whole_name_does_not_fit(text: str) -> None:
    """Neither a part, nor another order, nor a wildcard; and a common name is no DNS name."""
    assert not CertificateName.parse(text).fits(PLAIN)


@pytest.mark.parametrize("text", ["", "ci", "sha256:00", "dns:", "uri:", "ip:x", "CN", "sha1:00", ","])
def test_what_is_no_name_is_told_with_the_forms(text: str) -> None:
    """A misspelt name must not become one that never fits."""
    with pytest.raises(ValueError, match="expected sha256:FINGERPRINT"):
        CertificateName.parse(text)


TOKENS = [new_token() for _ in range(3)]


def several(tmp_path: Path) -> Access:
    (tmp_path / "hash").write_text(f"sha256:{sha256_of(TOKENS[2].encode()).hex().upper()}\n")
    return access(
        tmp_path,
        f"""[[callers.ci.tokens]]
sha256 = "{sha256_of(TOKENS[0].encode()).hex()}"
not_after = 2026-05-31T23:59:59Z
[[callers.ci.tokens]]
sha256 = "{sha256_of(TOKENS[1].encode()).hex()}"
not_after = 2026-06-01T00:00:00Z
[[callers.ci.tokens]]
file = "hash"
""",
    )


def test_a_caller_has_several_tokens_and_each_has_its_end(tmp_path: Path) -> None:
    """The old one has ended, the others work, and the log can tell them apart."""
    made = several(tmp_path)
    with pytest.raises(NotAuthenticated, match="the token has expired"):
        made.identify(asking({"Authorization": f"Bearer {TOKENS[0]}"}))
    proofs = [made.identify(asking({"Authorization": f"Bearer {one}"})).proof for one in TOKENS[1:]]
    assert proofs == [f"token {sha256_of(one.encode()).hex()[:8]}" for one in TOKENS[1:]]
    assert made.identify(asking({"Authorization": f"Bearer {TOKENS[1]}"})).name == "ci"


def test_the_hash_of_a_token_is_not_a_token(tmp_path: Path) -> None:
    """Who reads the configuration cannot sign with what is in it."""
    made = several(tmp_path)
    for text in (sha256_of(TOKENS[1].encode()).hex(), f"sha256:{sha256_of(TOKENS[1].encode()).hex()}"):
        with pytest.raises(NotAuthenticated, match="wrong caller name or token"):
            made.identify(asking({"Authorization": f"Bearer {text}"}))


def test_a_change_holds_for_the_next_request(tmp_path: Path) -> None:
    """A request keeps the caller that it was given; the next one meets the new value."""
    current = CurrentAccess(several(tmp_path))
    bearer = asking({"Authorization": f"Bearer {TOKENS[1]}"})
    caller = current.identify(bearer)
    current.value = access(tmp_path, "[[callers.lab.tokens]]\nfile = 'hash'\n")
    assert caller.name == "ci"
    with pytest.raises(NotAuthenticated):
        current.identify(bearer)
    assert current.identify(asking({"Authorization": f"Bearer {TOKENS[2]}"})).name == "lab"


@pytest.mark.parametrize(
    ("content", "words"),
    [("short", "fewer than 16 characters"), ("sha256:00", "64 hexadecimal digits"), ("sha256:" + "g" * 64, "64")],
)
def test_a_file_that_holds_no_token_is_refused(tmp_path: Path, content: str, words: str) -> None:
    """With the key and the file, and without what is in it."""
    (tmp_path / "token").write_text(content)
    with pytest.raises(SettingsError, match=rf"callers\.ci\.token_file: .*{words}") as caught:
        access(tmp_path, "[callers.ci]\ntoken_file = 'token'\n")
    assert content not in str(caught.value)


def test_two_callers_do_not_share_a_token_or_a_certificate(tmp_path: Path) -> None:
    """A request would have two callers."""
    (tmp_path / "a").write_text(TOKENS[0])
    (tmp_path / "b").write_text(f"sha256:{sha256_of(TOKENS[0].encode()).hex()}")
    with pytest.raises(SettingsError, match=r"callers\.b\.token_file: has the same token as caller 'a'"):
        access(tmp_path, "[callers.a]\ntoken_file = 'a'\n[callers.b]\ntoken_file = 'b'\n")
    tls = "[listen.tls]\ncertificate = 'c'\nkey = 'k'\nclient_ca = 'a'\n"
    with pytest.raises(SettingsError, match="belongs to caller 'a' already"):
        access(tmp_path, f"{tls}[callers.a]\ncertificate = 'CN=x'\n[callers.b]\ncertificate = ['CN=y', 'CN=x']\n")
    with pytest.raises(SettingsError, match=r"callers\.a\.certificate: 'x' is not understood"):
        access(tmp_path, f"{tls}[callers.a]\ncertificate = 'x'\n")
    with pytest.raises(SettingsError, match=r"callers\.a\.csf\.allow: 'everything' cannot be allowed"):
        access(tmp_path, "[callers.a]\ntoken_file = 'a'\ncsf.allow = ['everything']\n")


BY_NAME = Access(
    callers={"ci": Caller("ci"), "lab": Caller("lab")},
    certificates=(
        ("ci", CertificateName.parse("CN=ci,OU=Build,O=Example")),
        ("lab", CertificateName.parse("dns:build.example")),
        ("ci", CertificateName.parse("uri:spiffe://example/ci")),
    ),
    now=lambda: NOW,
)


def test_a_certificate_of_two_callers_is_nobodys() -> None:
    """One of its names is one caller's, the other another's."""
    assert BY_NAME.identify(asking(certificate=PLAIN)).name == "ci"
    assert BY_NAME.identify(asking(certificate=PLAIN)).proof.startswith("certificate ")
    with pytest.raises(NotAuthenticated, match="several callers: ci, lab"):
        BY_NAME.identify(asking(certificate=NAMED))


def _same(now: datetime) -> datetime:
    return now


def test_a_certificate_that_ends_on_an_open_connection_is_refused() -> None:
    """TLS has looked at its dates when the connection was made."""
    for now in (NOW - timedelta(days=2), NOW + timedelta(days=2)):
        late = replace(BY_NAME, now=partial(_same, now))
        with pytest.raises(NotAuthenticated, match="not valid at this time"):
            late.identify(asking(certificate=PLAIN))


def test_revocation_is_of_the_issuer_that_revokes() -> None:
    """The same serial number of another authority is another certificate."""

    def crl(issuer: str) -> x509.CertificateRevocationList:
        one = x509.RevokedCertificateBuilder().serial_number(17).revocation_date(NOW).build()
        made = x509.CertificateRevocationListBuilder().issuer_name(x509.Name.from_rfc4514_string(issuer))
        made = made.last_update(NOW).next_update(NOW + timedelta(days=1)).add_revoked_certificate(one)
        return made.sign(KEY, hashes.SHA256())

    assert replace(BY_NAME, crls=[crl("CN=another")]).identify(asking(certificate=PLAIN)).name == "ci"
    with pytest.raises(NotAuthenticated, match="is revoked"):
        replace(BY_NAME, crls=[crl("CN=another"), crl("CN=authority")]).identify(asking(certificate=PLAIN))


def test_a_pin_of_a_proxy_is_a_fingerprint(tmp_path: Path) -> None:
    """A name could be in another certificate, too."""
    tls = "[listen.tls]\ncertificate = 'c'\nkey = 'k'\nclient_ca = 'a'\n[callers.ci]\ncertificate = 'CN=ci'\n"
    with pytest.raises(SettingsError, match=r"listen\.proxy\.certificate: expected sha256:FINGERPRINT"):
        access(tmp_path, f"{tls}[listen.proxy]\ncaller_header = 'X-A'\ncertificate = 'CN=proxy'\n")
    pin = PLAIN.fingerprint(hashes.SHA256())
    made = access(tmp_path, f"{tls}[listen.proxy]\ncaller_header = 'X-A'\ncertificate = 'sha256:{pin.hex()}'\n")
    assert made.proxy == Proxy("X-A", (pin,))
    assert made.identify(asking({"X-A": "ci"}, PLAIN)).proof == "proxy"


def test_a_proxy_itself_is_no_caller(tmp_path: Path) -> None:
    """A client whom it does not name is nobody, also if the proxy's certificate has a caller's name."""
    tls = "[listen.tls]\ncertificate = 'c'\nkey = 'k'\nclient_ca = 'a'\n"
    tls += "[callers.ci]\ncertificate = 'CN=ci,OU=Build,O=Example'\n"
    pin = PLAIN.fingerprint(hashes.SHA256()).hex()
    made = access(tmp_path, f"{tls}[listen.proxy]\ncaller_header = 'X-A'\ncertificate = 'sha256:{pin}'\n")
    assert replace(made, proxy=None).identify(asking(certificate=PLAIN)).name == "ci"
    with pytest.raises(NotAuthenticated, match="authentication required"):
        made.identify(asking(certificate=PLAIN))


def test_a_proxy_has_two_certificates_while_it_gets_a_new_one(tmp_path: Path) -> None:
    """With either it names callers, and with no other."""
    tls = "[listen.tls]\ncertificate = 'c'\nkey = 'k'\nclient_ca = 'a'\n[callers.ci]\ncertificate = 'CN=ci'\n"
    old, new = "sha256:" + "00" * 32, f"sha256:{PLAIN.fingerprint(hashes.SHA256()).hex()}"
    made = access(tmp_path, f"{tls}[listen.proxy]\ncaller_header = 'X-A'\ncertificate = ['{old}', '{new}']\n")
    assert made.identify(asking({"X-A": "ci"}, PLAIN)).proof == "proxy"
    alone = access(tmp_path, f"{tls}[listen.proxy]\ncaller_header = 'X-A'\ncertificate = ['{old}']\n")
    for certificate in (PLAIN, None):
        with pytest.raises(NotAuthenticated, match="trusted proxy only"):
            alone.identify(asking({"X-A": "ci"}, certificate))


@pytest.mark.parametrize(
    ("host", "address", "allowed"),
    [
        ("192.0.2.7:9999", "192.0.2.7", True),
        ("[2001:DB8:0::7]", "2001:db8::7", True),
        ("127.0.0.1", "::ffff:127.0.0.1", True),
        ("[::ffff:192.0.2.7]", "192.0.2.7", True),
        ("192.0.2.8", "192.0.2.7", False),
        ("192.0.2.7.evil.example", "192.0.2.7", False),
        ("", "192.0.2.7", True),
        (":80", "", False),
        ("a b", "", False),
    ],
)
def test_this_host_may_be_called_by_the_address_where_the_request_arrives(
    host: str, address: str, allowed: bool
) -> None:
    """In any of its forms. A request without the header is of no browser."""
    names = allowed_hosts(Settings())
    if allowed:
        check_host(host, names, address)
        return
    with pytest.raises(NotAllowed, match="does not name this signing host"):
        check_host(host, names, address)


def test_on_the_site_of_another_program_names_are_its_own_to_check() -> None:
    """Unless the settings have some."""
    assert access_of(Settings(), listens=False).allowed_hosts is None
    assert access_of(Settings()).allowed_hosts == frozenset({"localhost", "127.0.0.1", "::1"})
    elsewhere = access_of(Settings(), listens=False).identify(asking({"Host": "any.example"}))
    assert elsewhere.name == "anonymous"
