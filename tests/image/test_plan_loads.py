"""What SPL loads from a FIT, and where to, is what is signed; where that is not known, nothing is."""

from __future__ import annotations

import struct
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from digsigd.image.plan import plan
from tests.helpers import golden
from tests.image.test_plan_errors import refused


def changed(**parts: golden.Part) -> bytes:
    """flash.bin's FIT, with other parts of these names; `_` in a name is for a dash."""
    found, configs = golden.parts("mm")
    names = {name.replace("_", "-"): part for name, part in parts.items()}
    return golden.with_fit_ivt(golden.mkimage(tuple(names.get(p.name, p) for p in found), configs, 0x5000))


def part(name: str) -> golden.Part:
    return next(one for one in golden.parts("mm")[0] if one.name == name)


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("uboot-1", {"compression": "gzip"}, "uboot-1, which is compressed (gzip)"),
        ("fdt-1", {"compression": "gzip"}, "fdt-1, which is compressed (gzip)"),
        ("atf-1", {"load": None}, "atf-1, which has no load address"),
        ("atf-1", {"load": 0x40200000}, "to 0x40200000: they overlap"),
        ("tee-1", {"load": 0x40200000 + 0x9AAC8}, "they overlap"),
        ("tee-1", {"load": 0xFFFFF000}, "but HAB only has 32-bit addresses"),
        (
            "atf-1",
            {"load": 0x401F2000, "entry": 0x401F2000},
            "over the FIT's tree, IVT and CSF, which are at 0x401fadc0 to 0x401ffdc0",
        ),
        ("tee-1", {"load": 0x401FADC0 - 0x4D267}, "over the FIT's tree"),
        ("uboot-1", {"os": "linux"}, "0 images that it could be for (no image has os = u-boot)"),
        ("atf-1", {"os": "u-boot"}, "2 images that it could be for (uboot-1, atf-1)"),
        ("uboot-1", {"os": "U-Boot"}, "whether SPL takes that for U-Boot"),
        ("atf-1", {"os": "U-BOOT"}, "whether SPL takes that for U-Boot"),
        (
            "uboot-1",
            {"data": golden.filler("odd", 0x9AAC4)},
            "which is not a multiple of 8: whether SPL puts fdt-1 right after",
        ),
    ],
)
def test_a_fit_that_is_not_loaded_as_it_is_signed_is_refused(name: str, change: dict[str, object], says: str) -> None:
    """What HAB would find in memory then is not known, or another thing. The file is what its author made of it."""
    error = refused(changed(**{name.replace("-", "_"): replace(part(name), **change)}))  # type: ignore[arg-type]
    assert says in error
    assert "is damaged" not in error


def test_device_trees_have_their_place() -> None:
    """Behind U-Boot, wherever that is among the images; at their own address where they have one."""
    found = plan(changed(fdt_1=replace(part("fdt-1"), load=0x43000000)))
    assert 0x43000000 in [block.address for block in found.signings[0].blocks]
    parts, _ = golden.parts("mm")
    u_boot = replace(parts[0], os="u-boot")
    atf = replace(parts[2], os="arm-trusted-firmware")
    config = golden.Config("one", "atf-1", ("uboot-1", "tee-1"), ("fdt-1",))
    fit = golden.mkimage((u_boot, parts[1], atf, parts[3]), (config,), 0x5000)
    found = plan(golden.with_fit_ivt(fit))
    assert 0x40200000 + 0x9AAC8 in [block.address for block in found.signings[0].blocks]
    bare = golden.Config("one", None, ("uboot-1", "atf-1"), ())
    found = plan(golden.with_fit_ivt(golden.mkimage(parts, (bare,), 0x5000)))
    assert [block.address for block in found.signings[0].blocks] == [0x401FADC0, 0x40200000, 0x920000]
    assert [region.name for region in found.regions if "not loaded" in region.name] == [
        "DTB (fdt-1), not loaded",
        "TEE (tee-1), not loaded",
    ]


def test_overlays_kernels_and_nothing_are_refused() -> None:
    """SPL changes the first before HAB looks, does not load the second, and cannot do with the third."""
    parts, _ = golden.parts("mm", dtbs=2)
    for config, says in (
        (golden.Config("one", "uboot-1", ("atf-1",), ("fdt-1", "fdt-2")), "has overlays (fdt-2)"),
        (golden.Config("one", None, (), ("fdt-1",), kernel="uboot-1"), "has a kernel"),
        (golden.Config("one", None, (), ("fdt-1",)), "has neither firmware nor loadables"),
    ):
        assert says in refused(golden.with_fit_ivt(golden.mkimage(parts, (config,), 0x5000)))


