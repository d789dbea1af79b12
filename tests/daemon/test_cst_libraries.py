"""A daemon whose csts have their own libraries: it says so, and signs with them, from files and from tokens."""

from __future__ import annotations

import json
import sqlite3
from hashlib import sha256
from pathlib import Path

import pytest

from digsigd.signing.libraries import fingerprint
from digsigd.testing import TrialPki
from tests.daemon.test_logs_and_options import check
from tests.helpers.daemons import IMAGE, MACHINE, Daemon, Start
from tests.helpers.hsm import SoftHsm, provider
from tests.helpers.libraries import base_with_libraries
from tests.helpers.proof import proven

VERSIONS = ("3.4.1", "4.0.1")
PIN = "98761234"


@pytest.fixture(scope="module")
def base(cst_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return base_with_libraries(cst_base, tmp_path_factory.mktemp("base"), *VERSIONS)


def token_config(hsm: SoftHsm, pin: Path, more: str = "") -> str:
    return (
        f'[pkcs11]\nmodule = "{hsm.MODULE}"\npaths = ["{hsm.folder}"]\n{more}'
        f'[pkcs11.tokens.release]\npin_file = "{pin}"\n'
    )


def test_a_check_says_which_libraries_a_version_runs_with(tmp_path: Path, cst_base: Path, base: Path) -> None:
    """Its own, or the system's; and who but root may change them."""
    (base / "cst-3.4.1/lib/packages").write_text("Debian trixie\nlibc6 999-1\n")
    mixed = tmp_path / "base"
    mixed.mkdir(0o755)
    (mixed / "cst-3.4.1").symlink_to(base / "cst-3.4.1")
    (mixed / "cst-4.0.1/linux64").mkdir(parents=True)
    (mixed / "cst-4.0.1/linux64/bin").symlink_to(cst_base / "cst-4.0.1/linux64/bin")
    (tmp_path / "daemon").mkdir()
    daemon = Daemon(tmp_path / "daemon", mixed)
    done = check(daemon)
    assert done.returncode == 0, done.stdout + done.stderr
    folder = f"{mixed}/cst-3.4.1"
    told = f"{folder}/linux64/bin/cst signs, with libraries of Debian trixie in {folder}/lib (libc6 999-1)"
    assert told in done.stdout
    assert f"{mixed}/cst-4.0.1/linux64/bin/cst signs, with this system's libraries" in done.stdout


def test_libraries_that_others_may_write_are_told(tmp_path: Path, cst_base: Path) -> None:
    """As a program that others may write: what it loads has the keys as well."""
    tmp_path.chmod(0o755)
    base = base_with_libraries(cst_base, tmp_path / "base", "3.4.1")
    (tmp_path / "daemon").mkdir()
    daemon = Daemon(tmp_path / "daemon", base)
    assert "may write" not in check(daemon).stdout
    # Others cannot enter the folder that pytest has made, so the whole way is opened.
    ways = [path for path in tmp_path.parents if path.stat().st_uid == tmp_path.stat().st_uid and path != Path("/tmp")]
    modes = {path: path.stat().st_mode & 0o7777 for path in ways if not path.stat().st_mode & 0o001}
    library, program = base / "cst-3.4.1/lib/libc.so.6", base / "cst-3.4.1/linux64/bin/cst"
    try:
        for path in modes:
            path.chmod(modes[path] | 0o001)
        for one in (library, program):
            one.chmod(one.stat().st_mode | 0o002)
        said = check(daemon).stdout
    finally:
        for path, mode in modes.items():
            path.chmod(mode)
    for one in (library, program):
        assert f"cst 3.4.1: every user of this host may write {one}" in said, said


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("backend", ["ssl", "pkcs11"])
def test_it_signs_in_the_cage(
    start: Start, tmp_path: Path, cst_base: Path, base: Path, pki: TrialPki, version: str, backend: str
) -> None:
    """With key files, and with SoftHSM; the record has what ran."""
    hsm = SoftHsm(tmp_path / "hsm")
    hsm.init_token("release", PIN)
    hsm.put_pki("release", PIN, pki)
    (tmp_path / "pin").write_text(PIN)
    program, libraries = base / f"cst-{version}/linux64/bin/cst", base / f"cst-{version}/lib"
    daemon = start(
        token_config(hsm, tmp_path / "pin", f'provider = "{provider(cst_base)}"\n'),
        STATE_DIRECTORY=str(tmp_path / "state"), DIGSIGSERVER_IMX_CST_BASE=str(base), **hsm.environ,
    )  # fmt: skip
    daemon.put_keys(MACHINE, pki.tarball() if backend == "ssl" else hsm.srk_tarball(pki))
    if backend == "ssl":
        answer = daemon.post(pki, cstversion=version)
    else:
        text = hsm.csf(pki, "release", IMAGE.blocks("spl.bin"))
        answer = daemon.post(pki, csf=text, cstversion=version, backend=backend)
    assert answer.status_code == 200, answer.text + daemon.log()
    proven(pki, IMAGE, answer.content)
    database = sqlite3.connect(tmp_path / "state/record.sqlite")
    ((data,),) = database.execute("SELECT data FROM entry ORDER BY position DESC LIMIT 1").fetchall()
    database.close()
    assert json.loads(data)["cst"] == {
        "version": version,
        "sha256": sha256(program.read_bytes()).hexdigest(),
        "libraries_sha256": fingerprint(str(libraries)),
    }


@pytest.mark.parametrize("version", VERSIONS)
def test_tokens_work_with_what_get_cst_has_put_beside_cst(
    start: Start, tmp_path: Path, pki: TrialPki, version: str
) -> None:
    """The engine or provider of the libraries' release signs, and a wrong PIN is found in its report."""
    hsm = SoftHsm(tmp_path / "hsm")
    hsm.init_token("release", PIN)
    hsm.put_pki("release", PIN, pki)
    text = hsm.csf(pki, "release", IMAGE.blocks("spl.bin"))
    for pin in (PIN, "43211234"):
        (tmp_path / "pin").write_text(pin)
        daemon = start(token_config(hsm, tmp_path / "pin"), **hsm.environ)
        daemon.put_keys(MACHINE, hsm.srk_tarball(pki))
        answer = daemon.post(pki, csf=text, cstversion=version, backend="pkcs11")
        if pin == PIN:
            assert answer.status_code == 200, answer.text + daemon.log()
            proven(pki, IMAGE, answer.content)
        else:
            assert "cannot be used: the PIN is wrong" in answer.text
