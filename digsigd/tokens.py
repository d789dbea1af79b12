"""Tokens made from the settings, their files, and the environment."""

from __future__ import annotations

from collections.abc import Mapping

from twisted.internet.interfaces import IReactorTime

from digsigd.settings import Settings, SettingsError, read_secret
from digsigd.signing.pkcs11 import Access, Token, Tokens

# The PIN of the only token, by the existing servers' variable.
PIN_VARIABLE = "DIGSIGSERVER_YUBIHSM_PASSWORD"
# What modules are configured by; taken from the daemon's own environment. Nothing else is.
MODULE_VARIABLES = ("SOFTHSM2_CONF", "YUBIHSM_PKCS11_CONF")
# A shorter one cannot be told from ordinary words in cst's output.
_SHORTEST_PIN = 4
_PROVIDER = "pkcs11-provider/pkcs11.so"


def tokens_of(settings: Settings, environ: Mapping[str, str], *, clock: IReactorTime) -> Tokens:
    """The tokens that settings name. Raises `SettingsError`."""
    chosen = settings.pkcs11
    provider = chosen.provider or settings.cst.base / _PROVIDER
    access = Access(
        module=chosen.module,
        engine=chosen.engine,
        provider=provider if chosen.provider or provider.is_file() else None,
        environment={**{name: environ[name] for name in MODULE_VARIABLES if name in environ}, **chosen.environment},
        ways=chosen.ways,
    )
    tokens = {
        name: Token(name, pin, chosen.tokens[name].machines, chosen.tokens[name].max_sessions, clock=clock)
        for name, pin in pins_of(settings, environ).items()
    }
    return Tokens(tokens, access, login_timeout=chosen.login_timeout)


def pins_of(settings: Settings, environ: Mapping[str, str]) -> dict[str, str]:
    """The PIN of each token, from its file or the environment. Raises `SettingsError`, which never shows one."""
    tokens = settings.pkcs11.tokens
    given = environ.get(PIN_VARIABLE)
    if given is not None and len(tokens) > 1:
        raise SettingsError(f"{PIN_VARIABLE} is the PIN of one token, and there are {', '.join(tokens)}")
    pins = {}
    for name, token in tokens.items():
        key = f"pkcs11.tokens.{name}.pin_file"
        if given is None and token.pin_file is None:
            raise SettingsError(f"{key} is not set; expected the path of a file with the PIN")
        pin = given if given is not None else read_secret(token.pin_file, key)  # type: ignore[arg-type]
        where = PIN_VARIABLE if given is not None else key
        if not (pin.isascii() and pin.isprintable() and _SHORTEST_PIN <= len(pin) <= 255):
            raise SettingsError(f"{where}: a PIN has {_SHORTEST_PIN} to 255 printable ASCII characters")
        if pin.startswith("file:"):
            raise SettingsError(f"{where}: OpenSSL's provider would take a PIN that begins with file: for a path")
        pins[name] = pin
    return pins
