"""What a benchmark stands on: keys, images, request bodies, a token, floors; all below one folder."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from digsigd.signing.libraries import for_modules, libraries_of, module_in
from digsigd.signing.pkcs11 import way_of
from digsigd.signing.start import Needs, words_of
from digsigd.testing import TrialAhabImage, TrialAhabPki, TrialImage, TrialPki
from etc.benchmarks import floor, load
from etc.benchmarks.cases import Case
from etc.benchmarks.floor import Floor
from tests.helpers.hsm import SoftHsm

TOKEN, PIN = "bench", "bench-1234"
# The floors: as a Debian 12 host has it, the same with the libraries of cst's own release, and with decrypted keys too.
SYSTEM, OWN, PLAIN = "system", "own", "plain"
_MOST_AT_ONCE = 4 << 30
# Chips that accept the keys: an i.MX 93 takes no RSA keys with PKCS #1 v1.5.
_CHIPS = {"p384": "mx93", "rsa4096": "mx8x"}


class Ground:
    """The parts of a benchmark, each made when it is first asked for. `base` is the folder with cst."""

    def __init__(self, folder: Path, base: Path, version: str) -> None:
        self.folder = folder
        self.base = base.absolute()
        self.version = version
        self.cst = str((base / f"cst-{version}/linux64/bin/cst").absolute())
        if not Path(self.cst).exists():
            raise floor.FloorError(f"{self.cst} is missing: run `make bench`, or etc/get-cst --base {base} {version}")
        self.libraries = libraries_of(self.cst)
        self.keys = folder / "keys"
        self.keys.mkdir()
        self._pkis: dict[str, TrialPki] = {}
        self._ahab_pkis: dict[str, TrialAhabPki] = {}
        self._in_token: set[str] = set()

    @cached_property
    def forker(self) -> Path:
        """The compiled program of the floors."""
        return floor.build(self.folder)

    @cached_property
    def token(self) -> SoftHsm:
        """A SoftHSM with one token."""
        made = SoftHsm(self.folder / "token")
        made.init_token(TOKEN, PIN)
        (made.folder / "pin").write_text(PIN + "\n")
        return made

    def pki(self, kind: str) -> TrialPki:
        """Return the keys of a kind; made once."""
        if kind not in self._pkis:
            self._pkis[kind] = TrialPki.make(kind, srks=1)  # type: ignore[arg-type]
        return self._pkis[kind]

    def ahab_pki(self, kind: str) -> TrialAhabPki:
        """Return the keys of a kind for AHAB; made once."""
        if kind not in self._ahab_pkis:
            self._ahab_pkis[kind] = TrialAhabPki.make(kind, versions=(0,))  # type: ignore[arg-type]
        return self._ahab_pkis[kind]

    def image(self, case: Case) -> Path:
        """Return the artifact of a case."""
        path = self.folder / f"image-{'ahab-' if case.ahab else ''}{case.size}.bin"
        if not path.exists():
            path.write_bytes((TrialAhabImage if case.ahab else TrialImage).of_size(case.size).data)
        return path

    def put_machine(self, case: Case, name: str = "") -> None:
        """Put the machine of a case into the key store, and its keys on the token if they belong there."""
        path = self.keys / (name or case.machine) / "imxsign/imx-cst-keys.tar.gz"
        if path.exists():
            return
        path.parent.mkdir(parents=True)
        if case.ahab:
            path.write_bytes(self.ahab_pki(case.ahab).tarball())
            return
        pki = self.pki(case.keys)
        if case.backend == "ssl":
            path.write_bytes(pki.tarball())
            return
        path.write_bytes(self.token.srk_tarball(pki))
        if case.keys not in self._in_token:
            self.token.put_pki(TOKEN, PIN, pki)
            self._in_token.add(case.keys)

    def description(self, case: Case) -> str:
        """Return the CSF description of a case."""
        if case.ahab:
            # The container with SPL: its places are the same in files of all sizes.
            header, block = TrialAhabImage.of_size(64 << 10).containers[0]
            return self.ahab_pki(case.ahab).csf("spl.bin", header, block)
        # Only the blocks depend on the size: there is no need to make an image of 256 MiB.
        blocks = f'0x7e0fc0 0x0 {case.size - 0x2000:#x} "spl.bin"'
        pki = self.pki(case.keys)
        return self.token.csf(pki, TOKEN, blocks) if case.backend == "pkcs11" else pki.csf(blocks)

    def body(self, case: Case, machine: str = "") -> Path:
        """Return the file with the form of a case's request."""
        machine = machine or case.machine
        path = self.folder / f"body-{machine}-{case.size}"
        if not path.exists():
            soctype = _CHIPS[case.ahab] if case.ahab else "mx8m"
            fields = {"machine": machine, "soctype": soctype, "cstversion": self.version, "backend": case.backend}
            load.write_body(path, fields, self.description(case), self.image(case))
        return path

    def forget_bodies(self) -> None:
        """Remove the files of bodies, floors and images, which are large."""
        shutil.rmtree(self.folder / "floors", ignore_errors=True)
        for path in (*self.folder.glob("body-*"), *self.folder.glob("image-*")):
            path.unlink()

    def at_once(self, case: Case) -> int:
        """Return how many bare runs of a case go at a time: as many as it has clients, as far as memory is for them."""
        return min(case.clients, max(2, _MOST_AT_ONCE // case.size))

    def floors(self, case: Case) -> list[Floor]:
        """Return the floors of a case. Keys on a token have one floor, with the libraries that digsigd uses."""
        words = tuple(words_of(self.cst, Needs(libraries=self.libraries)))
        if case.backend == "pkcs11":
            return [self._with_token(case)]
        plain = Floor(PLAIN, self._place(case, plain=True), words, {})
        encrypted = self._place(case)
        floors = [Floor(OWN, encrypted, words, {}), plain]
        if self.libraries:
            floors.insert(0, Floor(SYSTEM, encrypted, (self.cst,), {}))
        return floors

    def _place(self, case: Case, *, plain: bool = False) -> Path:
        pki = self.ahab_pki(case.ahab) if case.ahab else self.pki(case.keys)
        files = decrypted(pki) if plain else pki.files
        folder = self.folder / "floors" / f"{case.machine}-{case.size}-{'plain' if plain else 'encrypted'}"
        floor.prepare(folder, self.at_once(case), files, self.description(case), self.image(case))
        return folder

    def _with_token(self, case: Case) -> Floor:
        way = way_of(self.cst)
        if way is None:
            raise floor.FloorError(f"{self.cst} cannot use tokens")
        libraries = for_modules(self.libraries)
        module = module_in(libraries, way) or (self.base / "pkcs11-provider/pkcs11.so" if way == "provider" else None)
        if way == "engine":
            lines = [f"dynamic_path = {module}"] if module else []
            lines += [f"PIN = {PIN}", f"MODULE_PATH = {SoftHsm.MODULE}"]
        else:
            lines = [f"module = {module}", f"pkcs11-module-path = {SoftHsm.MODULE}", f"pkcs11-module-token-pin = {PIN}"]
        conf = self.folder / "token-floor.cnf"
        head = f"openssl_conf = init\n\n[init]\n{way}s = loaded\n\n[loaded]\npkcs11 = token\n\n[token]\n"
        conf.write_text(head + "\n".join(lines) + "\n")
        words = tuple(words_of(self.cst, Needs(libraries=libraries)))
        return Floor(
            OWN, self._place(case), (*words, "-b", "pkcs11"), {**self.token.environ, "OPENSSL_CONF": str(conf)}
        )


def decrypted(pki: TrialPki | TrialAhabPki) -> dict[str, bytes]:
    """Return the files of a PKI with its private keys in the traditional form, without a pass phrase."""
    files = dict(pki.files)
    for name, content in pki.files.items():
        if name.startswith("keys/") and name.endswith("_key.pem"):
            key = load_pem_private_key(content, pki.pass_phrase.encode())
            files[name] = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    return files


@contextmanager
def ground(base: Path, version: str, *, room: int = 2 << 30) -> Iterator[Ground]:
    """Make a ground in memory, like systemd's runtime directory, if there are `room` bytes free, else on the disk."""
    shared = Path("/dev/shm")
    there = shared.is_dir() and os.access(shared, os.W_OK) and shutil.disk_usage(shared).free > room
    with tempfile.TemporaryDirectory(prefix="digsigd-bench-", dir=shared if there else None) as folder:
        yield Ground(Path(folder), base, version)
