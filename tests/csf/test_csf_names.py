"""From names in a description to the machine's files and the artifact."""

from __future__ import annotations

from collections.abc import Callable, Collection

import pytest

from digsigd import csf
from digsigd.csf.renaming import renamed
from tests.csf.texts import BASE, BLOCK, FAST, changed

CSF = "CSF1_1_sha256_2048_65537_v3_usr_crt.pem"
IMG = "IMG1_1_sha256_2048_65537_v3_usr_crt.pem"
SRK = "SRK1_sha256_2048_65537_v3_usr_crt.pem"
TABLE = "SRK_1_2_3_4_table.bin"
KEYS = {name: f"keys/{name.replace('crt.', 'key.')}" for name in (CSF, IMG, SRK)}
MEMBERS = {f"crts/{TABLE}", "keys/key_pass.txt", *(f"crts/{name}" for name in KEYS), *KEYS.values()}


def resolve(text: str = BASE, members: Collection[str] = MEMBERS, name: str = "flash.bin") -> csf.Resolved:
    description = csf.parse(text.encode())
    csf.check(description, csf.Policy())
    return csf.resolve(description, members=members, artifacts={name: 0x2000})


def refusal(text: str = BASE, members: Collection[str] = MEMBERS, name: str = "flash.bin") -> csf.CsfError:
    with pytest.raises(csf.CsfError) as caught:
        resolve(text, members, name)
    return caught.value


def file_of(resolved: csf.Resolved, kind: str) -> list[tuple[str, str]]:
    return [(one.member, one.name) for one in resolved.files if one.kind == kind]


def test_the_plan_names_what_cst_needs_and_nothing_else() -> None:
    """A table, two certificates, their keys and pass phrase, each under a name of our own."""
    resolved = resolve()
    assert [(one.kind, one.member, one.name) for one in resolved.files] == [
        ("srk-table", f"crts/{TABLE}", "srk_table.bin"),
        ("certificate", f"crts/{CSF}", "k1/a_crt.pem"),
        ("key", KEYS[CSF], "k1/a_key.pem"),
        ("key-pass", "keys/key_pass.txt", "k1/key_pass.txt"),
        ("certificate", f"crts/{IMG}", "k2/a_crt.pem"),
        ("key", KEYS[IMG], "k2/a_key.pem"),
        ("key-pass", "keys/key_pass.txt", "k2/key_pass.txt"),
    ]
    assert (resolved.srk_table, resolved.source_index, resolved.hash_algorithm) == (f"crts/{TABLE}", 0, "sha256")
    assert resolved.blocks == ((csf.Block(0x7E0FC0, 0, 0x2000, "artifact"),),)
    assert resolved.blocks_line == 18


def test_nothing_of_the_client_is_in_the_rewritten_text() -> None:
    """The text for cst has our names alone; a table gives the client's for each, for messages."""
    text = changed(TABLE, f"../../crts/{TABLE}").replace("flash.bin", "C:\\build\\flash.bin")
    resolved = resolve(text)
    written = csf.write(resolved.description)
    for name in (TABLE, CSF, IMG, "flash.bin", "crts", ".."):
        assert name.encode() not in written
    assert resolved.client_names == {
        "srk_table.bin": f"../../crts/{TABLE}",
        "k1/a_crt.pem": CSF,
        "k1/a_key.pem": f"the key of {CSF}",
        "k1/key_pass.txt": f"the pass phrase of {CSF}",
        "k2/a_crt.pem": IMG,
        "k2/a_key.pem": f"the key of {IMG}",
        "k2/key_pass.txt": f"the pass phrase of {IMG}",
        "artifact": "C:\\build\\flash.bin",
    }


def test_fast_authentication_needs_the_srks_own_key() -> None:
    """The certificate of [Install NOCAK] brings its key like any other."""
    assert file_of(resolve(FAST), "key") == [(KEYS[SRK], "k1/a_key.pem")]


FORMS = ["{}", "crts/{}", "./crts/{}", "././{}", "../crts/{}", "../../crts/{}", "/opt/cst/crts/{}", "/{}"]
FORMS += ["..\\crts\\{}", "C:\\cst\\crts\\{}", "\\\\host\\share/{}", "other/{}", "crts//{}", "crts/../crts/{}"]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", [TABLE, CSF])
def test_paths_of_builds_mean_the_member_of_that_name(form: str, name: str) -> None:
    """A name that only one member has is enough, whatever stands before it."""
    wanted = "srk-table" if name == TABLE else "certificate"
    members = [member for member, _ in file_of(resolve(changed(name, form.format(name))), wanted)]
    assert f"crts/{name}" in members


