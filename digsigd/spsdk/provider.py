"""The signature provider, without SPSDK: synchronous, as SPSDK calls it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence

from digsigd.spsdk.configuration import configured
from digsigd.spsdk.exchange import Order, called


class Provider:
    """Signs containers with the keys of a machine on a signing host.

    `keys` are those of the line `signer: type=digsigd;…`, without `type`; `search_paths` are SPSDK's. Nothing is sent
    before the first call. All calls raise `ProviderError`, and so does this if the keys are wrong.
    """

    def __init__(self, keys: Mapping[str, str], search_paths: Sequence[str] = ()) -> None:
        self._keys = dict(keys)
        self._search_paths = [str(path) for path in search_paths]
        self._configuration = configured(self._keys, self._search_paths, os.environ)
        self._length: int | None = None
        self.notes: tuple[str, ...] = ()

    @property
    def signature_length(self) -> int:
        """The length of the machine's signatures in bytes. The host is asked for it once."""
        if self._length is None:
            order = Order("length", self._keys, self._search_paths)
            self._length = called(order, timeout=self._configuration.settings.timeout).length
        return self._length

    def sign(self, data: bytes) -> bytes:
        """Return the raw signature over `data`, which must be a whole container up to its signature.

        ECDSA: r and s, each as long as the curve. RSA: PSS. `notes` are then the host's remarks on the signature.
        """
        with tempfile.TemporaryDirectory(prefix="digsigd-spsdk-") as folder:
            order = Order("sign", self._keys, self._search_paths, folder=folder, region=data)
            result = called(order, timeout=self._configuration.settings.timeout)
        self.notes = tuple(result.notes)
        return result.signature

    def info(self) -> str:
        """Return the signing host, the machine and the file with the images, in one line."""
        one = self._configuration
        return f"machine {one.machine} on {one.settings.server}, images in {one.image}"
