"""A second, slow and plain HAB4: what a boot ROM says of a CSF, by the text of the manual and nothing else.

HABv4 API Reference Manual; each rule has its section. It shares no code with the daemon: what the two say of one CSF is
compared. `Refused` has the manual's reason; `unsaid` gathers what the manual leaves open and boards may differ in.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from tests.model.asn1 import der, every

# 6.4, 6.5, 6.6
PCL_SRK, PCL_X509, PCL_CMS = 0x03, 0x09, 0xC5
ALG_ANY, ALG_SHA1, ALG_SHA256, ALG_SHA512 = 0, 0x11, 0x17, 0x1B
ENG_ANY, ENG_RTIC, ENG_SAHARA, ENG_DCP, ENG_CAAM, ENG_SW = 0, 0x05, 0x06, 0x1B, 0x1D, 0xFF
ENGINES = (0x00, 0x03, 0x05, 0x06, 0x0A, 0x0C, 0x1B, 0x1D, 0x1E, 0x21, 0x22, 0x36, 0x24, 0xFF)
BLOCK_MAX = {ENG_DCP: 6, ENG_SAHARA: 12, ENG_CAAM: 8}
# 5.2, 5.4, 5.6, 5.8: which digests an engine computes.
COMPUTES = {
    ENG_DCP: {"sha1", "sha256"},
    ENG_SAHARA: {"sha256"},
    ENG_CAAM: {"sha256"},
    ENG_SW: {"sha1", "sha256"},
}
# 4.3.7: SRK and CSF key of set 0; set 1 begins at 5. CST User Guide, "Install Key": 2 to 4 are for others.
IDX_SRK, IDX_CSFK, SLOTS = 0, 1, 5
FLAG_ABS, FLAG_CSF, FLAG_HSH = 1, 2, 128
DIGESTS = {"2b0e03021a": "sha1", "608648016503040201": "sha256", "608648016503040202": "sha384",
           "608648016503040203": "sha512"}  # fmt: skip


class Refused(Exception):
    """A failure, by the manual's name for its reason."""


@dataclass
class Key:
    """A public key in the key store."""

    public: Any
    ca: bool
    content: bytes


