"""What the real cst ends with 0 for, and no board boots: each is refused, by the check that is meant for it."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from digsigd import ahab
from tests.helpers.ahab_cst import description, files_of, run_cst
from tests.helpers.ahab_forge import Kind, forge, table_of
from tests.helpers.blobs import Signing, changed_at, written_at

# Where the container and its block are in the files of `forge`: version 0, and version 2.
OFFSETS = "0x400 0x510"
OFFSETS_2 = "0x4000 0x4110"
both_csts = pytest.mark.parametrize("cst", ["3.4.1", "4.0.1"])


def refused(data: bytes, offset: int, *, check: str | None, match: str = ".", **options: Any) -> ahab.AhabError:
    """The error for the container at this place. `check` is None for what is no container at all."""
    kind: type[ahab.AhabError] = ahab.FormatError if check is None else ahab.VerificationError
    with pytest.raises(kind, match=match) as raised:
        ahab.verify(data, offset, **options)
    if isinstance(raised.value, ahab.VerificationError):
        assert raised.value.check == check
    return raised.value


class Bench:
    """A file and keys; `run` signs it with one cst."""

    def __init__(
        self, signing: Signing, cst: str, kind: Kind = "p256", *, version: int = 0, sgk: Kind | None = None,
        before: Callable[[bytes, int], bytes] | None = None, **options: Any,
    ) -> None:  # fmt: skip
        made = forge("p256", version=version, before=before, **options)
        self.file, self.offset = made.unsigned, made.offset
        self.files = {**files_of(kind, version=version, sgk=sgk), "flash.bin": self.file}
        self.table = self.files["crts/table.bin"]
        self._signing, self._cst, self._sgk = signing, cst, sgk
        self._version = version

    def run(
        self, *offsets: str, files: Mapping[str, bytes] | None = None, text: str | None = None, **options: Any
    ) -> bytes:
        """The signed file. `files` replace some."""
        if text is None:
            where = offsets or (OFFSETS if self._version == 0 else OFFSETS_2,)
            version = "2.0" if self._version == 2 else "1.0"
            text = description(*where, **{"version": version, "sgk": self._sgk is not None, **options})
        return run_cst(self._signing, self._cst, {**self.files, **(files or {})}, text)


@both_csts
def test_source_and_source_index_differ(signing: Signing, cst: str) -> None:
    """The signature is of another key than the one that the header names."""
    bench = Bench(signing, cst)
    refused(bench.run(source=1, index=2), 0x400, check="signature", match="was not made with")


def test_source_and_source_index_differ_in_version_2(signing: Signing) -> None:
    """The key in the image is not the one whose hash is in the table."""
    bench = Bench(signing, "4.0.1", version=2)
    refused(bench.run(source=1, index=2), 0x4000, check="srk-data")


@both_csts
@pytest.mark.parametrize("other", ["p384", "rsa2048"])
def test_source_of_another_pki(signing: Signing, cst: str, other: Kind) -> None:
    """Another kind of key has signatures of another length."""
    bench = Bench(signing, cst, alone=True)
    foreign = {name: data for name, data in files_of(other).items() if "SRK1" in name}
    data = bench.run("0x0 0x110", files=foreign)
    refused(data, 0, check="signature", match="bytes; one of ECDSA P-256 has 64")


@both_csts
def test_key_file_of_another_certificate(signing: Signing, cst: str) -> None:
    """Cst does not compare them."""
    bench = Bench(signing, cst)
    data = bench.run(files={"keys/SRK1_key.pem": bench.files["keys/SRK2_key.pem"]})
    refused(data, 0x400, check="signature", match="was not made with")


@both_csts
def test_foreign_table(signing: Signing, cst: str) -> None:
    """Whole and well-formed, but not the machine's: by the table, and by the fuses of the boards."""
    bench = Bench(signing, cst, "p384")
    foreign = table_of("p384", ca=True)
    data = bench.run(files={"crts/table.bin": foreign})
    ahab.verify(data, 0x400)
    refused(data, 0x400, check="srk-table", srk_table=bench.table)
    ours = ahab.parse_table(bench.table)
    for name in ("sha256", "sha512"):
        refused(data, 0x400, check="fuse-value", match=name, fuse_value=ours.hash(name))


@both_csts
@pytest.mark.parametrize(
    ("damage", "check", "match"),
    [
        (lambda t: changed_at(t, 0x60), "srk-table", "not the expected one"),
        (lambda t: t[:1] + struct.pack("<H", len(t) - 4) + t[3:], None, "ends inside a record"),
        (lambda t: t[:1] + struct.pack("<H", len(t) + 4) + t[3:], None, "4 bytes behind its 4 records"),
        (lambda t: t[:16], None, "SRK"),
        (lambda t: t[:-1], "srk-table", "not the expected one"),
        (lambda t: t + b"junk", "padding", "6a756e6b"),
        (lambda t: t + bytes(8), None, "."),
    ],
    ids=["bit", "length less", "length more", "cut to 16", "cut by 1", "junk behind", "zeros behind"],
)
def test_damaged_table(
    signing: Signing, cst: str, damage: Callable[[bytes], bytes], check: str | None, match: str
) -> None:
    """Cst copies whatever it is given."""
    bench = Bench(signing, cst, "p384")
    data = bench.run(files={"crts/table.bin": damage(bench.table)})
    refused(data, 0x400, check=check, match=match, srk_table=bench.table)


