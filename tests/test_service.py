"""The life of a service: started, stopped and started again, and what is mounted of it meanwhile."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import treq
from twisted.application.service import IService, IServiceMaker, MultiService
from twisted.internet import reactor as installed
from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.task import Clock, deferLater
from twisted.internet.threads import deferToThread
from twisted.plugin import IPlugin
from twisted.web.client import Agent
from twisted.web.http_headers import Headers
from twisted.web.iweb import INonQueuedRequestFactory
from twisted.web.resource import IResource, Resource
from twisted.web.server import Site
from zope.interface.verify import verifyObject

from digsigd import DigsigError, SettingsError, SigningRequest, SigningService
from digsigd.errors import Busy
from digsigd.reactor import reactor_of
from digsigd.settings import CallerSettings, DaemonSettings, KeysSettings, ListenSettings
from digsigd.tap import Options
from tests.helpers.embedded import MACHINE, ServiceSetup
from twisted.plugins import digsigd_plugin

reactor: Any = installed


@pytest.fixture
def rig(tmp_path: Path, cst_base: Path) -> ServiceSetup:
    return ServiceSetup(tmp_path, cst_base)


@pytest.fixture
def taken() -> Iterator[socket.socket]:
    """A port that somebody else has."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def request_of(rig: ServiceSetup) -> SigningRequest:
    return SigningRequest.of_file(rig.image, machine=MACHINE, cst_version="3.4.1", description=rig.csf)


def port_of(service: SigningService) -> int:
    assert isinstance(service.address, IPv4Address)
    return service.address.port


async def signed_by(rig: ServiceSetup, service: SigningService) -> None:
    """Sign over HTTP on the service's own port, and verify."""
    status, blob = await rig.post(f"http://127.0.0.1:{port_of(service)}/sign/imx")
    assert status == 200, blob
    rig.verify(blob)


async def turned() -> None:
    """Let the reactor close what is closing."""
    await deferLater(reactor, 0.02)


def test_what_is_public_has_the_interfaces_that_twisted_asks_for(rig: ServiceSetup) -> None:
    """The service, what is mounted of it, and the plugin."""
    service = SigningService(rig.settings(), listen=False)
    verifyObject(IService, service)
    verifyObject(IResource, service.resource)
    verifyObject(INonQueuedRequestFactory, service.request_factory("/signing"))
    verifyObject(IServiceMaker, digsigd_plugin.digsigd)
    verifyObject(IPlugin, digsigd_plugin.digsigd)
    assert digsigd_plugin.digsigd.options is Options


async def test_a_service_that_was_stopped_starts_again(rig: ServiceSetup) -> None:
    """As often as one likes, each time with a port of its own, and nothing is left after each stop."""
    service = SigningService(rig.settings())
    assert service.address is None
    for _ in range(3):
        service.startService()
        await signed_by(rig, service)
        signed = await service.sign(request_of(rig))
        rig.verify(signed.blob)
        await service.stopService()
        assert (service.address, service.running) == (None, 0)
        assert list(rig.work.iterdir()) == []
        with pytest.raises(Busy):
            await service.sign(request_of(rig))
    await turned()


@pytest.mark.parametrize(("endpoint", "most"), [("tcp:0", 700), ("tcp:0:backlog=9", 9)])
async def test_as_many_wait_to_be_accepted_as_are_configured(rig: ServiceSetup, endpoint: str, most: int) -> None:
    """An endpoint that says so itself takes precedence. Twisted's own default is 50."""
    listen = ListenSettings(endpoint=f"{endpoint}:interface=127.0.0.1", backlog=700)
    service = SigningService(rig.settings(listen=listen))
    service.startService()
    port: Any = service._port
    # tcp(7): for a listening socket tcpi_sacked is the length of its queue.
    queue = struct.unpack_from("<I", port.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 64), 28)[0]
    await service.stopService()
    assert queue == most


