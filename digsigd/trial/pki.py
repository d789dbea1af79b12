"""A HAB4 public key infrastructure in the layout of NXP's scripts: a CA, SRKs, CSF and IMG keys, and the SRK table.

The layout is that of the CST User Guide, "Generating HAB4 Keys and Certificates".
"""

from __future__ import annotations

import datetime
import io
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from digsigd.hab.srk import SrkTable, build_srk_table

KeyKind: TypeAlias = Literal["rsa2048", "rsa3072", "rsa4096", "p256", "p384", "p521"]
_Key: TypeAlias = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
_CURVES: dict[str, type[ec.SECP256R1 | ec.SECP384R1 | ec.SECP521R1]] = {
    "p256": ec.SECP256R1,
    "p384": ec.SECP384R1,
    "p521": ec.SECP521R1,
}
_PASS_PHRASE = "trial-pass-phrase"  # noqa: S105 - protects nothing


def _generate(kind: KeyKind) -> _Key:
    if kind in _CURVES:
        return ec.generate_private_key(_CURVES[kind]())
    return rsa.generate_private_key(65537, int(kind.removeprefix("rsa")))


def _label(kind: KeyKind) -> str:
    """The part of a file name that tells the key's kind, as NXP's scripts have it."""
    if kind in _CURVES:
        return f"sha256_{_CURVES[kind]().name}_v3"
    return f"sha256_{kind.removeprefix('rsa')}_65537_v3"


def _issue(
    name: str, key: _Key, issuer: tuple[x509.Name, _Key] | None, *, ca: bool, valid_days: int
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    issuer_name, issuer_key = issuer or (subject, key)
    today = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    end = today + datetime.timedelta(days=valid_days)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer_name)
        .public_key(key.public_key())
        # HAB4 compares serial numbers of four bytes; NXP's scripts count up from 0x12345678.
        .serial_number(x509.random_serial_number() >> 130)
        .not_valid_before(min(today, end) - datetime.timedelta(days=1))
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=ca)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )
    return builder.sign(issuer_key, hashes.SHA256())


