"""Whether keys fit each other and the description: whose fault it is where they do not, and what to do.

The client names certificates and the number of an SRK, the operator keeps the keys: a number that is another SRK's is
the client's mistake, a certificate below no SRK, or a key that is another certificate's, the operator's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_private_key,
    load_pem_private_key,
)

from digsigd import csf, hab
from digsigd.csf.errors import quoted
from digsigd.csf.members import KEY_PASS, base_of
from digsigd.csf.model import AuthenticateData, Command, InstallCsfk, InstallKey, InstallNocak, InstallSrk
from digsigd.errors import BadTarball, Refused
from digsigd.hab.certificate import Certificate, load_file
from digsigd.hab.chain import ACCEPTED, is_srk, signing_srk
from digsigd.hab.cms import HASHES, verifies
from digsigd.hab.srk import why_not_hab

_SPKI = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


@dataclass(frozen=True, slots=True)
class Tables:
    """The SRK table that a description names, and how to get all others of the machine, each by its name."""

    named: hab.SrkTable
    others: Callable[[], Mapping[str, hab.SrkTable]]


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A certificate and what is to be its private key: the members of the tarball and their contents."""

    certificate_member: str
    certificate: bytes = field(repr=False)
    key_member: str
    key: bytes = field(repr=False)
    phrase: bytes | None = field(repr=False)


def check_fit(description: csf.Description, tables: Tables, certificates: Mapping[str, Certificate]) -> None:
    """Check that the certificates a description names are those of the SRK that it names.

    `certificates` are by the names in the description; of those that are missing nothing is known. Raises `Refused` or
    `BadTarball`.
    """
    install = next(one for one in description.commands if isinstance(one, InstallSrk))
    _check_index(install, tables.named)
    signing = {one.verification_index for one in description.commands if isinstance(one, AuthenticateData)}
    installed: dict[int, Certificate] = {}
    for command in description.commands:
        if not isinstance(command, InstallCsfk | InstallNocak | InstallKey) or command.file not in certificates:
            continue
        certificate = certificates[command.file]
        if isinstance(command, InstallKey):
            before = installed.setdefault(command.target_index, certificate)
            if (before.public_key, before.is_ca) != (certificate.public_key, certificate.is_ca):
                # Names that may be of one certificate were let through: HABv4 API Reference Manual, 4.3.7.
                raise _refused(command, f"another key is installed as {command.target_index} already")
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
                f"{quoted(command.file)} is the certificate of an authority, with the CA flag; HAB takes no signature"
                " by its key",
                hint="name the certificate of a CSF or an IMG key",
            )


def check_keys(pairs: Iterable[KeyPair]) -> None:
    """Check that private keys are those of their certificates, where that can be told. Raises `BadTarball`."""
    for pair in pairs:
        try:
            public = load_file(pair.certificate).public_key
        except hab.FormatError as error:
            raise BadTarball(f"{pair.certificate_member} in the key tarball is {error}") from None
        private = _private(pair)
        if public is not None and private not in {None, public.public_bytes(*_SPKI)}:
            raise BadTarball(
                f"the private key {pair.key_member} in the key tarball is not that of {pair.certificate_member}"
            )


def _private(pair: KeyPair) -> bytes | None:
    """The public half of a private key; None where it is of a kind that only cst may know."""
    load = load_pem_private_key if pair.key_member.endswith(".pem") else load_der_private_key
    # A pass phrase beside a key that is not encrypted is no fault.
    for phrase in (pair.phrase, None) if pair.phrase else (None,):
        try:
            key = load(pair.key, phrase, unsafe_skip_rsa_key_validation=True)
        except UnsupportedAlgorithm:
            return None
        except TypeError:
            continue
        except ValueError:
            raise BadTarball(
                f"the private key {pair.key_member} in the key tarball cannot be read, or its pass phrase is wrong",
                hint=f"that is the first line of {KEY_PASS} in the same folder",
            ) from None
        return key.public_key().public_bytes(*_SPKI)
    raise BadTarball(
        f"the private key {pair.key_member} in the key tarball is encrypted, and there is no pass phrase for it",
        hint=f"that is the first line of {KEY_PASS} in the same folder",
    )


def _check_index(install: InstallSrk, table: hab.SrkTable) -> None:
    count = len(table.records)
    if install.source_index >= count:
        keys = f"{count} keys, so it is 0 to {count - 1}" if count > 1 else "one key, so it is 0"
        raise _refused(install, f"Source index = {install.source_index}: the SRK table has {keys}")
    key = table.records[install.source_index].key
    if key is None:
        raise _refused(
            install,
            f"Source index = {install.source_index}: the table has only a hash of SRK {install.source_index + 1}",
        )
    if why := why_not_hab(key):
        raise BadTarball(f"SRK {install.source_index + 1} in the key tarball is {why}")


