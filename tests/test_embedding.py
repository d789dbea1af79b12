"""The examples of docs/embedding.md, run as they stand there, and what they promise."""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
import treq
from twisted.internet import reactor as installed
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.web.client import Agent
from twisted.web.http_headers import Headers
from twisted.web.server import Site

import digsigd
import digsigd.settings
from digsigd import DigsigError, SigningRequest, SigningService, load
from digsigd.errors import Busy
from digsigd.settings import CstSettings, DaemonSettings, KeysSettings, PageSettings
from digsigd.signing.marks import is_mark
from digsigd.signing.workdir import Workdir
from digsigd.testing import TrialPki
from tests.helpers.daemons import Daemon
from tests.helpers.embedded import IMAGE, MACHINE, ServiceSetup
from tests.helpers.pages import Page

reactor: Any = installed
DOCUMENT = Path(__file__).parent.parent / "docs/embedding.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)


def example(name: str) -> Callable[..., Any]:
    """The function of that name from the one example that defines it."""
    (text,) = [text for text in EXAMPLES if f"def {name}(" in text]
    scope: dict[str, Any] = {}
    exec(compile(text, str(DOCUMENT), "exec"), scope)  # noqa: S102 - it is our own
    function: Callable[..., Any] = scope[name]
    return function


@pytest.fixture
def rig(tmp_path: Path, cst_base: Path) -> ServiceSetup:
    return ServiceSetup(tmp_path, cst_base)


@pytest_twisted.async_yield_fixture
async def service(rig: ServiceSetup) -> AsyncIterator[SigningService]:
    service = SigningService(rig.settings(), listen=False)
    service.startService()
    yield service
    await service.stopService()
    assert list(rig.work.iterdir()) == []


async def test_a_service_in_somebodys_multi_service(rig: ServiceSetup) -> None:
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


async def test_a_resource_under_somebodys_site(rig: ServiceSetup) -> None:
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


async def test_the_page_is_mounted_with_the_rest(rig: ServiceSetup) -> None:
    """Its links lead below the path of the mount, and an image can be sent there."""
    service, site = example("make_site")(rig.settings(page=PageSettings(enabled=True)))
    service.startService()
    port = reactor.listenTCP(0, site, interface="127.0.0.1")
    client = treq.client.HTTPClient(Agent(reactor))
    root = f"http://127.0.0.1:{port.getHost().port}"
    try:
        answer = await client.get(f"{root}/signing/")
        page = Page(await answer.content())
        assert page.title == "Overview"
        assert all(link.startswith(("/signing/", "#")) for link in page.links())
        style = next(one.get("href", "") for one in page.root.iter("link"))
        assert (await client.get(root + style)).code == 200
        files: Any = {"artifact": ("a.bin", BytesIO(b"no image"))}
        answer = await client.post(
            f"{root}/signing/page/verify", files=files, headers=Headers({"Accept": ["text/html"]})
        )
        page = Page(await answer.content())
        assert answer.code == 422
        assert all(link.startswith(("/signing/", "#")) for link in page.links())
    finally:
        await port.stopListening()
        await service.stopService()


async def test_siblings_keep_what_is_theirs(rig: ServiceSetup) -> None:
    """Also below paths that end as ours does; below the mount, answers are as they are at the root."""
    service, site = example("make_site")(rig.settings())
    got: list[bytes] = []

    class Other(type(site.resource)):  # type: ignore[misc]
        isLeaf = True

        def render_POST(self, request: Any) -> bytes:
            got.append(request.content.read())
            return b"other"

    site.resource.putChild(b"other", Other())
    service.startService()
    port = reactor.listenTCP(0, site, interface="127.0.0.1")
    root = f"http://127.0.0.1:{port.getHost().port}"
    client = treq.client.HTTPClient(Agent(reactor))
    for body in (b"a=1", b"x" * 200_000):
        answer = await client.post(f"{root}/other/sign/imx", data=body)
        assert (answer.code, await answer.content()) == (200, b"other")
        assert got.pop() == body
    answer = await client.get(f"{root}/signing/sign/imx")
    assert (answer.code, answer.headers.getRawHeaders("allow")) == (405, ["POST"])
    assert (await client.get(f"{root}/signing/%ff")).code == 404
    await port.stopListening()
    await service.stopService()
    await turned()


