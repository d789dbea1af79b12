"""What cst does for hostile and wrong requests for AHAB, mostly with exit code 0: none of it leaves the host.

Each row is a fault for which cst 3.4.1 and 4.0.1 write a file that no board boots, or a file of the host.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from digsigd import ahab
from tests.conftest import CST_VERSIONS
from tests.helpers.ahab_cases import description, image, members, packed
from tests.helpers.ahab_daemons import OFFSET, ahab_daemon, holds, post_ahab
from tests.helpers.blobs import changed_at, written_at
from tests.helpers.daemons import Daemon

GOOD = "good-93-sd-spl"
TABLE, V2_TABLE = "crts/SRK_1_2_3_4_table.bin", "crts/SRK_1_2_3_4_v2_table.bin"
SRK1 = "crts/SRK1_sha384_secp384r1_v3_usr_crt.pem"
Edit = Callable[[bytearray], None]


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory, cst_base: Path) -> Iterator[Daemon]:
    daemon = ahab_daemon(tmp_path_factory.mktemp("attacks") / "daemon", cst_base)
    yield daemon.start()
    daemon.stop()


def refused(daemon: Daemon, keys: str, text: str, data: bytes, version: str, status: int, word: str) -> None:
    """The answer has this status and says this, and there is neither a secret in it nor anything left."""
    answer = post_ahab(daemon, keys, text, data, cstversion=version)
    assert answer.status_code == status, answer.text
    assert word in answer.text
    for secret in ("secret7", "PRIVATE KEY"):
        assert secret not in answer.text
        assert secret not in daemon.log_so_far()
    assert daemon.left_behind() == []


def text_with(*changes: tuple[str, str], case: str = GOOD) -> str:
    """The description of a case with some of it replaced."""
    text = description(case)
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return text


def with_lines(section: str, *lines: str, case: str = GOOD) -> str:
    """The description of a case with lines at the end of a section."""
    return text_with((f"[{section}]\n", "\n".join([f"[{section}]", *(f"    {one}" for one in lines), ""])), case=case)


def before_data(*lines: str) -> str:
    """The good description with lines in front of [Authenticate Data]."""
    return text_with(("[Authenticate Data]", "\n".join([*lines, "", "[Authenticate Data]"])))


DESCRIPTIONS = {
    # `Authenticate Data File` returns the whole named file.
    "data-is-a-key": (text_with(('"flash.bin"', '"keys/SRK1_sha384_secp384r1_v3_usr_key.pem"')), "artifact"),
    "data-is-a-pass-phrase": (text_with(('"flash.bin"', '"keys/key_pass.txt"')), "artifact"),
    "data-is-a-key-of-the-run": (text_with(('"flash.bin"', '"k1/a_key.pem"')), "artifact"),
    "data-is-a-system-file": (text_with(('"flash.bin"', '"/etc/passwd"')), "artifact"),
    "data-is-above": (text_with(('"flash.bin"', '"../../../../etc/hostname"')), "artifact"),
    "data-is-the-table": (text_with(('"flash.bin"', f'"{TABLE}"')), "artifact"),
    "data-is-a-device": (text_with(('"flash.bin"', '"/dev/zero"')), "artifact"),
    # `Install SRK File` embeds a file.
    "table-is-a-key": (text_with((TABLE, "keys/SRK1_sha384_secp384r1_v3_usr_key.pem")), "SRK table"),
    "table-is-a-pass-phrase": (text_with((TABLE, "keys/key_pass.txt")), "SRK table"),
    "table-is-a-certificate": (text_with((TABLE, SRK1)), "SRK table"),
    "table-is-the-artifact": (text_with((TABLE, "flash.bin")), "flash.bin"),
    "table-is-a-system-file": (text_with((TABLE, "/etc/passwd")), "passwd"),
    # `Source` and `Install Certificate File` choose any reachable key.
    "source-of-another-machine": (text_with((SRK1, "../../ahab-p256/crts/SRK1_sha256_secp256r1_v3_usr_crt.pem")),
                                  "SRK1_sha256_secp256r1"),
    "source-is-a-key": (text_with((SRK1, "keys/SRK1_sha384_secp384r1_v3_usr_key.pem")), "not a certificate"),
    "certificate-of-another-machine": (
        before_data(
            "[Install Certificate]",
            'File = "../../ahab-p256/crts/SRK1_sha256_secp256r1_v3_usr_crt.pem"',
            "Permissions = 0x1",
        ),
        "SRK1_sha256_secp256r1",
    ),
    "source-is-a-uri": (text_with((SRK1, "pkcs11:token=release;object=SRK1")), "not on a token"),
    # A key is written, a file copied.
    "secret-key": (before_data("[Install Secret Key]", 'Key = "flash.bin"'), "is not signed"),
    "data-signature": (with_lines("Authenticate Data", 'Signature = "keys/key_pass.txt"'), "with a Signature"),
    "hsm": (with_lines("Header", "Mode = HSM"), "Mode = HSM"),
    # Exit 0 although wrong.
    "index-of-another": (text_with(("Source index = 0", "Source index = 2")), "SRK 3, but"),
    "negative-index": (text_with(("Source index = 0", "Source index = -1")), "csf: line 8"),
    "index-out-of-the-table": (text_with(("Source index = 0", "Source index = 4")), "csf: line 8"),
    "nxp": (text_with(("Source set = OEM", "Source set = NXP")), "Source set = NXP"),
    "revokes-itself": (text_with(("Revocations = 0x0", "Revocations = 0x1")), "revokes the key"),
    "revokes-another": (text_with(("Revocations = 0x0", "Revocations = 0x2")), "ahab-revocations"),
    "version-2-of-0": (text_with(("Version = 1.0", "Version = 2.0")), "version 0"),
    "version-2-of-0-with-its-table": (text_with(("Version = 1.0", "Version = 2.0"), (TABLE, V2_TABLE)), "version 0"),
    "table-of-version-2": (text_with((TABLE, V2_TABLE)), "is for containers of version 2"),
    "srk-twice": (before_data(*description(GOOD).split("\n\n")[1].split("\n")), "given twice"),
    "header-twice": (before_data("[Header]", "Target = AHAB", "Version = 1.0"), "[Header]"),
    "several-offsets": (text_with(("0x400 0x490", "0x400 0x490 0x0 0x90")), "Offsets"),
    "offsets-of-nothing": (text_with(("0x400 0x490", "0x800 0x890")), "no container at 0x800"),
    "offsets-of-nxp": (text_with(("0x400 0x490", "0x0 0x90")), "signed by NXP"),
    "offsets-behind-the-end": (text_with(("0x400 0x490", "0x40000 0x40090")), "ends at"),
    "offsets-of-another-block": (text_with(("0x400 0x490", "0x400 0x510")), "is at 0x490, not at 0x510"),
    "offsets-cut": (text_with(("0x400 0x490", "0x100000400 0x100000490")), "csf: line 14"),
}  # fmt: skip


@pytest.mark.parametrize("version", CST_VERSIONS)
@pytest.mark.parametrize("name", DESCRIPTIONS)
def test_a_hostile_description_gets_nothing(daemon: Daemon, name: str, version: str) -> None:
    """Neither a file of the host nor a signature; the error says what is wrong."""
    text, word = DESCRIPTIONS[name]
    answer = post_ahab(daemon, "p384", text, cstversion=version)
    assert answer.status_code in (400, 422), answer.text
    assert word in answer.text
    for secret in ("secret7", "PRIVATE KEY"):
        assert secret not in answer.text
        assert secret not in daemon.log_so_far()
    assert daemon.left_behind() == []


@pytest.mark.parametrize("permissions", ["0x0", "0x2", "0xfe"])
def test_a_certificate_that_may_not_sign_is_not_made(daemon: Daemon, permissions: str) -> None:
    """Bit 0 of the permissions is missing."""
    text = text_with(("Permissions = 0x1", f"Permissions = {permissions}"), case="good-qxp-spl-sgk")
    refused(daemon, "p384ca", text, image("good-qxp-spl-sgk"), "4.0.1", 422, "has no bit 0")


def test_a_certificate_of_more_rights_needs_the_operator(daemon: Daemon) -> None:
    """Debugging and fuses are other bits of the permissions."""
    text = text_with(("Permissions = 0x1", "Permissions = 0x3"), case="good-qxp-spl-sgk")
    refused(daemon, "p384ca", text, image("good-qxp-spl-sgk"), "4.0.1", 422, "ahab-permissions")


def test_a_signature_of_a_certificate_is_no_file_of_this_host(daemon: Daemon) -> None:
    """Cst would copy the file into the container."""
    text = text_with(("Permissions = 0x1", 'Permissions = 0x1\n    Signature = "k1/key_pass.txt"'),
                     case="good-qxp-spl-sgk")  # fmt: skip
    refused(daemon, "p384ca", text, image("good-qxp-spl-sgk"), "4.0.1", 422, "with a Signature")


def entry(field: int, value: int, form: str) -> Edit:
    """Change a field of the image's entry of the owner's container."""
    return lambda data: struct.pack_into(form, data, OFFSET + 0x10 + field, value)


def byte(place: int, value: int) -> Edit:
    """Change a byte of the owner's container."""
    return lambda data: struct.pack_into("B", data, OFFSET + place, value)


