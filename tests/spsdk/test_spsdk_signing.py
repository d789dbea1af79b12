"""The signature provider for SPSDK, without SPSDK, and a real host with the real cst."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from digsigd import ahab
from digsigd.ahab.signature import check_signature
from digsigd.spsdk.errors import ProviderError
from digsigd.spsdk.provider import Provider
from tests.helpers.ahab_cases import image
from tests.helpers.daemons import TOKEN, Daemon
from tests.helpers.spsdk_regions import CASE, SPL, TABLE, UBOOT, region, table

MakeProvider = Callable[..., Provider]


@pytest.fixture
def provider(host: Daemon, tmp_path: Path) -> MakeProvider:
    """Makes providers for a machine and a file with images."""
    (tmp_path / "flash.bin").write_bytes(image(CASE))
    (tmp_path / "another").write_text("another\n")

    def make(machine: str = "p384", **keys: str) -> Provider:
        line = {"server": host.url, "machine": machine, "image": "flash.bin", "token_file": f"{host.folder}/token"}
        return Provider({**line, "retries": "0", **keys}, [str(tmp_path)])

    return make


def holds(data: bytes, signature: bytes) -> None:
    """Check it with the key that the container names."""
    flags = int.from_bytes(data[4:8], "little")
    block = int.from_bytes(data[12:14], "little") + 16
    length = int.from_bytes(data[block + 1 : block + 3], "little")
    srks = ahab.parse_table(data[block : block + length])
    assert isinstance(srks, ahab.SrkTable)
    check_signature(srks.records[flags >> 4 & 3], signature, data, "signature", "it")


@pytest.mark.parametrize("cst", ["3.4.1", "4.0.1"])
@pytest.mark.parametrize(("machine", "length"), [("p384", 96), ("p256", 64), ("pss2048", 256)])
@pytest.mark.parametrize(("offset", "index"), [(SPL, 0), (UBOOT, 3)])
def test_a_container_is_signed(
    provider: MakeProvider, cst: str, machine: str, length: int, offset: int, index: int
) -> None:
    """With each kind of key and each cst: the signature is raw, as long as announced, and holds over SPSDK's bytes."""
    one = provider(machine, cst=cst)
    data = region(offset=offset, srks=table(machine), signature=length, index=index)
    assert one.signature_length == length
    signature = one.sign(data)
    assert len(signature) == length
    holds(data, signature)
    assert any("trial" in note.lower() for note in one.notes) or not one.notes


def test_revocations_and_versions_are_those_of_spsdk(provider: MakeProvider) -> None:
    """They are signed, as far as the host's policy allows them."""
    data = region(index=1, revoked=0b1000, sw_version=7, fuse_version=3)
    holds(data, provider().sign(data))


def refused(one: Provider, data: bytes) -> str:
    with pytest.raises(ProviderError) as caught:
        one.sign(data)
    told = str(caught.value)
    assert "--" not in told
    assert TOKEN not in told
    return told


def test_an_image_that_was_changed_is_refused(provider: MakeProvider, tmp_path: Path) -> None:
    """The header alone is not enough: the host compares each image with its hash."""
    one = provider()
    file = bytearray(image(CASE))
    file[SPL + 0x2400] ^= 1
    (tmp_path / "flash.bin").write_bytes(file)
    assert "image" in refused(one, region())


def test_nothing_is_sent_that_is_not_a_container(provider: MakeProvider, host: Daemon) -> None:
    """A digest reaches no host."""
    before = host.log()
    assert "no digests" in refused(provider(), bytes(48))
    assert host.log() == before


def test_flags_that_no_description_has_need_a_cst_that_keeps_them(provider: MakeProvider) -> None:
    """3.4.1 clears them: SPSDK would have them in its container, unsigned."""
    data = region(upper_flags=0x200000)
    assert "cst 4.0.1 leaves them" in refused(provider(cst="3.4.1"), data)
    holds(data, provider(cst="4.0.1").sign(data))


def test_the_policy_of_the_host_counts(provider: MakeProvider, host: Daemon) -> None:
    """A machine whose callers may not revoke SRKs."""
    data = region(srks=table("pss2048"), signature=256, revoked=8)
    assert "ahab-revocations" in refused(provider("pss2048", token_file=f"{host.folder}/other"), data)


def test_the_key_that_signs_cannot_be_revoked(provider: MakeProvider) -> None:
    """Boards would not boot anything that it signs, ever."""
    assert "evo" in refused(provider(), region(index=2, revoked=4))


def test_another_table_is_refused(provider: MakeProvider) -> None:
    """Before the file is sent, with what SPSDK's configuration needs."""
    told = refused(provider(), region(srks=table("p256"), signature=64))
    assert "machine 'p384' has not the SRK table of the container" in told
    assert "crts/SRK_1_2_3_4_table.bin" in told
    assert "srk_table in SPSDK's configuration" in told


