"""Make the tokens from the settings, the files that they name, and the environment."""

from __future__ import annotations

from collections.abc import Mapping

from twisted.internet.interfaces import IReactorTime

from digsigd.settings import Settings, SettingsError, read_secret
from digsigd.signing.host import Host
from digsigd.signing.pkcs11 import Access, Token, Tokens, is_file
from digsigd.signing.start import Needs

# The variable of the existing servers for the PIN, if there is one token.
PIN_VARIABLE = "DIGSIGSERVER_YUBIHSM_PASSWORD"
# Variables that configure PKCS #11 modules. Only these are passed on from the daemon's environment.
MODULE_VARIABLES = ("SOFTHSM2_CONF", "YUBIHSM_PKCS11_CONF")
# A shorter PIN could be an ordinary word in cst's output, where PINs are redacted.
_SHORTEST_PIN = 4
# Where p11-kit's proxy, the default module, finds other modules.
_P11_KIT = ("/etc/pkcs11", "/usr/share/p11-kit")
_PROVIDER = "pkcs11-provider/pkcs11.so"


def tokens_of(
    settings: Settings, environ: Mapping[str, str], *, clock: IReactorTime, host: Host | None = None
) -> Tokens:
    """Return the tokens that the settings name. Raises `SettingsError` if a PIN cannot be used."""
    chosen = settings.pkcs11
    provider = chosen.provider or settings.cst.base / _PROVIDER
    variables = {**{name: environ[name] for name in MODULE_VARIABLES if name in environ}, **chosen.environment}
    libraries = (chosen.module, chosen.engine, provider)
    read = [str(path) for path in (*libraries, *_P11_KIT, *chosen.paths) if path is not None]
    access = Access(
        module=chosen.module,
        engine=chosen.engine,
        provider=provider if chosen.provider or is_file(provider) else None,
        environment=variables,
        found=chosen.provider is None,
        ways=chosen.ways,
        needs=Needs(
            # Variables often name the module's own configuration.
            read=(*read, *(value for value in variables.values() if value.startswith("/"))),
            write=tuple(map(str, chosen.writable)),
            ports=chosen.ports,
            module=True,
        ),
    )
    tokens = {
        name: Token(name, pin, chosen.tokens[name].machines, chosen.tokens[name].max_sessions, clock=clock, host=host)
        for name, pin in pins_of(settings, environ).items()
    }
    return Tokens(tokens, access, login_timeout=chosen.login_timeout)


def pins_of(settings: Settings, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the PIN of each token by its label, from its file or the environment.

    Raises `SettingsError` if a PIN is missing, unreadable or malformed. The error never shows a PIN.
    """
    tokens = settings.pkcs11.tokens
    given = environ.get(PIN_VARIABLE)
    if given is not None and len(tokens) > 1:
        raise SettingsError(
            f"{PIN_VARIABLE} works with one token only, and there are {', '.join(tokens)}; set pin_file for each"
        )
    pins = {}
    for name, token in tokens.items():
        key = f"pkcs11.tokens.{name}.pin_file"
        if given is None and token.pin_file is None:
            raise SettingsError(f"{key} is not set; expected the path of a file with the PIN")
        pin = given if given is not None else read_secret(token.pin_file, key)  # type: ignore[arg-type]
        where = PIN_VARIABLE if given is not None else key
        if not (pin.isascii() and pin.isprintable() and _SHORTEST_PIN <= len(pin) <= 255):
            raise SettingsError(f"{where}: a PIN must have {_SHORTEST_PIN} to 255 printable ASCII characters")
        if pin.startswith("file:"):
            raise SettingsError(f"{where}: a PIN must not begin with file:, which OpenSSL's provider reads as a path")
        pins[name] = pin
    return pins