def test_an_exact_name_goes_before_another_with_the_same_end() -> None:
    """A path of the tarball means that very member."""
    members = {*MEMBERS, *(f"old/{name}" for name in MEMBERS)}
    text = BASE
    for name in (TABLE, CSF, IMG):
        text = changed(name, f"./old/crts/{name}", text)
    assert [one.member for one in resolve(text, members).files] == [
        f"old/crts/{TABLE}",
        f"old/crts/{CSF}",
        f"old/{KEYS[CSF]}",
        "old/keys/key_pass.txt",
        f"old/crts/{IMG}",
        f"old/{KEYS[IMG]}",
        "old/keys/key_pass.txt",
    ]


def test_an_ambiguous_name_is_refused() -> None:
    """The error says how many there are, and what to do."""
    members = {*MEMBERS, f"old/{TABLE}", f"older/{TABLE}"}
    error = refusal(members=members)
    assert type(error) is csf.CsfNameError
    assert str(error) == (
        f'line 4, column 8: "{TABLE}" matches 3 files of the key tarball; use its whole path in the tarball'
    )


def test_a_missing_certificate_lists_those_there_are() -> None:
    """One typing mistake does not need a look into the tarball."""
    error = refusal(changed("CSF1_1", "CSF1_7"))
    assert type(error) is csf.CsfNameError
    assert str(error) == (
        'line 7, column 8: "CSF1_7_sha256_2048_65537_v3_usr_crt.pem" is not in the machine\'s key tarball;'
        f" certificates in it: {CSF}, {IMG}, {SRK}"
    )


def test_a_missing_table_lists_those_there_are() -> None:
    """Tables are told by their ending."""
    error = refusal(changed(TABLE, "SRK_table.bin"))
    assert str(error).endswith(f'"SRK_table.bin" is not in the machine\'s key tarball; tables in it: {TABLE}')
    none = refusal(members=MEMBERS - {f"crts/{TABLE}"})
    assert str(none).endswith("; tables in it: none")


@pytest.mark.parametrize(("count", "more"), [(7, ""), (8, ""), (9, " and 1 more")])
def test_eight_names_are_listed(count: int, more: str) -> None:
    """Of so many that would do, and how many there are beside them."""
    there = {f"crts/{TABLE}", *(f"crts/{letter}_crt.pem" for letter in "abcdefghi"[:count])}
    listed = ", ".join(f"{letter}_crt.pem" for letter in "abcdefgh"[:count])
    assert str(refusal(members=there)).endswith(f"certificates in it: {listed}{more}")


def test_long_lists_and_names_are_cut() -> None:
    """Of many candidates eight are named, of a long path its two ends."""
    members = {*MEMBERS, *(f"crts/X{n}_crt.pem" for n in range(9))}
    error = refusal(changed(CSF, "/build" * 20 + "/gone_crt.pem"), members)
    assert str(error) == (
        'line 7, column 8: "/build/build/buil...ild/build/build/build/build/gone_crt.pem" is not in the machine\'s'
        f" key tarball; certificates in it: {CSF}, {IMG}, {SRK}, X0_crt.pem, X1_crt.pem, X2_crt.pem, X3_crt.pem,"
        " X4_crt.pem and 4 more"
    )


@pytest.mark.parametrize(
    "name", [CSF, f"crts/{IMG}", KEYS[CSF], KEYS[CSF].removeprefix("keys/"), "keys/key_pass.txt", "../key_pass.txt"]
)
def test_only_a_table_is_installed_as_one(name: str) -> None:
    """Keys, pass phrases and certificates never get into a blob as an SRK table."""
    error = refusal(changed(TABLE, name))
    assert type(error) is csf.CsfPolicyError
    assert str(error) == f'line 4, column 8: "{name}" is not an SRK table'


@pytest.mark.parametrize(
    "name", [KEYS[CSF], "keys/key_pass.txt", TABLE, "CSF1_1.pem", "crt.pem", "a_crt.PEM", "/", "."]
)
def test_only_a_certificate_is_installed_as_one(name: str) -> None:
    """The ending tells: cst makes the name of the key of it."""
    error = refusal(changed(CSF, name))
    assert type(error) is csf.CsfPolicyError
    assert str(error) == f'line 7, column 8: "{name}" is not a certificate: its name must end with _crt.pem or _crt.der'


URI_PARTS = ["token=T;pin-source=file:/etc/passwd", "token=T;pin-source=|id", "module-path=/x_crt.pem"]


