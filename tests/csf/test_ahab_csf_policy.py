"""What is signed of descriptions for AHAB, what only if the operator allows it, and what never."""

from __future__ import annotations

import pytest

from digsigd import csf
from digsigd.csf import ahab
from digsigd.csf.ahab.policy import MAX_CONTAINERS
from tests.csf.ahab_texts import BASE, V2, WITH_SGK, another
from tests.csf.texts import changed

ALL = frozenset(csf.ALLOWABLE)
REVOKES = "Revocations = 0x0"
PERMITS = "Permissions = 0x1"
OFFSETS = "0x400 0x490"


def check(text: str, *allow: str) -> None:
    ahab.check(ahab.parse(text.encode()), csf.Policy(frozenset(allow)))


def refusal(text: str, *allow: str) -> str:
    with pytest.raises(csf.CsfPolicyError) as caught:
        check(text, *allow)
    return str(caught.value)


ACCEPTED = {
    "an SRK": BASE,
    "an SGK": WITH_SGK,
    "version 2": V2,
    "the last key": changed("index = 0", "index = 3", BASE),
    "one image": changed(OFFSETS, "0x0 0x90", BASE),
    "as many images as a container can count": changed(OFFSETS, f"0x400 {0x400 + 0x10 + 0x80 * 255:#x}", BASE),
    "anywhere in a file": changed(OFFSETS, "0xfffffe6f 0xffffffff", BASE),
    "another order": V2[: V2.index("[Install SRK]")]
    + another(OFFSETS)
    + V2[V2.index("[Install Certificate]") : V2.index("[Authenticate")]
    + V2[V2.index("[Install SRK]") : V2.index("[Install Certificate]")],
    "what is so without being said": changed(
        REVOKES,
        f"{REVOKES}\nCheck All Signatures = Fuse\nFast Boot = 0",
        changed(PERMITS, f"{PERMITS}\nPermissions Data = 0 0 0\nUUID = 0 0 0 0\nFuse Version = 0", V2),
    ),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_what_signs_containers_is_signed(name: str) -> None:
    """Nothing is refused that leaves every board as it is."""
    check(ACCEPTED[name])


# By the name of what an operator can allow: where, what is replaced and by what, and the words.
ALLOWABLE = {
    "ahab-revocations": (
        BASE,
        REVOKES,
        "Revocations = 0xe",
        "line 9, column 15: Revocations = 0xe: the chip burns the mask on ahab_commit, permanently",
    ),
    "ahab-permissions": (
        WITH_SGK,
        PERMITS,
        "Permissions = 0x3",
        "line 12, column 15: Permissions = 0x3 allows more than to sign containers; write Permissions = 0x1, or",
    ),
    "ahab-permissions-data": (
        V2,
        PERMITS,
        f"{PERMITS}\nPermissions Data = 0 0 0x10",
        "line 13, column 20: Permissions Data = 0x0 0x0 0x10",
    ),
    "ahab-uuid": (V2, PERMITS, f"{PERMITS}\nUUID = 1 2 3 4", "line 13, column 8: UUID = 0x1 0x2 0x3 0x4"),
    "ahab-fuse-version": (V2, PERMITS, f"{PERMITS}\nFuse Version = 1", "line 13, column 16: Fuse Version = 0x1"),
    "ahab-check-all-signatures": (
        V2,
        REVOKES,
        f"{REVOKES}\nCheck All Signatures = All",
        "line 10, column 24: Check All Signatures = All",
    ),
    "ahab-fast-boot": (V2, REVOKES, f"{REVOKES}\nFast Boot = 1", "line 10, column 13: Fast Boot = 0x1"),
    "ahab-several-containers": (
        BASE,
        "",
        another("0x800 0x890"),
        (
            "line 13, column 1: several [Authenticate Data]: cst signs only the container of the last one; send"
            " one request"
            " per container in the order of the file, each with the file that the one before it returned; or"
        ),
    ),
}


@pytest.mark.parametrize("name", csf.ALLOWABLE_OF_AHAB)
def test_what_can_be_allowed_for_ahab_is_refused_until_then(name: str) -> None:
    """The refusal gives the name, and with that very name alone it is signed."""
    base, old, new, words = ALLOWABLE[name]
    text = changed(old, new, base)
    end = "" if words.endswith(" or") else ";"
    assert refusal(text, *ALL - {name}) == f"{words}{end} the operator can allow it as '{name}'"
    check(text, name)


@pytest.mark.parametrize("index", range(4))
@pytest.mark.parametrize("mask", range(16))
def test_no_key_revokes_itself(index: int, mask: int) -> None:
    """Whatever is allowed: the chip would not take the container, or never again."""
    text = changed("index = 0", f"index = {index}", changed(REVOKES, f"Revocations = {mask}", BASE))
    if mask == 0:
        check(text)
    elif mask & 1 << index:
        assert refusal(text, *ALL) == (
            f"line 9, column 15: Revocations = {mask:#x} revokes the key with Source index = {index}, which signs: the"
            " chip refuses the container"
        )
    else:
        check(text, "ahab-revocations")
        assert "'ahab-revocations'" in refusal(text)


@pytest.mark.parametrize("permissions", ["0x0", "0x2", "0xfe"])
def test_a_certificate_that_may_not_sign_is_refused(permissions: str) -> None:
    """Whatever is allowed: no chip takes what it has signed."""
    assert refusal(changed(PERMITS, f"Permissions = {permissions}", WITH_SGK), *ALL) == (
        f"line 12, column 15: Permissions = {permissions} has no bit 0, which allows the key to sign containers; write"
        " Permissions = 0x1"
    )


SIGNATURE = "with a Signature: cst would copy a file of this host into the image instead of signing; leave it out"
BY_ITS_HEADER = "it is after 0x10 bytes and 0x80 for each of 1 to 255 images; imx-mkimage prints both offsets"
VERSION_2 = "is only in containers of version 2, but the description has Version = 1.0; leave it out"
# What is replaced in the description with an SGK, by what, and the words.
NEVER = {
    "placeholders": (
        "Version = 1.0",
        "Version = 1.0\nMode = HSM",
        "line 4, column 8: Mode = HSM makes placeholders instead of signatures",
    ),
    "NXP's keys": (
        "OEM",
        "NXP",
        (
            "line 8, column 14: Source set = NXP: only NXP signs with NXP's keys; the chip would compare the"
            " table with NXP's"
            " fuses; write Source set = OEM"
        ),
    ),
    "a secret key": (
        "[Authenticate Data]",
        '[Install Secret Key]\nKey = "/etc/passwd"\n[Authenticate Data]',
        (
            "line 13, column 1: [Install Secret Key] is not signed: cst would write a key file on this host;"
            " encrypted boot is"
            " not signed here"
        ),
    ),
    "a certificate's signature from elsewhere": (
        PERMITS,
        f'{PERMITS}\nSignature = "/etc/shadow"',
        f"line 13, column 13: [Install Certificate] {SIGNATURE}",
    ),
    "a container's signature from elsewhere": (
        "0x490",
        '0x490\nSignature = "/etc/shadow"',
        f"line 16, column 13: [Authenticate Data] {SIGNATURE}",
    ),
    "no header": (
        "[Header]",
        '[Authenticate Data]\nFile = "x"\nOffsets = 0 0x90\n[Header]',
        "line 1, column 1: the first command must be [Header]",
    ),
    "two headers": (
        "[Install SRK]",
        "[Header]\nTarget = AHAB\nVersion = 1.0\n[Install SRK]",
        "line 4, column 1: [Header] is given twice; cst would use only the last one",
    ),
    "two tables": (
        "[Install Certificate]",
        WITH_SGK[WITH_SGK.index("[Install SRK]") : WITH_SGK.index("[Install Certificate]")] + "[Install Certificate]",
        "line 10, column 1: [Install SRK] is given twice; cst would use only the last one",
    ),
    "two certificates": (
        "[Authenticate Data]",
        WITH_SGK[WITH_SGK.index("[Install Certificate]") : WITH_SGK.index("[Authenticate")] + "[Authenticate Data]",
        "line 13, column 1: [Install Certificate] is given twice; cst would use only the last one",
    ),
    "no table": (
        WITH_SGK[WITH_SGK.index("[Install SRK]") : WITH_SGK.index("[Install Certificate]")],
        "",
        "line 7: the CSF description has no [Install SRK]",
    ),
    "nothing to sign": (
        WITH_SGK[WITH_SGK.index("[Authenticate") :],
        "",
        "line 10: the CSF description has no [Authenticate Data]",
    ),
    "a block at its header": (
        OFFSETS,
        "0x490 0x490",
        (
            "line 15, column 11: Offsets = 0x490 0x490: the signature block must be after the header; the offset of the"
            " container's header comes first"
        ),
    ),
    "a block before its header": (
        OFFSETS,
        "0x490 0x400",
        (
            "line 15, column 11: Offsets = 0x490 0x400: the signature block must be after the header; the offset of the"
            " container's header comes first"
        ),
    ),
    "no images": (
        OFFSETS,
        "0x400 0x410",
        (
            "line 15, column 11: Offsets = 0x400 0x410: no container has its signature block 0x10 bytes after"
            " its header;"
            f" {BY_ITS_HEADER}"
        ),
    ),
    "half a header": (
        OFFSETS,
        "0x400 0x408",
        (
            "line 15, column 11: Offsets = 0x400 0x408: no container has its signature block 0x8 bytes after its"
            " header;"
            f" {BY_ITS_HEADER}"
        ),
    ),
    "half an image": (
        OFFSETS,
        "0x400 0x4d0",
        (
            "line 15, column 11: Offsets = 0x400 0x4d0: no container has its signature block 0xd0 bytes after"
            " its header;"
            f" {BY_ITS_HEADER}"
        ),
    ),
    "more images than a container can count": (
        OFFSETS,
        f"0x400 {0x410 + 0x80 * 256:#x}",
        (
            "line 15, column 11: Offsets = 0x400 0x8410: no container has its signature block 0x8010 bytes after"
            " its header;"
            f" {BY_ITS_HEADER}"
        ),
    ),
    "a check of version 2": (
        REVOKES,
        f"{REVOKES}\nCheck All Signatures = Fuse",
        f"line 10, column 24: Check All Signatures {VERSION_2}",
    ),
    "a fast boot of version 2": (REVOKES, f"{REVOKES}\nFast Boot = 0", f"line 10, column 13: Fast Boot {VERSION_2}"),
    "words of version 2": (
        PERMITS,
        f"{PERMITS}\nPermissions Data = 0 0 0",
        f"line 13, column 20: Permissions Data {VERSION_2}",
    ),
    "a UUID of version 2": (PERMITS, f"{PERMITS}\nUUID = 0 0 0 0", f"line 13, column 8: UUID {VERSION_2}"),
    "a fuse version of version 2": (
        PERMITS,
        f"{PERMITS}\nFuse Version = 0",
        f"line 13, column 16: Fuse Version {VERSION_2}",
    ),
}


@pytest.mark.parametrize("name", NEVER)
def test_what_is_never_signed_for_ahab(name: str) -> None:
    """Not even if everything is allowed that can be."""
    old, new, words = NEVER[name]
    assert refusal(changed(old, new, WITH_SGK), *ALL) == words


def test_everything_is_checked_of_each_container() -> None:
    """Not only of the first."""
    for last, words in (
        (another("0x800 0x810"), "line 15, column 11: Offsets = 0x800 0x810: no container"),
        (another("0x800 0x890") + 'Signature = "x"\n', f"line 16, column 13: [Authenticate Data] {SIGNATURE}"),
    ):
        assert refusal(BASE + last, *ALL).startswith(words)
        assert refusal(BASE + last).startswith(words)


@pytest.mark.parametrize(
    ("first", "second", "line"),
    [
        ("0x400 0x490", "0x400 0x490", 15),
        ("0x400 0x490", "0x48f 0x51f", 15),
        ("0x480 0x510", "0x400 0x490", 12),
        ("0x400 0x510", "0x480 0x510", 15),
    ],
)
def test_containers_inside_each_other_are_refused(first: str, second: str, line: int) -> None:
    """In whatever order they are given; the second of the file is the one that is inside."""
    text = changed(OFFSETS, first, BASE) + another(second)
    assert f"line {line}, column 11: the container at " in refusal(text, *ALL)
    assert " is inside the one at 0x400, whose signature block is at " in refusal(text, *ALL)


def test_the_number_of_containers_has_a_limit() -> None:
    """Each costs a run of cst."""
    assert MAX_CONTAINERS == 8
    several = BASE + "".join(another(f"{n:#x}400 {n:#x}490") for n in range(1, MAX_CONTAINERS))
    check(several, "ahab-several-containers")
    assert refusal(several + another("0x9400 0x9490"), *ALL) == (
        f"line {10 + 3 * MAX_CONTAINERS}, column 1: {MAX_CONTAINERS + 1} [Authenticate Data], but at most"
        f" {MAX_CONTAINERS} are signed"
    )


def test_containers_may_touch() -> None:
    """A header can begin where the block of the one before begins: what is there, only the bytes tell."""
    check(BASE + another("0x490 0x520"), "ahab-several-containers")


def test_each_name_of_ahab_allows_an_argument() -> None:
    """That is in the grammar, and nothing that is also of HAB4."""
    labels = {label for form in ahab.grammar.COMMANDS.values() for label in (a.label for a in form.arguments.values())}
    assert set(csf.ALLOWABLE_OF_AHAB.values()) <= labels
    assert len(set(csf.ALLOWABLE_OF_AHAB.values())) == len(csf.ALLOWABLE_OF_AHAB)
    assert not csf.ALLOWABLE_OF_AHAB.keys() & csf.ALLOWABLE_UNLOCKS.keys()
    assert (*csf.ALLOWABLE_UNLOCKS, *csf.ALLOWABLE_OF_AHAB) == csf.ALLOWABLE