def test_keys_for_encrypted_boot_are_told_of_and_not_signed() -> None:
    """mkimage_fit_atf.sh with dek_blob_fit_dummy.bin."""
    parts, _ = golden.parts("mm", tee=False)
    blob = golden.Part("dek_blob-1", bytes(0x60), "script", 0x40400000)
    config = golden.Config("config-1", "uboot-1", ("dek_blob-1", "atf-1"), ("fdt-1",))
    fit = golden.mkimage((*parts, blob), (config,), 0x5000)
    found = plan(golden.with_fit_ivt(fit))
    assert "dek_blob-1, a key for encrypted boot" in found.encrypted[0]
    assert 0x40400000 not in [block.address for block in found.signings[0].blocks]


def test_several_device_trees_need_a_word() -> None:
    """One board has one of them in memory, and HAB checks all blocks or none."""
    for layout in ("nxp-old", "nxp-hash", "nxp-new", "u-boot"):
        data = golden.flash("mm", layout, dtbs=3)
        says = refused(data)
        assert "one CSF signs what is in memory, and no board has both in memory" in says
        assert "pass the configuration that this image is signed for: config-1, config-2, config-3." in says
        for n in (1, 2, 3):
            found = plan(data, configuration=f"config-{n}")
            fit = found.signings[1]
            assert [b.length for b in fit.blocks if b.address == 0x40200000 + 0x9AAC8] == [0x6DC0 + 0x51 * n]
            assert len([region for region in found.regions if region.name.endswith("not loaded")]) == 2
            assert any(f"for its configuration config-{n}" in note for note in found.notes)
    assert len(plan(golden.flash("mm", "binman", dtbs=3)).signings[1].blocks) == 1


def test_configurations_that_load_the_same_need_no_word() -> None:
    """Such as two boards with one device tree."""
    parts, _ = golden.parts("mm")
    configs = tuple(golden.Config(f"config-{n}", "uboot-1", ("atf-1", "tee-1"), ("fdt-1",)) for n in (1, 2))
    found = plan(golden.with_fit_ivt(golden.mkimage(parts, configs, 0x5000)))
    assert len(found.signings[0].blocks) == 5
    assert not found.notes


@pytest.mark.parametrize("trees", [(1, 2), (1, 1, 2), (1, 2, 2), (2, 1, 1)])
def test_the_first_configuration_that_loads_something_else_is_named(trees: tuple[int, ...]) -> None:
    """With what it loads."""
    parts, _ = golden.parts("mm", dtbs=2)
    configs = tuple(
        golden.Config(f"board-{number}", "uboot-1", ("atf-1", "tee-1"), (f"fdt-{tree}",))
        for number, tree in enumerate(trees)
    )
    other = next(number for number, tree in enumerate(trees) if tree != trees[0])
    says = refused(golden.with_fit_ivt(golden.mkimage(parts, configs, 0x5000)))
    assert f"fdt-{trees[0]} and atf-1 and tee-1 with its configuration 'board-0'" in says
    assert f"fdt-{trees[other]} and atf-1 and tee-1 with 'board-{other}'" in says


def test_naming_the_only_configuration_changes_nothing() -> None:
    """No board has another one."""
    data = golden.flash("mm", "nxp-new")
    assert plan(data, configuration="config-1") == plan(data)


def test_parts_that_overlap_are_refused() -> None:
    """Two images in the same bytes of the file."""
    fit = bytearray(golden.fit_ivt("mm"))
    place = fit.index(struct.pack(">I", 0x5000 + 0x9AAC8))
    fit[place : place + 4] = struct.pack(">I", 0x5000 + 0x9AAC7)
    assert "U-Boot (uboot-1)" in refused(bytes(fit))
    assert "overlap in the file" in refused(bytes(fit))


EXTRA = golden.Part("extra", golden.filler("extra", 0x4321), "firmware", 0x8F0000)


@pytest.mark.parametrize("entry", [None, 0x40200000])
def test_another_configuration_that_loads_more_is_refused(entry: int | None) -> None:
    """A board that takes it has all in memory that is signed, and runs the rest as well."""
    found, (config,) = golden.parts("mm")
    extra = replace(EXTRA, entry=entry)
    more = golden.Config("more", config.firmware, (*config.loadables, "extra"), config.fdt)
    fit = golden.with_fit_ivt(golden.mkimage((*found, extra), (config, more), 0x5000))
    says = refused(fit, configuration=config.name)
    assert "loads all that 'config-1' loads, and also extra" in says
    assert [block.length for block in plan(fit, configuration="more").signings[0].blocks][-1] == 0x4321


