"""The machines for people: how many tarballs a view reads, how long facts are believed, and what a store does wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from digsigd import csf
from digsigd.errors import KeyStoreFailed, NoKeys
from digsigd.keys.source import Fetched
from digsigd.pki import Pki, Protection, Validity
from digsigd.signing.machine_list import PAUSE, Facts, MachineList
from digsigd.signing.rules import MachineRules
from digsigd.testing import TrialPki
from tests.helpers import ahab_cases
from tests.helpers.keys import trial_keys


class Source:
    """A key store that counts what it is asked for. `held` answers wait."""

    def __init__(self, tarball: bytes) -> None:
        self.tarball = tarball
        self.version: Any = 1
        self.error: Exception | None = None
        self.asked: Counter[str] = Counter()
        self.sent: Counter[str] = Counter()
        self.held: list[Deferred[None]] | None = None

    async def fetch(self, machine: str, known: Any) -> Fetched:
        self.asked[machine] += 1
        if self.held is not None:
            waiting: Deferred[None] = Deferred()
            self.held.append(waiting)
            await waiting
        if self.error is not None:
            raise self.error
        if known is not None and known == self.version:
            return Fetched(None, known)
        self.sent[machine] += 1
        return Fetched(self.tarball, self.version)

    async def check(self) -> None: ...

    async def close(self) -> None: ...


class Rig:
    """A list of machines with a source, a clock, and threads that are none."""

    def __init__(self, tarball: bytes, count: int = 1000) -> None:
        self.clock = Clock()
        self.source = Source(tarball)
        self.stored: list[str] = [f"m{number:04}" for number in range(count)]
        self.listed = 0
        self.rules: dict[str, MachineRules] = {}
        self.list = MachineList(
            source=self.source, named=lambda: ["named"], names=self.names,
            rules=lambda name: self.rules.get(name, MachineRules(csf.Policy())), max_unpacked=1 << 24,
            in_thread=in_thread, clock=self.clock,
        )  # fmt: skip

    async def names(self) -> list[str]:
        self.listed += 1
        return self.stored

    def read(self, *machines: str) -> list[Facts | None]:
        reading = Deferred.fromCoroutine(self.list.read(machines))
        assert reading.called
        return [self.list.known(one) for one in machines]


def in_thread(function: Any, *args: Any, **kwargs: Any) -> Deferred[Any]:
    try:
        return succeed(function(*args, **kwargs))
    except Exception:  # noqa: BLE001
        return fail()


@pytest.fixture
def rig(pki: TrialPki) -> Iterator[Rig]:
    rig = Rig(pki.tarball())
    yield rig
    rig.list.stop()
    assert not rig.clock.getDelayedCalls()


def now(awaited: Any) -> Any:
    """The result of what needs no reactor."""
    found: list[Any] = []
    Deferred.fromCoroutine(awaited).addCallback(found.append)
    return found[0]


def test_a_view_reads_no_more_tarballs_than_it_shows(rig: Rig, pki: TrialPki) -> None:
    """Each once, and for a minute no more; then the store is asked whether it has changed, and sends nothing."""
    wanted = rig.stored[:25]
    facts = rig.read(*wanted)
    assert rig.source.asked == Counter(wanted)
    first = facts[0]
    assert first is not None
    assert (first.fuse_values, first.kinds) == ((pki.fuse_value.hex(),), ("ECDSA P-256",))
    assert first.expires is not None
    rig.read(*wanted)
    assert rig.source.asked.total() == 25
    rig.clock.advance(61)
    assert rig.read(*wanted) == facts
    assert (rig.source.asked.total(), rig.source.sent.total()) == (50, 25)


def test_a_changed_tarball_is_read_again(rig: Rig) -> None:
    """After a minute."""
    rig.read("m0000")
    rig.source.tarball, rig.source.version = trial_keys("rsa2048", srks=2).tarball(), 2
    rig.clock.advance(61)
    (facts,) = rig.read("m0000")
    assert facts is not None
    assert facts.kinds == ("RSA 2048",)


def test_new_rules_are_looked_at_at_once(rig: Rig) -> None:
    """A pin that does not fit shows as a problem, of the tarball or of the fuse value."""
    rig.read("m0000")
    rig.rules["m0000"] = MachineRules(csf.Policy(), keys_sha256="0" * 64)
    (facts,) = rig.read("m0000")
    assert facts is not None
    assert "keys_sha256" in facts.problem
    rig.rules["m0000"] = MachineRules(csf.Policy(), fuse_value=bytes(32))
    (facts,) = rig.read("m0000")
    assert facts is not None
    assert "0000" in facts.problem


def test_problems_are_told_and_end(rig: Rig) -> None:
    """Of the store, of the tarball, and a machine without keys; each is looked at again after a minute."""
    for error in (NoKeys("there are no keys"), KeyStoreFailed("the key store cannot be read", detail="/secret/path")):
        rig.source.error = error
        (facts,) = rig.read("m0000")
        assert facts == Facts(problem=error.what)
        rig.clock.advance(61)
    rig.source.error = None
    rig.source.tarball = b"no tarball"
    (facts,) = rig.read("m0000")
    assert facts is not None
    assert facts.problem
    assert facts.expires is None


def test_the_store_is_listed_once_in_a_while(rig: Rig) -> None:
    """Names of the settings are in the list, too."""
    assert now(rig.list.names()) == (*rig.stored, "named")
    now(rig.list.names())
    assert rig.listed == 1
    rig.stored = ["new"]
    rig.clock.advance(11)
    assert now(rig.list.names()) == ("named", "new")


def test_the_rest_is_read_in_the_background_one_at_a_time(rig: Rig) -> None:
    """With pauses; what is known is not read again, and a second walk does not begin meanwhile."""
    rig.stored = rig.stored[:10]
    rig.read("m0003")
    rig.list.walk()
    rig.list.walk()
    assert rig.source.asked.total() == 2
    for _ in range(20):
        rig.clock.advance(PAUSE)
    assert rig.source.asked == Counter([*rig.stored, "named"])


def test_a_view_does_not_wait_for_a_store_that_hangs(rig: Rig) -> None:
    """It has what is known after three seconds; reading goes on, two at a time, and a later view finds it."""
    rig.source.held = []
    view = Deferred.fromCoroutine(rig.list.read(["m0000", "m0001", "m0002"]))
    again = Deferred.fromCoroutine(rig.list.read(["m0000"]))
    assert (view.called, len(rig.source.held)) == (False, 2)
    rig.clock.advance(3)
    assert view.called
    assert again.called
    assert rig.list.known("m0000") is None
    held, rig.source.held = rig.source.held, None
    for one in held:
        one.callback(None)
    assert all(rig.list.known(f"m000{number}") for number in range(3))
    assert rig.source.asked == Counter(["m0000", "m0001", "m0002"])


def test_nothing_is_read_after_a_stop(rig: Rig) -> None:
    """Neither for a view nor in the background; a walk ends."""
    rig.list.walk()
    rig.list.stop()
    before = rig.source.asked.total()
    rig.list.walk()
    assert rig.read("m0009") == [None]
    assert rig.source.asked.total() == before


def test_the_first_certificate_that_ends_counts(rig: Rig) -> None:
    """Its day and its name."""
    rig.source.tarball = TrialPki.make("p256", srks=1, valid_days=20).tarball()
    (facts,) = rig.read("m0000")
    assert facts is not None
    assert facts.expires is not None
    assert facts.expires - datetime.now(UTC) < timedelta(days=21)
    assert facts.certificate


def test_a_certificate_of_no_srk_does_not_count(rig: Rig) -> None:
    """Such as one of an older PKI that has ended: boards look at no signature below it."""
    old = Pki.make("p256", Validity.of_days(-10), Protection(None), srks=1, ca_kind="p256")
    ended = {name: data for name, data in old.ca_files.items() if name.endswith("crt.pem")}
    assert ended
    rig.source.tarball = ahab_cases.packed({**TrialPki.make("p256", srks=1).files, **ended})
    (facts,) = rig.read("m0000")
    assert facts is not None
    assert facts.expires is not None
    assert facts.expires > datetime.now(UTC)


def test_keys_for_ahab_are_listed(rig: Rig) -> None:
    """With the kinds that their tables tell, and the values that a chip may have in its fuses."""
    rig.source.tarball = ahab_cases.tarball("pss2048")
    (facts,) = rig.read("m0000")
    files = ahab_cases.members("pss2048")
    assert facts is not None
    assert facts.kinds == ("RSA-PSS 2048",)
    names = ("fuse_sha256", "fuse_sha512", "v2_fuse")
    assert facts.fuse_values == tuple(files[f"crts/SRK_1_2_3_4_{name}.bin"].hex() for name in names)
    assert facts.certificate.startswith("SRK")