@dataclass
class Rom:
    """A closed board: its fuses, what is in its memory, and the keys that it has installed."""

    fuses: bytes
    read: Callable[[int, int], bytes | None]
    keys: dict[int, Key] = field(default_factory=dict)
    authenticated: list[tuple[int, int]] = field(default_factory=list)
    unsaid: list[str] = field(default_factory=list)
    fast: bool = False
    signatures: list[tuple[bytes, bytes, Key]] = field(default_factory=list)

    def authenticate_image(self, ivt: int, start: int, size: int, csf_at: int, csf: bytes) -> None:
        """3.4: an image of `size` bytes, all in its final place; a CSF stands at `csf_at`."""
        table = self._get(ivt, 32)
        entry, _, dcd, boot_data, own, place, _ = (
            int.from_bytes(table[at : at + 4], "little") for at in range(4, 32, 4)
        )
        if table[:3] != b"\xd1\0\x20" or table[3] >> 4 != 4:
            raise Refused("HAB_INV_IVT")
        if not own or not entry or own != ivt:
            raise Refused("HAB_INV_ADDRESS")
        if not start <= place or place + len(csf) > start + size:
            raise Refused("HAB_INV_ADDRESS: CSF outside image bounds")
        if place != csf_at:
            raise Refused("HAB_INV_CSF: there is none")
        if boot_data and not start <= boot_data < start + size:
            raise Refused("HAB_INV_ADDRESS: boot data outside image bounds")
        self.run_csf(csf)
        # "IVT; DCD (if provided); Boot Data (initial byte if provided); Entry point (initial word)"
        for address, length in ((own, 32), (dcd, 4 if dcd else 0), (boot_data, 1 if boot_data else 0), (entry, 4)):
            if length and not self._covered(address, length):
                raise Refused("HAB_INV_ASSERTION")

    def run_csf(self, csf: bytes) -> None:
        """3.8."""
        tag, length, version = _header(csf, 0)
        if tag != 0xD4 or length > len(csf) or version >> 4 != 4:
            raise Refused("HAB_INV_CSF")
        done = False
        position = 4
        while position < length:
            tag, size, parameter = _header(csf, position)
            if position + size > length:
                raise Refused("HAB_INV_COMMAND")
            body = csf[position + 4 : position + size]
            position += size
            if tag == 0xBE:
                self._install(csf, parameter, body, done)
            elif tag == 0xCA:
                done = self._authenticate(csf, length, parameter, body, done) or done
            elif tag == 0xB1:
                self._set(parameter, body)
            elif tag == 0xC0:
                if size != 4:
                    raise Refused("HAB_INV_COMMAND")  # 4.3.3: constant (four)
            elif tag in {0xB4, 0xB2}:
                # 3.8: not in the set that is there before authentication.
                if not done:
                    raise Refused("HAB_INV_COMMAND")
                if parameter not in {0x0C, ENG_CAAM} and not (tag == 0xB2 and parameter in {0x1E, 0x21}):
                    self.unsaid.append("an engine without commands of its own")
                if (parameter == 0x0C) != (not body) or len(body) not in {0, 4}:
                    self.unsaid.append("values that the engine does not have")
            elif tag == 0xCC:
                if not done:
                    raise Refused("HAB_INV_COMMAND")
                self.unsaid.append("Write Data in a CSF")  # 4.3.1 has it for the DCD
            elif tag == 0xCF:
                self.unsaid.append("Check Data, which hangs on what it reads")
            else:
                raise Refused("HAB_UNS_COMMAND")
        if not done:
            raise Refused("HAB_INV_CSF: not authenticated")

    def _get(self, address: int, length: int) -> bytes:
        data = self.read(address, length)
        if data is None:
            raise Refused("HAB_INV_ADDRESS")
        return data

    def _covered(self, address: int, length: int) -> bool:
        """3.9: whether it lies in one authenticated block."""
        return any(start <= address and address + length <= start + size for start, size in self.authenticated)

    def _set(self, item: int, body: bytes) -> None:
        """4.3.4."""
        if item == 0x01:
            self.unsaid.append("MID, which older manuals have")
            return
        if item != 0x03:
            raise Refused("HAB_UNS_ITEM")
        if len(body) != 4 or body[0]:
            raise Refused("HAB_INV_COMMAND")
        if body[1] not in {ALG_SHA1, ALG_SHA256, ALG_SHA512}:
            raise Refused("HAB_UNS_ALGORITHM")
        if body[2] not in {ENG_ANY, *COMPUTES} or body[3]:
            self.unsaid.append("a default engine that does not compute digests, or its configuration")

    def _install(self, csf: bytes, flags: int, body: bytes, done: bool) -> None:
        """4.3.7."""
        if len(body) < 8:
            raise Refused("HAB_INV_COMMAND")
        protocol, algorithm, source, target = body[:4]
        if protocol == 0xBB:
            self.unsaid.append("a secret key, which is the board's own")
            return
        if target >= SLOTS:
            raise Refused("HAB_INV_INDEX")
        if (len(body) > 8) != bool(flags & FLAG_HSH):
            raise Refused("HAB_INV_COMMAND")
        if flags & FLAG_ABS:
            raise Refused("HAB_INV_ADDRESS: absolute, and nothing is known to be there")
        start = int.from_bytes(body[4:8], "big")
        if target == IDX_SRK:
            if protocol != PCL_SRK or flags:
                raise Refused("HAB_INV_COMMAND")
            if done:
                raise Refused("HAB_INV_COMMAND: SRK after CSF authentication")
            self._put(target, self._srk(csf, start, algorithm, source))
            return
        if protocol != PCL_X509:
            raise Refused("HAB_INV_COMMAND" if protocol == PCL_SRK else "HAB_UNS_PROTOCOL")
        if (target == IDX_CSFK) == done:
            raise Refused("HAB_INV_COMMAND: the wrong side of CSF authentication")
        if target == IDX_CSFK and (source != IDX_SRK or not flags & FLAG_CSF or flags & FLAG_HSH):
            raise Refused("HAB_INV_COMMAND")
        if target != IDX_CSFK and flags & FLAG_CSF:
            self.unsaid.append("the flag of a CSF key on another one")
        if not flags & FLAG_HSH and algorithm != ALG_ANY:
            raise Refused("HAB_INV_COMMAND")
        if flags & 0x7C:
            self.unsaid.append("a key that is bound to something")
        content = _object(csf, start, 0xD7)
        if flags & FLAG_HSH:
            name = {ALG_SHA1: "sha1", ALG_SHA256: "sha256", ALG_SHA512: "sha512"}.get(algorithm)
            if name is None:
                raise Refused("HAB_UNS_ALGORITHM")
            self.unsaid.append("the hash of a certificate")
        self._put(target, self._certified(content[4:], source))

    def _put(self, target: int, key: Key) -> None:
        """4.3.7: overwriting is not allowed; the same key again is skipped."""
        if target in self.keys and self.keys[target].content != key.content:
            raise Refused("HAB_INV_INDEX: target occupied")
        self.keys[target] = key

    def _srk(self, csf: bytes, start: int, algorithm: int, source: int) -> Key:
        """The SRK table against the fuses. AN4581: the digest over the digests of all entries."""
        if algorithm != ALG_SHA256:
            raise Refused("HAB_UNS_ALGORITHM")
        table = _object(csf, start, 0xD7)
        entries = []
        position = 4
        while position < len(table):
            tag, length, _ = _header(table, position)
            if position + length > len(table):
                raise Refused("HAB_INV_CERTIFICATE")
            entries.append((tag, table[position : position + length]))
            position += length
        hashed = [entry[4:] if tag == 0xEE else hashlib.sha256(entry).digest() for tag, entry in entries]
        if hashlib.sha256(b"".join(hashed)).digest() != self.fuses:
            raise Refused("HAB_INV_CERTIFICATE: not the fuses'")
        if source >= len(entries):
            raise Refused("HAB_INV_INDEX: no such SRK")
        tag, entry = entries[source]
        if tag != 0xE1:
            raise Refused("HAB_INV_KEY")
        return Key(_public(entry), bool(entry[7] & 0x80), entry)

    def _certified(self, certificate: bytes, source: int) -> Key:
        """X.509, signed by the key in `source`."""
        verifying = self.keys.get(source)
        if verifying is None or source == IDX_CSFK:
            raise Refused("HAB_INV_INDEX: no verification key")
        if not verifying.ca:
            raise Refused("HAB_INV_KEY: a key that certifies nothing")
        try:
            ((_, content, _),) = every(certificate)
            (_, _, body), (_, algorithm, _), (_, bits, _) = every(content)
            identifier = every(algorithm)[0][1].hex()
        except (ValueError, IndexError):
            raise Refused("HAB_INV_CERTIFICATE") from None
        name = {
            "2a864886f70d010105": "sha1", "2a864886f70d01010b": "sha256", "2a864886f70d01010c": "sha384",
            "2a864886f70d01010d": "sha512", "2a8648ce3d040302": "sha256", "2a8648ce3d040303": "sha384",
            "2a8648ce3d040304": "sha512", "2a8648ce3d0401": "sha1",
        }.get(identifier)  # fmt: skip
        if name is None:
            raise Refused("HAB_UNS_ALGORITHM")
        if name != "sha256":
            self.unsaid.append(f"a certificate signed with {name}")
        if not _signed(verifying.public, bits[1:], body, name):
            raise Refused("HAB_INV_SIGNATURE")
        try:
            parsed = x509.load_der_x509_certificate(certificate)
            ca = bool(parsed.extensions.get_extension_for_class(x509.BasicConstraints).value.ca)
        except x509.ExtensionNotFound:
            ca = False
        except ValueError:
            raise Refused("HAB_INV_CERTIFICATE") from None
        return Key(parsed.public_key(), ca, certificate)

    def _authenticate(self, csf: bytes, length: int, flags: int, body: bytes, done: bool) -> bool:
        """4.3.8; whether it was the CSF."""
        if len(body) < 8 or len(body) % 8:
            raise Refused("HAB_INV_COMMAND")
        index, protocol, engine, configuration = body[:4]
        blocks = [
            (int.from_bytes(body[at : at + 4], "big"), int.from_bytes(body[at + 4 : at + 8], "big"))
            for at in range(8, len(body), 8)
        ]
        if protocol != PCL_CMS:
            raise Refused("HAB_UNS_PROTOCOL")
        if flags:
            raise Refused("HAB_INV_ADDRESS: absolute, and nothing is known to be there")
        if engine == ENG_ANY and configuration:
            raise Refused("HAB_INV_COMMAND: configuration of any engine")
        srk = self.keys.get(IDX_SRK)
        if srk is None:
            raise Refused("HAB_INV_INDEX")
        key = self.keys.get(index)
        if index == IDX_CSFK:
            if blocks or done:
                raise Refused("HAB_INV_COMMAND")
            if key is None:
                # CST User Guide, "Install NOCAK": the SRK itself stands in.
                key, self.fast = srk, True
            data = csf[:length]
        else:
            if not done or not blocks:
                raise Refused("HAB_INV_COMMAND")
            if index == IDX_SRK and not self.fast:
                raise Refused("HAB_INV_COMMAND: data by the SRK")
            data = b"".join(self._get(*block) for block in blocks)
            if any(not size for _, size in blocks):
                self.unsaid.append("a block without bytes")
        if key is None:
            raise Refused("HAB_INV_INDEX")
        if key.ca:
            raise Refused("HAB_INV_KEY: a CA key")
        signature = _object(csf, int.from_bytes(body[4:8], "big"), 0xD8)[4:]
        algorithm = _cms(signature, data, key)
        self.signatures.append((signature, data, key))
        self._engine(engine, configuration, algorithm, blocks)
        if index != IDX_CSFK:
            self.authenticated += blocks
        return index == IDX_CSFK

    def _engine(self, engine: int, configuration: int, algorithm: str, blocks: list[tuple[int, int]]) -> None:
        """5.2, 5.4, 5.6, 5.8: what it takes of an engine that is named."""
        if algorithm not in {"sha256"}:
            self.unsaid.append(f"a signature with {algorithm}")
        if engine not in COMPUTES:
            if engine not in {ENG_ANY, ENG_RTIC}:
                self.unsaid.append("HAB_WARNING: an engine that does not compute digests")
            if engine == ENG_RTIC:
                self.unsaid.append("RTIC, whose registers may be used up")
            return
        if algorithm not in COMPUTES[engine]:
            raise Refused("HAB_UNS_ALGORITHM")
        if len(blocks) > BLOCK_MAX.get(engine, 1 << 16):
            raise Refused("HAB_UNS_ALGORITHM: too many blocks")
        # Of lengths that DCP does not take (5.2), boards warn (HAB_UNS_ENGINE, 4.3.8), and take another engine.
        if configuration and engine == ENG_SW:
            self.unsaid.append("a configuration of SW, which has none")
        elif configuration & 0x03:
            raise Refused("HAB_INV_SIGNATURE: the engine swaps what was signed as it is")
        elif configuration:
            self.unsaid.append("what a configuration of an engine does")