def flip(place: int) -> Edit:
    """Change a byte of the file to another."""
    return lambda data: data.__setitem__(place, data[place] ^ 0xFF)


IMAGES: dict[str, tuple[Edit, str]] = {
    "image-changed": (flip(0x3000), "the container has"),
    "hash-changed": (flip(OFFSET + 0x10 + 0x20), "the container has"),
    "hash-longer": (flip(OFFSET + 0x10 + 0x5F), "longer than"),
    "tag": (byte(3, 0x86), "its tag is 0x86"),
    "v2x": (byte(3, 0x82), "not one that an OEM signs"),
    "message": (byte(3, 0x89), "not one that an OEM signs"),
    "version": (byte(0, 1), "version 1"),
    "version-2": (byte(0, 2), "version 2"),
    "no-images": (byte(11, 0), "0 images"),
    "more-images": (byte(11, 2), "2 images"),
    "many-images": (byte(11, 255), "255 images"),
    "block-elsewhere": (byte(12, 0x80), "signature block"),
    "image-far": (entry(0, 0x7FFFFFFF, "<I"), "the file has"),
    "image-long": (entry(4, 0x7FFFFFFF, "<I"), "the file has"),
    "image-is-the-container": (entry(0, 0x0, "<I"), "overlaps"),
    "image-is-nxps-container": (entry(0, 0x0 - OFFSET & 0xFFFFFFFF, "<I"), "the file has"),
    "unknown-hash": (byte(0x10 + 0x19, 7), "image 0"),
    "encrypted": (byte(0x10 + 0x19, 0x09), "encrypted"),
    "nxps": (byte(4, 0x01), "signed by NXP"),
}


