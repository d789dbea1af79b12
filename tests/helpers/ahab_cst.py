"""The real cst with AHAB descriptions and the keys of `ahab_forge`."""

from __future__ import annotations

import base64
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from cryptography.hazmat.primitives import serialization

from digsigd import ahab
from digsigd.hab.der import elements
from tests.helpers.ahab_forge import (
    PSS_OID,
    Forged,
    Kind,
    certificate_of,
    forge,
    private_key,
    table_of,
    written_der,
)
from tests.helpers.blobs import Signing

# The number of a key that a certificate is for.
SGK = 5


def pem(label: str, der: bytes) -> bytes:
    """DER in PEM."""
    text = base64.encodebytes(der).decode()
    return f"-----BEGIN {label}-----\n{text}-----END {label}-----\n".encode()


def key_pem(kind: Kind, number: int) -> bytes:
    """A private key as cst reads it; RSA-PSS has an identifier of its own: RFC 8017, A.2.3."""
    der = private_key(kind, number).private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    if kind.startswith("pss"):
        version, _, key = (one.whole for one in elements(elements(der)[0].content))
        der = written_der(0x30, version + written_der(0x30, PSS_OID) + key)
    return pem("PRIVATE KEY", der)


def files_of(kind: Kind, *, version: int = 0, sgk: Kind | None = None) -> dict[str, bytes]:
    """The keys, certificates and the table of a machine, in the layout of NXP's scripts."""
    files = {"keys/key_pass.txt": b"test\ntest\n", "crts/table.bin": table_of(kind, version=version, ca=bool(sgk))}
    for number in range(4):
        files[f"crts/SRK{number + 1}_crt.pem"] = pem("CERTIFICATE", certificate_of(kind, number, ca=bool(sgk)))
        files[f"keys/SRK{number + 1}_key.pem"] = key_pem(kind, number)
    if sgk:
        files["crts/SGK1_crt.pem"] = pem("CERTIFICATE", certificate_of(sgk, SGK))
        files["keys/SGK1_key.pem"] = key_pem(sgk, SGK)
    return files


def description(
    *offsets: str,
    version: str = "1.0",
    source: int = 1,
    index: int = 0,
    source_set: str = "OEM",
    revocations: str = "0x0",
    sgk: bool = False,
    permissions: str = "0x1",
    file: str = "flash.bin",
) -> str:
    """A description with these `Offsets`."""
    text = f"""\
[Header]
    Target = AHAB
    Version = {version}
[Install SRK]
    File = "crts/table.bin"
    Source = "crts/SRK{source}_crt.pem"
    Source index = {index}
    Source set = {source_set}
    Revocations = {revocations}
"""
    if sgk:
        text += f"""\
[Install Certificate]
    File = "crts/SGK1_crt.pem"
    Permissions = {permissions}
"""
    return text + f'[Authenticate Data]\n    File = "{file}"\n' + "".join(f"    Offsets = {one}\n" for one in offsets)


def run_cst(signing: Signing, cst: str, files: Mapping[str, bytes], text: str) -> bytes:
    """Return what cst writes for this description. It must end with 0."""
    folder = signing.folder({**files, "description.csf": text.encode()})
    command = [str(signing.tool(cst)), "-i", "description.csf", "-o", "signed.bin"]
    done = subprocess.run(command, cwd=folder, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return (folder / "signed.bin").read_bytes()


def signed_by_cst(
    signing: Signing,
    cst: str,
    kind: Kind,
    *,
    version: int = 0,
    number: int = 0,
    sgk: Kind | None = None,
    images: Sequence[ahab.ContainerImage] | None = None,
    alone: bool | None = None,
) -> Forged:
    """The file of `forge`, signed by the real cst; large blocks only without a container behind them."""
    made = forge("p256", version=version, images=images, alone=bool(alone))
    container = ahab.read_header(made.unsigned, made.offset)
    files = {**files_of(kind, version=version, sgk=sgk), "flash.bin": made.unsigned}
    text = description(
        f"{made.offset:#x} {made.offset + container.block_offset:#x}",
        version="2.0" if version == 2 else "1.0", source=number + 1, index=number, sgk=sgk is not None,
    )  # fmt: skip
    data = run_cst(signing, cst, files, text)
    return Forged(data, made.offset, files["crts/table.bin"], made.unsigned)


def second_opinion(signing: Signing, folder: Path, data: bytes, offset: int) -> str:
    """What cst 4.0.1's ahab_image_verifier says of a container: "good", or the first line with what failed.

    It always ends with 0.
    """
    (folder / "signed.bin").write_bytes(data)
    tool = signing.tool("4.0.1", "ahab_image_verifier")
    assert tool.is_file(), f"{tool} is missing: `make test` gets it, or `etc/get-cst --base BASE 4.0.1`"
    done = subprocess.run(
        [tool, "signed.bin", f"{offset:#x}"], cwd=folder, capture_output=True, text=True, errors="replace", timeout=60
    )
    text = done.stdout + done.stderr
    if failed := re.search(r"^.*(?:fail|error|invalid|mismatch|not match).*$", text, re.IGNORECASE | re.MULTILINE):
        return failed[0].strip()
    assert "Signature verification successful" in text, text
    return "good"