def _check_below(command: Command, install: InstallSrk, certificate: Certificate, tables: Tables) -> None:
    """A CSF or IMG certificate."""
    if signing_srk(certificate, tables.named) == install.source_index + 1:
        return
    name = quoted(_file(command))
    found = signing_srk(certificate, tables.named)
    if found is not None:
        raise _wrong_index(command, install, f"the certificate {name} is below SRK {found}", found)
    own = is_srk(certificate, tables.named)
    if own is not None:
        ca = tables.named.records[own - 1].ca
        raise _refused(
            command,
            f"{name} is the certificate of SRK {own} itself, not of a key below it",
            hint="" if ca else "[Install NOCAK] takes it, for fast authentication",
        )
    other = next((one for one, table in tables.others().items() if signing_srk(certificate, table) is not None), None)
    if other is not None:
        raise _refused(
            command,
            f"the certificate {name} is below no SRK of {quoted(install.file)}, but of {quoted(other)}",
            hint="[Install SRK] and the certificates must be of one PKI",
        )
    if certificate.algorithm not in ACCEPTED:
        raise BadTarball(
            f"the certificate {name} is signed with {certificate.algorithm or 'what HAB4 does not have'};"
            f" boards take {', '.join(ACCEPTED)}"
        )
    raise BadTarball(
        f"the certificate {name} is below no SRK of the table {quoted(install.file)}",
        hint="the machine's keys do not fit each other; its operator has to mend that",
    )


def _check_issued(command: InstallKey, certificate: Certificate, issuer: Certificate) -> None:
    """A certificate that an installed key vouches for: HABv4 API Reference Manual, 4.3.7."""
    name, index = quoted(base_of(command.file)), command.verification_index
    if not issuer.is_ca:
        raise _refused(
            command,
            f"{name} is verified by key {index}, whose certificate has no CA flag: it may sign data alone",
            hint="Verification index = 0 is the SRK",
        )
    hashed = HASHES.get(certificate.algorithm)
    signed = (
        hashed is not None
        and issuer.public_key is not None
        and verifies(issuer.public_key, certificate.signature, certificate.tbs, hashed, certificate.kind)
    )
    if not signed:
        raise _refused(
            command,
            f"{name} is verified by key {index}, which has not signed it",
            hint="Verification index names the key that signed the certificate, and 0 the SRK",
        )


def _check_own(command: InstallNocak, install: InstallSrk, certificate: Certificate, tables: Tables) -> None:
    """The certificate of an SRK, for fast authentication."""
    name, found = quoted(command.file), is_srk(certificate, tables.named)
    if found is None:
        below = signing_srk(certificate, tables.named)
        if below is not None:
            raise _refused(
                command,
                f"{name} is the certificate of a key below SRK {below}; [Install NOCAK] takes that of the SRK itself",
            )
        other = next((one for one, table in tables.others().items() if is_srk(certificate, table) is not None), None)
        if other is None:
            raise BadTarball(
                f"the certificate {name} is of no SRK of the table {quoted(install.file)}",
                hint="the machine's keys do not fit each other; its operator has to mend that",
            )
        raise _refused(
            command, f"{name} is the certificate of no SRK of {quoted(install.file)}, but of {quoted(other)}"
        )
    if found != install.source_index + 1:
        raise _wrong_index(command, install, f"{name} is the certificate of SRK {found}", found)
    if tables.named.records[install.source_index].ca:
        raise _refused(
            command,
            f"SRK {found} has the CA flag and may sign only certificates; fast authentication needs one without",
            hint="sign with [Install CSFK] and [Install Key], or with SRKs that were made for fast authentication",
        )


def _wrong_index(command: Command, install: InstallSrk, what: str, found: int) -> Refused:
    index = install.source_index
    return _refused(
        install,
        f"Source index = {index} is SRK {index + 1}, but {what} (line {command.place[0]})",
        hint=f"Source index = {found - 1} fits it, or name a certificate of SRK {index + 1}",
    )


def _refused(command: Command, what: str, *, hint: str = "") -> Refused:
    line = command.place[0]
    return Refused(f"csf: line {line}: {what}", line=line, hint=hint)


def _file(command: Command) -> str:
    return base_of(getattr(command, "file", ""))
