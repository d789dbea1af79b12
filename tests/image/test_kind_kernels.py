"""Kernels: zImage and uImage of 32 bits, and what Digi's scripts make of arm64's Image."""

from __future__ import annotations

import tempfile

import pytest

from digsigd import hab
from digsigd.image.plan import plan
from tests.helpers import golden
from tests.helpers import golden_kinds as kinds
from tests.helpers.signed_images import Maker, signed
from tests.image.kinds_judged import at, blocks, is_good, planned, refused, report_of, why_not

LOAD = 0x12000000
Z, U = kinds.zimage(), kinds.kernel_uimage()
KINDS = {"zImage": Z, "uImage": U}


@pytest.mark.parametrize("name", KINDS)
def test_it_is_padded_and_gets_its_ivt(name: str) -> None:
    """mx6_mx7_secure_boot.txt, 3: at the size in the header, rounded up to 4 KiB."""
    data = KINDS[name]
    found = planned(data, load_address=LOAD)
    assert blocks(found) == [(LOAD, 0, 0x5B020)]
    assert (found.signings[0].csf_offset, found.size) == (0x5B020, 0x5B000 + 0x2000)
    whole = signed(data, found)
    assert whole[0x5B000:0x5B020] == kinds.with_ivt(data, LOAD)[0x5B000:].replace(b"\x20\x40", b"\x20\x41", 1)
    is_good(whole)
    assert "0x5d000 0x5b000" in " ".join(found.notes)


@pytest.mark.parametrize("entry", [0, 4, 0x100, 0x5AFFC])
@pytest.mark.parametrize("name", KINDS)
def test_an_ivt_that_is_there_stays(name: str, entry: int) -> None:
    """Its entry point is anywhere in the image: Digi's is at 0x100."""
    data = kinds.with_ivt(KINDS[name], LOAD, entry=entry)
    found = planned(data)
    assert not found.patches
    assert planned(data, load_address=LOAD).signings == found.signings
    is_good(signed(data))


def test_a_kernel_of_64_bits_by_digi_holds() -> None:
    """Entry point at load + 0x100, and its CSF is padded by 0x20 more."""
    data = kinds.with_ivt(golden.kernel().ljust(0x210000, b"\0"), 0x40480000, entry=0x100)
    whole = signed(data)
    is_good(whole)
    is_good(whole + bytes(0x20))
    assert planned(data).chip is None


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (at(Z, 0x2C, 0x5B124), "The file is truncated"),
        (at(Z, 0x28, 0x5B124), "The file is truncated"),
        (at(Z, 0x2C, 0x20), "The file is truncated"),
        (Z[:-1], "The file is truncated"),
        (U[:-1], "the file ends at"),
        (at(U, 0x0C, b"\1"), "has the CRC"),
        (Z + b"\xd0\x0d\xfe\xed" + b"\x13" * 0x2000, "with nothing appended"),
        (kinds.with_ivt(Z, LOAD, entry=0x5B000), "with the entry point 0x1205b000"),
        (kinds.with_ivt(Z, LOAD + 0x10), "IVT"),
        (at(kinds.with_ivt(Z, LOAD), 0x5B00C, 4), "U-Boot does not accept the IVT at"),
        (at(kinds.with_ivt(Z, LOAD), 0x5B010, 4), "U-Boot does not accept the IVT at"),
        (at(kinds.with_ivt(Z, LOAD), 0x5B018, LOAD), "U-Boot does not accept the IVT at"),
    ],
)
def test_a_kernel_that_was_changed_is_refused(data: bytes, says: str) -> None:
    """U-Boot looks for the IVT by the header, and for nothing else."""
    assert says in refused(data, load_address=LOAD)


def test_a_crc_that_does_not_fit_is_told() -> None:
    """Bootm compares it."""
    assert any("have the CRC" in note for note in planned(at(U, 0x100, b"\x13"), load_address=LOAD).notes)
    assert not any("have the CRC" in note for note in planned(U, load_address=LOAD).notes)


def test_addresses_and_chips_are_asked_for() -> None:
    """Nothing in a kernel tells them."""
    for data in KINDS.values():
        assert "Pass the load address" in refused(data)
        assert "different ways" in planned(data, load_address=LOAD).ask
        assert planned(data, "imx6ull", load_address=LOAD).ask == ""
        assert "i.MX 8M Mini was given" in refused(data, "imx8mm", load_address=LOAD)
        assert "is not a 32-bit address" in refused(data, load_address=LOAD + 4)
        assert "the load address 0x80800000 was given" in refused(kinds.with_ivt(data, LOAD), load_address=0x80800000)
        assert "has no DCD" in refused(data, load_address=LOAD, sdp=0x910000)
        assert "configuration 'conf-1' does not exist" in refused(data, load_address=LOAD, configuration="conf-1")
    assert "i.MX 6ULL was given" in refused(golden.kernel(), "imx6ull", load_address=LOAD)
    arm64 = kinds.uimage(golden.kernel(), load=0x40480000, arch=22)
    assert planned(arm64, load_address=LOAD).ask == ""


@pytest.mark.parametrize("name", KINDS)
def test_no_changed_byte_holds(name: str) -> None:
    """From the first of the kernel to the last of its IVT."""
    good = signed(kinds.with_ivt(KINDS[name], LOAD))
    is_good(good)
    for place in (0, 0x24, 0x2C, 0x5A123, 0x5AFFF, 0x5B000, 0x5B004, 0x5B01F):
        found = report_of(at(good, place, bytes([good[place] ^ 1])))
        assert isinstance(found, str) or not found.holds, f"{place:#x}"


def test_a_valid_csf_that_leaves_the_kernel_out_does_not_hold() -> None:
    """With the IVT and the entry point under it."""
    data = kinds.with_ivt(Z, LOAD)
    some = Maker(blocks=lambda _: [hab.Block(LOAD, 0, 0x100), hab.Block(LOAD + 0x5B000, 0x5B000, 0x20)])
    assert "not covered" in why_not(signed(data, makers={"zImage": some}))


def test_a_smaller_kernel_within_a_signed_one_does_not_hold() -> None:
    """A header that has its IVT, and its CSF, earlier."""
    small = signed(kinds.with_ivt(kinds.zimage(0x10124), LOAD))
    large = at(signed(kinds.with_ivt(Z, LOAD)), 0, small)
    is_good(small)
    assert "unknown data" in why_not(large) or "not" in why_not(large)


def test_kernels_beyond_64_mib_are_planned_in_little_memory() -> None:
    """In memory and in the file, which is mapped; the zeros of the padding cost nothing."""
    import mmap
    import tracemalloc

    size = 200 << 20
    with tempfile.TemporaryFile() as file:
        file.write(golden.kernel(size, 0x10000))
        file.truncate(100 << 20)
        file.flush()
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            found = plan(mapped, load_address=0x40480000)
            assert blocks(found) == [(0x40480000, 0, size + 0x20)]
    assert found.size == size + 0x2000
    tracemalloc.start()
    with tempfile.TemporaryFile() as file:
        file.write(golden.kernel(size, 0x10000).ljust(0x10000, b"\0"))
        file.truncate(size)
        file.seek(size)
        file.write(golden.ivt(0x40480000, 0x40480000 + size, 0x40480020 + size))
        file.flush()
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            assert not plan(mapped).patches
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 << 20
