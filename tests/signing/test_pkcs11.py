"""Tokens by themselves: what cst's output tells of them, and whose turn it is."""

from __future__ import annotations

from pathlib import Path

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from digsigd.csf import KeyUri
from digsigd.errors import Busy, Refused, TokenFailed
from digsigd.settings import CstSettings, Pkcs11Settings, Settings, SettingsError, TokenSettings
from digsigd.signing.pkcs11 import Access, Token, Tokens, Way, way_of, without_chatter
from digsigd.tokens import pins_of, tokens_of

URIS = (KeyUri("T", "a"),)
PIN = "1234-5678"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def token(clock: Clock) -> Token:
    return Token("T", PIN, None, 1, clock=clock)


@pytest.mark.parametrize(("version", "way"), [("3.4.1", "engine"), ("4.0.1", "provider")])
def test_the_way_is_found_out(cst_base: Path, version: str, way: Way) -> None:
    """From what the real programs import."""
    assert way_of(str(cst_base / f"cst-{version}/linux64/bin/cst")) == way


def test_what_goes_no_way_is_told(tmp_path: Path) -> None:
    """Or whatever cannot be read."""
    for name, content in (
        ("empty", b""),
        ("script", b"#!/bin/sh\n"),
        ("both", b"\0ENGINE_by_id\0OSSL_PROVIDER_load\0"),
    ):
        (tmp_path / name).write_bytes(content)
        assert way_of(str(tmp_path / name)) is None
    assert way_of(str(tmp_path / "nothing")) is None
    with pytest.raises(Refused, match=r"cst 3\.3\.1 has no pkcs11 backend"):
        Tokens({}, Access(None), login_timeout=1).way("3.3.1", str(tmp_path / "script"))
    assert Tokens({}, Access(None, ways={"9": "engine"}), login_timeout=1).way("9", "/nothing") == "engine"


# What the two libraries say where C_Login returns an error, as they were seen to.
ENGINE = (
    b"Login failed\nLogin to token failed, returning NULL...\nPKCS11_get_private_key returned NULL\n"
    b"40076E867A7F0000:error:4100%s:PKCS#11 module:ERR_CKR_error:%s:p11_slot.c:208:\n"
)
PROVIDER = (
    b"[../src/interface.gen.c:385] p11prov_Login(): Calling C_Login\n"
    b"[../src/interface.gen.c:389] p11prov_Login(): Error %d returned by C_Login\n"
)
# Version 1.3 begins each line with the time, 1.0 does not.
LATER_PROVIDER = (
    b"[2026-11-27 09:16:47.521] [../src/interface.gen.c:449] p11prov_Login(): Calling C_Login\n"
    b"[2026-11-27 09:16:47.524] [../src/interface.gen.c:453] p11prov_Login(): Error %d returned by C_Login\n"
)
LOCKING = {0xA0: "wrong", 0xA2: "too short", 0xA3: "expired", 0xA4: "locked"}


@pytest.mark.parametrize("way", ["engine", "provider"])
@pytest.mark.parametrize("code", LOCKING)
def test_after_an_error_of_its_pin_a_token_waits_for_an_operator(
    token: Token, tmp_path: Path, way: Way, code: int
) -> None:
    """Another try would bring it nearer to being locked."""
    output = ENGINE % (b"%04X" % code, b"PIN error") if way == "engine" else b"Undefined error\n"
    for trace in (PROVIDER, LATER_PROVIDER):
        with pytest.raises(TokenFailed, match=LOCKING[code]):
            token.judge(way, output, trace % code, URIS, pin=PIN, worked=False)
        assert LOCKING[code] in token.failed
        token.reload(PIN, None)
        assert token.failed == ""


@pytest.mark.parametrize("way", ["engine", "provider"])
@pytest.mark.parametrize("code", [0x05, 0x32, 0xE0])
def test_after_other_errors_a_token_is_tried_again(token: Token, tmp_path: Path, way: Way, code: int) -> None:
    """A device that was removed may be back."""
    output = ENGINE % (b"%04X" % code, b"Device removed") if way == "engine" else b"Undefined error\n"
    trace = PROVIDER % code
    with pytest.raises(TokenFailed, match=r"^login to token .* failed"):
        token.judge(way, output, trace, URIS, pin=PIN, worked=False)
    assert token.failed == ""