def test_a_table_can_be_named(provider: MakeProvider) -> None:
    """If it is there, and the container's; with the name of the SRK's certificate too."""
    data = region()
    one = provider(srk_table=TABLE, srk_certificate="SRK1_sha384_secp384r1_v3_usr_crt.pem")
    assert one.signature_length == 96
    holds(data, one.sign(data))
    assert "another SRK table 'crts/other_table.bin' than the container" in refused(
        provider("both", srk_table="crts/other_table.bin"), data
    )
    assert "has no SRK table" in refused_length(provider(srk_table="no.bin"))


def test_tables_with_keys_of_several_sizes_need_a_name(provider: MakeProvider) -> None:
    """SPSDK asks for the length of signatures before there is a container."""
    assert "set srk_table=NAME" in refused_length(provider("both"))
    assert provider("both", srk_table="crts/other_table.bin").signature_length == 64


def test_each_of_several_tables_has_its_own_certificates(provider: MakeProvider) -> None:
    """SRK 2 of the container's table, not of the other one."""
    for keys, length in (("p384", 96), ("p256", 64)):
        data = region(srks=table(keys), signature=length, index=1)
        holds(data, provider("both").sign(data))


def refused_length(one: Provider) -> str:
    with pytest.raises(ProviderError) as caught:
        _ = one.signature_length
    return str(caught.value)


def test_a_machine_for_version_2_alone_has_no_length(provider: MakeProvider) -> None:
    """Its table is of no use to SPSDK."""
    assert "no SRK table for containers of version 0" in refused_length(provider("v2"))


def test_a_wrong_certificate_is_refused(provider: MakeProvider) -> None:
    """That of another SRK than the container's."""
    one = provider(srk_certificate="SRK2_sha384_secp384r1_v3_usr_crt.pem")
    assert "SRK" in refused(one, region())


def test_the_length_is_asked_for_once(provider: MakeProvider, host: Daemon) -> None:
    """SPSDK asks some 15 times for each container."""
    one = provider()
    before = host.log().count("GET")
    assert [one.signature_length for _ in range(3)] == [96] * 3
    assert "p384" in one.info()
    assert host.log().count("GET") <= before + 1


@pytest.mark.parametrize(
    ("keys", "what"),
    [
        ({"machine": "nobody"}, "machine="),
        ({"server": "http://127.0.0.1:9"}, "127.0.0.1:9"),
        ({"token_file": "another"}, "[callers]"),
        ({"cst": "9.9.9"}, "9.9.9"),
        ({"backend": "pkcs11"}, "pkcs11"),
    ],
)
def test_what_the_host_refuses_is_told_in_keys(provider: MakeProvider, keys: dict[str, str], what: str) -> None:
    """With what to set."""
    assert what in refused(provider(**keys), region())


def test_remarks_of_the_host_are_kept(provider: MakeProvider) -> None:
    """A host that does not know the chip says so; `soc` tells it."""
    one = provider("bare")
    one.sign(region())
    assert any("chip is not known" in note for note in one.notes)
    one = provider("bare", soc="imx93")
    one.sign(region())
    assert one.notes == ()
    assert "mx93" in refused(provider(soc="mx91"), region())


def test_no_module_of_the_working_directory_is_imported(
    provider: MakeProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A build starts nxpimage in folders with files of others."""
    one = provider()
    for name in ("msgspec", "twisted", "digsigd"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('imported')")
    monkeypatch.chdir(tmp_path)
    assert one.signature_length == 96


@pytest.mark.parametrize(
    ("program", "what"),
    [("echo hello", "ended with code 0: it said nothing"), ("printf 'one\\ntwo' >&2; exit 3", "with code 3: two")],
)
def test_a_process_that_ends_otherwise_is_told(
    provider: MakeProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, what: str
) -> None:
    """With the last line of what it said."""
    script = tmp_path / "python"
    script.write_text(f"#!/bin/sh\n{program}\n")
    script.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(script))
    assert what in refused(provider(), region())


def test_a_process_that_cannot_be_started_is_told(provider: MakeProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when Python was removed under a running program."""
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    assert "/nowhere/python cannot be started: No such file" in refused(provider(), region())


def test_a_process_that_hangs_is_ended(provider: MakeProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some time after the client should have given up."""
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\nexec sleep 100\n")
    script.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(script))
    monkeypatch.setattr("digsigd.spsdk.exchange._MARGIN", 0.1)
    assert "not answered in time; set timeout=SECONDS" in refused(provider(timeout="0.1"), region())


def test_no_file_is_left(provider: MakeProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the copy of the images nor the answer, also after an error."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    provider().sign(region())
    refused(provider(), region(srks=table("p256"), signature=64))
    assert list(folder.iterdir()) == []
