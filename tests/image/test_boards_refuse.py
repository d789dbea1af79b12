"""Images that boards refuse, or run unsigned bytes of, do not hold: every signature in them is valid."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

import pytest

from digsigd import hab
from digsigd.image.model import Signing as Part
from digsigd.image.plan import plan
from digsigd.image.report import Report
from tests.helpers import golden
from tests.helpers.forge import forge, install, install_srk, named, other
from tests.helpers.signed_images import KEYS, OTHER_KEYS, UNLOCK_MID, Maker, failing, holds, judged, signed

NEW = golden.flash("mm", "nxp-new")
OLD = golden.flash("mm", "nxp-old")
BINMAN = golden.flash("mm", "binman")


@pytest.mark.parametrize("data", [NEW, OLD, BINMAN], ids=["new", "old", "binman"])
def test_signed_as_they_are_they_hold(data: bytes) -> None:
    """What is refused below is refused for the one thing that is changed there."""
    assert holds(signed(data)), failing(judged(signed(data)))


OTHER_KEY = {
    "SRK": OTHER_KEYS,
    "CSF key": replace(KEYS, csf=named("another CSF key", KEYS.srk, serial=98)),
    "IMG key": replace(KEYS, img=named("another IMG key", KEYS.srk, serial=99)),
}


@pytest.mark.parametrize("name", OTHER_KEY)
@pytest.mark.parametrize("data", [NEW, OLD, BINMAN], ids=["new", "old", "binman"])
def test_another_key_in_a_slot_that_is_taken_does_not_hold(data: bytes, name: str) -> None:
    """HAB keeps the keys of the SPL's CSF, and refuses others in their places (HAB_INV_INDEX)."""
    report = judged(signed(data, makers={"FIT": Maker(OTHER_KEY[name])}))
    assert isinstance(report, Report)
    assert all(one.holds for one in report.csfs)
    assert not report.holds
    kind = {"IMG key": "key 2"}.get(name, name)
    assert f"the {kind} of the FIT differs from that of the SPL: HAB keeps the first" in " ".join(failing(report))


def test_the_keys_of_a_csf_that_does_not_hold_are_not_compared() -> None:
    """What is wrong with it comes first."""
    data = bytearray(signed(OLD, makers={"FIT": Maker(OTHER_KEYS)}))
    data[plan(OLD).signings[1].blocks[1].offset] ^= 1
    says = " ".join(failing(judged(bytes(data))))
    assert "Authenticate Data" in says
    assert "one set of keys" not in says


def test_the_fit_fdt_csf_keeps_the_keys_too() -> None:
    """SPLs that ask for it run it before the FIT's."""
    report = judged(signed(NEW, makers={"FIT-FDT": Maker(OTHER_KEYS)}))
    assert "the SRK of the FIT-FDT differs from that of the SPL" in " ".join(failing(report))


COMMANDS = {
    "Write Data": other(0xCC, 0x04, bytes(8)),
    "Check Data": other(0xCF, 0x04, bytes(12)),
    "Set": other(0xB1, 0x01, bytes([0, 0x17, 0x1D, 0])),
}


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("data", [OLD, BINMAN], ids=["old", "binman"])
def test_commands_that_u_boot_refuses_fail_where_it_looks(data: bytes, name: str) -> None:
    """csf_is_valid: Write Data, Check Data, Set MID; in the SPL's CSF, only the ROM sees them."""
    maker = Maker(before=(COMMANDS[name],))
    report = judged(signed(data, makers={"FIT": maker}))
    assert isinstance(report, Report)
    assert not report.holds
    assert any(name in one for one in failing(report)), failing(report)


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_that_u_boot_refuses_are_not_refused_where_only_the_rom_looks(name: str) -> None:
    """The SPL's CSF."""
    assert "U-Boot" not in " ".join(failing(judged(signed(OLD, makers={"SPL": Maker(before=(COMMANDS[name],))}))))