@pytest.mark.parametrize("version", CST_VERSIONS)
@pytest.mark.parametrize("name", IMAGES)
def test_a_file_that_no_board_boots_is_not_signed(daemon: Daemon, name: str, version: str) -> None:
    """Cst looks at none of it."""
    edit, word = IMAGES[name]
    data = bytearray(image(GOOD))
    edit(data)
    assert data != image(GOOD)
    refused(daemon, "p384", description(GOOD), bytes(data), version, 422, word)


@pytest.mark.parametrize("version", CST_VERSIONS)
def test_a_file_that_is_cut_behind_the_block_is_not_made_longer(daemon: Daemon, version: str) -> None:
    """Cst writes the signature behind its end."""
    refused(daemon, "p384", description(GOOD), image(GOOD)[: OFFSET + 0x110], version, 422, "the file has")


@pytest.mark.parametrize("version", CST_VERSIONS)
def test_a_container_that_does_not_fit_is_not_signed(daemon: Daemon, version: str) -> None:
    """The block would overwrite the image, which begins right behind the unsigned container."""
    parts = ahab.place_images([bytes(0x400)], start=0x100)
    data = ahab.build_file([(OFFSET, ahab.build_container(parts), parts)])
    refused(daemon, "p384", description(GOOD), data, version, 422, "overwrites image 0")