async def test_a_site_with_http_2_serves_its_siblings_by_it(rig: ServiceSetup) -> None:
    """Signing is for HTTP/1.1, and says so."""
    service, site = example("make_site")(rig.settings())

    class Sibling(type(site.resource)):  # type: ignore[misc]
        def render_GET(self, _: Any) -> bytes:
            return b"sibling"

    site.resource.putChild(b"data", Sibling())
    service.startService()
    key, certificate = rig.folder / "key.pem", rig.folder / "cert.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += ["-subj", "/CN=localhost", "-keyout", str(key), "-out", str(certificate)]
    await deferToThread(subprocess.run, command, check=True, capture_output=True)
    options = f"ssl:0:interface=127.0.0.1:privateKey={key}:certKey={certificate}"
    port = await serverFromString(reactor, options).listen(site)
    root = f"https://127.0.0.1:{port.getHost().port}"

    async def by_curl(path: str, *more: str) -> str:
        command = ["curl", "--noproxy", "*", "--insecure", "--silent", "--show-error", *more, root + path]
        done = await deferToThread(subprocess.run, command, capture_output=True, check=False, timeout=60)
        return (done.stdout + done.stderr).decode()

    version = ("--http2", "-w", " %{http_version} %{http_code}")
    assert await by_curl("/data", *version) == "sibling 2 200"
    said = await by_curl("/signing/sign/imx", "-F", "machine=a", *version)
    assert said.endswith(" 2 505")
    assert "HTTP/1.1" in said
    form = ["-F", f"machine={MACHINE}", "-F", "cstversion=3.4.1", "-F", f"artifact=@{rig.image}"]
    (rig.folder / "spl.csf").write_bytes(rig.csf)
    out = rig.folder / "csf.bin"
    form += ["-F", f"csf=@{rig.folder}/spl.csf;type=text/plain", "-o", str(out), "--http1.1"]
    assert await by_curl("/signing/sign/imx", *form) == ""
    rig.verify(out.read_bytes())
    await port.stopListening()
    await service.stopService()
    await turned()


async def test_a_site_that_does_not_stream_is_told_so(rig: ServiceSetup, service: SigningService) -> None:
    """Instead of signing from memory, or failing without a word."""
    port = reactor.listenTCP(0, Site(service.resource), interface="127.0.0.1")
    client = treq.client.HTTPClient(Agent(reactor))
    answer = await client.post(f"http://127.0.0.1:{port.getHost().port}/sign/imx", data=b"", headers=Headers())
    assert answer.code == 500
    assert b"service.mount(root, PATH)" in await answer.content()
    await port.stopListening()
    await turned()


async def test_signing_without_http(rig: ServiceSetup, service: SigningService) -> None:
    """The blob is verified, and an error is a text for people."""
    sign = example("sign")
    rig.verify(await sign(service, rig.image, rig.csf))
    with pytest.raises(SystemExit, match="not signed: csf: "):
        await sign(service, rig.image, rig.csf.replace(b"[Unlock]", b"[Write Data]"))


async def test_cancelling_ends_cst(rig: ServiceSetup) -> None:
    """And leaves nothing."""
    slow = rig.folder / "slow"
    slow.write_text(f'#!/bin/sh\ntouch "{rig.folder}/runs"\nexec sleep 1000\n')
    slow.chmod(0o755)
    cst = CstSettings(base=rig.cst.base, versions={"slow": slow}, max_running=1, cage="none")
    service = SigningService(rig.settings(cst=cst), listen=False)
    service.startService()
    request = SigningRequest.of_file(rig.image, machine=MACHINE, cst_version="slow", description=rig.csf)
    signing = Deferred.fromCoroutine(service.sign(request))
    while not (rig.folder / "runs").exists():
        await turned()
    signing.cancel()
    with pytest.raises(CancelledError):
        await signing
    assert [path for path in rig.work.glob("*/*") if not is_mark(path.name)] == []
    signed = await service.sign(
        SigningRequest.of_file(rig.image, machine=MACHINE, cst_version="4.0.1", description=rig.csf)
    )
    rig.verify(signed.blob)
    await service.stopService()


