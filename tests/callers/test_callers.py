"""Who is calling, and what they may sign: names, tokens, patterns of machines."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from digsigd.callers.access import Access, Asking
from digsigd.callers.from_settings import access_of
from digsigd.callers.model import ANONYMOUS, Caller, Rights
from digsigd.callers.tokens import CallerToken, sha256_of
from digsigd.errors import NotAllowed, NotAuthenticated
from digsigd.settings import load

TOKENS = {"ci": "token-of-the-build-machine", "lab": "token of the lab: ü"}
CALLERS = Access(
    callers={"ci": Caller("ci", Rights(("board-*",), ("ssl",), ("3.*",), ())), "lab": Caller("lab", Rights())},
    tokens=tuple(CallerToken(name, name, sha256_of(token.encode())) for name, token in TOKENS.items()),
)


def asking(authorization: str) -> Asking:
    """A request with nothing but this header."""
    return Asking(lambda name: [authorization] if authorization and name == "Authorization" else [])


def with_machines(*machines: str) -> Caller:
    return Caller("ci", Rights(machines))


def basic(name: str, token: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{token}".encode()).decode()


def refused(authorization: str) -> str:
    with pytest.raises(NotAuthenticated) as caught:
        CALLERS.identify(asking(authorization))
    return caught.value.what


def test_without_any_callers_everybody_is_anonymous_and_may_do_everything() -> None:
    """Whatever they send."""
    nobody = Access(callers={})
    for authorization in ("", "Bearer x", "Basic !"):
        caller = nobody.identify(asking(authorization))
        assert caller is ANONYMOUS
        caller.check_cst_version("1")
        caller.check_machine("any")
        caller.check_backend("pkcs11")


@pytest.mark.parametrize("name", TOKENS)
def test_a_token_tells_whose_it_is(name: str) -> None:
    """As Bearer, or as the password of that very name; the scheme's case and blanks around do not matter."""
    token = TOKENS[name]
    scheme, _, credentials = basic(name, token).partition(" ")
    for authorization in (
        f"Bearer {token}",
        f"bearer {token}",
        f" BEARER   {token} ",
        f"{scheme} {credentials}",
        f"basic  {credentials} ",
    ):
        assert CALLERS.identify(asking(authorization)).name == name


def test_no_credentials_are_asked_for() -> None:
    """With how to send them."""
    assert refused("") == "authentication required"


@pytest.mark.parametrize(
    "authorization",
    [
        "Bearer",
        "Bearer wrong",
        f"Bearer {TOKENS['ci'][:-1]}",
        f"Bearer {TOKENS['ci']}x",
        f"Bearer {TOKENS['ci'].upper()}",
        basic("lab", TOKENS["ci"]),
        basic("CI", TOKENS["ci"]),
        basic("", TOKENS["ci"]),
        basic("ci", ""),
        basic("ci", TOKENS["ci"] + ":"),
    ],
)
def test_another_name_or_token_is_wrong(authorization: str) -> None:
    """A token is its caller's alone, and names are compared as they are."""
    assert refused(authorization) == "wrong caller name or token"


GOOD = basic("ci", TOKENS["ci"]).removeprefix("Basic ")


@pytest.mark.parametrize(
    "credentials",
    [
        "",
        "ci:" + TOKENS["ci"],
        GOOD.rstrip("=") if GOOD.endswith("=") else GOOD[:-1],
        GOOD[:8] + "!" + GOOD[8:],
        GOOD[:8] + " " + GOOD[8:],
        GOOD[:8] + "\n" + GOOD[8:],
        GOOD + "*",
        base64.b64encode(b"no colon in it").decode(),
        base64.b64encode(b"\xff:" + TOKENS["ci"].encode()).decode(),
    ],
)
def test_credentials_that_are_no_base64_of_a_name_and_a_token_cannot_be_read(credentials: str) -> None:
    """Other characters are not skipped, nothing is filled up: what two programs read differently is refused."""
    assert refused(f"Basic {credentials}") == "malformed Basic credentials: expected NAME:TOKEN in base64"


