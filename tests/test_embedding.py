"""The examples of docs/embedding.md, run as they stand there, and what they promise."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
import treq
from twisted.internet import reactor as installed
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.web.client import Agent
from twisted.web.http_headers import Headers
from twisted.web.server import Site

from digsigd import DigsigError, Settings, SigningRequest, SigningService, hab
from digsigd.settings import Cst, Daemon, Keys, Listen
from digsigd.trial import TrialImage, TrialPki

reactor: Any = installed
DOCUMENT = Path(__file__).parent.parent / "docs/embedding.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
MACHINE = "imx8mm-evk"
IMAGE = TrialImage.of_size(0x4000)


def example(name: str) -> Callable[..., Any]:
    """The function of that name from the one example that defines it."""
    (text,) = [text for text in EXAMPLES if f"def {name}(" in text]
    scope: dict[str, Any] = {}
    exec(compile(text, str(DOCUMENT), "exec"), scope)  # noqa: S102 - it is our own
    function: Callable[..., Any] = scope[name]
    return function


class Rig:
    """A key store, an image with its description, and settings for both."""

    def __init__(self, folder: Path, cst_base: Path) -> None:
        self.folder = folder
        self.pki = TrialPki.make("p256", srks=1)
        self.tarball = folder / f"keys/{MACHINE}/imxsign/imx-cst-keys.tar.gz"
        self.tarball.parent.mkdir(parents=True)
        self.tarball.write_bytes(self.pki.tarball())
        self.work = folder / "work"
        self.work.mkdir()
        self.image = folder / "spl.bin"
        self.image.write_bytes(IMAGE.data)
        self.csf = self.pki.csf(IMAGE.blocks("spl.bin")).encode()
        self.cst = Cst(base=cst_base, max_running=1, max_waiting=4)

    def settings(self, **more: Any) -> Settings:
        made: dict[str, Any] = {
            "listen": Listen(endpoint="tcp:0:interface=127.0.0.1"),
            "keys": Keys(uri=(self.folder / "keys").as_uri()),
            "cst": self.cst,
            "daemon": Daemon(workdir=self.work, shutdown_grace=5.0),
            **more,
        }
        return Settings(**made)

    def verify(self, blob: bytes) -> None:
        block = hab.Block(IMAGE.address, 0, IMAGE.signed_size)
        hab.verify(
            blob,
            srk_table=self.pki.srk_table,
            expected_blocks=[[block]],
            source_index=0,
            digests=[hab.digest_blocks("sha256", [block], lambda start, size: IMAGE.data[start : start + size])],
            fuse_value=self.pki.fuse_value,
            now=None,
        )

    async def post(self, url: str) -> tuple[int, bytes]:
        """Post the image as treq does."""
        client = treq.client.HTTPClient(Agent(reactor))
        with self.image.open("rb") as image:
            answer = await client.post(
                url,
                data={"machine": MACHINE, "cstversion": "3.4.1"},
                files={"csf": ("a.csf", "text/plain", self.csf), "artifact": ("spl.bin", image)},  # type: ignore[arg-type]
            )
            return answer.code, await answer.content()


@pytest.fixture
def rig(tmp_path: Path, cst_base: Path) -> Rig:
    return Rig(tmp_path, cst_base)


@pytest_twisted.async_yield_fixture
async def service(rig: Rig) -> AsyncIterator[SigningService]:
    service = SigningService(rig.settings(), listen=False)
    service.startService()
    yield service
    await service.stopService()
    assert list(rig.work.iterdir()) == []


async def test_a_service_in_somebodys_multi_service(rig: Rig) -> None:
    """Started and stopped with it, from a configuration file."""
    config = rig.folder / "digsigd.toml"
    config.write_text(
        f'[listen]\nendpoint = "tcp:0:interface=127.0.0.1"\n[keys]\nuri = "{(rig.folder / "keys").as_uri()}"\n'
        f'[cst]\nbase = "{rig.cst.base}"\n[daemon]\nworkdir = "{rig.work}"\n'
    )
    services = example("make_service")(config)
    services.startService()
    (service,) = services
    await turned()
    status, blob = await rig.post(f"http://127.0.0.1:{service.address.port}/sign/imx")
    assert status == 200, blob
    rig.verify(blob)
    await services.stopService()
    assert list(rig.work.iterdir()) == []


async def test_a_resource_under_somebodys_site(rig: Rig) -> None:
    """Below any path, next to resources that know nothing of it and get their forms as ever."""
    service, site = example("make_site")(rig.settings())

    class Echo(type(site.resource)):  # type: ignore[misc]
        isLeaf = True

        def render_POST(self, request: Any) -> bytes:
            return b"|".join([*request.args.get(b"a", []), request.content.read(40)])

    site.resource.putChild(b"echo", Echo())
    service.startService()
    port = reactor.listenTCP(0, site, interface="127.0.0.1")
    root = f"http://127.0.0.1:{port.getHost().port}"
    status, blob = await rig.post(f"{root}/signing/sign/imx")
    assert status == 200, blob
    rig.verify(blob)
    client = treq.client.HTTPClient(Agent(reactor))
    assert await (await client.get(f"{root}/signing/readyz")).content() == b"ok\n"
    assert (await client.get(f"{root}/signing/nothing")).code == 404
    assert await (await client.post(f"{root}/echo", data={"a": "1"})).content() == b"1|a=1"
    await port.stopListening()
    await service.stopService()
    assert list(rig.work.iterdir()) == []
    await turned()


async def test_a_site_that_does_not_stream_is_told_so(rig: Rig, service: SigningService) -> None:
    """Instead of signing from memory, or failing without a word."""
    port = reactor.listenTCP(0, Site(service.resource), interface="127.0.0.1")
    client = treq.client.HTTPClient(Agent(reactor))
    answer = await client.post(f"http://127.0.0.1:{port.getHost().port}/sign/imx", data=b"", headers=Headers())
    assert answer.code == 500
    assert b"request_factory" in await answer.content()
    await port.stopListening()
    await turned()


async def test_signing_without_http(rig: Rig, service: SigningService) -> None:
    """The blob is verified, and an error is a text for people."""
    sign = example("sign")
    rig.verify(await sign(service, rig.image, rig.csf))
    with pytest.raises(SystemExit, match="not signed: csf: "):
        await sign(service, rig.image, rig.csf.replace(b"[Unlock]", b"[Write Data]"))


async def test_cancelling_ends_cst(rig: Rig) -> None:
    """And leaves nothing."""
    slow = rig.folder / "slow"
    slow.write_text(f'#!/bin/sh\ntouch "{rig.folder}/runs"\nexec sleep 1000\n')
    slow.chmod(0o755)
    cst = Cst(base=rig.cst.base, versions={"slow": slow}, max_running=1)
    service = SigningService(rig.settings(cst=cst), listen=False)
    service.startService()
    request = SigningRequest.of_file(rig.image, machine=MACHINE, cst_version="slow", csf=rig.csf)
    signing = Deferred.fromCoroutine(service.sign(request))
    while not (rig.folder / "runs").exists():
        await turned()
    signing.cancel()
    with pytest.raises(CancelledError):
        await signing
    assert list(rig.work.glob("*/*")) == []
    signed = await service.sign(SigningRequest.of_file(rig.image, machine=MACHINE, cst_version="4.0.1", csf=rig.csf))
    rig.verify(signed.csf)
    await service.stopService()


async def test_an_image_that_changes_while_it_is_signed_is_not_signed(rig: Rig) -> None:
    """What cst saw is not what was verified."""
    cst = rig.folder / "cst"
    real = rig.cst.base / "cst-3.4.1/linux64/bin/cst"
    cst.write_text(
        f'#!/bin/sh\n"{real}" "$@" && printf x | dd of="{rig.image}" bs=1 seek=4000 conv=notrunc 2>/dev/null\n'
    )
    cst.chmod(0o755)
    service = SigningService(rig.settings(cst=Cst(versions={"1": cst}, max_running=1)), listen=False)
    service.startService()
    with pytest.raises(DigsigError, match="does not hold"):
        await service.sign(SigningRequest.of_file(rig.image, machine=MACHINE, cst_version="1", csf=rig.csf))
    await service.stopService()


async def test_an_expired_certificate_is_noted_and_signed(rig: Rig, service: SigningService) -> None:
    """The boot ROM knows no time."""
    pki = TrialPki.make("p256", srks=1, valid_days=-10)
    rig.tarball.write_bytes(pki.tarball())
    csf = pki.csf(IMAGE.blocks("spl.bin")).encode()
    signed = await service.sign(SigningRequest.of_file(rig.image, machine=MACHINE, cst_version="3.4.1", csf=csf))
    assert any("expired" in note for note in signed.notes)


def test_the_parts_by_themselves(rig: Rig) -> None:
    """Fuse words and names, without any daemon."""
    words = example("fuse_words")(rig.pki.srk_table)
    assert len(words) == 8
    value = rig.pki.fuse_value
    assert [int(word, 16) for word in words] == [
        int.from_bytes(value[start : start + 4], "little") for start in range(0, 32, 4)
    ]
    assert example("artifacts")(rig.csf) == {"spl.bin"}


def test_importing_installs_no_reactor() -> None:
    """Whoever embeds digsigd chooses the reactor; the pure parts do not even know Twisted."""
    text = (
        "import sys, digsigd, digsigd.settings, digsigd.tap, digsigd.log\n"
        "assert 'twisted.internet.reactor' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", text], check=True)
    pure = "import sys, digsigd.csf, digsigd.hab\nassert not any(n.startswith('twisted') for n in sys.modules)\n"
    subprocess.run([sys.executable, "-c", pure], check=True)


async def turned() -> None:
    """A turn of the reactor."""
    await deferLater(reactor, 0.02)
