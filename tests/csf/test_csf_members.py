"""Which file of a key tarball a name means, where there are copies, other endings and keys elsewhere."""

from __future__ import annotations

from collections.abc import Collection

import pytest

from digsigd.csf.members import Members, base_of, is_key
from digsigd.csf.renaming import renamed


def like(name: str) -> object:
    """Files of one base name are the same here."""
    return base_of(name).removesuffix(".pem").removesuffix(".der")


def members(*names: str, same: bool = True) -> Members:
    return Members(names, like if same else None)


@pytest.mark.parametrize("name", ["a.bin", "x/a.bin", "x\\y/a.bin", "/a.bin", "./a.bin", "C:\\x\\a.bin"])
def test_the_last_part_of_a_name_counts(name: str) -> None:
    """Whichever slashes it has."""
    assert base_of(name) == "a.bin"
    assert members("crts/a.bin").named(name) == ["crts/a.bin"]


def test_a_name_that_is_there_is_that_very_file() -> None:
    """With `./` before it or not, and whatever else has its last part."""
    both = members("a.bin", "crts/a.bin", same=False)
    assert both.named("a.bin") == both.named("./a.bin") == both.named("././a.bin") == ["a.bin"]
    assert both.named("crts/a.bin") == ["crts/a.bin"]
    assert both.named("other/a.bin") == ["a.bin", "crts/a.bin"]
    assert both.named("b.bin") == []


@pytest.mark.parametrize(
    ("names", "best"),
    [
        (("a/x_crt.pem", "z/crts/x_crt.pem", "z/keys/x_key.pem"), "z/crts/x_crt.pem"),
        (("z/crts/x_crt.pem", "a/x_crt.pem", "z/keys/x_key.der"), "z/crts/x_crt.pem"),
        (("b/x_crt.pem", "a/x_crt.pem", "c/x_crt.pem"), "a/x_crt.pem"),
        (("b/x_crt.pem", "a/x_crt.pem", "c/x_key.pem"), "a/x_crt.pem"),
        (("b/x_crt.pem", "a/x_crt.pem", "b/x_key.pem", "a/x_key.pem"), "a/x_crt.pem"),
        (("b/x_crt.pem", "a/x_crt.pem", "b/x_key.pem"), "b/x_crt.pem"),
    ],
)
def test_of_copies_the_one_beside_its_key_signs(names: Collection[str], best: str) -> None:
    """Where cst looks for it, in either form; else the first by name."""
    assert Members(names, like).named("elsewhere/x_crt.pem") == [best]
    assert Members(tuple(names)[::-1], like).certificate("elsewhere/x_crt.pem") == [best]


def test_copies_count_once_and_others_each() -> None:
    """Of certificates and of other files, and without an identity everything is another."""
    for name in ("x_crt.pem", "table.bin"):
        there = [f"{folder}/{name}" for folder in "cab"]
        assert members(*there).named(name) == [f"a/{name}"]
        assert members(*there, same=False).named(name) == [f"a/{name}", f"b/{name}", f"c/{name}"]
        assert members(*there[:2], same=False).named(name) == [f"a/{name}", f"c/{name}"]


def test_a_certificate_without_a_key_ranks_behind_one_with_a_key_elsewhere() -> None:
    """And both behind one whose key is where cst looks."""
    there = members("crts/x_crt.pem", "keys/x_key.pem", "a/y_crt.pem", "b/y_key.pem", "a/z_crt.pem")
    ranks = [there.rank(name) for name in ("crts/x_crt.pem", "a/y_crt.pem", "a/z_crt.pem")]
    assert ranks == sorted(ranks)
    assert len({rank for rank, _ in ranks}) == 3
    assert [name for _, name in ranks] == ["crts/x_crt.pem", "a/y_crt.pem", "a/z_crt.pem"]