def _header(data: bytes, at: int) -> tuple[int, int, int]:
    """6.1."""
    if at + 4 > len(data):
        raise Refused("HAB_INV_CSF")
    length = int.from_bytes(data[at + 1 : at + 3], "big")
    if length < 4:
        raise Refused("HAB_INV_COMMAND")
    return data[at], length, data[at + 3]


def _object(csf: bytes, at: int, tag: int) -> bytes:
    """What a command points to."""
    found, length, version = _header(csf, at)
    if found != tag or at + length > len(csf) or version >> 4 != 4:
        raise Refused("HAB_INV_CERTIFICATE" if tag == 0xD7 else "HAB_INV_SIGNATURE")
    return csf[at : at + length]


def _public(entry: bytes) -> Any:
    """The key in an entry of an SRK table."""
    if entry[3] == 0x21:
        size = int.from_bytes(entry[8:10], "big")
        exponent = int.from_bytes(entry[12 + size :], "big")
        return rsa.RSAPublicNumbers(exponent, int.from_bytes(entry[12 : 12 + size], "big")).public_key()
    curve = {0x4B: ec.SECP256R1(), 0x4D: ec.SECP384R1(), 0x4E: ec.SECP521R1()}[entry[8]]
    return ec.EllipticCurvePublicKey.from_encoded_point(curve, b"\4" + entry[12:])


