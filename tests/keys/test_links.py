"""Links in a folder with key tarballs, and folders that others may read or write."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from digsigd.errors import BadTarball
from digsigd.keys.exposed import store_findings
from digsigd.keys.source import TARBALL
from digsigd.testing import TrialPki
from tests.helpers.daemons import MACHINE
from tests.keys.test_file_and_store import KeyFolder

OTHER = f"{MACHINE}-b"


@pytest.fixture
def folder(tmp_path: Path, pki: TrialPki) -> KeyFolder:
    """Has the keys of two machines."""
    made = KeyFolder(tmp_path, pki.tarball())
    other = made.root / OTHER / TARBALL
    other.parent.mkdir(parents=True)
    other.write_bytes(pki.tarball() + b"\0" * 512)
    return made


def _file(folder: KeyFolder) -> None:
    folder.path.unlink()
    folder.path.symlink_to(folder.root / OTHER / TARBALL)


def _relative(folder: KeyFolder) -> None:
    folder.path.unlink()
    folder.path.symlink_to(Path("../..", OTHER, TARBALL))


def _subfolder(folder: KeyFolder) -> None:
    shutil.rmtree(folder.path.parent)
    folder.path.parent.symlink_to(folder.root / OTHER / "imxsign")


def _machine(folder: KeyFolder) -> None:
    shutil.rmtree(folder.root / MACHINE)
    (folder.root / MACHINE).symlink_to(OTHER)


def _elsewhere(folder: KeyFolder) -> None:
    folder.path.rename(folder.root.parent / "tarball")
    folder.path.symlink_to(folder.root.parent / "tarball")


@pytest.mark.parametrize("link", [_file, _relative, _subfolder, _machine, _elsewhere])
async def test_a_link_out_of_the_machines_folder_is_refused(
    folder: KeyFolder, link: Callable[[KeyFolder], None]
) -> None:
    """Also if the keys were kept before; and the start says which link it is."""
    store = folder.store()
    await store.get(MACHINE)
    link(folder)
    folder.age()
    for one in (store, folder.store()):
        with pytest.raises(BadTarball, match="outside its folder") as caught:
            await one.get(MACHINE)
        assert str(folder.root) not in caught.value.for_client()
    assert (await folder.store().get(OTHER)).tarball.sha256
    (found,) = [str(one) for one in store_findings(folder.root) if "link" in one.text]
    assert str(folder.root / MACHINE) in found


async def test_links_inside_the_folder_are_followed(folder: KeyFolder) -> None:
    """As Kubernetes mounts secrets, and where the store itself is a link."""
    inner = folder.root / MACHINE / "..2026_01_01"
    folder.path.parent.rename(inner)
    (folder.root / MACHINE / "..data").symlink_to(inner.name)
    folder.path.parent.symlink_to("..data")
    assert (await folder.store().get(MACHINE)).tarball.sha256
    real = folder.root.rename(folder.root.parent / "real")
    folder.root.symlink_to(real)
    assert (await folder.store().get(MACHINE)).tarball.sha256
    assert not [one for one in store_findings(folder.root) if "link" in one.text]


@pytest.fixture
def public(folder: KeyFolder) -> Iterator[Path]:
    """The same store where other users can reach it."""
    made = Path(tempfile.mkdtemp(prefix="digsigd-test-"))
    made.chmod(0o755)
    for parent in made.parents:
        assert parent.stat().st_mode & 0o001, f"{parent} keeps other users out: set TMPDIR to another folder"
    shutil.copytree(folder.root, made / "keys")
    for path in (made / "keys").rglob("*"):
        path.chmod(0o750 if path.is_dir() else 0o640)
    (made / "keys").chmod(0o750)
    yield made / "keys"
    shutil.rmtree(made)


def test_a_store_for_a_group_is_in_order(public: Path) -> None:
    """Modes 750 and 640."""
    assert store_findings(public) == []


def test_a_store_that_everybody_may_read_is_found(public: Path) -> None:
    """Only if its folders let them in; one line for all tarballs."""
    for path in public.rglob("*.gz"):
        path.chmod(0o644)
    assert store_findings(public) == []
    for path in (public, *public.rglob("*")):
        if path.is_dir():
            path.chmod(0o755)
    (found,) = store_findings(public)
    assert found.key == "keys.uri"
    assert "may read" in found.text
    assert "and 1 more" in found.text


@pytest.mark.parametrize("what", ["", MACHINE, f"{MACHINE}/imxsign", f"{MACHINE}/{TARBALL}"])
def test_a_store_that_everybody_may_write_is_found(public: Path, what: str) -> None:
    """The folder, one in it, or a tarball."""
    for path in (public, *public.rglob("*")):
        if path.is_dir():
            path.chmod(0o751)
    (public / what).chmod((public / what).stat().st_mode | 0o002)
    (found,) = store_findings(public)
    assert "may write or replace" in found.text
    # In a folder with the sticky bit nobody renames another's files, but the store itself is everybody's to add to.
    if what == MACHINE:
        (public / what).chmod(0o1753)
        assert store_findings(public) == []


def test_a_store_that_is_not_there_is_anothers_to_report(tmp_path: Path) -> None:
    """Neither is a file in its place."""
    assert store_findings(tmp_path / "none") == []
    (tmp_path / "file").touch()
    assert store_findings(tmp_path / "file") == []
