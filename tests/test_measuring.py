"""What a service shows of itself: stalls, and when the certificates of machines expire."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock

from digsigd import csf
from digsigd._measuring import Measuring, layout_of
from digsigd.errors import KeyStoreFailed, NoKeys
from digsigd.keys.source import Fetched
from digsigd.keys.store import KeyStore
from digsigd.metrics.cells import Cells, Reading
from digsigd.settings import MachineSettings, MetricsSettings, Pkcs11Settings, Settings, TokenSettings
from digsigd.signing.rules import CurrentRules, MachineRules, Rules
from digsigd.testing import TrialPki


def in_thread(function: Any, *args: Any, **kwargs: Any) -> Deferred[Any]:
    return succeed(function(*args, **kwargs))


class Source:
    """A key store. `tarballs` are those of machines; a machine without one has no keys."""

    def __init__(self) -> None:
        self.tarballs: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.fails = False

    async def fetch(self, machine: str, version: Any) -> Fetched:
        self.asked.append(machine)
        if self.fails:
            raise KeyStoreFailed("gone")
        if machine not in self.tarballs:
            raise NoKeys("none")
        return Fetched(self.tarballs[machine], None)


class Host:
    """A service with parts that stand still."""

    def __init__(self, *machines: str, number: int = 0, settings: Settings | None = None) -> None:
        if settings is None:
            settings = Settings(metrics=MetricsSettings(path=True), machines=dict.fromkeys(machines, MachineSettings()))
        self.clock = Clock()
        self.source = Source()
        self.cells = Cells(layout_of(settings))
        source: Any = self.source
        self.keys = KeyStore(source, keep=0, clock=self.clock, in_thread=in_thread, max_unpacked=16 << 20)
        self.measuring = Measuring(self.cells, number, settings=settings, clock=self.clock, in_thread=in_thread)
        # The image that somebody sent to the page is not a request to sign.
        uploads: Any = SimpleNamespace(under_way=lambda: [SimpleNamespace(is_of_page=one) for one in (False, True)])
        quiet: Any = SimpleNamespace(running=2, waiting=3, slots=4, held=(5, 6, 7))
        self.tokens: Any = []
        self.tls: Any = SimpleNamespace(value=None)
        parts: Any = SimpleNamespace(
            uploads=uploads, keys=self.keys, tokens=self.tokens, rules=CurrentRules(Rules(MachineRules(csf.Policy()))),
            tls=self.tls, recorder=None,
        )  # fmt: skip
        self.measuring.start(parts, quiet, quiet)

    def wait(self, seconds: float) -> None:
        for _ in range(int(seconds * 4)):
            self.clock.advance(0.25)

    @property
    def reading(self) -> Reading:
        return self.cells.read()

    @property
    def expires(self) -> dict[str, float]:
        return {name: self.reading.expires(number) for number, name in enumerate(self.reading.machines)}


@pytest.fixture(scope="module")
def tarball() -> bytes:
    return TrialPki.make("p256", srks=1).tarball()


def test_a_stall_shows_for_a_while() -> None:
    """The longest of the last half minute at least, and of a minute at most."""
    host = Host()
    host.wait(10)
    assert host.reading.each("stall") == [0]
    host.clock.advance(3.25)
    assert host.reading.each("stall") == [3]
    host.clock.advance(1.25)
    host.wait(25)
    assert host.reading.each("stall") == [3]
    host.wait(60)
    assert host.reading.each("stall") == [0]


def test_the_numbers_of_the_parts_are_shown() -> None:
    """And nothing once it has stopped."""
    host = Host()
    reading = host.reading
    shown = [
        reading.alive(name)[0] for name in ("active", "running", "waiting", "slots", "reserved", "stored", "copies")
    ]
    assert shown == [1, 2, 3, 4, 5, 6, 7]
    assert reading.alive("record_writable") == [-1]
    host.measuring.stop()
    assert host.reading.alive("running") == []
    assert host.clock.getDelayedCalls() == []


def test_certificates_of_configured_machines_are_looked_at(tarball: bytes) -> None:
    """After the start, then once an hour; one that loses its keys is not known any more."""
    host = Host("a", "b")
    host.source.tarballs["a"] = tarball
    host.wait(2)
    assert host.expires["a"] > 1e9
    assert host.expires["b"] == 0
    assert host.source.asked == ["a", "b"]
    host.source.tarballs = {"b": tarball}
    host.wait(3600)
    assert host.source.asked == ["a", "b"] * 2
    assert host.expires["a"] == 0
    assert host.expires["b"] > 1e9
    host.source.tarballs["a"] = tarball
    host.wait(3600)
    assert host.expires["a"] > 1e9


def test_a_key_store_that_is_gone_changes_nothing(tarball: bytes) -> None:
    """What was known is still true."""
    host = Host("a")
    host.source.tarballs["a"] = tarball
    host.wait(2)
    known = host.expires
    host.source.fails = True
    host.wait(3600)
    assert host.expires == known


def test_a_machine_that_signs_for_the_first_time_is_looked_at(tarball: bytes) -> None:
    """Once; and a tarball that was fetched for a request at once, if it is new."""
    host = Host()
    host.source.tarballs["a"] = tarball
    host.wait(2)
    assert host.source.asked == []
    host.measuring.meter.request("signed", "a", {})
    host.wait(2)
    assert host.source.asked == ["a"]
    first = host.expires["a"]
    host.source.tarballs["a"] = TrialPki.make("p256", srks=1).tarball()
    host.cells.set_expires("a", 0)
    Deferred.fromCoroutine(host.keys.get("a"))
    assert host.expires["a"] >= first


def test_only_one_worker_looks_at_all_machines(tarball: bytes) -> None:
    """The first. Others look at what they fetch for requests."""
    host = Host("a", number=2)
    host.source.tarballs["a"] = tarball
    host.wait(10)
    assert host.source.asked == []
    Deferred.fromCoroutine(host.keys.get("a"))
    assert host.expires["a"] > 1e9


def test_a_tarball_without_certificates_is_no_fault() -> None:
    """Its expiry is not known; signing says what is wrong with it."""
    host = Host("a")
    host.source.tarballs["a"] = b"no tarball"
    host.wait(2)
    assert host.expires["a"] == 0


def test_the_state_of_tokens_and_the_hosts_own_certificate_are_shown() -> None:
    """A token that failed is failed, whatever it was before."""
    settings = Settings(
        metrics=MetricsSettings(path=True),
        pkcs11=Pkcs11Settings(tokens={"b": TokenSettings(), "a": TokenSettings(), "c": TokenSettings()}),
    )
    host = Host(settings=settings)
    host.tokens += [
        SimpleNamespace(name="b", proven=True, failed=""),
        SimpleNamespace(name="a", proven=True, failed="the PIN is wrong"),
        SimpleNamespace(name="c", proven=False, failed=""),
    ]
    host.tls.value = SimpleNamespace(certificate=SimpleNamespace(not_valid_after_utc=datetime(2100, 1, 1, tzinfo=UTC)))
    host.wait(2)
    assert [host.reading.token_states(number) for number in range(3)] == [[2], [1], [0]]
    assert host.reading.host_expires == datetime(2100, 1, 1, tzinfo=UTC).timestamp()
    host.tls.value = None
    host.wait(2)
    assert host.reading.host_expires == 0