@dataclass(frozen=True)
class TrialPki:
    """Key and certificate files by the name they have in the key tarball, and what was made of them.

    `srks` counts the SRKs; each SRK number N from 1 has `crts/CSFN_1_..._crt.pem` and `crts/IMGN_1_..._crt.pem`
    (with `fast_auth` only the SRKs themselves, which then sign directly). No repr shows a key.
    """

    files: dict[str, bytes] = field(repr=False)
    kind: KeyKind
    fast_auth: bool
    srk_table: bytes = field(repr=False)

    @classmethod
    def make(
        cls,
        kind: KeyKind = "rsa2048",
        *,
        fast_auth: bool = False,
        srks: int = 4,
        encoding: Literal["pem", "der"] = "pem",
        encrypted: bool = True,
        valid_days: int = 3650,
    ) -> TrialPki:
        """Generate everything anew. A negative `valid_days` makes certificates that expired that long ago."""
        files: dict[str, bytes] = {}

        def add(name: str, key: _Key, certificate: x509.Certificate) -> None:
            form = serialization.Encoding.PEM if encoding == "pem" else serialization.Encoding.DER
            # The older PEM form is quick to decrypt, as keys of NXP's scripts are; DER is encrypted in PKCS #8 only.
            older = encrypted and encoding == "pem"
            files[f"keys/{name}_key.{encoding}"] = key.private_bytes(
                form,
                serialization.PrivateFormat.TraditionalOpenSSL if older else serialization.PrivateFormat.PKCS8,
                serialization.BestAvailableEncryption(_PASS_PHRASE.encode())
                if encrypted
                else serialization.NoEncryption(),
            )
            files[f"crts/{name}_crt.{encoding}"] = certificate.public_bytes(form)

        label = _label(kind)
        ca_key = _generate("p256" if kind in _CURVES else "rsa2048")
        ca = _issue("CA1_trial", ca_key, None, ca=True, valid_days=valid_days)
        tables: list[x509.Certificate] = []
        for number in range(1, srks + 1):
            srk_key = _generate(kind)
            srk_name = f"SRK{number}_{label}_{'usr' if fast_auth else 'ca'}"
            srk = _issue(srk_name, srk_key, (ca.subject, ca_key), ca=not fast_auth, valid_days=valid_days)
            add(srk_name, srk_key, srk)
            tables.append(srk)
            if fast_auth:
                continue
            for role in ("CSF", "IMG"):
                key = _generate(kind)
                name = f"{role}{number}_1_{label}_usr"
                add(name, key, _issue(name, key, (srk.subject, srk_key), ca=False, valid_days=valid_days))
        table = build_srk_table(tables)
        files[cls._table_name(srks)] = table
        if encrypted:
            files["keys/key_pass.txt"] = f"{_PASS_PHRASE}\n{_PASS_PHRASE}\n".encode()
        return cls(files, kind, fast_auth, table)

    @staticmethod
    def _table_name(srks: int) -> str:
        return f"crts/SRK_{'_'.join(str(number) for number in range(1, srks + 1))}_table.bin"

    @property
    def pass_phrase(self) -> str:
        """What the private keys are encrypted with."""
        return _PASS_PHRASE

    @property
    def fuse_value(self) -> bytes:
        """The 32 bytes that a board with these keys has in its SRK fuses."""
        return SrkTable.parse(self.srk_table).fuse_value

    def certificate(self, role: Literal["SRK", "CSF", "IMG"], srk: int = 1) -> str:
        """The name of a certificate of SRK number `srk` in the tarball."""
        start = f"crts/{role}{srk}_"
        return next(name for name in self.files if name.startswith(start) and "_crt." in name)

    def table(self) -> str:
        """The name of the SRK table in the tarball."""
        return next(name for name in self.files if name.endswith("_table.bin"))

    def tarball(
        self, *, top: str = "", flat: bool = False, extra: Sequence[tuple[tarfile.TarInfo, bytes]] = ()
    ) -> bytes:
        """The key tarball, gzip-compressed: `top` goes before every name, `flat` drops the folders."""
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w:gz", compresslevel=1) as tar:
            for name, content in self.files.items():
                info = tarfile.TarInfo(top + (name.rpartition("/")[2] if flat else name))
                info.size = len(content)
                info.mode = 0o600
                tar.addfile(info, io.BytesIO(content))
            for info, content in extra:
                tar.addfile(info, io.BytesIO(content))
        return stream.getvalue()

    def csf(
        self, *blocks: str, srk: int = 1, image_srk: int | None = None, unlock: bool = True, prefix: str = ""
    ) -> str:
        """A CSF description as builds write it, one `[Authenticate Data]` over all `blocks`.

        `prefix` goes before every file name. `image_srk` takes the IMG certificate from below another SRK.
        """
        head = [
            "[Header]",
            "    Version = 4.3",
            "    Hash Algorithm = sha256",
            "    Engine = CAAM",
            "    Engine Configuration = 0",
            "    Certificate Format = X509",
            "    Signature Format = CMS",
            "",
            "[Install SRK]",
            f'    File = "{prefix}{self.table()}"',
            f"    Source index = {srk - 1}",
            "",
        ]
        if self.fast_auth:
            keys = ["[Install NOCAK]", f'    File = "{prefix}{self.certificate("SRK", srk)}"', ""]
        else:
            keys = ["[Install CSFK]", f'    File = "{prefix}{self.certificate("CSF", srk)}"', ""]
        keys += ["[Authenticate CSF]", ""]
        if unlock:
            keys += ["[Unlock]", "    Engine = CAAM", "    Features = MID", ""]
        index = 0
        if not self.fast_auth:
            index = 2
            keys += [
                "[Install Key]",
                "    Verification index = 0",
                "    Target index = 2",
                f'    File = "{prefix}{self.certificate("IMG", image_srk or srk)}"',
                "",
            ]
        data = ["[Authenticate Data]", f"    Verification index = {index}"]
        data.append("    Blocks = " + ", \\\n             ".join(blocks))
        return "\n".join([*head, *keys, *data]) + "\n"