def test_a_container_between_images_is_not_overwritten(daemon: Daemon) -> None:
    """The next one is 0x400 behind, and the block of RSA is longer; SPL's images are before and behind both."""
    apart = [ahab.ContainerImage(bytes([n]) * 0x400, place) for n, place in enumerate((0x2000, 0x20000))]
    parts = [[ahab.ContainerImage(bytes(0x400), place)] for place in (0x3000, 0x4000)]
    containers = zip((0, 0x10000, 0x10400), (apart, *parts), strict=True)
    data = ahab.build_file([(place, ahab.build_container(images), images) for place, images in containers])
    text = text_with(("0x400 0x490", "0x10000 0x10090"), case="good-93-pss")
    refused(daemon, "pss2048", text, data, "4.0.1", 422, "overwrites the one at 0x10400")


@pytest.mark.parametrize(("place", "noted"), [(0x600, True), (0x6F0, False)])
def test_data_behind_a_container_do_not_vanish_in_silence(daemon: Daemon, place: int, noted: bool) -> None:
    """No container covers them, so the file may boot without them: the answer says that they are gone."""
    data = bytearray(image(GOOD))
    data[place] = 0x5A
    answer = post_ahab(daemon, data=bytes(data))
    assert answer.status_code == 200, answer.text
    assert ("has overwritten what was at 0x600 of the file" in str(answer.headers)) == noted
    assert (answer.content[place] == 0x5A) == (not noted)


def changed_member(name: str, edit: Callable[[bytes], bytes]) -> bytes:
    """The tarball of P-384 with one file changed."""
    files = dict(members("p384"))
    files[name] = edit(files[name])
    return packed(files)


TARBALLS: dict[str, tuple[Callable[[], bytes], int, str]] = {
    "table-of-several-types": (
        lambda: changed_member(TABLE, lambda data: written_at(data, 4 + 7, b"\x80")),
        500, "keys of several types",
    ),
    "foreign-table": (lambda: changed_member(TABLE, lambda _: members("p521")[TABLE]), 500, "not that of an SRK"),
    "corrupt-table": (lambda: changed_member(TABLE, lambda data: changed_at(data, 200)), 500,
                      "does not have the key of crts/SRK2"),
    "corrupt-key-1": (lambda: changed_member(TABLE, lambda data: changed_at(data, 30)), 500,
                      "not that of an SRK"),
    "length-of-table": (lambda: changed_member(TABLE, lambda data: written_at(data, 1, b"\xff")), 422,
                        "not an SRK table for AHAB"),
    "cut-table": (lambda: changed_member(TABLE, lambda data: data[:16]), 422, "not an SRK table for AHAB"),
    "longer-table": (lambda: changed_member(TABLE, lambda data: data + bytes(8)), 422, "not an SRK table for AHAB"),
    "only-a-bad-table": (lambda: packed({**{name: data for name, data in members("p384").items()
                                           if name != V2_TABLE}, TABLE: b"\xd7 is no table"}), 500, "is bad"),
    "key-of-another-certificate": (
        lambda: changed_member("keys/SRK1_sha384_secp384r1_v3_usr_key.pem",
                               lambda _: members("p384")["keys/SRK2_sha384_secp384r1_v3_usr_key.pem"]),
        500, "does not match"),
    "certificate-of-another-key": (
        lambda: changed_member(SRK1, lambda _: members("p384")[SRK1.replace("SRK1", "SRK2")]), 422,
        "the certificate of SRK 2"),
    "wrong-pass-phrase": (lambda: changed_member("keys/key_pass.txt", lambda _: b"wrong\nwrong\n"), 500,
                          "cannot be read, or its pass phrase is wrong"),
    "no-pass-phrase": (lambda: packed({name: data for name, data in members("p384").items()
                                       if not name.endswith("key_pass.txt")}), 500, "pass phrase is missing"),
    "certificate-is-no-certificate": (lambda: changed_member(SRK1, lambda _: b"nothing"), 500, "in the key tarball"),
}  # fmt: skip