def test_what_says_nothing_of_the_token_is_for_others_to_judge(token: Token, tmp_path: Path) -> None:
    """Neither does an output that a client's names are in fail it."""
    for way in ("engine", "provider"):
        token.judge(way, b"key values mismatch\n", b"", URIS, pin=PIN, worked=False)
        token.judge(way, b"error:410000A0:PKCS#11 module: in a name\n", b"", URIS, pin=PIN, worked=False)
    assert token.failed == ""


def test_chatter_is_left_out() -> None:
    """Of what libp11 says, what cst says stays."""
    output = (
        b"PKCS#11: Initializing the engine: /m.so\nFound 3 slots\nLooking in slots for certificate: label=a\n"
        b"- [1403841758] SoftHSM slot ID 0x53  login (T)\nFound slot:  S\nFound token: D\nFound 1 certificate:\n"
        b"   1    id=53 label=a expiry=Nov 21 11:42:45 2036 GMT\nReturning longest expiry\nUndefined error\n"
    )
    assert without_chatter(output) == b"Undefined error\n"


def test_the_first_ones_come_one_by_one(clock: Clock) -> None:
    """Until the PIN has worked, however many sessions there may be; then as many as may."""
    token = Token("T", PIN, None, 3, clock=clock)
    inside: list[int] = []
    leave: list[Deferred[None]] = []

    async def visit(number: int) -> None:
        async with token.session(100):
            inside.append(number)
            leave.append(Deferred())
            await leave[-1]

    visits = [Deferred.fromCoroutine(visit(number)) for number in range(5)]
    assert inside == [0]
    token.judge("engine", b"", b"", (), pin=PIN, worked=True)
    leave[0].callback(None)
    assert inside[:2] == [0, 1]
    for one in leave[1:]:
        one.callback(None)
    while len(inside) < 5:
        leave[-1].callback(None)
    leave[-1].callback(None)
    assert inside == [0, 1, 2, 3, 4]
    assert all(one.called for one in visits)


def test_who_waits_is_told_that_a_token_has_failed(token: Token, tmp_path: Path) -> None:
    """Without trying it."""
    go: Deferred[None] = Deferred()
    trace = PROVIDER % 0xA0

    async def first() -> None:
        async with token.session(100):
            await go
            token.judge("provider", b"", trace, URIS, pin=PIN, worked=False)

    async def second() -> None:
        async with token.session(100):
            raise AssertionError("it is not to be tried again")

    visits = [Deferred.fromCoroutine(first()), Deferred.fromCoroutine(second())]
    go.callback(None)
    for visit in visits:
        failures: list[object] = []
        visit.addErrback(failures.append)
        assert "TokenFailed" in repr(failures)


@pytest.mark.parametrize("way", ["engine", "provider"])
def test_an_old_pin_tells_nothing_of_a_new_one(token: Token, way: Way) -> None:
    """Whoever was signing while the operator changed it: neither does it fail the new one, nor prove it."""
    go: Deferred[None] = Deferred()
    pins: list[str] = []

    async def visit(wait: Deferred[None] | None, *, worked: bool) -> None:
        async with token.session(100) as pin:
            pins.append(pin)
            if wait is not None:
                await wait
            token.judge(way, ENGINE % (b"00A0", b"PIN error"), PROVIDER % 0xA0, URIS, pin=pin, worked=worked)

    first, second = (Deferred.fromCoroutine(visit(wait, worked=False)) for wait in (go, None))
    token.reload("another-pin", None)
    go.callback(None)
    failures: list[type[BaseException] | None] = []
    for one in (first, second):
        one.addErrback(lambda failure: failures.append(failure.type))
    # The one that waited has tried the new PIN, which is wrong too.
    assert (failures, pins) == ([Busy, TokenFailed], [PIN, "another-pin"])
    assert token.failed == "the PIN is wrong"


def test_an_old_pin_that_worked_leaves_the_new_one_to_be_tried(clock: Clock, tmp_path: Path) -> None:
    """By one alone."""
    token = Token("T", PIN, None, 4, clock=clock)
    inside: list[str] = []
    go: Deferred[None] = Deferred()

    async def visit() -> None:
        async with token.session(100) as pin:
            inside.append(pin)
            await go

    async def early() -> None:
        async with token.session(100) as pin:
            token.reload("another-pin", None)
            token.judge("engine", b"", b"", URIS, pin=pin, worked=True)

    Deferred.fromCoroutine(early())
    visits = [Deferred.fromCoroutine(visit()) for _ in range(3)]
    assert inside == ["another-pin"]
    go.callback(None)
    assert all(one.called for one in visits)


