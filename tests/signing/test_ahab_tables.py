"""What is public of a tarball with keys for AHAB: tables, their fuse values, and which SRK a certificate belongs to."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.x509.oid import NameOID

from digsigd import ahab
from digsigd.errors import BadTarball
from digsigd.hab.der import elements
from digsigd.keys import KeyTarball
from digsigd.signing import ahab_tables
from digsigd.signing.ahab_tables import NamedAhabTable
from digsigd.signing.machine_keys import MAX_CERTIFICATES, MAX_TABLES, MachineKeys, read_facts
from digsigd.testing import TrialPki
from tests.helpers.ahab_cases import members
from tests.helpers.ahab_forge import Kind, certificate_of, keys_of, private_key, table_of, written_der
from tests.helpers.work import calls

TABLE, TABLE_V2 = "crts/SRK_1_2_3_4_table.bin", "crts/SRK_1_2_3_4_v2_table.bin"


def facts(files: dict[str, bytes], fuse_value: bytes | None = None) -> MachineKeys:
    return read_facts(KeyTarball(files, "0" * 64), "m", fuse_value)


@pytest.mark.parametrize(
    ("keys", "kind"),
    [("p256", "ECDSA P-256"), ("p384", "ECDSA P-384"), ("r2048", "RSA 2048"), ("pss2048", "RSA-PSS 2048")],
)
def test_tables_and_fuse_values_are_those_of_srktool(keys: str, kind: str) -> None:
    """The hashes are in the files that srktool wrote beside the tables; the kind of keys is told from the table."""
    files = members(keys)
    found = facts(files)
    assert found.tables == ()
    assert [(one.name, one.version) for one in found.ahab_tables] == [
        (name, number) for number, name in ((1, TABLE), (2, TABLE_V2)) if name in files
    ]
    first = found.ahab_tables[0]
    assert first.table.raw == files[TABLE]
    assert first.table.hash("sha256") == files["crts/SRK_1_2_3_4_fuse_sha256.bin"]
    assert first.table.hash("sha512") == files["crts/SRK_1_2_3_4_fuse_sha512.bin"]
    if TABLE_V2 in files:
        assert found.ahab_tables[1].table.hash("sha512") == files["crts/SRK_1_2_3_4_v2_fuse.bin"]
    assert first.keys == (kind,) * 4
    assert found.kinds == (kind,)
    assert found.fuse_values[:2] == (first.table.hash("sha256").hex(), first.table.hash("sha512").hex())


@pytest.mark.parametrize(
    ("soc", "values"),
    [
        ("mx93", ["fuse_sha256"]),
        ("mx8x", ["fuse_sha512"]),
        ("mx95-b0", ["v2_fuse"]),
        ("mx95", ["fuse_sha256", "v2_fuse"]),
        ("mx8dxl", ["fuse_sha256", "fuse_sha512"]),
        ("mx8m", []),
        (None, ["fuse_sha256", "fuse_sha512", "v2_fuse"]),
    ],
)
def test_the_chip_decides_which_hash_is_in_the_fuses(soc: str | None, values: list[str]) -> None:
    """If the operator says which the machine has, and it is known of the chip; else all that can be are told."""
    files = members("p384")
    found = read_facts(KeyTarball(files, "0" * 64), "m", None, soc=soc)
    expected = [files[f"crts/SRK_1_2_3_4_{name}.bin"].hex() for name in values]
    assert list(found.fuse_values) == expected


def test_each_certificate_is_told_with_its_srk() -> None:
    """In both tables: the SRKs', and those of the SGKs that they signed. The number is the one in the file's name."""
    found = facts(members("p384ca"))
    names = [one.name for one in found.certificates]
    assert names == [
        *(f"crts/SGK{number}_1_sha384_secp384r1_v3_usr_crt.pem" for number in (1, 2, 3, 4)),
        *(f"crts/SRK{number}_sha384_secp384r1_v3_ca_crt.pem" for number in (1, 2, 3, 4)),
    ]
    for one in found.certificates:
        assert (one.srk, one.is_srk) == (int(one.name[8]), "SRK" in one.name)
        assert one.tables == (TABLE, TABLE_V2)


def test_a_signer_is_known_by_the_certificate_or_the_table() -> None:
    """A table of version 1 has the keys; one of version 2 only their hashes, and needs the certificates of the SRKs."""
    files = {name: data for name, data in members("p384ca").items() if "SRK1_" not in name}
    (sgk,) = (one for one in facts(files).certificates if "SGK1_" in one.name)
    assert (sgk.srk, sgk.is_srk, sgk.tables) == (1, False, (TABLE,))
    del files[TABLE]
    assert {one.name[5:9]: one.srk for one in facts(files).certificates if "SGK" in one.name} == {
        "SGK1": None,
        "SGK2": 2,
        "SGK3": 3,
        "SGK4": 4,
    }


def test_an_srk_without_the_ca_flag_signs_no_certificate() -> None:
    """A board refuses an SGK below it, so it does not belong to it."""
    key = serialization.load_pem_private_key(members("r2048")["keys/SRK1_sha256_2048_65537_v3_usr_key.pem"], b"secret7")
    assert isinstance(key, rsa.RSAPrivateKey)
    signed = issued(key).public_bytes(serialization.Encoding.PEM)
    (one,) = (
        one for one in facts({**members("r2048"), "crts/SGK1_1_crt.pem": signed}).certificates if "SGK" in one.name
    )
    assert (one.srk, one.tables) == (None, ())


def test_certificates_with_pss_are_verified() -> None:
    """SRKs for RSA-PSS sign their SGKs with it, which HAB4 does not know; with another key they belong to none."""
    keys = [rsa.generate_private_key(65537, 2048) for _ in range(5)]
    srks = [ahab.srk_key(key.public_key(), "sha256", ca=True, pss=True) for key in keys[:4]]
    files = {"t.bin": ahab.build.write_table(srks)}
    for number in (2, 4):
        files[f"SGK{number + 1}_crt.pem"] = issued(keys[number], pss=True).public_bytes(serialization.Encoding.PEM)
    assert {one.name: one.srk for one in facts(files).certificates} == {"SGK3_crt.pem": 3, "SGK5_crt.pem": None}


def test_a_certificate_that_no_srk_signed_belongs_to_none() -> None:
    """Neither with PKCS #1 nor with PSS, whatever kind of keys the SRKs are."""
    stranger = rsa.generate_private_key(65537, 2048)
    files = {
        f"{pss}_crt.pem": issued(stranger, pss=pss).public_bytes(serialization.Encoding.PEM) for pss in (False, True)
    }
    srks = [ahab.srk_key(private_key("rsa2048", number).public_key(), "sha256", ca=True) for number in range(4)]
    other = issued(ed25519.Ed25519PrivateKey.generate())
    files["ed25519_crt.pem"] = other.public_bytes(serialization.Encoding.PEM)
    body, _, signature = (one.whole for one in elements(elements(certificate_of("p256"))[0].content))
    fields = [one.whole for one in elements(elements(body)[0].content)]
    fields[2] = written_der(0x30, bytes.fromhex("06092a864886f70d01010a") + written_der(0x31, b"\5\0"))
    damaged = written_der(0x30, written_der(0x30, b"".join(fields)) + fields[2] + signature)
    files["damaged_crt.der"] = damaged
    for table in (ahab.build.write_table(srks), members("p384ca")[TABLE]):
        assert [one.srk for one in facts({**files, "t.bin": table}).certificates] == [None] * 4


