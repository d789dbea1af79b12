"""`digsign ping` as people run it, against real daemons, and what it says where there is none."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from digsigd import __version__
from digsigd.testing import TrialPki
from tests.helpers import ahab_cases
from tests.helpers.certificates import Authority
from tests.helpers.commands import Run
from tests.helpers.daemons import MACHINE, TOKEN, USE, Daemon
from tests.helpers.hostile_servers import TlsDaemon


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory, cst_base: Path, pki: TrialPki) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path_factory.mktemp("daemon"), cst_base)
    daemon.put_keys(MACHINE, pki.tarball())
    old = TrialPki.make("p256", srks=1, valid_days=-1)
    daemon.put_keys("expired", old.tarball())
    daemon.put_keys("ahab", ahab_cases.tarball("p384ca"))
    yield daemon.start()
    daemon.stop()


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory, cst_base: Path, pki: TrialPki) -> Iterator[Daemon]:
    """Wants a token, for one machine."""
    folder = tmp_path_factory.mktemp("guarded")
    (folder / "token").write_text(TOKEN + "\n")
    daemon = Daemon(folder, cst_base, f'[callers.ci]\ntoken_file = "{folder}/token"\nmachines = ["{MACHINE}"]\n{USE}')
    daemon.put_keys(MACHINE, pki.tarball())
    yield daemon.start()
    daemon.stop()


def test_a_host_that_is_ready(digsign: Run, daemon: Daemon) -> None:
    """Ends with 0, wherever its address is from."""
    done = digsign("ping", "--server", daemon.url)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [f"server   {daemon.url}", f"version  {__version__}", "ready    yes"]
    assert digsign("ping", DIGSIGN_SERVER=daemon.url).stdout == done.stdout


def test_what_it_has_for_ahab(digsign: Run, daemon: Daemon) -> None:
    """Each table with the fuse values that chips have, and the SGKs below the SRKs."""
    done = digsign("ping", "--server", daemon.url, "--machine", "ahab")
    assert (done.returncode, done.stderr) == (0, "")
    files = ahab_cases.members("p384ca")
    for name, chip in (("fuse_sha256", "i.MX 93"), ("fuse_sha512", "i.MX 8X"), ("v2_fuse", "i.MX 95 B0")):
        line = f"fuses    {files[f'crts/SRK_1_2_3_4_{name}.bin'].hex()}\n"
        assert chip in done.stdout.partition(line)[2].splitlines()[0]
    assert done.stdout.count("AHAB     ECDSA P-384\n") == 2
    assert done.stdout.count("\nfuses ") == 3
    rows = [line.split() for line in done.stdout.splitlines() if "_crt.pem" in line]
    assert [row[0] for row in rows] == ["1", "1", "2", "2", "3", "3", "4", "4"]
    assert [row[1] for row in rows] == ["SRK", "signed"] * 4


def test_what_it_has_for_a_machine(digsign: Run, daemon: Daemon, pki: TrialPki) -> None:
    """The fuse value, the certificates of each SRK, the versions of cst and the backends."""
    done = digsign("ping", "--server", daemon.url, "--machine", MACHINE, "--cst", "3.4.1", "--backend", "ssl")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"fuses    {pki.fuse_value.hex()}\n" in done.stdout
    assert "cst 3.4.1, 4.0.1; backend ssl\n" in done.stdout
    lines = done.stdout.splitlines()
    table = [line.split() for line in lines[lines.index("") + 2 :]]
    assert [(row[0], row[-2]) for row in table] == [
        (str(srk), pki.certificate(role, srk)) for srk in (1, 2) for role in ("SRK", "CSF", "IMG")
    ]
    done = digsign("ping", "--server", daemon.url, "--machine", "expired")
    assert done.returncode == 0
    assert done.stdout.count("(expired)") == 3


def test_what_it_has_not(digsign: Run, daemon: Daemon) -> None:
    """Keys, a version of cst, a backend: each ends with 1, and what there is instead."""
    done = digsign("ping", "--server", daemon.url, "--machine", "other")
    assert done.returncode == 1
    assert "ready    yes" in done.stdout
    assert "digsign: there are no keys for machine 'other'" in done.stderr
    assert "(request " in done.stderr
    assert "--machine" in done.stderr
    done = digsign("ping", "--server", daemon.url, "--machine", MACHINE, "--cst", "9.9")
    assert done.returncode == 1
    assert "no cst 9.9\n  it has 3.4.1, 4.0.1" in done.stderr
    done = digsign("ping", "--server", daemon.url, "--machine", MACHINE, DIGSIGN_BACKEND="pkcs11")
    assert done.returncode == 1
    assert "backend pkcs11" in done.stderr


def test_a_token(digsign: Run, guarded: Daemon, tmp_path: Path) -> None:
    """Is not needed to be told that a host is ready; for a machine it is, and the right one."""
    assert digsign("ping", "--server", guarded.url).returncode == 0
    ask = ("ping", "--server", guarded.url, "--machine", MACHINE)
    done = digsign(*ask)
    assert done.returncode == 1
    assert "authentication required" in done.stderr
    assert "--token-file FILE" in done.stderr
    done = digsign(*ask, DIGSIGN_TOKEN="another-token-altogether")
    assert done.returncode == 1
    assert "does not know this token" in done.stderr
    assert "altogether" not in done.stdout + done.stderr
    (tmp_path / "token").write_text(TOKEN)
    assert digsign(*ask, "--token-file", "token").returncode == 0
    done = digsign(*ask[:-1], "other", DIGSIGN_TOKEN=TOKEN)
    assert done.returncode == 1
    assert "may not sign for machine 'other'" in done.stderr
    assert TOKEN not in done.stdout + done.stderr


def test_a_configuration_file(digsign: Run, guarded: Daemon, tmp_path: Path) -> None:
    """Here, or in the folder for it; a mistake in it ends with 2."""
    (tmp_path / "token").write_text(TOKEN)
    config = tmp_path / "digsign.toml"
    config.write_text(f'server = "{guarded.url}"\nmachine = "{MACHINE}"\ntoken_file = "token"\n')
    assert digsign("ping").returncode == 0
    elsewhere = tmp_path / ".config/digsign.toml"
    elsewhere.parent.mkdir()
    config.rename(elsewhere)
    (tmp_path / "token").rename(elsewhere.parent / "token")
    assert digsign("ping", XDG_CONFIG_HOME="").returncode == 0
    done = digsign("ping", "--config", "none.toml")
    assert (done.returncode, done.stdout) == (2, "")
    assert "none.toml: cannot be read" in done.stderr
    elsewhere.write_text('sever = "x"')
    done = digsign("ping", XDG_CONFIG_HOME="")
    assert done.returncode == 2
    assert "sever: unknown key\n  did you mean server?" in done.stderr


def test_no_host_at_all(digsign: Run) -> None:
    """Each says what to do next, in few words, and at once."""
    for server, words in (
        ("http://127.0.0.1:1", "127.0.0.1:1 refuses connections\n  check that the signing host runs"),
        ("http://no.such.host.invalid", "host 'no.such.host.invalid' not found\n  check the server's name"),
    ):
        done = digsign("ping", "--server", server)
        assert (done.returncode, done.stdout) == (1, "")
        assert words in done.stderr
        assert len(done.stderr.splitlines()) == 2
    done = digsign("ping")
    assert done.returncode == 2
    assert "no signing host is given\n  set --server URL" in done.stderr
    done = digsign("ping", "--server", "127.0.0.1:9999")
    assert done.returncode == 2
    assert "--server: is not an address; expected http://HOST:PORT" in done.stderr
    done = digsign("ping", "--server", "http://signer.example", DIGSIGN_TOKEN=TOKEN)
    assert done.returncode == 2
    assert "plain http" in done.stderr
    assert TOKEN not in done.stderr


def test_a_wrong_path(digsign: Run, daemon: Daemon) -> None:
    """Something answers, and it is no signing host."""
    done = digsign("ping", "--server", daemon.url + "/elsewhere")
    assert (done.returncode, done.stdout) == (1, "")
    assert "check that the address is that of a signing host" in done.stderr


def test_tls(digsign: Run, cst_base: Path, tmp_path: Path) -> None:
    """With an authority of one's own; and what is said without, or where there is no TLS."""
    authority = Authority()
    folder = tmp_path / "host"
    folder.mkdir()
    for name, data in zip(("cert.pem", "key.pem"), authority.issue("signer"), strict=True):
        (folder / name).write_bytes(data)
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    daemon = TlsDaemon(folder, cst_base).with_files(folder / "key.pem", folder / "cert.pem")
    daemon.start()
    try:
        assert digsign("ping", "--server", daemon.url, "--ca-file", "ca.pem").returncode == 0
        done = digsign("ping", "--server", daemon.url)
        assert done.returncode == 1
        assert "is not trusted" in done.stderr
        assert "--ca-file FILE" in done.stderr
        done = digsign("ping", "--server", daemon.url.replace("https", "http"))
        assert done.returncode == 1
        assert "use https://" in done.stderr
    finally:
        daemon.stop()


