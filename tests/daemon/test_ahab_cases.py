"""Requests for AHAB as people send them: tests/samples/ahab/cases with both csts, and what chips accept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from digsigd import ahab
from digsigd.testing import TrialPki
from digsigd.web.answers import NOTE
from tests.conftest import CST_VERSIONS
from tests.helpers.ahab_cases import CASES, description, expectation, image
from tests.helpers.ahab_daemons import ahab_daemon, holds, post_ahab
from tests.helpers.daemons import MACHINE, Daemon

V2_TABLE = "crts/SRK_1_2_3_4_v2_table.bin"
SEVERAL = "bad-two-authenticate-data"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory, cst_base: Path) -> Iterator[Daemon]:
    config = '[machines.ahab-p256]\nsoc = "mx93"\n[machines.ahab-p521]\nallow = ["ahab-several-containers"]\n'
    made = ahab_daemon(tmp_path_factory.mktemp("cases") / "daemon", cst_base, config)
    yield made.start()
    made.stop()


def test_there_are_cases() -> None:
    """None is lost on the way."""
    assert len(CASES) == 10


@pytest.mark.parametrize("version", CST_VERSIONS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_case_is_answered_as_it_has_to_be(daemon: Daemon, case: Path, version: str) -> None:
    """The whole file, proven again here, or a refusal that says whose mistake it is."""
    expect = expectation(case.name)
    if version not in expect.get("version", version):
        answer = post_ahab(daemon, "p384", description(case.name), image(case.name), cstversion=version)
        assert answer.status_code == 422
        assert "containers of version 2 need cst 4.0.1 or later" in answer.text
        return
    keys, sent = expect["machine"].removeprefix("ahab-"), image(case.name)
    answer = post_ahab(daemon, keys, description(case.name), sent, cstversion=version)
    if expect["status"] == "!200":
        assert answer.status_code == 422, answer.text
        assert "csf: line" in answer.text
        return
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Disposition"] == 'attachment; filename="artifact.signed"'
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert "the chip is not known" in answer.headers[NOTE]
    table = {"table": V2_TABLE} if "v2" in case.name else {}
    proven = holds(answer.content, sent, keys, offset=int(expect["ahab"], 16), **table)
    assert proven.certificate == ("sgk" in case.name)
    assert daemon.left_behind() == []


@pytest.mark.parametrize(
    ("keys", "case", "soctype", "status", "word"),
    [
        ("p384", "good-93-sd-spl", "mx93", 200, ""),
        ("p384", "good-93-sd-spl", "mx8m", 422, "have no AHAB containers"),
        ("p384", "good-93-sd-spl", "mx6", 400, "must be one of mx8m, mx8, mx8x"),
        ("p384", "good-93-sd-spl", "mx95-b0", 422, "i.MX 95 B0 has no containers of version 0"),
        ("p384", "good-93-sd-spl", "mx95", 200, ""),
        ("p384", "good-v2-p384", "mx95", 200, ""),
        ("p384", "good-v2-p384", "mx95-a0", 422, "i.MX 95 A0/A1 has no containers of version 2"),
        ("r2048", "good-93-pss", "mx95", 422, "i.MX 95 A0/A1 does not accept RSA 2048 keys"),
        ("p384", "good-v2-p384", "mx952", 200, ""),
        ("p384", "good-v2-p384", "mx93", 422, "i.MX 93 has no containers of version 2"),
        ("p384ca", "good-qxp-spl-sgk", "mx8x", 200, ""),
        ("p384ca", "good-qxp-spl-sgk", "mx93", 422, "does not support certificates (SGK)"),
        ("pss2048", "good-93-pss", "mx93", 200, ""),
        ("r2048", "good-93-pss", "mx8", 200, ""),
        ("r2048", "good-93-pss", "mx93", 422, "i.MX 93 does not accept RSA 2048 keys"),
        ("p256", "bad-signs-the-payload", "mx8", 422, "but machine 'ahab-p256' has mx93"),
    ],
)
def test_the_rules_of_the_chip_hold(daemon: Daemon, keys: str, case: str, soctype: str, status: int, word: str) -> None:
    """Those of the chip that the request names; then there is no note that it is not known."""
    text = description(case)
    if case == "bad-signs-the-payload":
        text = text.replace("0x3000 0x3040", "0x400 0x490")
    answer = post_ahab(daemon, keys, text, image(case), soctype=soctype)
    assert answer.status_code == status, answer.text
    assert word in (answer.text if word else "")
    assert "the chip is not known" not in answer.headers.get(NOTE, "")


def test_the_configuration_says_the_chip(daemon: Daemon) -> None:
    """Without a soctype; the same one is fine."""
    case = "good-93-sd-spl"
    text = description(case).replace("SRK1_sha384_secp384r1", "SRK1_sha256_secp256r1")
    for answer in (
        post_ahab(daemon, "p256", text, image(case)),
        post_ahab(daemon, "p256", text, image(case), soctype="mx93"),
    ):
        assert answer.status_code == 200, answer.text
        assert NOTE not in answer.headers
        holds(answer.content, image(case), "p256")


def test_a_description_for_hab_is_not_for_a_chip_with_ahab(daemon: Daemon, pki: TrialPki) -> None:
    """Whether the request or the configuration names the chip."""
    daemon.put_keys(MACHINE, pki.tarball())
    answer = daemon.post(pki, soctype="mx93")
    assert answer.status_code == 422
    assert "i.MX 93 boots AHAB containers, but the CSF description is for HAB" in answer.text
    assert daemon.post(pki).status_code == 200
    answer = daemon.post(pki, soctype=None, machine="ahab-p256")
    assert answer.status_code == 422
    assert "i.MX 93 boots AHAB containers" in answer.text


@pytest.mark.parametrize("version", CST_VERSIONS)
@pytest.mark.parametrize("backwards", [False, True])
def test_several_containers_are_signed_where_the_operator_allows_it(
    daemon: Daemon, version: str, backwards: bool
) -> None:
    """Each by a run of its own in the order of the file, whatever the order of the commands is."""
    text = description(SEVERAL).replace("SRK1_sha384_secp384r1", "SRK1_sha512_secp521r1")
    head, *commands = text.split("[Authenticate Data]")
    if backwards:
        text = "[Authenticate Data]".join([head, *reversed(commands)])
    answer = post_ahab(daemon, "p521", text, image(SEVERAL), cstversion=version)
    assert answer.status_code == 200, answer.text
    original = image(SEVERAL)
    first, second = (holds_at(answer.content, offset) for offset in (0x400, 0x4000))
    changed = [place for place, (one, other) in enumerate(zip(original, answer.content, strict=True)) if one != other]
    assert all(first[0] <= place < first[1] or second[0] <= place < second[1] for place in changed)
    assert daemon.log().count("cst " + version + " ended with exit code 0") >= 2


@pytest.mark.parametrize(("place", "word"), [(0xA0, "overwrites"), (0x204, "overwrites"), (0x90, "has no signature")])
def test_of_several_containers_none_is_in_another_ones_place(daemon: Daemon, place: int, word: str) -> None:
    """Wherever it is: those that begin at no multiple of 0x400 are found by the description alone."""
    data = bytearray(0x8000)
    for offset, image_at in ((0, 0x2000), (place, 0x3000)):
        parts = [ahab.ContainerImage(bytes([offset % 255]) * 0x400, image_at)]
        made = ahab.build_container(parts)
        data[offset : offset + len(made)] = made
        data[offset + image_at : offset + image_at + 0x400] = parts[0].data
    head = description(SEVERAL).replace("SRK1_sha384_secp384r1", "SRK1_sha512_secp521r1").partition("[Auth")[0]
    offsets = (f"{offset:#x} {offset + 0x90:#x}" for offset in (0, place))
    text = head + "".join(f'[Authenticate Data]\nFile = "flash.bin"\nOffsets = {one}\n' for one in offsets)
    answer = post_ahab(daemon, "p521", text, bytes(data))
    assert answer.status_code == 422, answer.text
    assert word in answer.text


def holds_at(answer: bytes, offset: int) -> tuple[int, int]:
    """Verify one of several containers, and give its bounds."""
    proven = holds(answer, answer, "p521", offset=offset)
    return offset, proven.container.end