@pytest.mark.parametrize("version", CST_VERSIONS)
@pytest.mark.parametrize("name", TARBALLS)
def test_keys_that_do_not_belong_together_sign_nothing(daemon: Daemon, name: str, version: str) -> None:
    """Cst would sign with all of them. The corrupt table has its fault in the key of another SRK: boards boot that."""
    make, status, word = TARBALLS[name]
    machine = f"bad-{name}-{version}"
    daemon.put_keys(machine, make())
    answer = post_ahab(daemon, "p384", machine=machine, cstversion=version)
    assert answer.status_code == status, answer.text
    assert word in (answer.text if word else "")
    for secret in ("secret7", "PRIVATE KEY"):
        assert secret not in answer.text
        assert secret not in daemon.log_so_far()
    assert daemon.left_behind() == []


@pytest.mark.parametrize("version", CST_VERSIONS)
def test_a_signer_without_the_flag_ca_makes_no_certificate(daemon: Daemon, version: str) -> None:
    """Boards look at the flag in the SRK table, cst does not."""
    files = {**members("p384"), **{name: data for name, data in members("p384ca").items() if "SGK" in name}}
    daemon.put_keys(f"mixed-{version}", packed(files))
    text = text_with(("SRK2_sha384_secp384r1_v3_ca_crt", "SRK2_sha384_secp384r1_v3_usr_crt"), case="good-qxp-spl-sgk")
    answer = post_ahab(daemon, "p384", text, image("good-qxp-spl-sgk"), machine=f"mixed-{version}", cstversion=version)
    assert answer.status_code == 422
    assert "SRK 2 has no CA flag" in answer.text


@pytest.mark.parametrize("fuses", [64, 128])
def test_keys_with_another_fuse_value_than_the_boards_have_sign_nothing(
    tmp_path: Path, cst_base: Path, fuses: int
) -> None:
    """The pinned value is the SHA-256 or the SHA-512 of the table, by its length."""
    table = members("p384")[TABLE]
    good = ahab.parse_table(table).hash("sha256" if fuses == 64 else "sha512").hex()
    config = f'[machines.ahab-p384]\nfuses = "{good}"\n[machines.other]\nfuses = "{"0" * fuses}"\n'
    daemon = ahab_daemon(tmp_path / "daemon", cst_base, config)
    daemon.put_keys("other", packed(dict(members("p384"))))
    daemon.start()
    try:
        answer = post_ahab(daemon)
        assert answer.status_code == 200, answer.text
        holds(answer.content, image(GOOD), "p384")
        other = post_ahab(daemon, soctype="mx8" if fuses == 64 else "mx93")
        assert other.status_code == 422
        assert "the fuse value of machine 'ahab-p384' is a SHA" in other.text
        answer = post_ahab(daemon, machine="other")
        assert answer.status_code == 500
        assert f"has the fuse value {good}, but machine 'other' has {'0' * fuses}" in answer.text
    finally:
        daemon.stop()