async def test_no_thread_is_left_by_a_life(rig: ServiceSetup) -> None:
    """Not even one that waited for a key store when the service stopped, once it need not wait any longer."""
    service = SigningService(rig.settings(), listen=False)
    before = set(threading.enumerate())
    waiting, go_on = threading.Event(), threading.Event()

    def wait() -> None:
        waiting.set()
        go_on.wait()

    service.startService()
    await service.sign(request_of(rig))
    over = service._parts._pools.in_key_thread(wait)
    await deferToThread(waiting.wait)
    await service.stopService()
    mine = {thread for thread in threading.enumerate() if thread.name.startswith("PoolThread-digsigd")} - before
    assert any(thread.is_alive() for thread in mine)
    go_on.set()
    await over
    for thread in mine:
        await deferToThread(thread.join, 30)
        assert not thread.is_alive()


async def test_a_start_that_failed_can_be_tried_again(rig: ServiceSetup, taken: socket.socket) -> None:
    """Once the port is free; until then nothing runs and nothing is left."""
    port = taken.getsockname()[1]
    service = SigningService(rig.settings(listen=ListenSettings(endpoint=f"tcp:{port}:interface=127.0.0.1")))
    for _ in range(2):
        with pytest.raises(CannotListenError):
            service.startService()
        assert (service.address, service.running) == (None, 0)
        assert list(rig.work.iterdir()) == []
        assert await service.missing() == ["this signing host is shutting down"]
    taken.close()
    service.startService()
    assert port_of(service) == port
    await signed_by(rig, service)
    await service.stopService()
    await turned()


async def test_a_work_directory_that_was_missing_is_taken_once_it_is_there(rig: ServiceSetup) -> None:
    """With the same service."""
    service = SigningService(rig.settings(daemon=DaemonSettings(workdir=rig.folder / "later")), listen=False)
    with pytest.raises(DigsigError, match="the work directory cannot be used"):
        service.startService()
    assert not service.running
    (rig.folder / "later").mkdir()
    service.startService()
    rig.verify((await service.sign(request_of(rig))).blob)
    await service.stopService()


async def test_a_stop_waits_for_the_readiness_check(rig: ServiceSetup, caplog: pytest.LogCaptureFixture) -> None:
    """Which makes a file in the work directory: nothing is left there, and nothing fails."""
    for turn in range(60):
        service = SigningService(rig.settings(), listen=False)
        service.startService()
        missing = Deferred.fromCoroutine(service.missing())
        await deferLater(reactor, turn / 20_000)
        await service.stopService()
        assert await missing in ([], ["this signing host is shutting down"])
        assert list(rig.work.iterdir()) == []
    assert "not-ready" not in caplog.text


async def test_a_multi_service_that_starts_twice(rig: ServiceSetup) -> None:
    """Starts ours twice, beside its own."""
    services = MultiService()
    service = SigningService(rig.settings())
    service.setServiceParent(services)
    assert services.getServiceNamed("digsigd") is service
    for _ in range(2):
        services.startService()
        await signed_by(rig, service)
        await services.stopService()
        assert list(rig.work.iterdir()) == []
    await turned()


async def test_what_is_stopped_is_stopped_at_once(rig: ServiceSetup) -> None:
    """Before the first start, and after each stop."""
    service = SigningService(rig.settings(), listen=False)
    assert service.stopService().called
    service.startService()
    await service.stopService()
    assert service.stopService().called


async def test_who_stops_it_twice_waits_for_the_same_end(rig: ServiceSetup, taken: socket.socket) -> None:
    """Each by a Deferred of their own; whoever starts it meanwhile is told to wait for that."""
    settings = rig.settings(
        keys=KeysSettings(uri=f"http://127.0.0.1:{taken.getsockname()[1]}"),
        daemon=DaemonSettings(workdir=rig.work, shutdown_grace=0.2),
    )
    service = SigningService(settings, listen=False)
    service.startService()
    with pytest.raises(RuntimeError, match="already running"):
        service.startService()
    signing = Deferred.fromCoroutine(service.sign(request_of(rig)))
    connection, _ = await deferToThread(taken.accept)
    first, second, third = (service.stopService() for _ in range(3))
    third.addErrback(lambda _: None)
    third.cancel()
    with pytest.raises(RuntimeError, match="wait for the Deferred of stopService"):
        service.startService()
    with pytest.raises(Busy):
        await signing
    assert [first.called, second.called] == [False, False]
    await second
    assert first.called
    connection.close()
    service.startService()
    await service.stopService()
    await turned()


