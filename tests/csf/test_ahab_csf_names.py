"""From the names in a description for AHAB to the machine's files, the artifact, and what cst gets."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import pytest

from digsigd import csf
from digsigd.csf import ahab
from tests.csf.ahab_texts import BASE, SGK, SRK, TABLE, WITH_SGK, another
from tests.csf.texts import changed

KEYS = {name: f"keys/{name.replace('crt.', 'key.')}" for name in (SRK, SGK)}
MEMBERS = {f"crts/{TABLE}", "keys/key_pass.txt", *(f"crts/{name}" for name in KEYS), *KEYS.values()}
SRK_URI, SGK_URI = "pkcs11:token=T;object=SRK1", "pkcs11:object=SGK1;token=T"
ON_TOKEN = WITH_SGK.replace(SRK, SRK_URI).replace(SGK, SGK_URI)


def resolve(
    text: str,
    members: Collection[str] = MEMBERS,
    artifacts: Mapping[str, int] | None = None,
    **more: Any,
) -> ahab.Resolved:
    description = ahab.parse(text.encode())
    ahab.check(description, csf.Policy(frozenset(csf.ALLOWABLE)))
    return ahab.resolve(description, members=members, artifacts=artifacts or {"flash.bin": 0x8000}, **more)


def refusal(text: str, members: Collection[str] = MEMBERS, **more: Any) -> csf.CsfError:
    with pytest.raises(csf.CsfError) as caught:
        resolve(text, members, **more)
    return caught.value


def files(resolved: ahab.Resolved) -> list[tuple[str, str, str]]:
    return [(one.kind, one.member, one.name) for one in resolved.files]


FOR_SRK = [
    ("srk-table", f"crts/{TABLE}", "srk_table.bin"),
    ("certificate", f"crts/{SRK}", "k1/a_crt.pem"),
    ("key", KEYS[SRK], "k1/a_key.pem"),
    ("key-pass", "keys/key_pass.txt", "k1/key_pass.txt"),
]
FOR_SGK = [
    ("certificate", f"crts/{SGK}", "k2/a_crt.pem"),
    ("key", KEYS[SGK], "k2/a_key.pem"),
    ("key-pass", "keys/key_pass.txt", "k2/key_pass.txt"),
]


def test_an_srk_needs_its_table_certificate_and_key() -> None:
    """Each under a name of our own, and nothing else."""
    resolved = resolve(changed("index = 0", "index = 2", BASE))
    assert files(resolved) == FOR_SRK
    assert (resolved.srk_table, resolved.srk_table_line) == (f"crts/{TABLE}", 5)
    assert (resolved.source, resolved.source_line, resolved.source_index) == (f"crts/{SRK}", 6, 2)
    assert (resolved.certificate, resolved.certificate_line) == (None, None)
    assert (resolved.artifact, resolved.containers, resolved.containers_line) == (0, ((0x400, 0x490),), (12,))
    assert (resolved.token, resolved.uris) == (None, ())


def test_an_sgk_needs_both_keys() -> None:
    """That of the SRK signs the certificate."""
    resolved = resolve(WITH_SGK)
    assert files(resolved) == FOR_SRK + FOR_SGK
    assert (resolved.certificate, resolved.certificate_line) == (f"crts/{SGK}", 11)
    for name, line, column in ((SRK, 6, 10), (SGK, 11, 8)):
        error = refusal(WITH_SGK, MEMBERS - {KEYS[name]})
        assert isinstance(error, csf.CsfKeyError)
        assert error.member == f"crts/{name}"
        assert (error.line, error.column) == (line, column)
        assert error.what == f'the key tarball has no private key for "{name}"'.replace(name, quoted(name))


def quoted(name: str) -> str:
    return csf.errors.quoted(name).strip('"')


def test_the_same_certificate_is_one_file() -> None:
    """Cst gets it once, whatever is said of it."""
    assert files(resolve(WITH_SGK.replace(SGK, f"../crts/{SRK}"))) == FOR_SRK


def test_cst_gets_the_container_alone() -> None:
    """From the start of a stub, by names of our own; the description has the places in the artifact."""
    text = WITH_SGK.replace('"flash.bin"', '"C:\\build\\flash.bin"').replace(TABLE, f"../../crts/{TABLE}")
    resolved = resolve(text)
    (run,) = resolved.runs
    assert ahab.write(run).decode() == (
        "[Header]\nTarget = AHAB\nVersion = 1.0\n\n"
        '[Install SRK]\nFile = "srk_table.bin"\nSource = "k1/a_crt.pem"\nSource index = 0\nSource set = OEM\n'
        "Revocations = 0\n\n"
        '[Install Certificate]\nFile = "k2/a_crt.pem"\nPermissions = 1\n\n'
        '[Authenticate Data]\nFile = "container"\nOffsets = 0x0 0x90\n'
    )
    (data,) = resolved.description.data
    assert (data.file, data.offsets) == ("artifact", (0x400, 0x490))
    assert resolved.client_names == {
        "srk_table.bin": f"../../crts/{TABLE}",
        "k1/a_crt.pem": SRK,
        "k1/a_key.pem": f"the key of {SRK}",
        "k1/key_pass.txt": f"the pass phrase of {SRK}",
        "k2/a_crt.pem": SGK,
        "k2/a_key.pem": f"the key of {SGK}",
        "k2/key_pass.txt": f"the pass phrase of {SGK}",
        "artifact": "C:\\build\\flash.bin",
    }


def test_several_containers_are_runs_in_the_order_of_the_file() -> None:
    """Whatever their order in the description, and each alone."""
    text = changed("0x400 0x490", "0x4000 0x4190", BASE) + another("0x0 0x90", "out/flash.bin") + another("0x400 0x510")
    resolved = resolve(text)
    assert resolved.containers == ((0, 0x90), (0x400, 0x510), (0x4000, 0x4190))
    assert resolved.containers_line == (15, 18, 12)
    assert [one.offsets for one in resolved.description.data] == list(resolved.containers)
    assert [one.file for one in resolved.description.data] == ["artifact"] * 3
    assert [(one.file, one.offsets) for run in resolved.runs for one in run.data] == [
        ("container", (0, 0x90)),
        ("container2", (0, 0x110)),
        ("container3", (0, 0x190)),
    ]
    for run in resolved.runs:
        assert (run.header, run.srk) == (resolved.description.header, resolved.description.srk)
        assert ahab.parse(ahab.write(run)) == run


def test_what_a_description_says_reaches_every_run() -> None:
    """The values of all arguments; none is lost on the way."""
    srk = "Revocations = 0xc\nCheck All Signatures = All\nFast Boot = 5"
    sgk = "Permissions = 0x81\nPermissions Data = 1 2 3\nUUID = 4 5 6 7\nFuse Version = 9"
    text = changed("Permissions = 0x1", sgk, changed("Revocations = 0x0", srk, WITH_SGK)).replace("1.0", "2.0")
    (run,) = resolve(text).runs
    assert run.header == ahab.Header(version=(2, 0))
    assert run.srk == ahab.InstallSrk(
        file="srk_table.bin",
        source="k1/a_crt.pem",
        source_index=0,
        source_set="OEM",
        revocations=12,
        check_all_signatures="All",
        fast_boot=5,
    )
    assert run.certificate == ahab.InstallCertificate(
        file="k2/a_crt.pem", permissions=0x81, permissions_data=(1, 2, 3), uuid=(4, 5, 6, 7), fuse_version=9
    )


@pytest.mark.parametrize(("size", "fits"), [(0x4A0, True), (0x49F, False), (0x400, False), (1, False)])
def test_the_block_is_inside_the_artifact(size: int, fits: bool) -> None:
    """With its header of 16 bytes, as mkimage writes it."""
    if fits:
        assert resolve(BASE, artifacts={"flash.bin": size}).containers == ((0x400, 0x490),)
        return
    error = refusal(BASE, artifacts={"flash.bin": size})
    assert type(error) is csf.CsfNameError
    assert str(error) == f"line 12, column 11: the signature block is at 0x490, but the artifact ends at {size:#x}"


def test_every_block_is_inside_the_artifact() -> None:
    """Not only the first of several."""
    error = refusal(BASE + another("0x800 0x890"), artifacts={"flash.bin": 0x890})
    assert (error.line, error.column) == (15, 11)


def test_the_artifact_is_found_among_others() -> None:
    """By the last part of its name."""
    resolved = resolve(BASE.replace("flash.bin", "out\\spl.bin"), artifacts={"flash.bin": 1, "spl.bin": 0x800})
    assert resolved.artifact == 1
    assert resolved.description.data[0].file == "artifact2"
    assert resolved.client_names["artifact2"] == "out\\spl.bin"


def test_another_file_is_not_the_artifact() -> None:
    """Neither one of the tarball, nor one of this host."""
    for name in ("u-boot.bin", f"crts/{SRK}", "/etc/shadow", "flash.bin/", "artifact"):
        error = refusal(BASE.replace("flash.bin", name))
        assert type(error) is csf.CsfNameError
        assert str(error) == (
            f"line 11, column 8: [Authenticate Data] names {csf.errors.quoted(name)}, but the uploaded artifact is"
            " \"flash.bin\"; upload it with that name (curl: -F 'artifact=@PATH;filename=NAME')"
        )


def test_all_containers_are_in_one_file() -> None:
    """The answer is that file."""
    text = BASE + another("0x0 0x90") + another("0x0 0x90", "other.bin")
    error = refusal(text.replace("0x0 0x90", "0x800 0x890", 1), artifacts={"flash.bin": 0x8000, "other.bin": 0x8000})
    assert type(error) is csf.CsfNameError
    assert str(error) == (
        "line 17, column 8: the containers are in different files, but a request signs those of one file"
    )


def test_artifacts_of_one_name_are_told_apart_by_nothing() -> None:
    """Two folders in the description, two uploads with the name: it is not guessed which is which."""
    text = BASE.replace("flash.bin", "a/flash.bin") + another("0x800 0x890", "b/flash.bin")
    error = refusal(text, repeated={"flash.bin"})
    assert type(error) is csf.CsfNameError
    assert str(error).startswith(
        'line 14, column 8: the [Authenticate Data] name "a/flash.bin" and "b/flash.bin", but several artifacts are'
    )
    assert resolve(text).artifact == 0


def test_the_table_is_a_table_of_the_tarball() -> None:
    """No key, no certificate, nothing that is not in it."""
    for name, words in (
        (
            "other_table.bin",
            '"other_table.bin" is not in the machine\'s key tarball; tables in it: SRK_1_2_3_4_table.bin',
        ),
        ("key_pass.txt", '"key_pass.txt" is not an SRK table'),
        ("pkcs11:token=T;object=X", "with backend=ssl keys are in the key tarball, not on a token"),
    ):
        error = refusal(BASE.replace(TABLE, name))
        assert str(error) == f"line 5, column 8: {words}"


def test_certificates_are_those_of_the_tarball() -> None:
    """With keys in it, no URI names one."""
    error = refusal(BASE.replace(SRK, "SRK9_crt.pem"))
    assert str(error).startswith('line 6, column 10: "SRK9_crt.pem" is not in the machine\'s key tarball; certificates')
    error = refusal(WITH_SGK.replace(SGK, TABLE))
    assert str(error).startswith(f'line 11, column 8: "{TABLE}" is not a certificate')
    error = refusal(ON_TOKEN)
    assert str(error) == "line 6, column 10: with backend=ssl keys are in the key tarball, not on a token"


def test_der_and_keys_that_are_decrypted_have_names_for_it() -> None:
    """As cst looks for them."""
    members = {name.replace(".pem", ".der") for name in MEMBERS}
    assert [name for _, _, name in files(resolve(BASE, members))][1:] == [
        "k1/a_crt.der",
        "k1/a_key.der",
        "k1/key_pass.txt",
    ]
    asked: list[tuple[str, str, str | None]] = []

    def decrypts(*members: str | None) -> bool:
        asked.append(members)  # type: ignore[arg-type]
        return True

    resolved = resolve(WITH_SGK, members, decrypts=decrypts)
    assert [name for _, _, name in files(resolved)][1:] == [
        "k1/a_crt.pem",
        "k1/a_key.pem",
        "k2/a_crt.pem",
        "k2/a_key.pem",
    ]
    assert [certificate for certificate, _, _ in asked] == [f"crts/{one}".replace("pem", "der") for one in (SRK, SGK)]


def test_copies_count_once() -> None:
    """As for HAB4: what is the same file is not ambiguous."""
    members = MEMBERS | {f"old/{SRK}"}
    assert "matches 2 files" in refusal(BASE, members).what
    assert resolve(BASE, members, identity=lambda name: name.rpartition("/")[2]).source == f"crts/{SRK}"


def test_keys_on_a_token_are_named_by_uris() -> None:
    """Of the SRK and the SGK; the table is a file."""
    resolved = resolve(ON_TOKEN, from_token=True)
    assert files(resolved) == FOR_SRK[:1]
    assert resolved.token == "T"
    assert [one.object for one in resolved.uris] == ["SRK1", "SGK1"]
    assert (resolved.source, resolved.certificate) == (None, None)
    (run,) = resolved.runs
    assert run.certificate is not None
    assert (run.srk.source, run.certificate.file) == tuple(str(one) for one in resolved.uris)
    assert resolved.client_names[run.certificate.file] == SGK_URI


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            WITH_SGK,
            (
                f"line 6, column 10: {csf.errors.quoted(SRK)} is a file; with backend=pkcs11 certificates and"
                " keys are on a"
                ' token; write Source = "pkcs11:token=NAME;object=LABEL"'
            ),
        ),
        (
            ON_TOKEN.replace(SGK_URI, SGK),
            (
                f"line 11, column 8: {csf.errors.quoted(SGK)} is a file; with backend=pkcs11 certificates and"
                " keys are on a"
                ' token; write File = "pkcs11:token=NAME;object=LABEL"'
            ),
        ),
        (
            ON_TOKEN.replace('token=T"', 'token=U"'),
            'line 11, column 8: the keys are on different tokens, "T" and another',
        ),
        (ON_TOKEN.replace(TABLE, SRK_URI), "line 5, column 8: the SRK table is a file, not on a token"),
        (
            ON_TOKEN.replace("object=SRK1", "object=SRK1;pin-value=1234"),
            (
                "line 6, column 10: the PKCS #11 URI has a PIN: the signing host has the PIN, and clients must"
                " not send one;"
                " leave pin-value out"
            ),
        ),
    ],
)
def test_what_is_wrong_with_a_token_is_told(text: str, words: str) -> None:
    """With the argument that has to be changed."""
    assert str(refusal(text, from_token=True)) == words
