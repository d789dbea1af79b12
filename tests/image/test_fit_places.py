"""Where a FIT, its IVTs and its CSFs just fit, and where they no longer do."""

from __future__ import annotations

import pytest

from digsigd.image.plan import plan
from tests.helpers import golden
from tests.image.test_plan_errors import refused

LIMIT = 1 << 32
EMBEDDED = golden.itb("mm", external=None)
KERNEL = golden.kernel()


@pytest.mark.parametrize("room", [0x3E0, 0x400, 0x404])
def test_the_csf_of_a_fit_has_0x400_bytes_at_least(room: int) -> None:
    """Between its IVT and the first image; the tree's own signature the same."""
    one = golden.with_fit_ivt(golden.itb("mm", external=0x1020 + room), signed_tree=False)
    two = golden.with_fit_ivt(golden.itb("mm", external=0x3020 + room))
    if room < 0x400:
        assert "no room for a CSF" in refused(one)
        assert f"only {room:#x} bytes for its CSF before uboot-1" in refused(two)
    else:
        assert [part.csf_room for part in plan(one).signings] == [room]
        assert [part.csf_room for part in plan(two).signings] == [0x1FE0, room]


def test_the_rooms_end_0x2000_behind_their_ivts() -> None:
    """Whatever is free behind them."""
    one = golden.with_fit_ivt(golden.itb("mm", external=0x6000), signed_tree=False)
    assert [part.csf_room for part in plan(one).signings] == [0x1FE0]
    two = golden.with_fit_ivt(golden.itb("mm", external=0x6000))
    assert [part.csf_room for part in plan(two).signings] == [0x1FE0, 0x1FE0]


def test_an_ivt_for_the_tree_needs_its_own_place() -> None:
    """What begins like one where U-Boot is, is U-Boot."""
    fit = golden.with_fit_ivt(golden.itb("mm", external=0x3020))
    assert "only 0x0 bytes for its CSF" in refused(fit)
    short = golden.with_fit_ivt(golden.itb("mm", external=0x301C), signed_tree=False)
    assert [part.name for part in plan(short).signings] == ["FIT"]


def test_a_load_address_is_on_a_multiple_of_4_and_has_all_of_the_fit_below_4_gib() -> None:
    """With the room for its CSF."""
    last = LIMIT - 0x2000 - golden.aligned(len(EMBEDDED), 0x1000)
    assert plan(EMBEDDED, load_address=last).signings[0].blocks[0].address == last
    external = golden.itb("mm", external=0x3000)
    for address in (last + 4, last - 1, last - 2, last - 3, -4, LIMIT):
        for data in (EMBEDDED, external) if address != last + 4 else (EMBEDDED,):
            assert f"the load address {address:#x} is not a 32-bit address" in refused(data, load_address=address)
    last = LIMIT - 0x3000
    assert "not right before uboot-1" in refused(external, load_address=last)
    assert "is not a 32-bit address" in refused(external, load_address=last + 4)
    assert plan(EMBEDDED, load_address=0).signings[0].blocks[0].address == 0


def test_a_fit_with_external_data_is_up_to_1_mib_before_u_boot() -> None:
    """And its end at most right there."""
    external = golden.itb("mm", external=0x3000)
    first, last = 0x40200000 - 0x1000 - 0x100000, 0x40200000 - 0x3000
    for address in (first, last):
        assert plan(external, load_address=address).signings[0].blocks[0].address == address
    assert "not right before uboot-1" in refused(external, load_address=first - 4)
    assert "over the FIT's tree" in refused(external, load_address=last + 4)


def test_a_kernel_is_loaded_to_a_page_and_has_all_of_it_below_4_gib() -> None:
    """With the room for its CSF."""
    last = LIMIT - 0x2000 - 0x210000
    for address in (0, last):
        assert plan(KERNEL, load_address=address).signings[0].blocks[0].address == address
    for address in (last + 0x1000, last - 0x800, last + 4, -0x1000):
        assert f"the load address {address:#x} is not a 32-bit address" in refused(KERNEL, load_address=address)


def test_an_ivt_that_has_the_start_of_its_fit_below_zero_is_refused() -> None:
    """There is no such memory."""
    assert "puts the FIT at -0x1000" in refused(golden.binman_fit(EMBEDDED, -0x1000))
    assert plan(golden.binman_fit(EMBEDDED, 0)).signings[0].blocks[0].address == 0


def test_images_may_be_loaded_right_before_and_right_behind_the_fit() -> None:
    """Which ends with the room for its CSF."""
    size = golden.aligned(len(EMBEDDED), 0x1000) + 0x2000
    before = 0x40200000 - size
    assert plan(golden.binman_fit(EMBEDDED, before)).signings
    assert "over the FIT's tree" in refused(golden.binman_fit(EMBEDDED, before + 4))
    # U-Boot is loaded to 0x40200000, and the device tree right behind it.
    end = 0x40200000 + 0x9AAC8 + 0x6DC0 + 0x51
    assert plan(golden.binman_fit(EMBEDDED, golden.aligned(end, 4))).signings
    assert "over the FIT's tree" in refused(golden.binman_fit(EMBEDDED, golden.aligned(end, 4) - 4))
