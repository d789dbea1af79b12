"""Keys from S3: a real server of moto's that checks signatures, as its own process on loopback."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred

from digsigd.errors import KeyStoreFailed, NoKeys
from digsigd.keys import KeyStore, key_source
from digsigd.settings import KeysSettings, S3StoreSettings, SettingsError
from digsigd.testing import TrialPki
from tests.helpers.key_servers import MACHINE
from tests.helpers.s3 import BUCKET, Store

reactor: Any = installed


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, pki: TrialPki) -> Iterator[Store]:
    folder = tmp_path_factory.mktemp("s3")
    (folder / "keys.tar.gz").write_bytes(pki.tarball())
    store = Store(folder)
    try:
        store.set_up(folder / "keys.tar.gz")
        yield store
    finally:
        store.stop()


def at_once(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Deferred[Any]:
    async def call() -> Any:
        return function(*args, **kwargs)

    return Deferred.fromCoroutine(call())


class Access:
    """A key store on the server, with credentials from the environment."""

    def __init__(self, store: Store, patch: pytest.MonkeyPatch) -> None:
        self._store = store
        self._patch = patch
        self._made: list[KeyStore] = []
        for name in list(os.environ):
            if name.startswith("AWS_"):
                patch.delenv(name)
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.setenv("AWS_CONFIG_FILE", "/nonexistent")
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
        self.log_in()

    def log_in(self, key_id: str | None = None, secret: str | None = None) -> None:
        self._patch.setenv("AWS_ACCESS_KEY_ID", key_id or self._store.key_id)
        self._patch.setenv("AWS_SECRET_ACCESS_KEY", secret or self._store.secret)

    def log_out(self) -> None:
        self._patch.delenv("AWS_ACCESS_KEY_ID")
        self._patch.delenv("AWS_SECRET_ACCESS_KEY")

    def keys(self, uri: str = f"s3://{BUCKET}/release%20keys") -> KeyStore:
        settings = KeysSettings(
            uri=uri,
            tries=1,
            timeout=200,
            connect_timeout=60,
            idle_timeout=60,
            s3=S3StoreSettings(endpoint_url=self._store.url, region="eu-central-1"),
        )
        source = key_source(settings, reactor=reactor, in_thread=at_once)
        made = KeyStore(source, keep=60, clock=reactor, in_thread=at_once, max_unpacked=1 << 20)
        self._made.append(made)
        return made

    async def stop(self) -> None:
        for made in self._made:
            await made.stop()


@pytest_twisted.async_yield_fixture
async def access(store: Store, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Access]:
    access = Access(store, monkeypatch)
    yield access
    await access.stop()


async def test_keys_are_fetched_and_revalidated(access: Access, store: Store, pki: TrialPki) -> None:
    """With a signature the server accepts, from a prefix with a space, and anew when they change."""
    keys = access.keys()
    first = await keys.get(MACHINE)
    assert first.tarball.members == pki.files
    assert first.origin == f"s3://{BUCKET}/release keys"
    assert (await keys.get(MACHINE)).how == "revalidated"
    other = TrialPki.make("p256", srks=1)
    store.put(other.tarball())
    assert (await keys.get(MACHINE)).tarball.members == other.files
    store.put(pki.tarball())


async def test_the_store_is_checked(access: Access) -> None:
    """No object needs to be there for that, and a bucket that is missing is told."""
    await access.keys().check()
    with pytest.raises(KeyStoreFailed, match=r"NoSuchBucket: check keys\.uri"):
        await access.keys("s3://no-such-bucket/x").check()


async def test_a_machine_without_keys_is_told(access: Access) -> None:
    """The server says that there is no such object."""
    with pytest.raises(NoKeys, match="unheard-of"):
        await access.keys().get("unheard-of")


async def test_a_bucket_that_is_missing_is_a_failure(access: Access) -> None:
    """Not a machine without keys."""
    with pytest.raises(KeyStoreFailed, match="NoSuchBucket"):
        await access.keys("s3://no-such-bucket/x").get(MACHINE)


async def test_wrong_credentials_are_refused(access: Access, store: Store) -> None:
    """The server does check the signature; what is wrong is told, the secret is not."""
    access.log_in(secret="x" * 40)
    with pytest.raises(KeyStoreFailed, match=r"SignatureDoesNotMatch: check the credentials") as caught:
        await access.keys().get(MACHINE)
    assert store.secret not in str(caught.value)
    with pytest.raises(KeyStoreFailed):
        await access.keys().check()
    access.log_in(key_id="AKIAUNHEARDOF0000000")
    with pytest.raises(KeyStoreFailed, match="InvalidAccessKeyId"):
        await access.keys().get(MACHINE)


async def test_no_credentials_are_told(access: Access) -> None:
    """Nothing is sent without."""
    access.log_out()
    with pytest.raises(KeyStoreFailed, match="no credentials for S3"):
        await access.keys().get(MACHINE)


@pytest.mark.parametrize(
    ("bucket", "expected"),
    [
        ("boot-keys", "https://boot-keys.s3.eu-central-1.amazonaws.com/a/b"),
        ("boot.keys", "https://s3.eu-central-1.amazonaws.com/boot.keys/a/b"),
    ],
)
def test_amazons_own_addresses(bucket: str, expected: str) -> None:
    """The bucket is in the host's name unless a certificate would not cover it (S3 User Guide, virtual hosting)."""
    settings = KeysSettings(uri=f"s3://{bucket}/a/b/", s3=S3StoreSettings(region="eu-central-1"))
    source = key_source(settings, reactor=reactor, in_thread=at_once)
    assert source._base == expected  # type: ignore[attr-defined]


def test_botocore_is_asked_for_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """With what is to be installed; whose the name on a package index is nobody knows."""
    monkeypatch.setitem(sys.modules, "botocore.session", None)
    with pytest.raises(SettingsError, match=r"its extra s3 .*README") as caught:
        key_source(KeysSettings(uri="s3://boot-keys"), reactor=reactor, in_thread=at_once)
    assert "pip install" not in str(caught.value)
