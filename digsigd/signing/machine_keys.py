"""The public facts of a machine's keys, for callers who may sign for it: SRK tables, fuse values, certificates.

Nothing here is secret, and files with secrets are not even named: only tarball members that parse as an SRK table or a
certificate are included.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from digsigd import hab
from digsigd.csf.members import CERTIFICATE, Members
from digsigd.errors import BadTarball
from digsigd.hab.certificate import Certificate, load_file
from digsigd.hab.chain import is_srk, signing_srk
from digsigd.keys import KeyStore, KeyTarball
from digsigd.signing.ahab_tables import Belongs, NamedAhabTable, ahab_tables, belonging
from digsigd.signing.pkcs11 import Tokens
from digsigd.signing.rules import MachineRules
from digsigd.signing.threads import InThread
from digsigd.signing.tools import CstTools

# A machine has one table and nine certificates, perhaps some older ones too. More than this are left out.
MAX_TABLES = 8
MAX_CERTIFICATES = 64
# A certificate with a key of 4096 bits has 2 KiB. The size field of an SRK table has 16 bits.
MAX_MEMBER = (64 << 10) - 1
# The facts of this many tarballs are kept. They take some 10 KiB each, and up to 100 ms of CPU time to compute.
_KEPT = 16
_CURVES = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}
_Table = TypeVar("_Table", "NamedTable", NamedAhabTable)
# How long a list of cst versions is kept, in seconds.
_VERSIONS_FOR = 5.0


@dataclass(frozen=True, slots=True)
class NamedTable:
    """An SRK table, and the name of its file in the tarball."""

    name: str
    table: hab.SrkTable


@dataclass(frozen=True, slots=True)
class NamedCertificate:
    """A certificate, and the name of its file in the tarball.

    `sha256` is the hash of its DER. `srk` is the number, from 1, of the SRK that signed the certificate or, with
    `is_srk`, whose certificate it is; None if there is no such SRK in the first table for HAB and in those for AHAB.
    `tables` are the names of the tables in which it has this number. `subject` is the common name, or the whole name
    without one. `key` names the kind of its key, empty if it is neither RSA nor ECDSA.
    """

    name: str
    sha256: bytes
    subject: str
    srk: int | None
    is_srk: bool
    not_after: datetime
    key: str = ""
    tables: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MachineKeys:
    """The public facts of a key tarball, in the order of names. `sha256` is the hash of the tarball, in hex.

    `tables` are those for HAB, `ahab_tables` those for AHAB; a tarball has at least one of them. `soc` is the chip that
    the operator says the machine has, if any.
    """

    sha256: str
    tables: tuple[NamedTable, ...] = field(repr=False)
    certificates: tuple[NamedCertificate, ...] = field(repr=False)
    ahab_tables: tuple[NamedAhabTable, ...] = field(default=(), repr=False)
    soc: str | None = None

    @property
    def fuse_values(self) -> tuple[str, ...]:
        """The fuse values of the tables, in hex, without duplicates; for AHAB those of the chip, or that chips have."""
        found = [one.table.fuse_value for one in self.tables]
        found += [value for one in self.ahab_tables for value in one.fuse_values_of(self.soc)]
        return tuple(dict.fromkeys(value.hex() for value in found))

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of the keys, without duplicates: "RSA 4096", "ECDSA P-384", "RSA-PSS 2048"."""
        names = {one.name for one in self.ahab_tables}
        kinds = [kind for one in self.ahab_tables for kind in one.keys]
        # A certificate does not say whether its RSA key is for PSS; the table of its SRK does.
        kinds += [one.key for one in self.certificates if one.key and not (one.is_srk and names & {*one.tables})]
        return tuple(dict.fromkeys(kinds))


def read_facts(tarball: KeyTarball, machine: str, fuse_value: bytes | None, *, soc: str | None = None) -> MachineKeys:
    """Return the public facts of a machine's tarball. With a pinned fuse value, only tables with that value count.

    Blocks, usually for milliseconds. Raises `BadTarball` if there is no SRK table, or none with the pinned value.
    """
    others: list[str] = []

    def chosen(found: Iterable[_Table]) -> tuple[_Table, ...]:
        """Return the first tables with the pinned value, each once, and note the values of others."""
        kept: dict[bytes, _Table] = {}
        seen: set[bytes] = set()
        for one in found:
            data, values = _identity(one)
            if data in seen:
                continue
            seen.add(data)
            if fuse_value is None or fuse_value in values:
                kept[data] = one
            else:
                alike = next((value for value in values if len(value) == len(fuse_value)), values[0]).hex()
                if alike not in others and len(others) < MAX_TABLES:
                    others.append(alike)
            if len(kept) == MAX_TABLES:
                break
        return tuple(kept.values())

    files = [(name, data) for name, data in sorted(tarball.members.items()) if _may_be_table(name, data)]
    tables, of_ahab = chosen(_tables(files)), chosen(ahab_tables(files))
    if fuse_value is not None and others and not (tables or of_ahab):
        # Signing gives the same error.
        raise BadTarball(
            f"the SRK table in the key tarball has the fuse value {' or '.join(others)}, but machine {machine!r} has"
            f" {fuse_value.hex()}",
            hint="its boards would refuse images signed with it; check the key tarball and the pinned value",
        )
    if not (tables or of_ahab):
        raise BadTarball("the key tarball has no readable SRK table")
    certificates = list(_certificates(tarball))
    places = belonging([one for _, one in certificates], of_ahab) if of_ahab else [None] * len(certificates)
    described = [
        _described(name, certificate, tables[0] if tables else None, place)
        for (name, certificate), place in zip(certificates, places, strict=True)
    ]
    return MachineKeys(tarball.sha256, tables, tuple(described), of_ahab, soc)


