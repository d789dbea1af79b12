"""Check that certificates, SRK table and CSF description match each other.

The client names certificates and an SRK; the operator provides the keys. A certificate of another SRK than the one
named is the client's mistake (`Refused`). A certificate that no SRK has signed is the operator's (`BadTarball`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from digsigd import csf, hab
from digsigd.csf.errors import quoted
from digsigd.csf.members import KEY_PASS, base_of, is_key
from digsigd.csf.model import AuthenticateData, Command, InstallCsfk, InstallKey, InstallNocak, InstallSrk
from digsigd.errors import BadTarball, Refused
from digsigd.hab.certificate import Certificate, load, load_file
from digsigd.hab.chain import ACCEPTED, is_srk, signing_srk
from digsigd.hab.cms import issued
from digsigd.hab.srk import TAG_TABLE, why_not_hab

# The commands that install a certificate's key.
INSTALLS = (InstallCsfk, InstallNocak, InstallKey)


@dataclass(frozen=True, slots=True)
class Tables:
    """The SRK table that a description names, and a function that returns the machine's other tables by name."""

    named: hab.SrkTable
    others: Callable[[], Mapping[str, hab.SrkTable]]


def tables_of(members: Mapping[str, bytes], but: str) -> dict[str, hab.SrkTable]:
    """Return the SRK tables of a tarball except `but`, by name."""
    found = {}
    for name, data in members.items():
        if name != but and data[:1] == bytes([TAG_TABLE]):
            with suppress(hab.HabError):
                found[name] = hab.SrkTable.parse(data)
    return found


def certificate_of(members: Mapping[str, bytes], member: str) -> Certificate:
    """Return a certificate of a tarball. Raises `BadTarball` if it is damaged."""
    try:
        return load_file(members[member])
    except hab.HabError as error:
        raise BadTarball(f"{member} in the key tarball is {error}") from None


def certificates_in(blob: bytes, description: csf.Description) -> dict[str, Certificate]:
    """Return the certificates in a CSF blob by their names in the description. Skip unreadable ones."""
    try:
        parsed = hab.CsfBlob.parse(blob)
    except hab.HabError:
        return {}
    named = [one.file for one in description.commands if isinstance(one, INSTALLS)]
    certificates: dict[str, Certificate] = {}
    for name, der in zip(named, parsed.certificates(), strict=False):
        with suppress(hab.HabError):
            certificates[name] = load(der)
    return certificates


def check_fit(description: csf.Description, tables: Tables, certificates: Mapping[str, Certificate]) -> None:
    """Check that the certificates a description names belong to the SRK that it names.

    `certificates` maps names in the description to certificates. Names that are missing are not checked. Raises
    `Refused` or `BadTarball`.
    """
    install = next(one for one in description.commands if isinstance(one, InstallSrk))
    _check_index(install, tables.named)
    signing = {one.verification_index for one in description.commands if isinstance(one, AuthenticateData)}
    installed: dict[int, Certificate] = {}
    for command in description.commands:
        if not isinstance(command, INSTALLS) or command.file not in certificates:
            continue
        certificate = certificates[command.file]
        if isinstance(command, InstallKey):
            before = installed.setdefault(command.target_index, certificate)
            if (before.public_key, before.is_ca) != (certificate.public_key, certificate.is_ca):
                # Two names for the same certificate are allowed: HABv4 API Reference Manual, 4.3.7.
                raise _refused(command, f"another key is already installed as key {command.target_index}")
        if isinstance(command, InstallNocak):
            _check_own(command, install, certificate, tables)
        elif isinstance(command, InstallCsfk) or command.verification_index == 0:
            _check_below(command, install, certificate, tables)
        elif command.verification_index in installed:
            _check_issued(command, certificate, installed[command.verification_index])
        if certificate.is_ca and (
            isinstance(command, InstallCsfk) or (isinstance(command, InstallKey) and command.target_index in signing)
        ):
            raise _refused(
                command,
                f"{quoted(command.file)} is a CA certificate; HAB does not accept data signatures made with its key",
                hint="name the certificate of a CSF or IMG key",
            )


def srk_notes(description: csf.Description, certificates: Mapping[str, Certificate]) -> list[str]:
    """Return remarks on the certificate for fast authentication, which is not in the CSF blob."""
    return [
        note
        for one in description.commands
        if isinstance(one, InstallNocak) and one.file in certificates
        for note in hab.notes_on(certificates[one.file], "the certificate of the SRK", datetime.now(UTC))
    ]


def check_key_is_elsewhere(certificate_member: str, members: Mapping[str, bytes]) -> None:
    """Check that a certificate's private key may be missing in a tarball.

    Keys of SRKs with the CA flag are kept offline, and a tarball without any private keys is for keys on a token: then
    the client has named the wrong certificate or backend. Raises `BadTarball` otherwise.
    """
    if not any(is_key(name) and base_of(name) != KEY_PASS for name in members):
        return
    try:
        is_ca = load_file(members[certificate_member]).is_ca
    except hab.FormatError as error:
        raise BadTarball(f"{certificate_member} in the key tarball is {error}") from None
    if not is_ca:
        raise BadTarball(
            f"the key tarball has no private key for {certificate_member}",
            hint="the operator of the signing host must add it to the machine's key tarball",
        )


