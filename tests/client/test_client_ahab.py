"""`sign_ahab` as a program uses it: with a real daemon, and with hosts whose answers are not what was asked for."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred

from digsigd import ahab
from digsigd.ahab import AhabError
from digsigd.client import (
    AhabVerificationFailed,
    ClientError,
    ImageError,
    KeyNames,
    MachineKeys,
    ServerRefused,
    SignedContainer,
    ahab_key_names,
    sign_ahab,
    verify_ahab,
)
from digsigd.client._internal.image_signing import ahab as module
from digsigd.client._internal.responses import read_machine_keys
from tests.client.conftest import MakeClient, Serve
from tests.client.test_client_answers import answered
from tests.client.test_client_nasty import OCTETS
from tests.helpers.ahab_cases import image, members, tarball
from tests.helpers.ahab_forge import table_of
from tests.helpers.ahab_samples import all_signed
from tests.helpers.daemons import Daemon
from tests.helpers.hostile_servers import answer, nothing, problem, turned, until

SD = image("good-93-sd-spl")
TABLE = "crts/SRK_1_2_3_4_table.bin"


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory, cst_base: Path) -> Iterator[Daemon]:
    """A daemon with keys for AHAB."""
    daemon = Daemon(tmp_path_factory.mktemp("ahab"), cst_base)
    for keys in ("p384", "p384ca", "pss2048"):
        daemon.put_keys(keys, tarball(keys))
    yield daemon.start()
    daemon.stop()


@pytest.fixture
def flash(tmp_path: Path) -> Path:
    """A flash.bin for i.MX 93, alone in its folder."""
    path = tmp_path / "flash.bin"
    path.write_bytes(SD)
    return path


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def told(machine: str = "p384") -> bytes:
    """What a host reports of a machine: its table and the certificates of the SRKs."""
    table = members(machine)[TABLE]
    certificates = [
        {
            "name": name, "subject": "", "srk": int(name[8]), "is_srk": "SRK" in name, "tables": [TABLE],
            "key": "ECDSA P-384", "not_after": "2036-11-20T00:00:00Z",
        }
        for name in members(machine)
        if name.endswith("_crt.pem")
    ]  # fmt: skip
    return json.dumps(
        {
            "machine": machine,
            "tarball_sha256": "0" * 64,
            "srk_tables": [],
            "ahab_tables": [
                {
                    "name": TABLE, "version": 1, "sha256": hashlib.sha256(table).hexdigest(),
                    "sha512": hashlib.sha512(table).hexdigest(), "keys": ["ECDSA P-384"] * 4,
                    "data": base64.b64encode(table).decode(),
                }
            ],
            "certificates": certificates,
            "versions": ["3.4.1", "4.0.1"],
            "backends": ["ssl"],
        }
    ).encode()  # fmt: skip


def keys(machine: str = "p384", **changes: Any) -> MachineKeys:
    return read_machine_keys(answered(json.dumps(json.loads(told(machine)) | changes).encode()), machine)


async def test_a_file_is_signed_and_holds(host: Daemon, client: MakeClient, flash: Path) -> None:
    """The report is that of the file that was written, and each container is told of with the host's answer for it."""
    parts, out = list[SignedContainer](), flash.parent / "out.bin"
    report = await sign_ahab(client(host.url), flash, out, soc="imx93", machine="p384", on_part=parts.append)
    assert report.holds
    assert report.fuse_value == members("p384")["crts/SRK_1_2_3_4_fuse_sha256.bin"]
    assert [(part.name, part.offset) for part in parts] == [
        ("OEM container at 0x400", 0x400),
        ("OEM container at 0x4000", 0x4000),
    ]
    for part in parts:
        assert ahab.parse(out.read_bytes(), part.offset).length == part.length
        assert part.request_id in host.log()
    assert report == verify_ahab(out, soc="imx93", srk_table=members("p384")[TABLE])
    assert verify_ahab(out).holds
    assert not verify_ahab(out, soc="imx93", fuse_value=bytes(32)).holds
    assert not verify_ahab(flash, soc="imx93").holds
    with pytest.raises(AhabError, match="SRK table"):
        verify_ahab(out, srk_table=b"no table")
    assert parts[-1].sha256 == hashlib.sha256(out.read_bytes()).digest()
    assert parts[0].sha256 != parts[1].sha256
    assert contents(flash.parent) == {"flash.bin": SD, "out.bin": out.read_bytes()}
    assert "'flash.bin' for p384" in host.log()


