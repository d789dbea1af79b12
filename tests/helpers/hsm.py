"""Keys in a real PKCS#11 token: SoftHSM2 in a folder, filled by the tools that people fill tokens with."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
import tempfile
from hashlib import sha256
from pathlib import Path
from typing import Literal
from urllib.parse import quote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from digsigd.testing import TrialPki

_TIMEOUT = 60.0
_SO_PIN = "98765432"
# Debian has it in the first place; the others are those of other distributions.
_MODULES = (
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
    "/usr/lib64/softhsm/libsofthsm2.so",
    "/usr/local/lib/softhsm/libsofthsm2.so",
)


def provider(cst_base: Path) -> Path:
    """OpenSSL's pkcs11 provider, which cst 4 needs. A missing one fails, it never skips."""
    path = cst_base / "pkcs11-provider/pkcs11.so"
    if not path.is_file():
        pytest.fail(f"{path} is missing: `make test` gets it, or `etc/get-cst --base {cst_base} --provider`")
    return path


def label(certificate: str) -> str:
    """The label in a token of a certificate of a key tarball, and of its key: the file's name without the ending."""
    return certificate.rpartition("/")[2].partition("_crt.")[0]


def _roles(pki: TrialPki) -> tuple[Literal["SRK", "CSF", "IMG"], ...]:
    return ("SRK",) if pki.fast_auth else ("CSF", "IMG")


class SoftHsm:
    """Tokens below `folder`, found by whoever has `environ`. Any number of tokens, each with its own PIN."""

    MODULE: str = next((path for path in _MODULES if Path(path).exists()), _MODULES[0])

    def __init__(self, folder: Path) -> None:
        if not Path(self.MODULE).exists():
            pytest.fail(f"{self.MODULE} is missing: `make test` installs it, or `etc/need softhsm2=softhsm2-util`")
        tokens = folder / "tokens"
        tokens.mkdir(mode=0o700, parents=True)
        # What a module in the cage has to be allowed to read.
        self.folder = folder
        self.conf = folder / "softhsm2.conf"
        self.conf.write_text(
            f"directories.tokendir = {tokens}\nobjectstore.backend = file\nlog.level = ERROR\n", encoding="utf-8"
        )

    @property
    def environ(self) -> dict[str, str]:
        """What tells the module, and so cst, where the tokens are."""
        return {"SOFTHSM2_CONF": str(self.conf)}

    def init_token(self, name: str, pin: str) -> None:
        """Make an empty token."""
        self._run("softhsm2-util", "--init-token", "--free", "--label", name, "--pin", pin, "--so-pin", _SO_PIN)

    def put(
        self,
        token: str,
        pin: str,
        label: str,
        *,
        id: str,  # noqa: A002 - PKCS#11's name for it
        key_pem: bytes | None = None,
        key_password: bytes | None = None,
        certificate: bytes | None = None,
    ) -> None:
        """Put a key, a certificate or both into a token, under one label and one `id` (hexadecimal digits).

        Key and certificate are PEM or DER. The key is in the clear in a private file for as long as the import takes.
        """
        with tempfile.TemporaryDirectory(dir=self.conf.parent) as folder:
            if key_pem is not None:
                path = Path(folder) / "key.p8"
                path.write_bytes(_plain(key_pem, key_password))
                self._run(
                    "softhsm2-util", "--import", path, "--token", token, "--pin", pin, "--label", label, "--id", id
                )  # fmt: skip
            if certificate is not None:
                path = Path(folder) / "certificate.der"
                path.write_bytes(_load_certificate(certificate).public_bytes(serialization.Encoding.DER))
                self._run(
                    "pkcs11-tool", "--module", self.MODULE, "--token-label", token, "--login", "--pin", pin,
                    "--write-object", path, "--type", "cert", "--label", label, "--id", id,
                )  # fmt: skip

    def put_pki(self, token: str, pin: str, pki: TrialPki, srk: int = 1) -> None:
        """Put what signs below SRK number `srk` into a token: the CSF and the IMG key, or with fast_auth the SRK.

        Each is under its `label`, with its certificate. Ids are made of the certificates, so that none is there twice.
        """
        for role in _roles(pki):
            name = pki.certificate(role, srk)
            certificate = pki.files[name]
            key = name.replace("crts/", "keys/").replace("_crt.", "_key.")
            encrypted = "keys/key_pass.txt" in pki.files
            self.put(
                token,
                pin,
                label(name),
                id=sha256(certificate).hexdigest()[:16],
                key_pem=pki.files[key],
                key_password=pki.pass_phrase.encode() if encrypted else None,
                certificate=certificate,
            )

    def csf(self, pki: TrialPki, token: str, *blocks: str, srk: int = 1, unlock: bool = True) -> str:
        """The PKI's CSF description with the certificates in a token; the SRK table stays the file that it is."""
        text = pki.csf(*blocks, srk=srk, unlock=unlock)
        for role in _roles(pki):
            name = pki.certificate(role, srk)
            uri = f"pkcs11:token={quote(token, safe='')};object={quote(label(name), safe='')};type=cert"
            text = text.replace(f'"{name}"', f'"{uri}"')
        return text

    def srk_tarball(self, pki: TrialPki) -> bytes:
        """The key tarball of a machine whose keys are in a token: the SRK table and nothing else."""
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w:gz", compresslevel=1) as tar:
            info = tarfile.TarInfo(pki.table())
            info.size = len(pki.srk_table)
            info.mode = 0o600
            tar.addfile(info, io.BytesIO(pki.srk_table))
        return stream.getvalue()

    def _run(self, *command: str | Path) -> None:
        done = subprocess.run(
            command,
            env={"PATH": os.environ["PATH"], "LC_ALL": "C", **self.environ},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=_TIMEOUT,
            check=False,
        )
        assert done.returncode == 0, f"{command[0]} {command[1]}: {done.stdout}"


def _plain(key: bytes, password: bytes | None) -> bytes:
    """The key as softhsm2-util reads it: PKCS #8 in PEM, not encrypted."""
    load = serialization.load_pem_private_key if key.startswith(b"-----") else serialization.load_der_private_key
    return load(key, password).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _load_certificate(data: bytes) -> x509.Certificate:
    return x509.load_pem_x509_certificate(data) if data.startswith(b"-----") else x509.load_der_x509_certificate(data)