@both_csts
def test_image_changed_after_imx_mkimage(signing: Signing, cst: str) -> None:
    """Any byte of it, the last one of its padding too; and the hash in its entry."""
    for place in (0x2400, 0x27FF, 0x2BFF):
        bench = Bench(signing, cst, before=lambda file, _: changed_at(file, place))  # noqa: B023 - called at once
        refused(bench.run(), 0x400, check="image-hash", match="has the sha384")
    bench = Bench(signing, cst, before=lambda file, at: changed_at(file, at + 0x50))
    refused(bench.run(), 0x400, check="image-hash")


@both_csts
@pytest.mark.parametrize(
    ("place", "value", "check", "match"),
    [
        (3, b"\x88", None, "tag is 0x88"),
        (3, b"\x82", "tag", "0x82"),
        (3, b"\x89", None, "signed message"),
        (11, b"\x01", None, "not behind its 1 images"),
        (11, b"\xff", None, "255 images"),
        (14, b"\x01", None, "reserved"),
        (0, b"\x01", None, "version 1"),
        (0x10, b"\0\0\0\x70", "image-place", "the file has"),
        (0x10, b"\0\0\0\0", "image-place", "overlaps the container at 0x400"),
        (0x90, b"\0\x20\0\0", "image-place", "overlaps image 0"),
        (0x10, b"\0\xfc\xff\xff", "image-place", "the file has"),
        (0x14, b"\xff\xff\xff\xff", "image-place", "the file has"),
    ],
    ids=["tag", "V2X", "message", "count", "absurd count", "reserved", "version", "outside", "header", "overlap",
         "negative", "size"],
)  # fmt: skip
def test_absurd_header(signing: Signing, cst: str, place: int, value: bytes, check: str | None, match: str) -> None:
    """Cst signs what stands there."""

    def before(file: bytes, at: int) -> bytes:
        return written_at(file, at + place, value)

    refused(Bench(signing, cst, before=before).run(), 0x400, check=check, match=match)


@both_csts
def test_file_cut_behind_the_block_s_offset(signing: Signing, cst: str) -> None:
    """What cst writes is longer then, and has no images."""
    bench = Bench(signing, cst)
    cut = bench.file[:0x518]
    data = bench.run(files={"flash.bin": cut})
    assert len(data) > len(cut)
    refused(data, 0x400, check="image-place", match="the file has")
    with pytest.raises(ahab.VerificationError, match="unchanged"):
        ahab.check_unchanged(cut, data, ahab.parse(data, 0x400))


@both_csts
def test_place_in_the_payload_whose_bytes_fit(signing: Signing, cst: str) -> None:
    """Cst looks at no tag: all it compares are two bytes with the difference of the offsets."""

    def before(file: bytes, _: int) -> bytes:
        return file[:0x2500] + b"\x77" * 12 + struct.pack("<H", 0x40) + file[0x250E:]

    bench = Bench(signing, cst, before=before)
    data = bench.run("0x2500 0x2540")
    refused(data, 0x2500, check=None, match="no container at 0x2500")
    assert [one.offset for one in ahab.find(data)] == [0, 0x400]
    # The container that was meant is not signed.
    refused(data, 0x400, check="srk-set", match="not signed")


@both_csts
def test_block_overruns_the_next_container(signing: Signing, cst: str) -> None:
    """RSA needs more than 0x400 bytes: what stands behind is gone, which only the file before it shows."""
    bench = Bench(signing, cst, "rsa2048")
    data = bench.run("0x0 0x90")
    container = ahab.parse(data, 0)
    assert container.end > 0x400
    ahab.verify(data, 0)
    refused(data, 0, check="room", match="overwrites the one at 0x400", original=bench.file)
    with pytest.raises(ahab.VerificationError, match=r"^room"):
        ahab.check_room(bench.file, ahab.read_header(bench.file), container.length)


@both_csts
def test_container_of_nxp_is_signed_over(signing: Signing, cst: str) -> None:
    """It would hold for keys of ours: to sign it is a matter of whoever chooses the container."""
    bench = Bench(signing, cst)
    data = bench.run("0x0 0x90")
    ahab.verify(data, 0)
    refused(data, 0, check="srk-set", srk_set=ahab.SrkSet.NXP)
    # For our container it is a change outside of it.
    signed = forge("p256")
    both = data[:0x400] + signed.data[0x400:]
    signed.verify(both)
    refused(both, 0x400, check="unchanged", match="byte at 0x4 ", original=signed.unsigned)