async def test_settings_and_names_count(host: Daemon, client: MakeClient, flash: Path) -> None:
    """What the call does not say the settings do; a chip can be a value."""
    one = client(host.url, machine="p384ca", cst="4.0.1", backend="ssl")
    names = KeyNames(
        TABLE,
        srk_certificate="crts/SRK2_sha384_secp384r1_v3_ca_crt.pem",
        sgk_certificate="crts/SGK2_1_sha384_secp384r1_v3_usr_crt.pem",
    )
    flash.write_bytes(image("good-qxp-spl-sgk"))
    for sgk in (True, False):
        report = await sign_ahab(one, flash, flash, soc=ahab.chip("mx8x"), names=names, srk=2, sgk=sgk)
        proven = [container.proven for container in report.containers if container.planned.must_sign]
        assert [(found.srk, found.certificate) for found in proven if found] == [(2, sgk)] * 2
    with pytest.raises(ClientError, match="have no srk_certificate"):
        await sign_ahab(one, flash, flash, soc="mx8x", names=KeyNames(TABLE))
    with pytest.raises(ClientError, match="have no sgk_certificate"):
        await sign_ahab(one, flash, flash, soc="mx8x", names=KeyNames(TABLE, srk_certificate="a"), sgk=True)
    with pytest.raises(ValueError, match="srk is 5"):
        await sign_ahab(one, flash, flash, soc="mx8x", srk=5)
    with pytest.raises(AhabError, match="no chip with AHAB is called 'imx6q'"):
        await sign_ahab(one, flash, flash, soc="imx6q")


async def test_nothing_is_sent_of_what_cannot_be_signed(host: Daemon, client: MakeClient, flash: Path) -> None:
    """And whoever is at fault is told by the kind of the error."""
    sent: list[tuple[int, int]] = []
    one = client(host.url, machine="p384", progress=lambda *now: sent.append(now))
    with pytest.raises(ImageError, match="has the software version 0, not 1"):
        await sign_ahab(one, flash, flash, soc="imx93", sw_version=1)
    with pytest.raises(ClientError, match="--fuses says"):
        await sign_ahab(one, flash, flash, soc="imx93", fuse_value=bytes(32))
    with pytest.raises(AhabError, match=r"SGK.* is not for i.MX 93"):
        await sign_ahab(one, flash, flash, soc="imx93", sgk=True)
    flash.write_bytes(SD[:0x3000] + b"1" + SD[0x3001:])
    with pytest.raises(ImageError, match="changed after"):
        await sign_ahab(one, flash, flash, soc="imx93")
    flash.write_bytes(b"no container")
    with pytest.raises(ImageError, match="no AHAB container"):
        await sign_ahab(one, flash, flash, soc="imx93")
    assert sent == []
    assert [path.name for path in flash.parent.iterdir()] == ["flash.bin"]


async def signed_by(host: Daemon, client: MakeClient, flash: Path, machine: str = "p384", **more: Any) -> list[bytes]:
    """What a good host answers, in order."""
    found: list[bytes] = []
    kept = module._checked

    def look(before: Path, after: Path, *rest: Any) -> Any:
        found.append(after.read_bytes())
        return kept(before, after, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_checked", look)
        await sign_ahab(client(host.url), flash, flash.parent / "good", soc="imx93", machine=machine, **more)
    (flash.parent / "good").unlink()
    return found


def flipped(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda first, _: flipped(first, 0x2900), "image 0|changed"),
        (lambda first, _: flipped(first, 0x100), "changed"),
        (lambda first, _: flipped(first, 0x4008), "changed"),
        (lambda first, _: flipped(first, 0x1800), "changed"),
        (lambda first, _: flipped(first, len(first) - 1), "changed"),
        (lambda first, _: flipped(first, 0x400 + 0x10), "signature|changed"),
        (lambda first, _: flipped(first, 0x400 + 0x298), "signature"),
        (lambda first, _: flipped(first, 0x400 + 0xB8), "SRK"),
        (lambda _, second: second, "changed"),
        (lambda *_: SD, "SRK set none"),
    ],
)  # fmt: skip
async def test_an_answer_that_is_another_file_is_not_written(
    host: Daemon,
    client: MakeClient,
    serve: Serve,
    flash: Path,
    change: Callable[[bytes, bytes], bytes],
    words: str,
) -> None:
    """A byte of an image, of another container, of the gaps, of the signature; more than was asked for; nothing."""
    first, second = await signed_by(host, client, flash)
    server = await serve(answer(200, told(), "application/json"), answer(200, change(first, second), OCTETS))
    out = flash.parent / "out.bin"
    out.write_bytes(b"the last good one")
    before = contents(flash.parent)
    with pytest.raises(AhabVerificationFailed, match=f"container at 0x400 fails verification.*({words})") as caught:
        await sign_ahab(client(server.url), flash, out, soc="imx93", machine="p384")
    assert caught.value.report.containers
    assert len(server.connections) == 2
    assert contents(flash.parent) == before


@pytest.mark.parametrize(("machine", "srk"), [("pss2048", 1), ("p384", 3)])
async def test_an_answer_with_other_keys_is_not_written(
    host: Daemon, client: MakeClient, serve: Serve, flash: Path, machine: str, srk: int
) -> None:
    """Those of another machine, or another SRK of this one: the answer to somebody else's request."""
    first, _ = await signed_by(host, client, flash, machine, srk=srk)
    server = await serve(answer(200, told(), "application/json"), answer(200, first, OCTETS))
    with pytest.raises(AhabVerificationFailed, match=r"not the expected one|is for SRK 3, not 1|fuse|boards have"):
        await sign_ahab(client(server.url), flash, flash, soc="imx93", machine="p384")
    assert contents(flash.parent) == {"flash.bin": SD}