def test_a_certificate_is_verified_with_eight_srks_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of them once, whatever number of tables has it."""
    tried: list[object] = []
    monkeypatch.setattr(ahab_tables, "is_signed_by", lambda _, key: tried.append(key))
    monkeypatch.setattr(ahab_tables, "_is_signed_with_pss", lambda *_: False)
    stranger = issued(rsa.generate_private_key(65537, 2048)).public_bytes(serialization.Encoding.PEM)
    kinds: tuple[Kind, ...] = ("p256", "p384", "p521")
    tables = {f"{n}{kind}.bin": table_of(kind, ca=True) for kind in kinds for n in range(2)}
    facts({"x_crt.pem": stranger, **tables})
    assert len(tried) == 8
    assert len({id(one) for one in tried}) == 8
    tried.clear()
    other = ahab.build.write_table(keys_of("p256", ca=True, digest="sha512"))
    facts({"x_crt.pem": stranger, "a.bin": table_of("p256", ca=True), "b.bin": other})
    assert len(tried) == 4


def test_a_tarball_for_both_tells_both() -> None:
    """Each certificate with the table that it belongs to."""
    pki = TrialPki.make("p256", srks=2)
    files = {f"hab/{name}": data for name, data in pki.files.items()} | members("p384ca")
    found = facts(files)
    assert [one.name for one in found.tables] == [f"hab/{pki.table()}"]
    assert [one.name for one in found.ahab_tables] == [TABLE, TABLE_V2]
    for one in found.certificates:
        assert one.srk == int(one.name.rpartition("/")[2][3])
        assert one.tables == ((f"hab/{pki.table()}",) if one.name.startswith("hab/") else (TABLE, TABLE_V2))
    assert found.kinds == ("ECDSA P-384", "ECDSA P-256")
    assert pki.fuse_value.hex() in found.fuse_values


def test_of_a_key_in_tables_for_both_all_are_told() -> None:
    """People have one set of keys for their boards with HAB and those with AHAB."""
    pki = TrialPki.make("p384", srks=4)
    srks = [data for name, data in sorted(pki.files.items()) if "/SRK" in name and "_crt.pem" in name]
    found = facts({**pki.files, "crts/z_table.bin": ahab.build_srk_table(srks)})
    assert {one.tables for one in found.certificates} == {(pki.table(), "crts/z_table.bin")}


def test_only_tables_of_the_pinned_value_are_told() -> None:
    """By either hash; without any, the error names the value that could have been meant."""
    files = {**members("p384"), "a.bin": members("p256")[TABLE]}
    for name in ("sha256", "sha512"):
        pinned = ahab.parse_table(files[TABLE]).hash(name)
        assert [one.name for one in facts(files, pinned).ahab_tables] == [TABLE]
        with pytest.raises(BadTarball, match=ahab.parse_table(files["a.bin"]).hash(name).hex()):
            facts(files, bytes(len(pinned)))
    assert [one.name for one in facts(files).ahab_tables] == ["a.bin", TABLE, TABLE_V2]


def test_damaged_tables_are_none() -> None:
    """Cut, with junk behind, or of an unknown version."""
    table = members("p384")[TABLE]
    for bad in (table[:-1], table + b"\0", b"\xd7\x04\0\x42", b"", table[:3] + b"\x44" + table[4:]):
        with pytest.raises(BadTarball, match="no readable SRK table"):
            facts({"a.bin": bad})
        assert len(facts({"a.bin": bad, TABLE: table}).ahab_tables) == 1


def test_the_kinds_of_a_second_table_are_told() -> None:
    """Each SRK with both of its keys."""
    one = ahab.parse_table(members("p384")[TABLE_V2])
    assert isinstance(one, ahab.SrkArray)
    two = ahab.SrkArray((one.tables[0], one.tables[0]), b"")
    assert NamedAhabTable("t", two).keys == ("ECDSA P-384 and ECDSA P-384",) * 4


def test_of_a_full_tarball_the_work_is_bounded() -> None:
    """So many certificates are told, and each is verified with so many SRKs, whatever number of tables there are."""
    files = dict(members("p384ca"))
    keys = [rsa.generate_private_key(65537, 2048) for _ in range(8)]
    records = [ahab.srk_key(key.public_key(), "sha256", ca=True) for key in keys]
    files |= {f"{n}.bin": ahab.build.write_table([records[(n + step) % 8] for step in range(4)]) for n in range(8)}
    stranger = rsa.generate_private_key(65537, 2048)
    files |= {
        f"{n}_crt.pem": issued(stranger).public_bytes(serialization.Encoding.PEM) for n in range(MAX_CERTIFICATES)
    }
    told: list[MachineKeys] = []
    verified = calls(lambda: told.append(facts(files)), of="verify")
    assert 0 < verified <= 8 * MAX_CERTIFICATES
    assert (len(told[0].ahab_tables), len(told[0].certificates)) == (MAX_TABLES, MAX_CERTIFICATES)


def issued(by: rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey, *, pss: bool = False) -> x509.Certificate:
    """A certificate for a key that nobody has."""
    now, name = datetime.now(UTC), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "an SGK")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(ec.generate_private_key(ec.SECP256R1()).public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
    )
    scheme = padding.PSS(padding.MGF1(hashes.SHA256()), 32) if pss else padding.PKCS1v15()
    if isinstance(by, ed25519.Ed25519PrivateKey):
        return builder.sign(by, None)
    return builder.sign(by, hashes.SHA256(), rsa_padding=scheme)