def _described(
    name: str, certificate: Certificate, table: NamedTable | None, of_ahab: Belongs | None
) -> NamedCertificate:
    """Return a certificate with the SRK that it belongs to in the table for HAB, else in those for AHAB."""
    place = _place_in(certificate, table) if table is not None else None
    if place is not None and of_ahab is not None and (place.srk, place.is_srk) == (of_ahab.srk, of_ahab.is_srk):
        place = Belongs(place.srk, place.is_srk, (*place.tables, *of_ahab.tables))
    place = place or of_ahab
    return NamedCertificate(
        name,
        hashlib.sha256(certificate.der).digest(),
        certificate.name,
        place.srk if place is not None else None,
        place is not None and place.is_srk,
        certificate.not_after,
        _kind_of(certificate),
        place.tables if place is not None else (),
    )


def _place_in(certificate: Certificate, table: NamedTable) -> Belongs | None:
    if (own := is_srk(certificate, table.table)) is not None:
        return Belongs(own, True, (table.name,))
    signer = signing_srk(certificate, table.table)
    return Belongs(signer, False, (table.name,)) if signer is not None else None


def _identity(one: NamedTable | NamedAhabTable) -> tuple[bytes, tuple[bytes, ...]]:
    """Return the bytes of a table, and the fuse values that it can have."""
    if isinstance(one, NamedTable):
        return one.table.data, (one.table.fuse_value,)
    return one.table.raw, one.fuse_values


def _may_be_table(name: str, data: bytes) -> bool:
    return name.endswith(".bin") and len(data) <= MAX_MEMBER


def _tables(files: Iterable[tuple[str, bytes]]) -> Iterator[NamedTable]:
    for name, data in files:
        try:
            yield NamedTable(name, hab.SrkTable.parse(data))
        except hab.HabError:
            continue  # a fuse file, for example


def _certificates(tarball: KeyTarball) -> Iterator[tuple[str, Certificate]]:
    """Yield each certificate once, with the file name that is best for signing: a PEM file with its key present.

    NXP's scripts make each file as PEM and as DER, but cst 3.4.1 cannot open a DER key that is not encrypted.
    """
    members = Members(tarball.members)
    names = [one for one in tarball.members if CERTIFICATE.fullmatch(one)]
    best: dict[bytes, tuple[str, Certificate]] = {}
    seen: set[bytes] = set()
    for name in sorted(names, key=lambda one: (members.rank(one)[0], one.endswith(".der"), one)):
        data = tarball.members[name]
        if len(data) <= MAX_MEMBER and data not in seen and len(best) < MAX_CERTIFICATES:
            seen.add(data)
            try:
                certificate = load_file(data)
            except hab.HabError:
                continue
            best.setdefault(certificate.der, (name, certificate))
    yield from sorted(best.values(), key=lambda one: one[0])


def _kind_of(certificate: Certificate) -> str:
    match certificate.public_key:
        case rsa.RSAPublicKey() as key:
            return f"RSA {key.key_size}"
        case ec.EllipticCurvePublicKey() as key:
            return f"ECDSA {_CURVES.get(key.curve.name, key.curve.name)}"
        case _:
            return ""


class MachineKeyReader:
    """Reads the public facts of machines from the current state of the key store."""

    log = Logger()

    def __init__(
        self,
        *,
        keys: KeyStore,
        rules: Callable[[str], MachineRules],
        tokens: Tokens,
        tools: CstTools,
        in_thread: InThread,
        clock: IReactorTime,
    ) -> None:
        """Set up the reader. `rules` returns the current rules of a machine."""
        self._keys = keys
        self._rules = rules
        self._tokens = tokens
        self._tools = tools
        self._in_thread = in_thread
        self._clock = clock
        # The oldest first. They depend only on the key: tarball, machine, pinned value and chip.
        self._facts: dict[tuple[str, str, bytes | None, str | None], MachineKeys] = {}
        self._versions: tuple[str, ...] = ()
        self._versions_until = float("-inf")

    async def facts(self, machine: str, **log_fields: str) -> MachineKeys:
        """Return the public facts of a machine's keys. `log_fields` are those of the request.

        Raises `NoKeys`, `KeyStoreFailed`, `KeyStoreTimeout` or `BadTarball`.
        """
        rules = self._rules(machine)
        keys = await self._keys.get(machine, sha256=rules.keys_sha256)
        self.log.info(
            "keys of {machine} {how} from {origin} in {seconds:.3f} s",
            **log_fields, event="keys", machine=machine, how=keys.how, origin=keys.origin,
            seconds=keys.seconds,
        )  # fmt: skip
        pinned, soc = rules.fuse_value, rules.soc
        key = (keys.tarball.sha256, machine, pinned, soc)
        facts = self._facts.get(key)
        if facts is None:
            facts = self._facts[key] = await self._in_thread(read_facts, keys.tarball, machine, pinned, soc=soc)
            while len(self._facts) > _KEPT:
                del self._facts[next(iter(self._facts))]
        return facts

    def soc(self, machine: str) -> str | None:
        """Return the chip of a machine's boards, as the operator says it now; None if nobody does."""
        return self._rules(machine).soc

    async def versions(self) -> tuple[str, ...]:
        """Return the cst versions of this host. The list is up to 5 seconds old."""
        if self._clock.seconds() >= self._versions_until:
            tools = await self._in_thread(self._tools.available)
            self._versions = tuple(tool.version for tool in tools)
            self._versions_until = self._clock.seconds() + _VERSIONS_FOR
        return self._versions

    def backends(self, machine: str) -> tuple[str, ...]:
        """Return the backends that a machine's images can be signed with."""
        return ("ssl", "pkcs11") if self._tokens.any_for(machine) else ("ssl",)