async def test_stopping_waits_for_what_was_asked_for_without_http(rig: ServiceSetup) -> None:
    """It is signed within the grace, and ended after it; nobody waits for ever."""
    for grace in (30.0, 0.2):
        with socket.create_server(("127.0.0.1", 0)) as store:
            settings = rig.settings(
                keys=KeysSettings(uri=f"http://127.0.0.1:{store.getsockname()[1]}"),
                daemon=DaemonSettings(workdir=rig.work, shutdown_grace=grace),
            )
            service = SigningService(settings, listen=False)
            service.startService()
            request = SigningRequest.of_file(rig.image, machine=MACHINE, cst_version="3.4.1", description=rig.csf)
            signing = Deferred.fromCoroutine(service.sign(request))
            connection, _ = await deferToThread(store.accept)
            stopping = service.stopService()
            with pytest.raises(Busy):
                await service.sign(request)
            if grace > 1:
                tarball = rig.tarball.read_bytes()
                head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(tarball)}\r\nConnection: close\r\n\r\n"
                connection.sendall(head.encode() + tarball)
                rig.verify((await signing).blob)
            else:
                with pytest.raises(Busy):
                    await signing
            await stopping
            connection.close()
            assert list(rig.work.iterdir()) == []
    await turned()


async def test_an_image_that_is_gone_is_told(rig: ServiceSetup, service: SigningService) -> None:
    """As any other error, with the path for the log alone."""
    request = SigningRequest.of_file(rig.image, machine=MACHINE, cst_version="3.4.1", description=rig.csf)
    rig.image.unlink()
    with pytest.raises(DigsigError, match="the artifact cannot be read") as caught:
        await service.sign(request)
    assert str(rig.folder) not in caught.value.for_client()


async def test_an_image_that_changes_while_it_is_signed_is_not_signed(rig: ServiceSetup) -> None:
    """What cst saw is not what was verified."""
    cst = rig.folder / "cst"
    real = rig.cst.base / "cst-3.4.1/linux64/bin/cst"
    cst.write_text(f'#!/bin/sh\n"{real}" "$@" && printf x | dd of=artifact bs=1 seek=4000 conv=notrunc 2>/dev/null\n')
    cst.chmod(0o755)
    service = SigningService(
        rig.settings(cst=CstSettings(versions={"1": cst}, max_running=1, cage="none")), listen=False
    )
    service.startService()
    with pytest.raises(DigsigError, match="is not what was sent"):
        await service.sign(SigningRequest.of_file(rig.image, machine=MACHINE, cst_version="1", description=rig.csf))
    await service.stopService()


