"""Details of descriptions: how long they become, keys that are told apart by their names, and files of one name."""

from __future__ import annotations

import pytest

from digsigd import csf
from digsigd.csf.size import appended_size, csf_size
from tests.csf.texts import BASE, BLOCK, changed, lines

MEMBERS = {
    "SRK_1_2_3_4_table.bin": b"",
    "crts/CSF1_1_sha256_2048_65537_v3_usr_crt.pem": b"",
    "keys/CSF1_1_sha256_2048_65537_v3_usr_key.pem": b"",
    "crts/IMG1_1_sha256_2048_65537_v3_usr_crt.pem": b"",
    "keys/IMG1_1_sha256_2048_65537_v3_usr_key.pem": b"",
}
KEY = lines(12, 15)
CAAM = BASE.replace("Version = 4.3", "Version = 4.3\nEngine = CAAM")
WITHOUT = CAAM.replace("[Unlock]\nEngine = CAAM\nFeatures = MID\n", "")


@pytest.mark.parametrize(
    ("text", "appended"),
    [
        (WITHOUT, 8),
        (WITHOUT + "[Unlock]\nEngine = SRTC\n", 8),
        (WITHOUT + "[Unlock]\nEngine = CAAM\nFeatures = RNG\n", 0),
        (WITHOUT + "[Init]\nEngine = CAAM\nFeatures = RNG\n", 0),
        (WITHOUT + "[Init]\nEngine = SRTC\n", 8),
        (BASE, 0),
    ],
)
def test_what_cst_appends_is_counted(text: str, appended: int) -> None:
    """An Unlock of CAAM's generator, where the header says CAAM and nothing is told of the generator."""
    description = csf.parse(text.encode())
    without = sum(csf.size.command_size(one) for one in description.commands)
    assert appended_size(description) == appended
    assert csf_size(description) == without + appended


def test_what_has_no_header_has_nothing_appended() -> None:
    """It is refused for that elsewhere."""
    description = csf.parse(CAAM.encode())
    assert appended_size(csf.Description(description.commands[1:])) == 0


@pytest.mark.parametrize(
    ("first", "again", "taken"),
    [
        ("crts/IMG1_1_crt.pem", "../crts/IMG1_1_crt.der", True),
        ("crts/IMG1_1_crt.pem", "crts/IMG1_2_crt.pem", False),
        ("pkcs11:token=T;object=IMG1", "pkcs11:token=T;object=IMG1", True),
        ("pkcs11:token=T;object=a/IMG1.pem", "pkcs11:token=T;object=b/IMG1.pem", False),
        ("pkcs11:token=T;object=IMG1.pem", "pkcs11:token=T;object=IMG1.der", False),
    ],
)
def test_a_key_once_more_is_told_from_another_by_its_name(first: str, again: str, taken: bool) -> None:
    """Of files by the last part without its ending: the tarball tells the rest. Of tokens by the whole address."""
    img = "IMG1_1_sha256_2048_65537_v3_usr_crt.pem"
    text = BASE.replace(img, first) + KEY.replace(img, again)
    if taken:
        csf.check(csf.parse(text.encode()), csf.Policy())
    else:
        with pytest.raises(csf.CsfPolicyError, match="a different key is already installed as 2"):
            csf.check(csf.parse(text.encode()), csf.Policy())


def named(*files: str) -> csf.Resolved:
    """Two blocks by these names, where two uploads are called board.dtb."""
    blocks = ", \\\n".join(f'{0x48000000 + n * 0x100:#x} 0 0x100 "{file}"' for n, file in enumerate(files))
    description = csf.parse(changed(BLOCK, blocks).encode())
    return csf.resolve(description, members=MEMBERS, artifacts={"board.dtb": 0x100}, repeated={"board.dtb"})