async def test_a_service_that_stops_signs_nothing_new(rig: ServiceSetup) -> None:
    """From the moment on that it is told to, while its port is still being closed."""
    service = SigningService(rig.settings())
    service.startService()
    stopping = service.stopService()
    assert not stopping.called
    with pytest.raises(Busy):
        await service.sign(request_of(rig))
    await stopping
    await turned()


async def test_a_start_reads_tokens_anew(rig: ServiceSetup) -> None:
    """One that has gone wrong meanwhile fails that start, and the next that is right works."""
    token = rig.folder / "token"
    token.write_text("a-token-of-the-release-team")
    service = SigningService(
        rig.settings(
            callers={
                "release": CallerSettings(token_file=token, machines=("*",), backends=("ssl",), cst_versions=("*",))
            }
        )
    )
    service.startService()
    await service.stopService()
    token.write_text("short")
    with pytest.raises(SettingsError, match=r"callers\.release\.token_file"):
        service.startService()
    assert not service.running
    token.write_text("another-token-of-the-release-team")
    service.startService()
    client = treq.client.HTTPClient(Agent(reactor))
    url = f"http://127.0.0.1:{port_of(service)}/machines/{MACHINE}"
    for text, status in (("a-token-of-the-release-team", 401), ("another-token-of-the-release-team", 200)):
        answer = await client.get(url, headers=Headers({"Authorization": [f"Bearer {text}"]}))
        assert answer.code == status
        await answer.content()
    await service.stopService()
    await turned()


async def test_what_is_mounted_once_serves_each_life(rig: ServiceSetup) -> None:
    """Deep below a site of one's own; while the service does not run, each answer is 503."""
    service = SigningService(rig.settings(), listen=False)
    root = Resource()
    port = reactor.listenTCP(0, Site(root, requestFactory=service.mount(root, "/a/signing")), interface="127.0.0.1")
    url = f"http://127.0.0.1:{port.getHost().port}/a/signing"
    client = treq.client.HTTPClient(Agent(reactor))

    async def refused() -> None:
        status, text = await rig.post(f"{url}/sign/imx")
        assert (status, b"shutting down" in text) == (503, True), text
        for path in ("readyz", f"machines/{MACHINE}"):
            answer = await client.get(f"{url}/{path}")
            assert (answer.code, b"shutting down" in await answer.content()) == (503, True)

    await refused()
    for _ in range(2):
        service.startService()
        status, blob = await rig.post(f"{url}/sign/imx")
        assert status == 200, blob
        rig.verify(blob)
        assert await (await client.get(f"{url}/readyz")).content() == b"ok\n"
        await service.stopService()
        await refused()
        assert list(rig.work.iterdir()) == []
    await port.stopListening()
    await turned()


@pytest.mark.parametrize("path", ["", "/", "//a", "/a//b", "/a b", "/a%20b", "/..", "/taken", "/leaf/below", "/ä"])
def test_a_path_that_cannot_be_mounted_at_is_told(rig: ServiceSetup, path: str) -> None:
    """Where it is empty, would be escaped, or has something there already; nothing is put anywhere."""
    root, leaf = Resource(), Resource()
    leaf.isLeaf = True
    root.putChild(b"taken", Resource())
    root.putChild(b"leaf", leaf)
    with pytest.raises(ValueError, match="cannot mount at"):
        SigningService(rig.settings(), listen=False).mount(root, path)
    assert sorted(root.listStaticNames()) == [b"leaf", b"taken"]


async def test_a_unix_socket_is_an_address_too(rig: ServiceSetup) -> None:
    """As Twisted has it."""
    path = rig.folder / "socket"
    service = SigningService(rig.settings(listen=ListenSettings(endpoint=f"unix:{path}")))
    service.startService()
    assert service.address == UNIXAddress(str(path).encode())
    await service.stopService()


def test_a_reactor_that_lacks_something_is_told_at_once(rig: ServiceSetup) -> None:
    """By the name of the interface."""
    with pytest.raises(TypeError, match=r"Clock .* IReactorCore"):
        SigningService(rig.settings(), reactor=Clock())  # type: ignore[arg-type]
    given: Any = reactor_of(None)
    assert given is installed