async def test_the_record_has_the_digest_of_what_was_signed(
    rig: ServiceSetup, service: SigningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not of what another program has written to the file since it was opened."""
    sent = sha256(rig.image.read_bytes()).hexdigest()
    check_space = Workdir.check_space

    def changed(workdir: Workdir, size: int) -> None:
        rig.image.write_bytes(b"something else")
        check_space(workdir, size)

    monkeypatch.setattr(Workdir, "check_space", changed)
    request = SigningRequest.of_file(rig.image, machine=MACHINE, cst_version="3.4.1", description=rig.csf)
    rig.verify((await service.sign(request)).blob)
    assert request.evidence.artifacts == {rig.image.name: sent}


@pytest.mark.timeout(60)
async def test_a_fifo_among_the_images_holds_nobody(rig: ServiceSetup, service: SigningService) -> None:
    """Neither one that is signed nor one that no block names."""
    for name in ("other", rig.image.name):
        path = rig.folder / name
        path.write_bytes(path.read_bytes() if path.exists() else b"other")
        images = [rig.image] if path == rig.image else [rig.image, path]
        request = SigningRequest.of_files(images, machine=MACHINE, cst_version="3.4.1", description=rig.csf)
        path.unlink()
        os.mkfifo(path)
        with pytest.raises(DigsigError, match="the artifact cannot be read"):
            await service.sign(request)


async def test_an_expired_certificate_is_noted_and_signed(rig: ServiceSetup, service: SigningService) -> None:
    """The boot ROM knows no time."""
    pki = TrialPki.make("p256", srks=1, valid_days=-10)
    rig.tarball.write_bytes(pki.tarball())
    csf = pki.csf(IMAGE.blocks("spl.bin")).encode()
    signed = await service.sign(
        SigningRequest.of_file(rig.image, machine=MACHINE, cst_version="3.4.1", description=csf)
    )
    assert any("expired" in note for note in signed.notes)


def test_the_parts_by_themselves(rig: ServiceSetup) -> None:
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


async def test_a_recorder_of_somebodys_own(rig: ServiceSetup) -> None:
    """Each signature is written to it, and none is given while it cannot be written."""
    path = rig.folder / "lines"
    service = example("make_recorded")(rig.settings(), path)
    service.startService()
    request = SigningRequest.of_file(rig.image, machine=MACHINE, cst_version="3.4.1", description=rig.csf)
    signed = await service.sign(request)
    (entry,) = [json.loads(line) for line in path.read_text().splitlines()]
    assert (entry["id"], entry["outcome"]) == (signed.record, "signed")
    assert entry["blob"]["sha256"] == hashlib.sha256(signed.blob).hexdigest()
    path.unlink()
    path.mkdir()
    with pytest.raises(Busy, match="cannot write its record"):
        await service.sign(request)
    await service.stopService()


class OfTac(Daemon):
    """The application file of the document, run by twistd beside its configuration."""

    def command(self, *_: str) -> list[str]:
        (text,) = [text for text in EXAMPLES if text.startswith("# signing.tac: ")]
        (self.folder / "signing.tac").write_text(text)
        command = text.splitlines()[0].removeprefix("# signing.tac: ").split()
        return [str(Path(sys.executable).with_name(command[0])), *command[1:]]


def test_an_application_file_of_twistd(tmp_path: Path, cst_base: Path, pki: TrialPki) -> None:
    """By the command in its first line: it signs, logs as the plugin does, and leaves no pidfile."""
    daemon = OfTac(tmp_path, cst_base)
    assert daemon.config == tmp_path / "digsigd.toml"
    daemon.put_keys(MACHINE, pki.tarball())
    daemon.start()
    answer = daemon.post(pki)
    assert answer.status_code == 200, answer.text
    assert not list(tmp_path.glob("*.pid"))
    daemon.stop()


async def test_settings_are_made_from_public_names(rig: ServiceSetup) -> None:
    """The example's are those that a file with the same keys has; every class of settings is a name of digsigd."""
    token = rig.folder / "token"
    token.write_text("a-token-of-the-release-team-1234\n")
    made = example("make_settings")(rig.folder / "keys", rig.folder, token)
    config = rig.folder / "same.toml"
    config.write_text(
        f'[keys]\nuri = "{(rig.folder / "keys").as_uri()}"\n[cst]\nbase = "/opt/NXP"\nmax_running = 2\n'
        f'[daemon]\nshutdown_grace = 10\n[record]\nfolder = "{rig.folder}"\n'
        f'[callers.ci]\ntoken_file = "{token}"\nmachines = ["imx8mm-*"]\nbackends = ["ssl"]\ncst_versions = ["*"]\n'
    )
    assert made == load(config, {})
    assert not SigningService(made, listen=False).running
    for name in digsigd.settings.__all__:
        assert not name.endswith("Settings") or getattr(digsigd, name) is getattr(digsigd.settings, name)
    with pytest.raises(AttributeError):
        getattr(digsigd, "NoSuch" + "Settings")


async def test_a_missing_image_is_an_answer_of_the_example(rig: ServiceSetup, service: SigningService) -> None:
    """As what is wrong with a request is."""
    missing = rig.folder / "missing.bin"
    with pytest.raises(SystemExit, match=r"not signed: .*/missing\.bin: No such file or directory"):
        await example("sign")(service, missing, rig.csf)