@pytest.mark.parametrize("authorization", ["Digest abc", TOKENS["ci"], f"Token {TOKENS['ci']}", "Bearer:x"])
def test_other_schemes_are_refused(authorization: str) -> None:
    """Even with a token that is right."""
    assert refused(authorization) == "unknown authentication scheme: expected Bearer or Basic"


@pytest.mark.parametrize("machine", ["board-1", "board-", "board-x-y"])
def test_a_pattern_allows_the_machines_that_it_matches(machine: str) -> None:
    """And one that fits is enough."""
    with_machines("board-*").check_machine(machine)
    with_machines("other", "board-*").check_machine(machine)


@pytest.mark.parametrize("machine", ["Board-1", "BOARD-1", "board", "my-board-1", "xboard-1", "board_1", ""])
def test_a_pattern_allows_no_other_machine(machine: str) -> None:
    """The whole name has to match, in its own case."""
    with pytest.raises(NotAllowed, match="'ci' may not sign for machine"):
        with_machines("board-*").check_machine(machine)


@pytest.mark.parametrize("machine", ["board-1", "BOARD-1"])
def test_patterns_are_compared_in_their_own_case_as_well(machine: str) -> None:
    """A capital in the pattern is a capital in the name."""
    caller = with_machines("Board-1")
    with pytest.raises(NotAllowed):
        caller.check_machine(machine)
    caller.check_machine("Board-1")


def test_an_empty_list_allows_nothing() -> None:
    """Neither machines nor backends: nothing was listed, which is not the same as no list."""
    caller = Caller("ci")
    for machine in ("", "board", "*"):
        with pytest.raises(NotAllowed):
            caller.check_machine(machine)
    for backend in ("ssl", "pkcs11", ""):
        with pytest.raises(NotAllowed):
            caller.check_backend(backend)


def test_no_list_allows_everything() -> None:
    """As a caller is when the configuration says only who it is."""
    caller = CALLERS.identify(asking(f"Bearer {TOKENS['lab']}"))
    caller.check_machine("Any machine")
    caller.check_backend("pkcs11")


def test_a_backend_is_allowed_by_its_name() -> None:
    """And no other is."""
    caller = CALLERS.identify(asking(f"Bearer {TOKENS['ci']}"))
    caller.check_backend("ssl")
    with pytest.raises(NotAllowed, match="'ci' may not use backend=pkcs11"):
        caller.check_backend("pkcs11")


def test_what_the_configuration_does_not_list_is_not_allowed(tmp_path: Path) -> None:
    """A caller with nothing but a token may use nothing."""
    token = tmp_path / "token"
    token.write_text(TOKENS["ci"])
    file = tmp_path / "digsigd.toml"
    file.write_text(f'[callers.ci]\ntoken_file = "{token}"\n')
    caller = access_of(load(file, {})).identify(asking(f"Bearer {TOKENS['ci']}"))
    for check, what in (
        (caller.check_machine, "board"), (caller.check_backend, "ssl"), (caller.check_backend, ""),
        (caller.check_cst_version, "3.4.1"),
    ):  # fmt: skip
        with pytest.raises(NotAllowed):
            check(what)
    assert caller.csf_allow == frozenset()
    assert caller.cst_versions_of(("3.4.1",)) == ()


def test_a_version_of_cst_is_allowed_by_a_pattern() -> None:
    """The whole version has to match."""
    caller = CALLERS.identify(asking(f"Bearer {TOKENS['ci']}"))
    caller.check_cst_version("3.4.1")
    assert caller.cst_versions_of(("3.4.1", "4.0.1")) == ("3.4.1",)
    with pytest.raises(NotAllowed, match="may not use cst 4"):
        caller.check_cst_version("4.0.1")


def test_tokens_are_not_shown() -> None:
    """Neither as they are nor as their hashes."""
    shown = repr(CALLERS.identify(asking(f"Bearer {TOKENS['ci']}")))
    assert TOKENS["ci"] not in shown
    assert sha256_of(TOKENS["ci"].encode()).hex() not in shown
    assert TOKENS["ci"] not in repr(CALLERS)