def _check_index(install: InstallSrk, table: hab.SrkTable) -> None:
    count = len(table.records)
    if install.source_index >= count:
        keys = f"{count} keys, so use 0 to {count - 1}" if count > 1 else "one key, so use 0"
        raise _refused(install, f"Source index = {install.source_index}: the SRK table has {keys}")
    key = table.records[install.source_index].key
    if key is None:
        raise _refused(
            install,
            f"Source index = {install.source_index}: the SRK table has only a hash of SRK {install.source_index + 1}",
        )
    if why := why_not_hab(key):
        raise BadTarball(f"SRK {install.source_index + 1} in the key tarball is {why}")


def _check_below(command: Command, install: InstallSrk, certificate: Certificate, tables: Tables) -> None:
    """Check that a CSF or IMG certificate is signed by the named SRK."""
    if signing_srk(certificate, tables.named) == install.source_index + 1:
        return
    name = quoted(_file(command))
    found = signing_srk(certificate, tables.named)
    if found is not None:
        raise _wrong_index(command, install, f"the certificate {name} is signed by SRK {found}", found)
    own = is_srk(certificate, tables.named)
    if own is not None:
        ca = tables.named.records[own - 1].ca
        raise _refused(
            command,
            f"{name} is the certificate of SRK {own} itself, not one signed by it",
            hint="" if ca else "for fast authentication, name it in [Install NOCAK]",
        )
    other = next((one for one, table in tables.others().items() if signing_srk(certificate, table) is not None), None)
    if other is not None:
        raise _refused(
            command,
            f"the certificate {name} is not signed by an SRK of {quoted(install.file)}, but by one of {quoted(other)}",
            hint="name an SRK table and certificates of the same PKI",
        )
    if certificate.algorithm not in ACCEPTED:
        raise BadTarball(
            f"the certificate {name} is signed with {certificate.algorithm or 'an algorithm that HAB4 does not have'};"
            f" boards accept {', '.join(ACCEPTED)}"
        )
    raise BadTarball(
        f"the certificate {name} is not signed by an SRK of the table {quoted(install.file)}",
        hint="the operator of the signing host must correct the machine's key tarball",
    )


def _check_issued(command: InstallKey, certificate: Certificate, issuer: Certificate) -> None:
    """Check a certificate that is verified with an installed key: HABv4 API Reference Manual, 4.3.7."""
    name, index = quoted(base_of(command.file)), command.verification_index
    if not issuer.is_ca:
        raise _refused(
            command,
            f"{name} is verified with key {index}, whose certificate has no CA flag: the key can sign only data",
            hint="use Verification index = 0, which is the SRK",
        )
    if issuer.public_key is None or not issued(certificate, issuer.public_key):
        raise _refused(
            command,
            f"{name} is verified with key {index}, which did not sign it",
            hint="set Verification index to the key that signed the certificate; 0 is the SRK",
        )


def _check_own(command: InstallNocak, install: InstallSrk, certificate: Certificate, tables: Tables) -> None:
    """Check the certificate for fast authentication, which must be that of the named SRK."""
    name, found = quoted(command.file), is_srk(certificate, tables.named)
    if found is None:
        below = signing_srk(certificate, tables.named)
        if below is not None:
            raise _refused(
                command,
                f"{name} is a certificate signed by SRK {below}; [Install NOCAK] needs that of the SRK itself",
            )
        other = next((one for one, table in tables.others().items() if is_srk(certificate, table) is not None), None)
        if other is None:
            raise BadTarball(
                f"the certificate {name} is not that of an SRK of the table {quoted(install.file)}",
                hint="the operator of the signing host must correct the machine's key tarball",
            )
        raise _refused(
            command, f"{name} is not the certificate of an SRK of {quoted(install.file)}, but of {quoted(other)}"
        )
    if found != install.source_index + 1:
        raise _wrong_index(command, install, f"{name} is the certificate of SRK {found}", found)
    if tables.named.records[install.source_index].ca:
        raise _refused(
            command,
            f"SRK {found} has the CA flag and can sign only certificates; fast authentication needs an SRK without it",
            hint="use [Install CSFK] and [Install Key], or SRKs made for fast authentication",
        )


def _wrong_index(command: Command, install: InstallSrk, what: str, found: int) -> Refused:
    index = install.source_index
    return _refused(
        install,
        f"Source index = {index} is SRK {index + 1}, but {what} (line {command.place[0]})",
        hint=f"use Source index = {found - 1}, or name a certificate of SRK {index + 1}",
    )


def _refused(command: Command, what: str, *, hint: str = "") -> Refused:
    line = command.place[0]
    return Refused(f"csf: line {line}: {what}", line=line, hint=hint)


def _file(command: Command) -> str:
    return base_of(getattr(command, "file", ""))
