"""Encrypted images are for one chip each: what can be proven of them is, the rest is said, and nobody signs them anew.

As in uboot-imx, doc/imx/habv4/guides/mx8m_encrypted_boot.txt: the ciphertext is signed, then decrypted in place.
"""

from __future__ import annotations

import functools

from digsigd import hab
from digsigd.image.plan import plan
from digsigd.image.report import Report
from tests.helpers import golden
from tests.helpers.forge import decrypt, secret_key
from tests.helpers.signed_images import Maker, failing, judged, signed

MAC = bytes([0, 12, 16, 0]) + bytes(range(28))
KEY_BLOB = b"\x81\x00\x58\x43" + bytes(range(0x54))
FIT_KEY = 0x40400000


@functools.cache
def encrypted(*, with_key: bool = True) -> bytes:
    """flash.bin with SPL and FIT encrypted; `with_key` says whether the board has put its key there already."""
    parts, _ = golden.parts("mm")
    blob = golden.Part("dek_blob-1", KEY_BLOB.ljust(0x60, b"\0") if with_key else b"\x01" * 0x60, "script", FIT_KEY)
    config = golden.Config("config-1", "uboot-1", ("dek_blob-1", "atf-1", "tee-1"), ("fdt-1",))
    fit = golden.with_fit_ivt(golden.mkimage((*parts, blob), (config,), 0x3000), signed_tree=False)
    data = bytearray(golden.flash("mm", "nxp-old")[: golden.fit_offset("mm")] + fit)
    spl, found = plan(bytes(data)).signings
    key = spl.csf_offset + spl.csf_room
    if with_key:
        data[key : key + len(KEY_BLOB)] = KEY_BLOB
    address = spl.ivt.csf + 0x2000
    code = (spl.ivt.entry, spl.blocks[0].length - 0x40)
    images = [(block.address, block.length) for block in found.blocks[1:]]
    return signed(
        bytes(data),
        makers={
            "SPL": Maker(after=(secret_key(address, 0, 0), decrypt(0, MAC, code))),
            "FIT": Maker(after=(secret_key(FIT_KEY, 0, 0), decrypt(0, MAC, *images))),
        },
    )


def test_what_can_be_proven_is_and_it_does_not_hold() -> None:
    """SRK, certificates, commands, and the ciphertext as it was signed; the key is on the board alone."""
    for with_key in (True, False):
        report = judged(encrypted(with_key=with_key))
        assert isinstance(report, Report)
        assert not report.holds
        assert not report.fails, failing(report)
        assert [one.holds for one in report.csfs] == [True, True]
        assert {span.state for span in report.spans if span.must} == {"signed", "secret"}
        said = [(check.what, check.detail) for one in report.csfs for check in one.checks]
        assert ("Install Secret Key", "wrapped by one chip, in memory at 0x40400000") in said
        assert {check.holds for one in report.csfs for check in one.checks if "ecret" in check.what} == {None}
        assert {check.holds for one in report.csfs for check in one.checks if "Decrypt" in check.what} == {None}
        assert any("Decrypt Data" in one or "Install Secret Key" in one for one in report.plan.encrypted)


def test_ciphertext_that_is_decrypted_and_not_signed_is_neither_proven_nor_bare() -> None:
    """Its MAC is for the board to check; the header in front of it is signed."""
    data = golden.spl("mm")
    (spl,) = plan(data).signings
    block = spl.blocks[0]
    code = (spl.ivt.entry, block.length - 0x40)
    header = hab.Block(block.address, block.offset, 0x40)
    decrypts = (secret_key(spl.ivt.csf + 0x2000, 0, 0), decrypt(0, MAC, code))
    whole = signed(data + KEY_BLOB, makers={"SPL": Maker(blocks=lambda _: [header], after=decrypts)})
    report = judged(whole)
    assert isinstance(report, Report)
    assert not report.holds
    assert not report.fails, failing(report)
    assert [(span.offset, span.state) for span in report.spans if span.must] == [
        (0, "signed"),
        (0x20, "signed"),
        (0x40, "secret"),
    ]
    less = Maker(blocks=lambda _: [header], after=(decrypts[0], decrypt(0, MAC, (code[0], code[1] - 4))))
    short = judged(signed(data + KEY_BLOB, makers={"SPL": less}))
    assert isinstance(short, Report)
    assert short.fails


def test_a_changed_byte_of_ciphertext_or_commands_fails() -> None:
    """It is under a signature."""
    data = encrypted()
    for offset, length in plan(data).must:
        for place in (offset, offset + length - 1):
            changed = bytearray(data)
            changed[place] ^= 1
            report = judged(bytes(changed))
            assert isinstance(report, str) or report.fails


def test_ciphertext_under_a_csf_that_does_not_hold_is_under_nothing() -> None:
    """It is no longer what was encrypted; that of the other CSF still is."""
    data = bytearray(encrypted())
    spl, fit = plan(bytes(data)).signings
    data[spl.blocks[0].end - 1] ^= 1
    report = judged(bytes(data))
    assert isinstance(report, Report)
    states = {span.state for span in report.spans if span.must and span.offset < spl.csf_offset}
    assert states == {"open"}
    assert "secret" in {span.state for span in report.spans if span.offset > fit.csf_offset}


def test_the_commands_alone_tell_that_an_image_is_encrypted() -> None:
    """Also where the ciphertext is not signed, or the CSF is one that nobody can read."""
    data = bytearray(encrypted(with_key=False))
    found = plan(bytes(data))
    assert len(found.encrypted) == 3
    data[found.signings[0].csf_offset + 0x300] ^= 0xFF
    assert len(plan(bytes(data)).encrypted) == 3


def test_decrypt_data_is_not_taken_where_nothing_says_so() -> None:
    """An image that is not encrypted has none."""
    report = judged(golden.flash("mm", "nxp-old"))
    assert isinstance(report, Report)
    assert report.plan.encrypted == ()
    assert report.fails