def _signed(public: Any, signature: bytes, data: bytes, name: str) -> bool:
    """RFC 8017, 8.2.2, by arithmetic; ECDSA by the library."""
    digest = hashlib.new(name, data).digest()
    if isinstance(public, rsa.RSAPublicKey):
        size = (public.key_size + 7) // 8
        numbers = public.public_numbers()
        identifier = next(text for text, one in DIGESTS.items() if one == name)
        info = der(0x30, der(0x30, der(6, bytes.fromhex(identifier)), der(5)), der(4, digest))
        padded = b"\0\1" + b"\xff" * (size - len(info) - 3) + b"\0" + info
        return len(signature) == size and pow(int.from_bytes(signature, "big"), numbers.e, numbers.n) == int.from_bytes(
            padded, "big"
        )
    chosen = {"sha1": hashes.SHA1(), "sha256": hashes.SHA256(), "sha384": hashes.SHA384(), "sha512": hashes.SHA512()}  # noqa: S303
    try:
        public.verify(signature, data, ec.ECDSA(chosen[name]))
    except InvalidSignature:
        return False
    return True


def _cms(data: bytes, content: bytes, key: Key) -> str:
    """RFC 5652, 5: one signer, with signed attributes; the digest algorithm."""
    try:
        ((_, info, _),) = every(data)
        (_, _, _), (_, wrapped, _) = every(info)
        ((_, signed_data, _),) = every(wrapped)
        signers = every(signed_data)[-1]
        ((_, signer, _),) = every(signers[1])
        _, _, (_, digesting, _), (_, attributes, _), _, (_, signature, _) = every(signer)
        name = DIGESTS[every(digesting)[0][1].hex()]
        held = {every(one)[0][1].hex(): every(every(one)[1][1])[0][1] for _, one, _ in every(attributes)}
        digest = held["2a864886f70d010904"]
    except (ValueError, KeyError, IndexError):
        raise Refused("HAB_INV_SIGNATURE") from None
    if digest != hashlib.new(name, content).digest() or not _signed(key.public, signature, der(0x31, attributes), name):
        raise Refused("HAB_INV_SIGNATURE")
    return name