@pytest.mark.parametrize("rest", URI_PARTS)
@pytest.mark.parametrize("name", [TABLE, CSF])
def test_tokens_are_not_looked_at(name: str, rest: str) -> None:
    """With keys from a tarball a URI is refused before anything reads it."""
    error = refusal(changed(name, f"pkcs11:{rest}"))
    assert type(error) is csf.CsfPolicyError
    assert error.what == "with backend=ssl keys are in the key tarball, not on a token"
    assert error.line == (4 if name == TABLE else 7)


def test_a_certificate_without_its_key_is_no_use() -> None:
    """That it lacks is found before cst runs."""
    error = refusal(members=MEMBERS - {KEYS[IMG]})
    assert isinstance(error, csf.CsfKeyError)
    assert error.member.endswith(IMG)
    assert str(error) == f'line 15, column 8: the key tarball has no private key for "{IMG}"'


def test_keys_need_no_pass_phrase() -> None:
    """Without key_pass.txt in the tarball, cst gets none."""
    assert file_of(resolve(members=MEMBERS - {"keys/key_pass.txt"}), "key-pass") == []


def test_a_pass_phrase_belongs_to_the_keys_beside_it() -> None:
    """One elsewhere in the tarball is not for these keys."""
    members = MEMBERS - {"keys/key_pass.txt"} | {"key_pass.txt", "crts/key_pass.txt"}
    assert file_of(resolve(members=members), "key-pass") == []


def test_a_flat_tarball_has_keys_beside_certificates() -> None:
    """Without folders the key of X_crt.pem is X_key.pem."""
    flat = {name.rpartition("/")[2] for name in MEMBERS}
    assert [one.member for one in resolve(changed(TABLE, f"../crts/{TABLE}"), flat).files] == [
        TABLE,
        CSF,
        CSF.replace("crt.", "key."),
        "key_pass.txt",
        IMG,
        IMG.replace("crt.", "key."),
        "key_pass.txt",
    ]


def test_der_certificates_go_with_der_keys() -> None:
    """A tarball may hold both forms; the description chooses by the ending."""
    members = MEMBERS | {name.replace(".pem", ".der") for name in MEMBERS}
    files = file_of(resolve(changed(CSF, CSF.replace(".pem", ".der")), members), "key")
    assert files == [(KEYS[CSF].replace(".pem", ".der"), "k1/a_key.der"), (KEYS[IMG], "k2/a_key.pem")]


def test_a_certificate_named_twice_is_copied_once() -> None:
    """Two names of one member are one file for cst."""
    again = "[Install Key]\nVerification index = 0\nTarget index = 3\n" + f'File = "/x/{IMG}"\n'
    resolved = resolve(BASE + again)
    assert len(file_of(resolved, "certificate")) == 2
    written = csf.write(resolved.description)
    assert written.count(b'"k2/a_crt.pem"') == 2


@pytest.mark.parametrize(
    "name", ["flash.bin", "./flash.bin", "../flash.bin", "/build/out/flash.bin", "C:\\out\\flash.bin"]
)
def test_blocks_name_the_artifact_by_its_last_part(name: str) -> None:
    """Builds write the path they know; the server never looks at it."""
    assert resolve(changed("flash.bin", name)).blocks[0][0].file == "artifact"


@pytest.mark.parametrize(
    "name",
    [
        "/etc/passwd",
        "../../keys/key_pass.txt",
        "keys/key_pass.txt",
        "artifact",
        "srk_table.bin",
        "flash.bin/",
        "flash.bin/..",
        "Flash.bin",
        " flash.bin",
        "flash.bin.orig",
        ".",
    ],
)
def test_blocks_name_nothing_else(name: str) -> None:
    """No file of the host, of the tarball or of cst's own directory, and no other case or form of the name."""
    error = refusal(changed("flash.bin", name))
    assert type(error) is csf.CsfNameError
    assert str(error) == (
        f'line 18, column 10: the block names "{name}", but the uploaded artifact is "flash.bin";'
        " upload it with that name (curl: -F 'artifact=@PATH;filename=NAME')"
    )


def test_every_block_is_looked_at() -> None:
    """A second block is no way around it, in the same command or in another."""
    other = BLOCK.replace("flash.bin", "keys/key_pass.txt")
    assert refusal(changed(BLOCK, f"{BLOCK}, \\\n {other}")).line == 19
    assert refusal(BASE + f"[Authenticate Data]\nVerification index = 2\nBlocks = {other}\n").line == 21


@pytest.mark.parametrize(
    ("place", "end"),
    [("0x0 0x2001", "0x2001"), ("0x2000 0x1", "0x2001"), ("0xffffffff 0xffffffff", "0x1fffffffe")],
)
def test_blocks_end_where_the_artifact_ends(place: str, end: str) -> None:
    """Offset and length are added up without wrapping."""
    error = refusal(changed("0x0 0x2000", place))
    assert type(error) is csf.CsfNameError
    assert str(error) == f"line 18, column 10: the block ends at {end}, but the artifact at 0x2000"


