"""Answers that are whole files, as for AHAB: written away while they arrive, with one size, and never half."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from digsigd.client import ClientError, ServerUnreachable
from tests.client.conftest import MakeClient, Serve
from tests.client.test_client_nasty import HTML, OCTETS
from tests.helpers.hostile_servers import answer, problem, then_close

FILE = bytes(range(256)) * 64
SIGNED = FILE[:100] + b"signed" + FILE[106:]


@pytest.fixture
def ask(tmp_path: Path) -> dict[str, Any]:
    """What `sign_file` takes."""
    (tmp_path / "flash.bin").write_bytes(FILE)
    (tmp_path / "out").write_bytes(b"older" * 10_000)
    return {
        "machine": "m",
        "description": b"[Header]\n",
        "artifact": tmp_path / "flash.bin",
        "artifact_name": "flash.bin",
        "to": tmp_path / "out",
        "cst_version": "4.0.1",
        "soc_type": "mx93",
    }


async def test_the_answer_is_the_content_of_the_file(serve: Serve, client: MakeClient, ask: dict[str, Any]) -> None:
    """And what was in it before is gone; the host's id, entry and remarks are told."""
    said = answer(200, SIGNED, OCTETS, x_request_id="of-the-host", x_digsigd_record="0123abcd.7", x_digsigd_note="old")
    server = await serve(said)
    signed = await client(server.url).sign_file(**ask)
    assert ask["to"].read_bytes() == SIGNED
    assert (signed.request_id, signed.record, signed.notes) == ("of-the-host", "0123abcd.7", ("old",))
    body = server.connections[0].body
    assert FILE in body
    assert b'name="soctype"\r\n\r\nmx93\r\n' in body


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (answer(200, SIGNED[:-1], OCTETS), f"has {len(FILE) - 1} bytes, the one that was sent has {len(FILE)}"),
        (answer(200, b"", OCTETS), "has 0 bytes"),
        (answer(200, SIGNED + b"1", OCTETS), "more bytes"),
        (answer(200, HTML, "text/html"), "without a signed file, of type text/html"),
        (answer(200, SIGNED, OCTETS, content_encoding="gzip"), "without a signed file, compressed"),
        (answer(204, b"", ""), "answers 204"),
        (problem(422, "policy-violation", "no"), "no"),
    ],
)
async def test_any_other_answer_is_an_error(
    serve: Serve, client: MakeClient, ask: dict[str, Any], said: bytes, words: str
) -> None:
    """A file of another length, another page, a refusal."""
    with pytest.raises(ClientError, match=words):
        await client((await serve(said)).url).sign_file(**ask)


async def test_another_try_begins_anew(serve: Serve, client: MakeClient, ask: dict[str, Any]) -> None:
    """After an answer that broke off, nothing of it is left."""
    whole = answer(200, SIGNED, OCTETS)
    server = await serve(then_close(whole[:-1000]), whole)
    await client(server.url, retries=1).sign_file(**ask)
    assert ask["to"].read_bytes() == SIGNED
    server = await serve(then_close(whole[:-1000]))
    with pytest.raises(ServerUnreachable):
        await client(server.url).sign_file(**ask)


async def test_a_full_disk_is_told(serve: Serve, client: MakeClient, ask: dict[str, Any]) -> None:
    """With the file, and no other try, which would not help."""
    server = await serve(answer(200, SIGNED, OCTETS))
    with pytest.raises(ClientError, match=r"/dev/full cannot be written: No space left on device"):
        await client(server.url, retries=3).sign_file(**{**ask, "to": Path("/dev/full")})
    assert len(server.connections) == 1
    with pytest.raises(ClientError, match=r"missing cannot be written: No such file"):
        await client(server.url).sign_file(**{**ask, "to": ask["to"].with_name("missing")})