def test_a_host_that_is_not_ready(digsign: Run, cst_base: Path, tmp_path: Path) -> None:
    """Ends with 1 and what is missing."""
    folder = tmp_path / "host"
    (folder / "no-cst").mkdir(parents=True)
    daemon = Daemon(folder, folder / "no-cst").start()
    try:
        done = digsign("ping", "--server", daemon.url)
    finally:
        daemon.stop()
    assert done.returncode == 1
    assert done.stdout.startswith(f"server   {daemon.url}\nversion  {__version__}\n")
    assert "\nready    no\n         no cst: neither in " in done.stdout
    assert "not ready" in done.stderr


def test_a_server_that_does_not_tell_of_machines(digsign: Run) -> None:
    """Is told from one without keys: it may sign all the same."""

    class Older(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            there = self.path in {"/healthz", "/readyz"}
            body = b'{"ok": true, "missing": []}' if there else b"Not Found"
            self.send_response(200 if there else 404)
            self.send_header("Content-Type", "application/json" if there else "text/plain")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Older) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            done = digsign("ping", "--server", f"http://127.0.0.1:{server.server_port}", "--machine", "m")
        finally:
            server.shutdown()
            thread.join()
    assert done.returncode == 1
    assert "ready    yes" in done.stdout
    first, *hint = done.stderr.splitlines()
    assert first.startswith("digsign: Not Found")
    assert hint[0].startswith("  this server does not report the keys of machines")
    assert hint[1].endswith("see docs/client.md")


def test_ctrl_c(tmp_path: Path) -> None:
    """Ends it at once, with 130 and without a traceback."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        process = subprocess.Popen(
            [sys.executable, "-m", "digsigd.cli.main", "ping", "--server", f"http://127.0.0.1:{server.getsockname()[1]}"],
            cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        connection, _ = server.accept()
        with connection:
            process.send_signal(signal.SIGINT)
            # The host never answers: without the signal it would end after 60 s.
            out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, "", "digsign: interrupted\n")


def test_only_callers_learn_the_version(digsign: Run, guarded: Daemon, tmp_path: Path) -> None:
    """A host with callers shows it to them, and the host is alive for everybody."""
    (tmp_path / "token").write_text(TOKEN + "\n")
    done = digsign("ping", "--server", guarded.url, "--token-file", "token")
    assert done.stdout.splitlines() == [f"server   {guarded.url}", f"version  {__version__}", "ready    yes"]
    (tmp_path / "wrong").write_text("a-token-of-nobody-whom-the-host-knows\n")
    for more in ((), ("--token-file", "wrong")):
        done = digsign("ping", "--server", guarded.url, *more)
        assert done.stdout.splitlines() == [f"server   {guarded.url}", "ready    yes"]