def test_one_of_two_files_of_one_name_is_meant_by_one_spelling() -> None:
    """Which of the two another spelling means, nothing tells."""
    for files in (("board.dtb", "board.dtb"), ("a/board.dtb", "a/board.dtb"), ("./a/board.dtb", "a/board.dtb")):
        assert [block.file for block in named(*files).blocks[0]] == ["artifact", "artifact"]
    for files in (("a/board.dtb", "b/board.dtb"), ("board.dtb", "a/board.dtb"), ("a/board.dtb", "board.dtb")):
        with pytest.raises(csf.CsfNameError, match=r"several artifacts are called \"board\.dtb\""):
            named(*files)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("Engine Configuration = 0, IN_SWAP_8", "Engine Configuration"),
        ("Engine Configuration = 0 0", "Engine Configuration"),
        ("Engine Configuration = 1", "the only number allowed is 0"),
    ],
)
def test_a_configuration_is_0_alone_or_names(line: str, says: str) -> None:
    """Whatever stands beside the 0."""
    with pytest.raises(csf.CsfSyntaxError, match=says):
        csf.parse(changed("Version = 4.3", f"Version = 4.3\n{line}").encode())


def test_a_configuration_is_written_as_it_was_read() -> None:
    """0 as 0, names as names."""
    for text in ("0", "IN_SWAP_8", "IN_SWAP_8, OUT_SWAP_16"):
        read = csf.parse(
            changed("Version = 4.3", f"Version = 4.3\nEngine = CAAM\nEngine Configuration = {text}").encode()
        )
        assert f"Engine Configuration = {text}\n" in csf.write(read).decode()


def test_a_version_is_no_string() -> None:
    """Nor is a part of it."""
    for text in ('"4.3"', '4 "3"', '"4" 3'):
        with pytest.raises(csf.CsfSyntaxError, match=r"takes 4\.0 to 4\.5"):
            csf.parse(changed("Version = 4.3", f"Version = {text}").encode())


def test_a_uid_is_numbers_with_commas_between() -> None:
    """Eight of them, one each."""
    unlock = "[Unlock]\nEngine = OCOTP\nFeatures = JTAG\nUID = {}\n"
    assert csf.parse((BASE + unlock.format("1, 2, 3, 4, 5, 6, 7, 8")).encode())
    for uid in ("1 1, 2, 3, 4, 5, 6, 7, 8", "1, 2, 3, 4, 5, 6, 7, 8 8", "1 2 3 4 5 6 7 8"):
        with pytest.raises(csf.CsfSyntaxError, match="UID: takes 8 numbers separated by commas"):
            csf.parse((BASE + unlock.format(uid)).encode())


def uri_of(text: str) -> csf.Description:
    return csf.parse(changed('"CSF1_1_sha256_2048_65537_v3_usr_crt.pem"', text).encode())


def test_a_uri_has_255_bytes_at_most() -> None:
    """With quotation marks and without: cst copies it into a buffer of 256."""
    start = "pkcs11:token=T;object="
    for mark in ('"', ""):
        assert uri_of(f"{mark}{start}{'x' * (255 - len(start))}{mark}")
        with pytest.raises(csf.CsfSyntaxError, match="has 256 bytes"):
            uri_of(f"{mark}{start}{'x' * (256 - len(start))}{mark}")


def test_nothing_stands_behind_a_uri() -> None:
    """In quotation marks or not."""
    for text in ('"pkcs11:token=T;object=x"y', 'pkcs11:token=T;object=x "y"', 'pkcs11:token=T;object=x"y"'):
        with pytest.raises(csf.CsfSyntaxError, match="a URI must not have spaces or anything after it"):
            uri_of(text)


def test_a_block_that_is_none_is_told_from_two_without_a_comma() -> None:
    """By where the file's name stands."""
    for block, says in (
        ('0 0 1 "a" 0 0 1 "b"', "separate blocks with commas"),
        ('0 0 1 "a" 2', "separate blocks with commas"),
        ('0 0 1 2 "a"', "a block is ADDRESS OFFSET LENGTH"),
        ("0 0 1 2 3", "a block is ADDRESS OFFSET LENGTH"),
    ):
        with pytest.raises(csf.CsfSyntaxError, match=says):
            csf.parse(changed(BLOCK, block).encode())