def test_a_tarball_with_nothing_in_it_is_told_so() -> None:
    """Whatever is missing first is named."""
    assert str(refusal(members=())).endswith("tables in it: none")


def same(name: str) -> object:
    """In these tarballs what has one name is the same, whatever its folder and its ending."""
    return name.rpartition("/")[2].removesuffix(".pem").removesuffix(".der")


def resolved_with(members: Collection[str], text: str = BASE, identity: Callable[[str], object] = same) -> csf.Resolved:
    return csf.resolve(csf.parse(text.encode()), members=members, artifacts={"flash.bin": 0x2000}, identity=identity)


def test_copies_of_a_file_are_one_file() -> None:
    """A base name is of one file where all that have it are the same; the copy with its key is taken."""
    backup = {f"a-backup/{name.rpartition('/')[2]}" for name in MEMBERS if "_crt" in name or "table" in name}
    members = MEMBERS | backup
    text = BASE.replace("crts/", "elsewhere/")
    assert file_of(resolved_with(members, text), "certificate")[0] == (f"crts/{CSF}", "k1/a_crt.pem")
    assert resolved_with(members, text).srk_table == f"a-backup/{TABLE}"
    with pytest.raises(csf.CsfNameError, match="matches 2 files of the key tarball"):
        resolved_with(members, text, identity=lambda name: name)


def test_certificates_are_found_by_the_other_ending() -> None:
    """PEM for DER and DER for PEM, where there is none with its own, and in the form of the key that is there."""
    members = {name.replace("crt.pem", "crt.der") for name in MEMBERS}
    files = resolved_with(members).files
    assert [(one.member, one.name) for one in files if one.kind in {"certificate", "key"}][:2] == [
        (f"crts/{CSF.replace('.pem', '.der')}", "k1/a_crt.pem"),
        (KEYS[CSF], "k1/a_key.pem"),
    ]
    text = BASE.replace(CSF, CSF.replace(".pem", ".der"))
    assert file_of(resolved_with(MEMBERS, text), "certificate")[0] == (f"crts/{CSF}", "k1/a_crt.pem")


def test_a_key_elsewhere_is_found_by_its_name() -> None:
    """Where cst would not look, if it is the only one; with the pass phrase beside it."""
    members = {name.replace("keys/", "private/") for name in MEMBERS}
    files = resolved_with(members).files
    assert (file_of(resolved_with(members), "key")[0]) == (KEYS[CSF].replace("keys/", "private/"), "k1/a_key.pem")
    assert [one.member for one in files if one.kind == "key-pass"] == ["private/key_pass.txt"] * 2
    with pytest.raises(csf.CsfNameError, match="no private key"):
        resolved_with(members | {f"other/{KEYS[CSF].rpartition('/')[2]}"}, identity=lambda name: name)


def test_blocks_may_be_of_several_artifacts() -> None:
    """Each has a name of ours, by its place among the uploads; those that no block names are left out."""
    text = changed(BLOCK, f'{BLOCK}, 0x18000000 0 0x10 "boot/board.dtb"')
    uploads = {"notes.txt": 3, "board.dtb": 0x10, "flash.bin": 0x2000}
    resolved = csf.resolve(csf.parse(text.encode()), members=MEMBERS, artifacts=uploads)
    assert [one.file for one in resolved.blocks[0]] == ["artifact3", "artifact2"]
    assert resolved.artifacts == (1, 2)
    with pytest.raises(csf.CsfNameError, match=r'but the artifacts are "board\.dtb" and "other"'):
        csf.resolve(csf.parse(text.encode()), members=MEMBERS, artifacts={"board.dtb": 0x10, "other": 1})


@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"])
def test_names_are_replaced_where_they_stand(start: bytes) -> None:
    """Nothing else of the text is changed, and what is read of it is the same but for the names."""
    text = start + changed(BLOCK, f'{BLOCK}, \\\n 0x1 0 1 "ü.bin"').encode()
    blocks = csf.parse(text).commands[-1].blocks  # type: ignore[union-attr]
    after = renamed(text, {blocks[0].file_place: "größer.bin", blocks[1].file_place: "b"})
    assert after == text.replace(b'"flash.bin"', '"größer.bin"'.encode()).replace('"ü.bin"'.encode(), b'"b"')
    with pytest.raises(ValueError, match="there is no name"):
        renamed(text, {(1, 1): "x"})