def test_a_turn_is_waited_for_only_so_long(token: Token, clock: Clock) -> None:
    """And whoever gave up is in nobody's way."""
    go: Deferred[None] = Deferred()

    async def visit(wait: Deferred[None] | None) -> str:
        async with token.session(5):
            if wait is not None:
                await wait
            return "in"

    first, second = Deferred.fromCoroutine(visit(go)), Deferred.fromCoroutine(visit(None))
    clock.advance(6)
    failures: list[type[BaseException] | None] = []
    second.addErrback(lambda failure: failures.append(failure.type))
    assert failures == [Busy]
    go.callback(None)
    third = Deferred.fromCoroutine(visit(None))
    assert (first.result, third.result) == ("in", "in")


def test_who_gives_up_is_in_nobodys_way(clock: Clock) -> None:
    """Neither in the line nor among those who wait for the first try."""
    token = Token("T", PIN, None, 2, clock=clock)
    inside: list[int] = []
    go: Deferred[None] = Deferred()

    async def visit(number: int, wait: Deferred[None] | None = None) -> None:
        async with token.session(5):
            inside.append(number)
            if wait is not None:
                await wait

    first = Deferred.fromCoroutine(visit(0, go))
    trying, lining = Deferred.fromCoroutine(visit(1)), Deferred.fromCoroutine(visit(2))
    for one in (trying, lining):
        one.addErrback(lambda _: None)
        one.cancel()
    last = Deferred.fromCoroutine(visit(3))
    go.callback(None)
    assert first.called
    assert last.called
    assert inside == [0, 3]


def settings(tmp_path: Path, **tokens: TokenSettings) -> Settings:
    (tmp_path / "pin").write_text("1234-5678\n")
    return Settings(cst=CstSettings(base=tmp_path), pkcs11=Pkcs11Settings(tokens=tokens))


def test_a_cst_base_that_cannot_be_looked_into_has_no_provider() -> None:
    """Whatever the file system says of it: the start goes on, and cst is missing."""
    settings = Settings(cst=CstSettings(base=Path("/", "x" * 300)))
    assert tokens_of(settings, {}, clock=Clock()).access.provider is None


def test_pins_come_from_files_or_the_environment(tmp_path: Path) -> None:
    """The environment has one, for the only token."""
    one = settings(tmp_path, a=TokenSettings(pin_file=tmp_path / "pin"))
    two = settings(tmp_path, a=TokenSettings(pin_file=tmp_path / "pin"), b=TokenSettings())
    variable = {"DIGSIGSERVER_YUBIHSM_PASSWORD": "0001password"}
    assert pins_of(one, {}) == {"a": "1234-5678"}
    assert pins_of(one, variable) == {"a": "0001password"}
    with pytest.raises(SettingsError, match="works with one token only, and there are a, b"):
        pins_of(two, variable)
    with pytest.raises(SettingsError, match=r"pkcs11\.tokens\.b\.pin_file is not set"):
        pins_of(two, {})


@pytest.mark.parametrize("pin", ["#$%", "file:/etc/pin", "ünïcode", "1" * 256])
def test_pins_that_cannot_be_used_are_mistakes(tmp_path: Path, pin: str) -> None:
    """Told without showing them."""
    chosen = settings(tmp_path, a=TokenSettings(pin_file=tmp_path / "pin"))
    (tmp_path / "pin").write_text(pin)
    with pytest.raises(SettingsError) as caught:
        pins_of(chosen, {})
    assert pin not in str(caught.value)


def test_modules_get_their_own_variables_alone(tmp_path: Path, clock: Clock) -> None:
    """From the daemon's environment, or the configuration, which goes first."""
    environ = {"SOFTHSM2_CONF": "/a", "YUBIHSM_PKCS11_CONF": "/b", "AWS_SECRET_ACCESS_KEY": "c"}
    chosen = Settings(
        cst=CstSettings(base=tmp_path), pkcs11=Pkcs11Settings(environment={"SOFTHSM2_CONF": "/mine", "MORE": "d"})
    )
    access = tokens_of(chosen, environ, clock=clock).access
    assert access.environment == {"SOFTHSM2_CONF": "/mine", "YUBIHSM_PKCS11_CONF": "/b", "MORE": "d"}
    assert access.provider is None
    (tmp_path / "pkcs11-provider").mkdir()
    (tmp_path / "pkcs11-provider/pkcs11.so").touch()
    assert tokens_of(chosen, environ, clock=clock).access.provider == tmp_path / "pkcs11-provider/pkcs11.so"