def with_fit(fit: bytes, layout: str = "nxp-old") -> bytes:
    """The golden flash.bin with another FIT in its place."""
    whole = golden.flash("mm", layout)
    place = golden.fit_offset("mm")
    head = whole[:place]
    if layout == "binman":
        return head + golden.binman_fit(fit) + bytes(0x1FE0)
    return head + golden.with_fit_ivt(fit, signed_tree=False)


def fit_of(
    external: int | None, *others: golden.Part, extra: tuple[golden.Part, ...] = (), first: bool = True
) -> bytes:
    """The golden FIT with other images of these names, and more of them before or behind all."""
    found, configs = golden.parts("mm")
    made = tuple(next((one for one in others if one.name == part.name), part) for part in found)
    return golden.mkimage((*extra, *made) if first else (*made, *extra), configs, external)


def part(name: str) -> golden.Part:
    return next(one for one in golden.parts("mm")[0] if one.name == name)


KEPT = pytest.mark.parametrize(
    ("external", "layout"), [(0x3000, "nxp-old"), (None, "binman")], ids=["external", "embedded"]
)


@KEPT
@pytest.mark.parametrize("name", ["atf-1", "uboot-1", "fdt-1", "tee-1"])
@pytest.mark.parametrize("first", [True, False])
def test_images_that_libfdt_takes_for_another_do_not_hold(
    external: int | None, layout: str, name: str, first: bool
) -> None:
    """It takes the first node of a name, whatever follows an @; the signature would go over the other."""
    double = replace(part(name), name=f"{name}@0", data=golden.filler("evil", 0x8000))
    data = with_fit(fit_of(external, extra=(double,), first=first), layout)
    says = judged(data)
    assert isinstance(says, str)
    assert f"{name}@0: U-Boot takes the first of them" in says