async def test_an_answer_that_revokes_keys_is_not_written(client: MakeClient, serve: Serve, flash: Path) -> None:
    """A container that holds, but takes SRKs from the boards for good."""
    signed = all_signed(SD, skip=0x4000, revoke=0xE)
    table = table_of("p384")
    told_keys = json.loads(told())
    told_keys["ahab_tables"][0] |= {
        "data": base64.b64encode(table).decode(),
        "sha256": hashlib.sha256(table).hexdigest(),
        "sha512": hashlib.sha512(table).hexdigest(),
    }
    server = await serve(answer(200, json.dumps(told_keys).encode(), "application/json"), answer(200, signed, OCTETS))
    with pytest.raises(AhabVerificationFailed, match="revoke mask 0xe, but 0x0 was asked for"):
        await sign_ahab(client(server.url), flash, flash, soc="imx93", machine="p384")
    assert contents(flash.parent) == {"flash.bin": SD}


async def test_the_whole_is_judged_at_the_end(
    host: Daemon, client: MakeClient, flash: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However good each answer was."""
    unsigned = verify_ahab(flash, soc="imx93")
    monkeypatch.setattr(module, "_report_file", lambda *_: unsigned)
    with pytest.raises(AhabVerificationFailed, match=r"so .*out.bin was not written: OEM container at 0x400: signed"):
        await sign_ahab(client(host.url), flash, flash.parent / "out.bin", soc="imx93", machine="p384")
    assert contents(flash.parent) == {"flash.bin": SD}


async def test_after_a_refusal_nothing_is_written(host: Daemon, client: MakeClient, serve: Serve, flash: Path) -> None:
    """Of the second container, when the first is signed already."""
    first, _ = await signed_by(host, client, flash)
    server = await serve(
        answer(200, told(), "application/json"),
        answer(200, first, OCTETS),
        problem(422, "policy-violation", "not this one"),
    )
    parts: list[SignedContainer] = []
    with pytest.raises(ServerRefused, match="not this one"):
        await sign_ahab(client(server.url), flash, flash, soc="imx93", machine="p384", on_part=parts.append)
    assert [part.offset for part in parts] == [0x400]
    assert contents(flash.parent) == {"flash.bin": SD}


async def test_after_a_cancel_nothing_is_left(client: MakeClient, serve: Serve, flash: Path) -> None:
    """While the host works on the first container."""
    server = await serve(answer(200, told(), "application/json"), nothing)
    signing = Deferred.fromCoroutine(sign_ahab(client(server.url), flash, flash, soc="imx93", machine="p384"))
    await until(lambda: len(server.connections) == 2 and server.connections[1].asked)
    assert len(contents(flash.parent)) == 3
    signing.cancel()
    with pytest.raises(CancelledError):
        await signing
    await turned()
    assert contents(flash.parent) == {"flash.bin": SD}


def test_there_is_one_key_for_each_use() -> None:
    """By the version of the containers and the number of the SRK; the SGK is the first one that the SRK signed."""
    srk, sgk = (
        "crts/{}{}_sha384_secp384r1_v3_{}_crt.pem".format(*one) for one in (("SRK", 2, "ca"), ("SGK2_", 1, "usr"))
    )
    assert ahab_key_names(keys("p384ca"), version=0, srk=2, sgk=False) == KeyNames(TABLE, srk_certificate=srk)
    assert ahab_key_names(keys("p384ca"), version=0, srk=2, sgk=True) == KeyNames(
        TABLE, srk_certificate=srk, sgk_certificate=sgk
    )
    several = json.loads(told("p384ca"))["certificates"]
    several += [{**one, "name": one["name"].replace("_1_", "_2_")} for one in several if "SGK" in one["name"]]
    found = ahab_key_names(keys("p384ca", certificates=several), version=0, srk=2, sgk=True)
    assert found.sgk_certificate == sgk


def test_where_there_is_not_it_says_which_there_are() -> None:
    """A table of the other version, or for HAB only; no SGK; certificates of an SRK in another table."""
    with pytest.raises(ClientError, match="no SRK table for AHAB containers of version 2; its table is of the other"):
        ahab_key_names(keys(), version=2, srk=1, sgk=False)
    with pytest.raises(ClientError, match="no SGK certificate signed by SRK 1: leave out --sgk"):
        ahab_key_names(keys(), version=0, srk=1, sgk=True)
    others = [{**one, "tables": ["other.bin"]} for one in json.loads(told())["certificates"]]
    with pytest.raises(ClientError, match="no certificate of SRK 1"):
        ahab_key_names(keys(certificates=others), version=0, srk=1, sgk=False)
    both = json.loads(told())["ahab_tables"]
    with pytest.raises(ClientError, match=r"more than one SRK table for AHAB containers of version 0: .*, b\.bin"):
        ahab_key_names(keys(ahab_tables=[*both, {**both[0], "name": "b.bin"}]), version=0, srk=1, sgk=False)
    with pytest.raises(ClientError, match="no SRK table for AHAB"):
        ahab_key_names(keys(ahab_tables=[]), version=0, srk=1, sgk=False)
