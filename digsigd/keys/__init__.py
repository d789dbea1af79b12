"""Key stores, and the key tarballs that they hold."""

from digsigd.keys.source import KeySource
from digsigd.keys.store import Keys, KeyStore
from digsigd.keys.tarball import KeyTarball, read_tarball
from digsigd.keys.uri import key_source

__all__ = ["KeySource", "KeyStore", "KeyTarball", "Keys", "key_source", "read_tarball"]
