"""The public facts of AHAB keys in a tarball: SRK tables, and which SRK a certificate belongs to.

NXP's ahab_pki_tree.sh and srktool lay keys out as those for HAB: crts/SRK_1_2_3_4_table.bin is a table of version 1,
for containers of version 0; cst 4.0.1's srktool makes tables of version 2 too, for containers of version 2. A tarball
may have both, and those for HAB beside them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from digsigd import ahab
from digsigd.ahab.build import write_data
from digsigd.ahab.srk import data_hash
from digsigd.hab.certificate import Certificate
from digsigd.hab.chain import UNREADABLE, is_signed_by
from digsigd.hab.srk import PublicKey

# A certificate is verified with so many SRKs: those of two sets of keys.
_MOST_SIGNERS = 8


@dataclass(frozen=True, slots=True)
class NamedAhabTable:
    """An SRK table for AHAB, and the name of its file in the tarball."""

    name: str
    table: ahab.SrkTable | ahab.SrkArray = field(repr=False)

    @property
    def version(self) -> int:
        """1: for containers of version 0. 2: for containers of version 2."""
        return 1 if isinstance(self.table, ahab.SrkTable) else 2

    @property
    def records(self) -> tuple[ahab.SrkRecord, ...]:
        """The four SRKs; of an array with a second table, which is for ML-DSA, those of the first."""
        return self.table.records if isinstance(self.table, ahab.SrkTable) else self.table.tables[0].records

    @property
    def keys(self) -> tuple[str, ...]:
        """The kinds of the four SRKs, such as "ECDSA P-384", or "ECDSA P-384 and ML-DSA 65"."""
        if isinstance(self.table, ahab.SrkTable):
            return tuple(one.name for one in self.table.records)
        of_tables = ([one.name for one in table.records] for table in self.table.tables)
        return tuple(" and ".join(names) for names in zip(*of_tables, strict=True))

    @property
    def fuse_values(self) -> tuple[bytes, ...]:
        """What can be in the fuses: SHA-256 and SHA-512 of the table; no chip has the former of version 2."""
        return tuple(self.table.hash(one) for one in (("sha256", "sha512") if self.version == 1 else ("sha512",)))

    def fuse_values_of(self, soc: str | None) -> tuple[bytes, ...]:
        """Return the fuse value for a chip; empty if the table is not for it, all of them if that is not known."""
        try:
            chip = ahab.chip_with(soc, 0 if self.version == 1 else 2) if soc is not None else None
            return self.fuse_values if chip is None else (ahab.fuse_value(self.table, chip),)
        except ahab.NotConfirmed:
            return self.fuse_values
        except ahab.AhabError:
            return ()


@dataclass(frozen=True, slots=True)
class Belongs:
    """The SRK that a certificate belongs to: its number, from 1, in the tables with these names.

    `is_srk` is True if it is the certificate of the SRK itself, False if the SRK signed it.
    """

    srk: int
    is_srk: bool
    tables: tuple[str, ...]


def ahab_tables(files: Iterable[tuple[str, bytes]]) -> Iterator[NamedAhabTable]:
    """Yield those of some files that are SRK tables for AHAB."""
    for name, data in files:
        try:
            yield NamedAhabTable(name, ahab.parse_table(data))
        except ahab.AhabError:
            continue


def belonging(certificates: Sequence[Certificate], tables: Sequence[NamedAhabTable]) -> list[Belongs | None]:
    """Return the SRK that each of the certificates belongs to, None if there is no such SRK.

    A table of version 2 has only hashes of keys: who signed a certificate is known if the SRK's own certificate is
    there. Blocks: each certificate is verified with up to eight SRKs.
    """
    # The key that is the SRK of this number, in these tables.
    srks: list[tuple[PublicKey, int, bool, list[str]]] = []
    own: dict[int, Belongs] = {}
    for place, certificate in enumerate(certificates):
        key = certificate.public_key
        if key is None:
            continue
        found: dict[int, list[NamedAhabTable]] = {}
        for table in tables:
            if (number := _number(key, table)) is not None:
                found.setdefault(number, []).append(table)
        for number, those in found.items():
            names = [one.name for one in those]
            own.setdefault(place, Belongs(number, True, tuple(names)))
            srks.append((key, number, those[0].records[number - 1].is_ca, names))
    for table in tables:
        srks += _keys_in(table)
    return [own.get(place) or _signer(certificate, srks) for place, certificate in enumerate(certificates)]


def _signer(certificate: Certificate, srks: Sequence[tuple[PublicKey, int, bool, list[str]]]) -> Belongs | None:
    tried: list[PublicKey] = []
    for key, number, ca, _ in srks:
        if not ca or key in tried or len(tried) == _MOST_SIGNERS:
            continue
        tried.append(key)
        if is_signed_by(certificate, key) or _is_signed_with_pss(certificate, key):
            names = [name for other, same, _, those in srks if (other, same) == (key, number) for name in those]
            return Belongs(number, False, tuple(dict.fromkeys(names)))
    return None


def _keys_in(table: NamedAhabTable) -> Iterator[tuple[PublicKey, int, bool, list[str]]]:
    """Yield the SRKs whose keys are in the table itself."""
    for number, record in enumerate(table.records, 1):
        try:
            key = record.public_key()
        except ahab.AhabError:
            continue
        yield key, number, record.is_ca, [table.name]


def _number(key: PublicKey, table: NamedAhabTable) -> int | None:
    """Return the number, from 1, of the SRK in the table that is this key, or None."""
    for number, record in enumerate(table.records):
        try:
            ours = ahab.srk_key(key, record.hash_name)
            if record.data_hash:
                found = data_hash(record.hash_name, write_data(ours, number)) == record.data_hash
            else:
                found = ours.parts == record.crypto
        except ahab.AhabError:
            continue
        if found:
            return number + 1
    return None


def _is_signed_with_pss(certificate: Certificate, key: PublicKey) -> bool:
    """Return whether an RSA key signed a certificate with PSS, as SRKs for PSS do: HAB4 does not have that."""
    if certificate.kind or not isinstance(key, rsa.RSAPublicKey):
        return False
    try:
        loaded = x509.load_der_x509_certificate(certificate.der)
        parameters, digest = loaded.signature_algorithm_parameters, loaded.signature_hash_algorithm
        if not isinstance(parameters, padding.PSS) or digest is None:
            return False
        key.verify(certificate.signature, certificate.tbs, parameters, digest)
    except (InvalidSignature, *UNREADABLE):
        return False
    return True