@both_csts
def test_only_one_of_several_commands_counts(signing: Signing, cst: str) -> None:
    """The last Authenticate Data, one of several Offsets: the other container stays as it was."""
    bench = Bench(signing, cst)
    text = description("0x400 0x510") + '[Authenticate Data]\n    File = "flash.bin"\n    Offsets = 0x0 0x90\n'
    refused(bench.run(text=text), 0x400, check="srk-set", match="not signed")
    if cst == "3.4.1":
        return  # it takes one pair
    data = bench.run("0x400 0x510 0x0 0x90")
    (last,) = [one.offset for one in ahab.find(data) if one.srk_set == ahab.SrkSet.OEM]
    ahab.verify(data, last)
    if last:
        refused(data, 0, check="srk-set")
    else:
        refused(data, 0x400, check="srk-set", match="not signed")


@both_csts
def test_revocations_with_the_key_in_use(signing: Signing, cst: str) -> None:
    """The board would take the key away that it boots with. Others may be revoked."""
    bench = Bench(signing, cst)
    refused(bench.run(source=2, index=1, revocations="0x2"), 0x400, check="revoked", match="SRK 2")
    refused(bench.run(revocations="0xF"), 0x400, check="revoked", match="SRK 1")
    assert ahab.verify(bench.run(revocations="0xE"), 0x400).container.revoke_mask == 0xE


@both_csts
def test_source_set_of_nxp(signing: Signing, cst: str) -> None:
    """Boards compare such a table with NXP's fuses."""
    refused(Bench(signing, cst).run(source_set="NXP"), 0x400, check="srk-set", match="NXP's; it must be the OEM's")


@both_csts
@pytest.mark.parametrize("permissions", ["0x0", "0x2", "0xFE"])
def test_certificate_without_the_permission(signing: Signing, cst: str, permissions: str) -> None:
    """Bit 0: may sign containers."""
    data = Bench(signing, cst, "p256", sgk="p256").run(permissions=permissions)
    refused(data, 0x400, check="certificate", match="bit 0")


@both_csts
def test_srk_without_the_flag_of_a_ca(signing: Signing, cst: str) -> None:
    """It signs a certificate even so."""
    bench = Bench(signing, cst, "p256")
    more = {name: data for name, data in files_of("p256", sgk="p256").items() if "SGK" in name}
    refused(bench.run(files=more, sgk=True), 0x400, check="certificate", match="flag CA")


def test_version_of_the_description_differs_from_the_container_s(signing: Signing) -> None:
    """Of the other version are table, block and certificate then."""
    old = Bench(signing, "4.0.1", version=0)
    data = old.run(version="2.0", files={"crts/table.bin": table_of("p256", version=2)})
    refused(data, 0x400, check=None, match="signature block has the version 1|has an SRK array")
    new = Bench(signing, "4.0.1", version=2)
    data = new.run(version="1.0", files={"crts/table.bin": table_of("p256")})
    refused(data, 0x4000, check=None, match="has an SRK table")
    new = Bench(signing, "3.4.1", version=2)
    data = new.run(version="2.0", files={"crts/table.bin": table_of("p256")})
    refused(data, 0x4000, check=None, match="has an SRK table")


@both_csts
def test_mode_hsm_leaves_a_placeholder(signing: Signing, cst: str) -> None:
    """The signature is made elsewhere, from sig_req.txt, and put in later."""
    bench = Bench(signing, cst)
    text = description(OFFSETS).replace("[Install SRK]", "    Mode = HSM\n[Install SRK]", 1)
    error = refused(bench.run(text=text), 0x400, check="signature")
    assert "was not made with" in error.what


def secret_key(length: int) -> str:
    """The command that encrypts."""
    return f'[Install Secret Key]\n    Key = "dek.bin"\n    Key Length = {length}\n    Image Indexes = 0xFFFFFFFF\n'


@both_csts
@pytest.mark.parametrize("length", [128, 192, 256])
def test_encrypted_file_signed_again(signing: Signing, cst: str, length: int) -> None:
    """The blob is gone, and with it the key. Encrypted once, it holds, and what cannot be proved is told."""
    bench = Bench(signing, cst)
    encrypted = bench.run(text=description(OFFSETS) + secret_key(length))
    found = ahab.verify(encrypted, 0x400)
    assert found.encrypted == (0, 1)
    (note,) = found.notes
    assert "images 0, 1 are encrypted" in note
    assert "placeholder" in note
    block = found.container.block
    assert block is not None
    assert block.blob is not None
    assert len(block.blob.raw) == 56 + length // 8
    again = bench.run(files={"flash.bin": encrypted})
    refused(again, 0x400, check="blob", match="image 0 .* is encrypted, but the container has no blob")