@pytest.mark.parametrize(
    ("names", "key"),
    [
        (("keys/x_key.pem", "y/x_key.pem"), "keys/x_key.pem"),
        (("keys/x_key.der", "y/x_key.pem"), "keys/x_key.der"),
        (("keys/x_key.der", "keys/x_key.pem"), "keys/x_key.pem"),
        (("y/x_key.pem", "z/x_key.der"), "y/x_key.pem"),
        (("z/x_key.der",), "z/x_key.der"),
        (("b/x_key.pem", "a/x_key.pem"), "a/x_key.pem"),
        (("crts/x_key.pem",), "crts/x_key.pem"),
        (("keys/w_key.pem",), None),
        ((), None),
    ],
)
def test_a_key_is_where_cst_looks_or_the_only_one_of_its_name(names: tuple[str, ...], key: str | None) -> None:
    """In either form, of copies the first by name."""
    there = Members(("crts/x_crt.pem", *names), like)
    assert [there.key_of("crts/x_crt.pem"), there.key_of("crts/x_crt.pem")] == [key, key]


def test_of_two_keys_of_one_name_none_is_taken() -> None:
    """Nobody can tell which of them it is."""
    assert members("crts/x_crt.pem", "a/x_key.pem", "b/x_key.pem", same=False).key_of("crts/x_crt.pem") is None


def test_only_the_first_folder_of_certificates_is_one_of_keys() -> None:
    """As cst replaces it."""
    there = members("crts/crts/x_crt.pem", "keys/crts/x_key.pem", "keys/keys/x_key.pem", same=False)
    assert there.key_of("crts/crts/x_crt.pem") == "keys/crts/x_key.pem"


@pytest.mark.parametrize(
    ("name", "there", "found"),
    [
        ("x_crt.pem", "a/x_crt.der", ["a/x_crt.der"]),
        ("x_crt.der", "a/x_crt.pem", ["a/x_crt.pem"]),
        ("x_crt.crt", "a/x_crt.pem", []),
        ("x.pem", "x.der", ["x.der"]),
    ],
)
def test_a_certificate_may_have_the_other_ending(name: str, there: str, found: list[str]) -> None:
    """PEM for DER and DER for PEM; nothing else is for anything."""
    assert members(there).certificate(name) == found


def test_a_file_beside_another_is_in_its_folder() -> None:
    """And in no other."""
    there = members("keys/x_key.pem", "keys/key_pass.txt", "x_key.pem", "a/b/y_key.pem")
    assert there.beside("keys/x_key.pem", "key_pass.txt") == "keys/key_pass.txt"
    assert there.beside("x_key.pem", "key_pass.txt") is None
    assert there.beside("a/b/y_key.pem", "key_pass.txt") is None


@pytest.mark.parametrize("name", ["x_key.pem", "keys/x_key.der", "a/key_pass.txt", "key_pass.txt", "x_key.anything"])
def test_private_keys_and_pass_phrases_are_known_by_their_names(name: str) -> None:
    """Nobody may name them for something else."""
    assert is_key(name)


@pytest.mark.parametrize("name", ["x_crt.pem", "x_key.pem.bak.bin", "key_pass.txt/table.bin", "table.bin", "x_key"])
def test_other_names_are_of_no_private_key(name: str) -> None:
    """Whatever else they hold."""
    assert not is_key(name)


@pytest.mark.parametrize("place", [(1, 1), (1, 7), (1, 9), (2, 8)])
def test_no_name_is_put_where_none_stands(place: tuple[int, int]) -> None:
    """Nor where one never ends, nor one that would end before its end."""
    text = b'File = "a"\nFile = "b\n'
    assert renamed(text, {(1, 8): "c"}) == b'File = "c"\nFile = "b\n'
    with pytest.raises(ValueError, match="there is no name"):
        renamed(text, {place: "c"})
    with pytest.raises(ValueError, match="there is no name"):
        renamed(text, {(1, 8): 'c"'})


def test_names_of_one_line_are_replaced_together() -> None:
    """In whichever order they are told; what is a byte order mark in the first line is text in a later one."""
    text = b'1 "a", 2 "b"\n\xef\xbb\xbf"c"\n'
    names = {(1, 3): "longer", (1, 10): "", (2, 4): "d"}
    for order in (names, dict(reversed(names.items()))):
        assert renamed(text, order) == b'1 "longer", 2 ""\n\xef\xbb\xbf"d"\n'
    assert renamed(b'1 "", 2 "b"', {(1, 3): "a"}) == b'1 "a", 2 "b"'