def test_a_tarball_that_is_not_the_pinned_one_signs_nothing(tmp_path: Path, cst_base: Path) -> None:
    """As for HAB."""
    daemon = ahab_daemon(tmp_path / "daemon", cst_base, f'[machines.ahab-p384]\nkeys_sha256 = "{"0" * 64}"\n')
    daemon.start()
    try:
        answer = post_ahab(daemon)
        assert answer.status_code == 500
        assert "pins" in answer.text or "pinned" in answer.text
    finally:
        daemon.stop()


@pytest.mark.parametrize("version", CST_VERSIONS)
def test_one_content_is_signed_many_times_at_once(daemon: Daemon, version: str) -> None:
    """In one directory, 41 of 48 runs of cst with the same content fail, and some write a wrong file."""
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: post_ahab(daemon, cstversion=version), range(16)))
    for answer in answers:
        assert answer.status_code == 200, answer.text
        holds(answer.content, image(GOOD), "p384")
    assert daemon.left_behind() == []


def test_no_byte_of_the_payload_reaches_cst(tmp_path: Path, cst_base: Path) -> None:
    """A stand-in for cst finds the stub, the description and the keys, and nothing of the image."""
    seen = tmp_path / "seen"
    fake = tmp_path / "cst"
    fake.write_text(f"#!/bin/sh\nmkdir {seen} && cp -rL .. {seen}\nexit 1\n")
    fake.chmod(0o755)
    daemon = ahab_daemon(tmp_path / "daemon", cst_base, f'[cst.versions]\nspy = "{fake}"\n')
    daemon.start()
    try:
        marked = bytearray(image(GOOD))
        payload = bytes(marked[0x2000:])
        assert post_ahab(daemon, data=bytes(marked), cstversion="spy").status_code == 422
        found = [path for path in seen.rglob("*") if path.is_file()]
        assert {path.name for path in found} == {
            "container", "description.csf", "srk_table.bin", "a_crt.pem", "a_key.pem", "key_pass.txt",
        } - {"key_pass.txt"}  # fmt: skip
        for path in found:
            data = path.read_bytes()
            assert not any(payload[place : place + 16] in data for place in range(0, len(payload), 16)
                           if len(set(payload[place : place + 16])) > 4)  # fmt: skip
    finally:
        daemon.stop()


def test_a_cst_that_revokes_keys_on_its_own_is_not_believed(tmp_path: Path, cst_base: Path) -> None:
    """It has the keys and read a client's bytes: what it signs holds, and would burn fuses that nobody asked for."""
    fake = tmp_path / "cst"
    fake.write_text(
        "#!/bin/sh\nsed 's/^Revocations = 0$/Revocations = 0xe/' \"$2\" > changed.csf\n"
        "grep -q 0xe changed.csf || exit 9\n"
        f'exec {cst_base}/cst-4.0.1/linux64/bin/cst -i changed.csf -o "$4"\n'
    )
    fake.chmod(0o755)
    daemon = ahab_daemon(tmp_path / "daemon", cst_base, f'[cst.versions]\nhostile = "{fake}"\n')
    daemon.start()
    try:
        refused(
            daemon,
            "p384",
            description(GOOD),
            image(GOOD),
            "hostile",
            500,
            "has the revoke mask 0xe, but 0x0",
        )
    finally:
        daemon.stop()


def test_a_fuse_version_is_not_above_the_operators(tmp_path: Path, cst_base: Path) -> None:
    """Boards that burn it refuse every older image."""
    daemon = ahab_daemon(tmp_path / "daemon", cst_base, "[machines.ahab-p384]\nmax_fuse_version = 3\n")
    daemon.start()
    try:
        for version, status in ((3, 200), (4, 422), (255, 422)):
            data = bytearray(image(GOOD))
            data[OFFSET + 10] = version
            answer = post_ahab(daemon, data=bytes(data))
            assert answer.status_code == status, answer.text
            if status == 422:
                assert (
                    f"line 14: the container at 0x400 has the fuse version {version}; the operator allows 3"
                    in answer.text
                )
    finally:
        daemon.stop()