@KEPT
@pytest.mark.parametrize("name", ["images", "configurations"])
def test_parts_of_a_fit_that_libfdt_takes_for_another_do_not_hold(external: int | None, layout: str, name: str) -> None:
    """`configurations@0` before `configurations`, say."""
    fit = fit_of(external)
    at = fit.index(b"\0\0\0\x01" + name.encode() + b"\0")
    size, structure = struct.unpack_from(">2I", fit, 4)
    node = b"\0\0\0\x01" + (name + "@0").encode()
    node = node.ljust(-(-(len(node) + 1) // 4) * 4, b"\0") + b"\0\0\0\x02"
    strings = struct.unpack_from(">I", fit, 12)[0]
    structure_size = struct.unpack_from(">I", fit, 36)[0]
    tree = bytearray(fit[:at] + node + fit[at:size])
    struct.pack_into(">I", tree, 4, size + len(node))
    struct.pack_into(">I", tree, 12, strings + len(node))
    struct.pack_into(">I", tree, 36, structure_size + len(node))
    assert structure < at < strings
    whole = bytes(tree) + (fit[len(tree) :] if external else b"")
    says = judged(with_fit(whole, layout))
    assert isinstance(says, str)
    assert f"{name}@0: U-Boot takes the first of them" in says


def test_names_with_unit_addresses_of_old_imx_mkimage_hold() -> None:
    """uboot@1 and its like are found by their whole names."""
    found, (config,) = golden.parts("mm")
    made = tuple(replace(one, name=one.name.replace("-", "@")) for one in found)
    config = golden.Config("config@1", "uboot@1", ("atf@1", "tee@1"), ("fdt@1",))
    data = with_fit(golden.mkimage(made, (config,), 0x3000))
    assert holds(signed(data)), failing(judged(signed(data)))


@KEPT
@pytest.mark.parametrize(
    "change",
    [
        {"entry": 0x40480000},
        {"entry": 0x920000 - 4},
        {"entry": 0x920000 + 0x9139},
        {"entry": 0x920000 + 0x9138 - 3},
        {"entry": 0xFFFFFFFF},
    ],
)
def test_an_entry_point_where_nothing_is_signed_does_not_hold(
    external: int | None, layout: str, change: dict[str, int]
) -> None:
    """The first image with one says where SPL jumps to."""
    data = with_fit(fit_of(external, replace(part("atf-1"), entry=change["entry"])), layout)
    inside = change["entry"] + 4 <= 0x920000 + 0x9139 and change["entry"] >= 0x920000
    if inside:
        assert holds(signed(data))
    else:
        assert "nothing loaded and signed is at that address" in str(judged(data))


def test_the_last_instruction_of_an_image_may_be_the_first_that_runs() -> None:
    """One that begins a byte later is not all there."""
    for entry, good in ((0x920000 + 0x9135, True), (0x920000 + 0x9136, False)):
        says = judged(with_fit(fit_of(0x3000, replace(part("atf-1"), entry=entry))))
        assert isinstance(says, Report) is good, says


def test_what_is_compressed_starts_where_it_is_loaded() -> None:
    """No other byte of it has a place that is known."""
    for entry, good in ((0x920000, True), (0x920001, False), (0x920004, False), (0x91FFFC, False)):
        packed = replace(part("atf-1"), entry=entry, compression="gzip")
        says = judged(with_fit(fit_of(None, packed), "binman"))
        assert isinstance(says, Report) is good, says


@KEPT
def test_the_firmware_s_own_entry_point_counts_first(external: int | None, layout: str) -> None:
    """That of others is not looked at then."""
    evil = with_fit(fit_of(external, replace(part("uboot-1"), entry=0x41000000)), layout)
    assert "starts at 0x41000000, the entry point of uboot-1" in str(judged(evil))
    good = fit_of(
        external,
        replace(part("uboot-1"), entry=0x40200100),
        replace(part("atf-1"), entry=0x41000000),
    )
    assert holds(signed(with_fit(good, layout)))


@KEPT
def test_an_entry_point_of_zero_ends_the_search(external: int | None, layout: str) -> None:
    """SPL starts what it loaded first then, and does not look at the entry points of others."""
    changed = [replace(part("atf-1"), entry=0), replace(part("tee-1"), entry=0x41000000)]
    data = with_fit(fit_of(external, *changed), layout)
    assert holds(signed(data)), failing(judged(signed(data)))


@KEPT
def test_an_entry_point_that_says_there_is_none_is_passed_over(external: int | None, layout: str) -> None:
    """FDT_ERROR, all bits set; that of the next image counts."""
    none = (0xFFFFFFFF, 0xFFFFFFFF)
    assert holds(signed(with_fit(two_cells(fit_of(external), "atf-1", "entry", none), layout)))
    evil = two_cells(fit_of(external, replace(part("tee-1"), entry=0x41000000)), "atf-1", "entry", none)
    assert "starts at 0x41000000, the entry point of tee-1" in str(judged(with_fit(evil, layout)))


@KEPT
def test_without_any_entry_point_spl_starts_what_it_loaded_first(external: int | None, layout: str) -> None:
    """Where it loaded that to."""
    none = [replace(part(name), entry=None) for name in ("atf-1", "tee-1")]
    assert holds(signed(with_fit(fit_of(external, *none), layout)))


@pytest.mark.parametrize("name", ["data-size", "data-position"])
def test_numbers_of_two_cells_that_u_boot_reads_by_half_do_not_hold(name: str) -> None:
    """It takes the first cell, whatever the length says: another place, or another size."""
    fit = fit_of(0x3000)
    strings = struct.unpack_from(">I", fit, 12)[0]
    offset = fit.index(name.encode() + b"\0", strings) - strings
    value = struct.unpack_from(">I", fit, fit.index(struct.pack(">3I", 3, 4, offset)) + 12)[0]
    for cells in ((0, value), (value, 0)):
        says = str(judged(with_fit(two_cells(fit, "uboot-1", name, cells))))
        assert f"the property {name!r} of 'uboot-1'" in says
        assert "has 8 bytes, not 4" in says


@KEPT
def test_addresses_of_two_cells_are_read_as_u_boot_does(external: int | None, layout: str) -> None:
    """Loads always; entry points since v2021.01, so both ways of reading have to lead to what is signed."""
    fit = fit_of(external)
    wide = {"load": (0, 0x920000), "entry": (0, 0x920000)}
    for name, cells in wide.items():
        made = two_cells(fit, "atf-1", name, cells)
        data = with_fit(made, layout)
        # Before v2021.01 the TEE's entry point is the first one: it is signed, so either way is right.
        assert holds(signed(data)), failing(judged(signed(data)))
    evil = two_cells(fit_of(external, replace(part("tee-1"), entry=0x41000000)), "atf-1", "entry", (0, 0x920000))
    assert "starts at 0x41000000, the entry point of tee-1" in str(judged(with_fit(evil, layout)))
    wide_evil = two_cells(fit, "atf-1", "entry", (0, 0x41000000))
    assert "starts at 0x41000000, the entry point of atf-1" in str(judged(with_fit(wide_evil, layout)))
    high = two_cells(fit, "atf-1", "load", (1, 0x920000))
    assert "but HAB only has 32-bit addresses" in str(judged(with_fit(high, layout)))


def two_cells(fit: bytes, image: str, name: str, cells: tuple[int, int]) -> bytes:
    """The FIT with a number of two cells in a property of an image."""
    size = golden.tree_size(fit)
    node = fit.index(image.encode() + b"\0")
    strings = struct.unpack_from(">I", fit, 12)[0]
    offset = fit.index(name.encode() + b"\0", strings) - strings
    at = fit.index(struct.pack(">3I", 3, 4, offset), node)
    property_ = struct.pack(">3I2I", 3, 8, offset, *cells)
    tree = bytearray(fit[:at] + property_ + fit[at + 16 : size])
    structure_size = struct.unpack_from(">I", fit, 36)[0]
    struct.pack_into(">I", tree, 4, size + 4)
    struct.pack_into(">I", tree, 12, strings + 4)
    struct.pack_into(">I", tree, 36, structure_size + 4)
    return bytes(tree) + fit[len(tree) :]


def kernel_fit(**changed: object) -> bytes:
    """A FIT with a kernel, as U-Boot's bootm takes it, with its IVT."""
    kernel = golden.Part("kernel-1", golden.filler("linux", 0x10000), "kernel", 0x40480000, 0x40480000, os="linux")
    tree = golden.Part("fdt-1", golden.filler("dtb", 0x1000), "flat_dt", 0x43000000)
    config = golden.Config("conf-1", None, (), ("fdt-1",), kernel="kernel-1")
    fit = golden.mkimage((replace(kernel, **changed), tree), (config,), None)  # type: ignore[arg-type]
    return golden.binman_fit(fit, 0x48000000) + bytes(0x1FE0)


def test_a_kernel_starts_where_it_is_loaded() -> None:
    """U-Boot jumps to its entry point; what is compressed or moved is elsewhere."""
    for changed in ({}, {"entry": 0x4048FFFC}, {"entry": None}, {"compression": "gzip", "entry": 0x40490000}):
        assert holds(signed(kernel_fit(**changed))), changed
    moved = kernel_fit(kind="kernel_noload", load=0, entry=0)
    assert holds(signed(moved)), failing(judged(signed(moved)))
    for entry in (0x4047FFFC, 0x4048FFFD, 0x41000000):
        assert "nothing loaded and signed is at the entry point" in str(judged(kernel_fit(entry=entry)))
    early = kernel_fit(compression="gzip", entry=0x40480000 - 4)
    assert "nothing loaded and signed is at the entry point" in str(judged(early))


def test_a_kernel_that_stays_where_it_is_has_no_load_address_that_counts() -> None:
    """Bootm ignores it, and counts the entry point from where the kernel is."""
    assert holds(signed(kernel_fit(kind="kernel_noload", load=0x40480000, entry=0)))
    for changed in ({"load": None}, {"load": None, "entry": None}):
        assert isinstance(judged(kernel_fit(**changed)), Report)


def test_a_compressed_kernel_may_start_where_it_is_loaded() -> None:
    """Its size is another one then."""
    assert holds(signed(kernel_fit(compression="gzip")))


def test_a_kernel_is_not_loaded_over_the_fit_that_it_is_in() -> None:
    """Where HAB may look again; an empty image is loaded nowhere."""
    assert "over the FIT's tree" in str(judged(kernel_fit(load=0x48000000, entry=0x48000000)))
    kernel = golden.Part("kernel-1", golden.filler("linux", 0x10000), "kernel", 0x40480000, 0x40480000, os="linux")
    empty = golden.Part("ramdisk-1", b"", "ramdisk", 0x48001000)
    fit = golden.mkimage((kernel, empty), (golden.Config("conf-1", None, (), (), kernel="kernel-1"),), None)
    data = golden.binman_fit(fit, 0x48000000) + bytes(0x1FE0)
    assert holds(signed(data)), failing(judged(signed(data)))


def test_a_fit_with_a_kernel_may_have_configurations_without_one() -> None:
    """Yocto's have one for each overlay, which bootm takes beside that of the kernel."""
    kernel = golden.Part("kernel-1", golden.filler("linux", 0x10000), "kernel", 0x40480000, 0x40480000, os="linux")
    overlay = golden.Part("fdt-2", golden.filler("dtbo", 0x100), "flat_dt")
    configs = (golden.Config("conf-1", None, (), (), kernel="kernel-1"), golden.Config("conf-2", None, (), ("fdt-2",)))
    for order in (configs, configs[::-1]):
        data = golden.binman_fit(golden.mkimage((kernel, overlay), order, None), 0x48000000) + bytes(0x1FE0)
        assert holds(signed(data)), failing(judged(signed(data)))


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_that_u_boot_refuses_fail_in_front_of_a_kernel(name: str) -> None:
    """It looks at every CSF that it has HAB check."""
    data = golden.kernel_with_ivt()
    assert holds(signed(data))
    assert not holds(signed(data, makers={"kernel": Maker(before=(COMMANDS[name],))}))


@KEPT
def test_a_configuration_without_a_description_does_not_hold(external: int | None, layout: str) -> None:
    """SPL gives up when it comes to one."""
    fit = fit_of(external)
    at = fit.index(b"configurations\0")
    place = fit.index(b"a configuration\0", at)
    made = bytearray(fit)
    made[place - 12 : place + 16] = struct.pack(">I", 4) * 7
    assert "has no description" in str(judged(with_fit(bytes(made), layout)))


@KEPT
@pytest.mark.parametrize(
    ("name", "load"),
    [("atf-1", 0x40200000 + 0x9AAC0), ("tee-1", 0x920000 + 0x1000), ("tee-1", 0x40200000 + 0x9AAC8 + 0x10)],
    ids=["over U-Boot", "over ATF", "over the device tree"],
)
def test_images_over_one_another_do_not_hold(external: int | None, layout: str, name: str, load: int) -> None:
    """The last that is loaded stays, and the others are not what was signed."""
    made = replace(part(name), load=load, entry=load)
    assert "they overlap" in str(judged(with_fit(fit_of(external, made), layout)))


@KEPT
def test_a_device_tree_with_an_address_is_loaded_there(external: int | None, layout: str) -> None:
    """And not behind U-Boot, where another image may be then."""
    tee = replace(part("tee-1"), load=0x40200000 + 0x9AAC8, entry=0x40200000 + 0x9AAC8)
    data = with_fit(fit_of(external, replace(part("fdt-1"), load=0x43000000), tee), layout)
    assert holds(signed(data)), failing(judged(signed(data)))
    over = with_fit(fit_of(external, replace(part("fdt-1"), load=0x920000)), layout)
    assert "they overlap" in str(judged(over))


def test_a_fit_with_embedded_data_needs_no_device_tree_that_spl_has_a_place_for() -> None:
    """It is signed where it is, before SPL loads anything from it."""
    found, (config,) = golden.parts("mm")
    bare = golden.mkimage(found, (replace(config, fdt=()),), None)
    for fit in (
        bare,
        fit_of(None, replace(part("uboot-1"), os="linux")),
        fit_of(None, replace(part("atf-1"), os="u-boot")),
    ):
        data = with_fit(fit, "binman")
        assert holds(signed(data)), failing(judged(signed(data)))


@KEPT
def test_images_right_behind_one_another_hold(external: int | None, layout: str) -> None:
    """No byte of one is where another is."""
    for load in (0x920000 + 0x9139, 0x920000 - 0x4D268):
        made = replace(part("tee-1"), load=load, entry=load)
        data = with_fit(fit_of(external, made), layout)
        assert holds(signed(data)), failing(judged(signed(data)))
    for load in (0x920000 + 0x9138, 0x920000 - 0x4D267):
        made = replace(part("tee-1"), load=load, entry=load)
        assert "they overlap" in str(judged(with_fit(fit_of(external, made), layout)))


@KEPT
def test_an_image_may_end_with_the_memory_that_hab_knows(external: int | None, layout: str) -> None:
    """32 bits of addresses."""
    last = (1 << 32) - 0x4D268
    for load, good in ((last, True), (last + 1, False)):
        data = with_fit(fit_of(external, replace(part("tee-1"), load=load, entry=load)), layout)
        if good:
            assert holds(signed(data)), failing(judged(signed(data)))
        else:
            assert "but HAB only has 32-bit addresses" in str(judged(data))


@KEPT
def test_a_fit_for_an_fpga_does_not_hold(external: int | None, layout: str) -> None:
    """SPLs with CONFIG_SPL_FPGA load a bitstream before all else."""
    fit = fit_of(external)
    name = fit.index(b"loadables\0", struct.unpack_from(">I", fit, 12)[0])
    assert "has a bitstream for an FPGA" in str(judged(with_fit(fit[:name] + b"fpga\0" + fit[name + 5 :], layout)))


@KEPT
def test_an_image_over_the_spl_does_not_hold(external: int | None, layout: str) -> None:
    """It runs while it loads."""
    made = replace(part("atf-1"), load=0x7E1000, entry=0x7E1000)
    assert "over the SPL that loads it" in str(judged(with_fit(fit_of(external, made), layout)))


@KEPT
def test_firmware_for_hdmi_in_front_of_another_chip_s_spl_does_not_hold(external: int | None, layout: str) -> None:
    """Its ROM would take that for the image."""
    place = golden.fit_offset("mm")
    front = golden.signed_hdmi()[0x400:].ljust(0x1A000, b"\0")
    data = front + golden.spl("mm").ljust(place - 0x1A000, b"\0") + with_fit(fit_of(external), layout)[place:]
    assert "which only i.MX 8M Quad has" in str(judged(data))


@KEPT
def test_empty_images_hold_where_spl_passes_over_them(external: int | None, layout: str) -> None:
    """Builds without a TEE or a FIP leave them, in configurations or not."""
    found, (config,) = golden.parts("mm")
    empty = golden.Part("fip", b"", "firmware", 0x40310000)
    for loadables in (config.loadables, (*config.loadables, "fip")):
        fit = golden.mkimage((*found, empty), (replace(config, loadables=loadables),), external)
        data = with_fit(fit, layout)
        assert holds(signed(data)), failing(judged(signed(data)))


@KEPT
def test_empty_images_do_not_hold_where_spl_needs_them(external: int | None, layout: str) -> None:
    """As the first one, as its entry point, and as a device tree where it is signed by itself."""
    found, (config,) = golden.parts("mm")

    def judged_with(changed: golden.Config, entry: int | None) -> str:
        empty = golden.Part("fip", b"", "firmware", 0x40310000, entry)
        return str(judged(with_fit(golden.mkimage((*found, empty), (changed,), external), layout)))

    early = replace(config, loadables=("fip", *config.loadables))
    for entry in (None, 0x40310000):
        assert "starts with fip, which is empty" in judged_with(replace(config, firmware="fip"), entry)
    if external:
        # What SPL takes for its entry point is what was on the stack, or of the image before.
        for entry in (None, 0x40310000):
            assert "before any image that has an entry point" in judged_with(early, entry)
        assert "the device tree fip, which is empty" in judged_with(replace(config, fdt=("fip",)), None)
    else:
        assert "starts at 0x40310000, the entry point of fip" in judged_with(early, 0x40310000)
        assert judged_with(early, None).startswith("Report")


def test_what_the_rom_loads_in_front_of_the_spl_may_be_signed_with_it() -> None:
    """Binman signs the FlexSPI configuration too; bytes that the ROM does not load are not in memory."""
    data = golden.flash("mm", "binman", boot="flexspi")

    def front(count: int, *, apart: bool = False) -> Maker:
        def longer(part: Part) -> list[hab.Block]:
            (one,) = part.blocks
            if apart:
                return [hab.Block(one.address - count, one.offset - count, count), one]
            return [hab.Block(one.address - count, one.offset - count, one.length + count)]

        return Maker(blocks=longer)

    whole = signed(data, makers={"SPL": front(0x1000)})
    assert holds(whole), failing(judged(whole))
    assert not holds(b"\x55" + whole[1:])
    sd = golden.flash("mq", "nxp-old", hdmi=True)
    assert holds(signed(sd, makers={"SPL": front(0x400, apart=True)}))
    report = judged(signed(sd, makers={"SPL": front(0x800)}))
    assert "no part of this image is there in memory" in " ".join(failing(report))


@pytest.mark.parametrize(
    "data",
    [golden.spl("mm"), golden.spl("mq", hdmi=True), OLD],
    ids=["SPL", "behind HDMI firmware", "with a FIT"],
)
@pytest.mark.parametrize(("behind", "good"), [(-0x100, True), (-0x80, False), (0, False)])
def test_what_the_rom_loads_behind_the_csf_may_be_signed_and_no_more(data: bytes, behind: int, good: bool) -> None:
    """A signature over less than a block, at the end of the file, or over the FIT, is over other bytes than it has."""
    whole = signed(data, makers={"SPL": Maker(blocks=longer(behind))})
    assert len(whole) == len(data)
    assert holds(whole) is good


def longer(behind: int) -> Callable[[Part], list[hab.Block]]:
    """The blocks of a part, and one of 0x100 bytes around the end of the room for its CSF."""

    def blocks(part: Part) -> list[hab.Block]:
        end = part.csf_offset + part.csf_room
        return [*part.blocks, hab.Block(part.ivt.base + end + behind, end + behind, 0x100)]

    return blocks


def test_images_are_not_signed_where_the_file_has_them() -> None:
    """SPL loads the tree and the room for its CSF; all behind that goes elsewhere."""
    for behind, good in ((-0x100, True), (-0x80, False), (0, False)):
        whole = signed(OLD, makers={"FIT": Maker(blocks=longer(behind))})
        assert len(whole) == len(OLD)
        assert holds(whole) is good


def test_what_a_csf_asks_of_the_chip_is_judged_where_the_csf_holds() -> None:
    """Of the other one it is enough that it does not hold."""
    asked = "what it asks of the chip"
    for data, count in ((signed(OLD), 2), (signed(OLD, makers={"SPL": None}), 1)):
        report = judged(data)
        assert isinstance(report, Report)
        assert [(check.holds, check.detail) for check in report.checks if check.what == asked] == [
            (True, "engine ANY")
        ] * count


@pytest.mark.parametrize("count", [1, 3, 0x1000])
def test_a_part_may_be_signed_in_pieces_of_any_size(count: int) -> None:
    """Behind its header and at its end; the last byte counts as much as all others."""

    def pieces(part: Part) -> list[hab.Block]:
        (one,) = part.blocks
        bounds = (0, 0x400, 0x400 + count, one.length - count, one.length)
        return [hab.Block(one.address + a, one.offset + a, b - a) for a, b in pairwise(bounds)]

    whole = signed(BINMAN, makers={"SPL": Maker(blocks=pieces)})
    assert holds(whole), failing(judged(whole))
    end = plan(BINMAN).signings[0].csf_offset
    assert not holds(whole[: end - 1] + bytes([whole[end - 1] ^ 1]) + whole[end:])


@dataclass(frozen=True)
class TableLast(Maker):
    """Has other commands before Install SRK."""

    def blob(self, data: bytes, part: Part) -> bytes:
        """The CSF for this part of the file."""
        install_csf = install(self.keys.csf.der, 0, 1, flags=2)
        return forge(UNLOCK_MID, install_csf, install_srk(self.keys.table, self.keys.source))


def test_the_srk_table_is_found_wherever_its_command_is() -> None:
    """HAB refuses such a CSF, and the report says at which command; it still tells which fuses it is for."""
    report = judged(signed(OLD, makers={"SPL": TableLast()}))
    assert isinstance(report, Report)
    assert report.csfs[0].srk_table == KEYS.table
    assert not report.csfs[0].holds
    assert [check.what for check in report.csfs[0].checks if check.holds is False]


def test_an_srk_table_that_is_damaged_does_not_hold_and_has_no_fuse_value() -> None:
    """Another tag where a key begins: it is told, and the other CSF is judged all the same."""
    damaged = KEYS.table[:4] + b"\xe2" + KEYS.table[5:]
    report = judged(signed(OLD, makers={"SPL": Maker(replace(KEYS, table=damaged))}))
    assert isinstance(report, Report)
    assert [(one.holds, one.srk_table) for one in report.csfs] == [(False, None), (True, KEYS.table)]


@dataclass(frozen=True)
class Joined(Maker):
    """Signs U-Boot and what is loaded right behind it as one block, as it is in memory."""

    def blob(self, data: bytes, part: Part) -> bytes:
        """The CSF for this part of the file."""
        u_boot = next(block for block in part.blocks if block.address == golden.U_BOOT)
        tree = next(block for block in part.blocks if block.address == u_boot.address + u_boot.length)
        assert tree.offset != u_boot.end
        joined = hab.Block(u_boot.address, len(data), u_boot.length + tree.length)
        others = tuple(block for block in part.blocks if block not in (u_boot, tree))
        memory = data + data[u_boot.offset : u_boot.end] + data[tree.offset : tree.end]
        return super().blob(memory, replace(part, blocks=(*others, joined)))


def test_one_block_may_go_over_images_that_are_apart_in_the_file() -> None:
    """What counts is where they are in memory."""
    whole = signed(golden.flash("mm", "u-boot"), makers={"FIT": Joined()})
    assert holds(whole), failing(judged(whole))


@pytest.mark.parametrize("left_out", ["an image", "its first bytes", "its last bytes"])
def test_a_csf_over_less_than_its_part_does_not_hold(left_out: str) -> None:
    """However valid its signature."""

    def less(part: Part) -> list[hab.Block]:
        front, back = {"an image": (0, None), "its first bytes": (4, 0), "its last bytes": (0, 4)}[left_out]
        *rest, one = part.blocks
        if back is None:
            return rest
        return [hab.Block(one.address + front, one.offset + front, one.length - front - back), *rest]

    report = judged(signed(OLD, makers={"FIT": Maker(blocks=less)}))
    assert "all of this part is signed" in " ".join(failing(report))


@pytest.mark.parametrize("data", [NEW, OLD, BINMAN], ids=["new", "old", "binman"])
def test_no_byte_of_what_is_run_can_be_changed(data: bytes) -> None:
    """At the borders of each part, where mistakes of one byte show."""
    whole = signed(data)
    report = judged(whole)
    assert isinstance(report, Report)
    assert report.holds
    for region in report.plan.regions:
        for place in (region.offset, region.end - 1):
            changed = bytearray(whole)
            changed[place] ^= 0x80
            run = any(start <= place < start + length for start, length in report.plan.must)
            if run:
                assert not holds(bytes(changed)), (hex(place), region)