def test_another_configuration_that_starts_elsewhere_is_refused() -> None:
    """With the same images in memory: HAB looks at those alone."""
    found, (config,) = golden.parts("mm")
    atf_first = golden.Config("other", "atf-1", ("uboot-1", "tee-1"), config.fdt)
    u_boot, tree, atf, tee = found
    u_boot = replace(u_boot, os="u-boot", entry=0x40200000)
    atf = replace(atf, os="arm-trusted-firmware", entry=0x930000)
    fit = golden.with_fit_ivt(golden.mkimage((u_boot, tree, atf, tee), (config, atf_first), 0x5000))
    assert "'other' of the FIT at 0x0 starts at 0x930000" in refused(fit, configuration=config.name)


def test_a_kernel_behind_an_spl_is_no_excuse_for_an_entry_point_elsewhere() -> None:
    """SPL starts the firmware, whatever U-Boot would make of the kernel."""
    found, (config,) = golden.parts("mm", names="u-boot")
    odd = tuple(replace(one, entry=0x44000000) if one.name == "atf" else one for one in found)
    with_kernel = replace(config, kernel="tee")
    head = golden.flash("mm", "binman")[: golden.fit_offset("mm")]
    good = golden.binman_fit(golden.mkimage(found, (with_kernel,), None))
    plan(head + good)
    assert "starts at 0x44000000" in refused(head + golden.binman_fit(golden.mkimage(odd, (with_kernel,), None)))
    bare = golden.Config("falcon", None, config.loadables, config.fdt, kernel="tee")
    says = refused(head + golden.binman_fit(golden.mkimage(found, (bare,), None)))
    assert "CONFIG_SPL_OS_BOOT" in says


@pytest.mark.parametrize("gap", [0, 0x10, 0x40, 0x200, 0x400])
def test_images_that_are_loaded_right_before_earlier_ones_are_told_of(gap: int) -> None:
    """SPL reads whole blocks of SD and eMMC: the end of the last one falls on what was there before."""
    behind = plan(changed(tee_1=replace(part("tee-1"), load=0x920000 + len(part("atf-1").data) + gap, entry=None)))
    assert not any("reads whole blocks" in note for note in behind.notes)
    fit = changed(tee_1=replace(part("tee-1"), load=0x920000 - len(part("tee-1").data) - gap, entry=None))
    found = plan(fit)
    (block,) = [one for one in found.signings[0].blocks if one.address < 0x920000]
    # spl_fit.c, load_simple_fit: where it reads to, and how much.
    size = golden.aligned(block.offset % 0x200 + block.length, 0x200)
    over = golden.aligned(block.address, 0x40) + size > 0x920000
    assert any("tee-1 is loaded to" in note and "reads whole blocks" in note for note in found.notes) == over
    assert over == (gap < 0x200)


def test_a_configuration_that_an_embedded_fit_does_not_have_is_refused() -> None:
    """All that it has are signed, so that any of them may be named."""
    data = golden.flash("mm", "binman")
    assert plan(data, configuration="config-1").signings == plan(data).signings
    assert "has no configuration 'config-7'" in refused(data, configuration="config-7")


def test_an_embedded_fit_is_not_loaded_over_itself() -> None:
    """SPL copies the images out of it before HAB looks."""
    fit = golden.itb("mm", external=None)
    assert "over the FIT's tree" in refused(golden.binman_fit(fit, 0x40200000))
    assert "over the FIT's tree" in refused(fit, load_address=0x401FF000)


def test_two_kinds_of_data_in_one_fit_are_refused(tmp_path: Path) -> None:
    """No mkimage makes such a FIT."""
    fit = golden.fit_ivt("mm")
    path = tmp_path / "tree"
    path.write_bytes(fit[: golden.tree_size(fit)])
    for arguments in (
        ["-d", str(path), "/images/fdt-1", "data-position"],
        ["-t", "s", str(path), "/images/fdt-1", "data", "x"],
    ):
        subprocess.run(["fdtput", *arguments], check=True, timeout=60)
    tree = path.read_bytes()
    assert "stored in different ways (data, data-position)" in refused(tree + fit[len(tree) :])
