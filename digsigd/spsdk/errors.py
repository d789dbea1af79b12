"""The error of the signature provider."""

from __future__ import annotations

import re

from digsigd import Error

# An option of digsign, and the word for its value after it.
_OPTION = re.compile(r"--([a-z]+(?:-[a-z]+)*)(?: ([A-Z]+|[0-9][0-9.]*)\b)?")
_KEYS = {"client-cert": "client_certificate"}


class ProviderError(Error):
    """SPSDK gets no signature: `what` happened, and what to do about it (`hint`), in terms of the signer's keys."""

    def __str__(self) -> str:
        return f"{self.what}; {self.hint}" if self.hint else self.what

    @classmethod
    def of(cls, error: Error) -> ProviderError:
        """Return an error of the client or a pure part, with the signer's keys in place of digsign's options."""
        if isinstance(error, cls):
            return error
        return cls(in_keys(error.summary()), hint=in_keys(error.hint))


def in_keys(text: str) -> str:
    """Return `text` with the signer's keys in place of digsign's options: `token_file=FILE` for `--token-file FILE`."""

    def key(option: re.Match[str]) -> str:
        name = _KEYS.get(option[1], option[1].replace("-", "_"))
        # "--server: is not an address" is about the value.
        return name if text[option.end() :].startswith(":") else f"{name}={option[2] or ''}"

    return _OPTION.sub(key, text)
