"""`digsign-cst` linked as `cst`: its command line, its exit codes and what it writes are those of NXP's cst."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import socket
import ssl
import stat
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx
import pytest

from digsigd import hab
from digsigd.testing import TrialPki
from tests.helpers.commands import Run
from tests.helpers.daemons import IMAGE, MACHINE, Daemon
from tests.helpers.drop_in import Build, Done, commands_of, proven
from tests.helpers.hsm import SoftHsm, provider

DONE = "CSF Processed successfully and signed data available in {}\n"
NOTHING = "Error: the CSF was not processed, and nothing was written\n"
PIN = "4711"
BLOCK = hab.Block(IMAGE.address, 0, IMAGE.signed_size)


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory, cst_base: Path, pki: TrialPki) -> Iterator[Daemon]:
    """One daemon for all of this module."""
    daemon = Daemon(tmp_path_factory.mktemp("cst"), cst_base)
    daemon.put_keys(MACHINE, pki.tarball())
    yield daemon.start()
    assert daemon.left_behind() == []
    daemon.stop()


@pytest.fixture
def build(tmp_path: Path, daemon: Daemon, pki: TrialPki) -> Build:
    """A folder with spl.bin and a description for it, spl.csf, and the keys, which the real cst needs there."""
    build = Build(tmp_path / "build", daemon, pki)
    build.write("spl.bin", IMAGE.data)
    build.write("spl.csf", pki.csf(IMAGE.blocks("spl.bin")))
    for name, content in pki.files.items():
        build.write(name, content)
    return build


def is_signed(build: Build, name: str = "out.bin") -> None:
    proven((build.folder / name).read_bytes(), build.pki, IMAGE.data, [BLOCK])


def refused(build: Build, done: Done, *texts: str) -> None:
    """It ended as cst does when nothing was signed, and said why; nothing was written."""
    assert (done.returncode, done.stdout) == (1, NOTHING)
    for text in texts:
        assert text in done.stderr
    assert not any(name.startswith(("out.bin", ".out.bin")) for name in build.files())


def csf_with(build: Build, *blocks: str) -> Path:
    return build.write("spl.csf", build.pki.csf(*blocks))


def block(name: str) -> str:
    return IMAGE.blocks(name)


def half(offset: int, name: str) -> str:
    """One of two blocks that cover the image."""
    length = 0x1000 if not offset else IMAGE.signed_size - 0x1000
    return f'{IMAGE.address + offset:#x} {offset:#x} {length:#x} "{name}"'


# --- the command line


@pytest.mark.parametrize(
    "words",
    [
        "-i spl.csf -o out.bin",
        "-o out.bin -i spl.csf",
        "-ispl.csf -oout.bin",
        "--input spl.csf --output out.bin",
        "--input=spl.csf --output=out.bin",
        "--i spl.csf --o out.bin",
        "--inp=spl.csf --out=out.bin",
        "-i spl.csf -o out.bin -b ssl",
        "--backend ssl --i spl.csf --o out.bin",
        "-i spl.csf -o out.bin more words",
        "more -i spl.csf words -o out.bin",
        "-i spl.csf -o out.bin -c no-such-certificate.pem",
        "-s -i spl.csf -o out.bin",
        "-i nothing.csf -o nothing.bin -i spl.csf -o out.bin",
        "-i spl.csf -o out.bin -- -z",
    ],
)
def test_a_command_line_that_signs(build: Build, cst_base: Path, words: str) -> None:
    """The real cst takes it, and ours does; both say the same, word for word."""
    real = build.run(cst_base / "cst-4.0.1/linux64/bin/cst", *words.split())
    assert (real.returncode, real.stdout) == (0, DONE.format("out.bin"))
    is_signed(build)
    (build.folder / "out.bin").unlink()
    before = build.files()
    done = build.sign(*words.split())
    assert (done.returncode, done.stdout, done.stderr) == (0, DONE.format("out.bin"), "")
    is_signed(build)
    assert build.files() - before == {"out.bin"}


@pytest.mark.parametrize(
    "words",
    [
        "",
        "-z -i spl.csf -o out.bin",
        "--bogus",
        "--ver",
        "-i",
        "-i spl.csf -o",
        "-i spl.csf",
        "-o out.bin",
        "-b ssl",
        "-g",
        "-i spl.csf -o out.bin -b token",
        "-i nothing.csf -o out.bin",
        "-i nothing-is-here.csf -o out.bin -g",
        "-i spl.csf -o no-such-folder/out.bin",
        "-i spl.csf -o crts",
        "-i wrong.csf -o out.bin",
        "-i missing.csf -o out.bin",
        "-i spl.csf -i missing.csf -o out.bin",
        "--help=1",
    ],
)
def test_a_command_line_that_does_not(build: Build, cst_base: Path, words: str) -> None:
    """The real cst of today ends with 1, ours as well, and neither writes anything."""
    build.write("wrong.csf", "[Header]\n")
    build.write("missing.csf", build.pki.csf(block("missing.bin")))
    before = build.files()
    for program in (cst_base / "cst-4.0.1/linux64/bin/cst", "cst"):
        done = build.run(program, *words.split())
        assert done.returncode == 1, program
        assert (done.stdout + done.stderr).strip()
        assert "CSF Processed" not in done.stdout
        assert build.files() == before


@pytest.mark.parametrize("words", ["-h", "--help", "-v", "--version", "--vers", "-l", "--license", "--l"])
def test_what_only_tells(build: Build, cst_base: Path, words: str) -> None:
    """Ends with 0, as it does with the real one, whether or not anything is configured."""
    assert build.run(cst_base / "cst-4.0.1/linux64/bin/cst", words).returncode == 0
    done = build.sign(words, DIGSIGN_SERVER=None, DIGSIGN_MACHINE=None, DIGSIGN_CST=None)
    assert (done.returncode, done.stderr) == (0, "")
    assert "digsign" in done.stdout


def test_the_version_is_that_of_the_servers_cst(build: Build, cst_base: Path) -> None:
    """In the form that cst has it."""
    line = re.compile(r"^Code Signing Tool Version: (.*)$", re.MULTILINE)
    real = line.search(build.run(cst_base / "cst-4.0.1/linux64/bin/cst", "--version").stdout)
    ours = line.search(build.sign("--version", DIGSIGN_CST="4.0.1").stdout)
    assert real is not None
    assert ours is not None
    assert real[1] == ours[1] == "4.0.1"


def test_every_option_of_cst_is_there(build: Build, cst_base: Path) -> None:
    """All that `cst --help` of 3.4.1 and 4.0.1 tells of, with the same argument or none."""
    ours = build.sign("--help").stdout
    for version in ("3.4.1", "4.0.1"):
        told = build.run(cst_base / f"cst-{version}/linux64/bin/cst", "--help").stdout
        options = re.findall(r"^(-\w, --\w+)( <)?", told, re.MULTILINE)
        assert len(options) >= 8
        for words, value in options:
            found = re.search(rf"^  {words}( [A-Z]+)?$", ours, re.MULTILINE)
            assert found is not None, words
            assert bool(found[1]) == bool(value)


def test_the_command_of_digsign_does_the_same(build: Build, digsign: Run) -> None:
    """`digsign cst`, with options as digsign takes them."""
    done = digsign(
        "cst", "-i", build.folder / "spl.csf", "-o", "out.bin", "--verbose",
        **{name: value for name, value in build.environ.items() if name.startswith("DIGSIGN")},
    )  # fmt: skip
    assert done.returncode == 1
    assert 'file not present: "spl.bin"' in done.stderr


# --- settings


def test_which_server_and_machine_are_asked_for(build: Build) -> None:
    """By the names of what says it."""
    refused(build, build.sign("-i", "spl.csf", "-o", "out.bin", DIGSIGN_SERVER=None), "DIGSIGN_SERVER")
    refused(build, build.sign("-i", "spl.csf", "-o", "out.bin", DIGSIGN_MACHINE=None), "DIGSIGN_MACHINE")


def test_a_configuration_file(build: Build) -> None:
    """In the folder where the build runs cst."""
    build.write("digsign.toml", f'server = "{build.daemon.url}"\nmachine = "{MACHINE}"\ncst = "4.0.1"\n')
    done = build.sign("-i", "spl.csf", "-o", "out.bin", DIGSIGN_SERVER=None, DIGSIGN_MACHINE=None, DIGSIGN_CST=None)
    assert (done.returncode, done.stderr) == (0, "")
    is_signed(build)


def test_the_newest_cst_where_none_is_named(build: Build) -> None:
    """As the host tells."""
    done = build.sign("-i", "spl.csf", "-o", "out.bin", "-g", DIGSIGN_CST=None)
    assert done.returncode == 0
    assert "cst 4.0.1" in done.stderr


def test_verbose_says_what_is_done(build: Build) -> None:
    """On standard error: who was asked, what for, and what came of it."""
    done = build.sign("-i", "spl.csf", "-o", "out.bin", "-g")
    assert done.stdout == DONE.format("out.bin")
    for text in (build.daemon.url, MACHINE, "cst 3.4.1", "request ", build.pki.fuse_value.hex()):
        assert text in done.stderr


# --- which file


@pytest.mark.parametrize(
    "name",
    [
        "my images/s p l.bin",
        "spl-äöü-日本.bin",
        "50%off;rm -rf &amp; 'quoted' $HOME `x`.bin",
        "out/nxp.cst-input-data.nxp-imx8mcst@0",
        "../build/up.bin",
        "./dot.bin",
        "a\\b.bin",
        "-dash.bin",
        "x" * 200 + ".bin",
    ],
)
def test_names_of_files(build: Build, name: str) -> None:
    """Whatever stands in the description is the file's name, from the working directory."""
    build.write(name, IMAGE.data)
    csf_with(build, block(name))
    done = build.sign("-i", "spl.csf", "-o", "out.bin")
    assert (done.returncode, done.stderr) == (0, "")
    is_signed(build)


def test_an_absolute_name_and_an_odd_locale(build: Build) -> None:
    """The file's name is bytes, whatever the locale makes of them."""
    csf_with(build, block(str(build.write("ü.bin", IMAGE.data))))
    done = build.sign("-i", "spl.csf", "-o", "out.bin", LC_ALL="POSIX", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    assert (done.returncode, done.stderr) == (0, "")
    is_signed(build)


def test_one_file_by_several_spellings(build: Build) -> None:
    """Is one file."""
    csf_with(build, half(0, "spl.bin"), half(0x1000, f"../{build.folder.name}/./spl.bin"))
    done = build.sign("-i", "spl.csf", "-o", "out.bin")
    assert (done.returncode, done.stderr) == (0, "")
    data = (build.folder / "out.bin").read_bytes()
    proven(data, build.pki, IMAGE.data, *commands_of((build.folder / "spl.csf").read_text()))


# A kernel for U-Boot: its IVT at its end, without boot data.
KERNEL = bytes(range(256)) * 16 + struct.pack("<8I", 0x412000D1, 0x12000000, 0, 0, 0, 0x12001000, 0x12001020, 0)
KERNEL_BLOCK = hab.Block(0x12000000, 0, len(KERNEL))


def holds(build: Build, *parts: tuple[int, bytes]) -> None:
    """The CSF is over a kernel, and behind it over these files."""
    files = [hab.File.of(KERNEL), *(hab.File.of(data) for _, data in parts)]
    blocks = [KERNEL_BLOCK, *(hab.Block(at, 0, len(data), n) for n, (at, data) in enumerate(parts, 1))]
    hab.verify(
        (build.folder / "out.bin").read_bytes(),
        srk_table=build.pki.srk_table,
        expected_blocks=[blocks],
        source_index=0,
        digests=[hab.digest_blocks("sha256", blocks, files)],
        fuse_value=build.pki.fuse_value,
    )


@pytest.mark.parametrize(
    "names", [["board.dtb"], ["sub/zImage"], ["a/zImage", "b/zImage", "2-zImage"], list("abcdefg")]
)
def test_several_files_are_signed_together(build: Build, names: list[str]) -> None:
    """Also if they are called the same, in several folders: each is told from the others."""
    build.write("zImage", KERNEL)
    parts = [(0x18000000 + 0x1000 * n, name.encode() * 50) for n, name in enumerate(names)]
    for name, (_, data) in zip(names, parts, strict=True):
        build.write(name, data)
    blocks = [f'{at:#x} 0 {len(data)} "{name}"' for name, (at, data) in zip(names, parts, strict=True)]
    csf_with(build, f'0x12000000 0 {len(KERNEL)} "zImage"', *blocks)
    done = build.sign("-i", "spl.csf", "-o", "out.bin")
    assert (done.returncode, done.stderr) == (0, "")
    holds(build, *parts)


def test_more_files_than_servers_take_are_refused(build: Build) -> None:
    """With the line of the first that is too many, before anything is uploaded."""
    names = [build.write(f"part{n}", b"x" * 16).name for n in range(9)]
    csf_with(build, *(f'{0x1000 * n:#x} 0 16 "{name}"' for n, name in enumerate(names)))
    done = build.sign("-i", "spl.csf", "-o", "out.bin", DIGSIGN_SERVER="http://127.0.0.1:9")
    refused(build, done, "spl.csf: line 37, column 14: the blocks refer to more than 8 files")


def test_one_file_by_two_names_is_one_file(build: Build) -> None:
    """The server knows the upload by one name, and is sent a description that has only that."""
    (build.folder / "link.bin").symlink_to("spl.bin")
    csf_with(build, half(0, "spl.bin"), half(0x1000, "link.bin"))
    done = build.sign("-i", "spl.csf", "-o", "out.bin")
    assert (done.returncode, done.stderr) == (0, "")
    proven(
        (build.folder / "out.bin").read_bytes(), build.pki, IMAGE.data,
        *commands_of((build.folder / "spl.csf").read_text()),
    )  # fmt: skip


# --- descriptions that come on standard input, and who asks for them


def test_barebox_finds_what_it_looks_for(build: Build, cst_base: Path) -> None:
    """Without arguments a usage with barebox's words is printed, and the exit code is 1, as with the real ones."""
    for program in ("cst", *(str(cst_base / f"cst-{version}/linux64/bin/cst") for version in ("3.4.1", "4.0.1"))):
        done = build.run(program)
        assert done.returncode == 1
        assert "Input CSF text filename" in done.stdout


@pytest.mark.parametrize("words", ["-o out.bin -i /dev/stdin", "-o out.bin", "--o out.bin", "-o out.bin -b ssl"])
@pytest.mark.parametrize("end", ["", "\\0"])
def test_a_description_on_standard_input(build: Build, words: str, end: str) -> None:
    """By /dev/stdin as today's barebox has it, or without -i as the first csts did; barebox writes a NUL behind it."""
    done = build.run("sh", "-c", f"(cat spl.csf; printf '{end}') | cst {words}")
    assert (done.returncode, done.stderr) == (0, "")
    is_signed(build)


def test_an_error_on_standard_input_has_its_line(build: Build) -> None:
    """And is said to be of that."""
    done = build.run("sh", "-c", "sed s/MID/MIDD/ spl.csf | cst -o out.bin")
    refused(build, done, "standard input: line 20, column 16", "did you mean MID?")


# --- tables and certificates under other names


def test_keys_are_found_by_what_they_are(build: Build) -> None:
    """Tables and certificates that lie here under names of their own are those that the host has under others."""
    names = {
        build.pki.table(): "SRK_table.bin",
        build.pki.certificate("CSF"): "conf/keys/CSF_1_crt.pem",
        build.pki.certificate("IMG"): "conf/keys/IMG_1_crt.pem",
    }
    text = build.pki.csf(block("spl.bin"))
    for name, other in names.items():
        build.write(other, build.pki.files[name])
        text = text.replace(name, other)
    # One as DER, which is the same certificate.
    pem = build.pki.files[build.pki.certificate("IMG")].decode()
    build.write("conf/keys/IMG_1_crt.der", ssl.PEM_cert_to_DER_cert(pem[pem.index("-----BEGIN") :]))
    build.write("spl.csf", text.replace("IMG_1_crt.pem", "IMG_1_crt.der"))
    for version in ("3.4.1", None):
        done = build.sign("-i", "spl.csf", "-o", "out.bin", DIGSIGN_CST=version)
        assert (done.returncode, done.stderr) == (0, "")
        is_signed(build)
    done = build.sign("-i", "spl.csf", "-o", "out.bin", "-g")
    assert f"SRK_table.bin: {build.pki.table()} on the signing host" in done.stderr
    # The line of an error is that of the description as it is here.
    build.write("spl.csf", text.replace("Source index = 0", "Source index = 1"))
    (build.folder / "out.bin").unlink()
    refused(build, build.sign("-i", "spl.csf", "-o", "out.bin"), "csf: line 9: Source index = 1 is SRK 2")


def test_keys_that_are_not_the_hosts_are_found_by_name_alone(build: Build) -> None:
    """As ever, but it is said that what lies here is another; where there is no such name either, nothing is signed."""
    build.write(build.pki.certificate("CSF"), build.pki.files[build.pki.certificate("CSF", 2)])
    done = build.sign("-i", "spl.csf", "-o", "out.bin")
    # What lies here is a certificate of the host's all the same, and cst would take that one.
    refused(build, done, "Source index = 0 is SRK 1", "CSF2_1")
    stranger = TrialPki.make("p256", srks=1)
    build.write(build.pki.certificate("CSF"), stranger.files[stranger.certificate("CSF")])
    done = build.sign("-i", "spl.csf", "-o", "out.bin")
    assert done.returncode == 0
    assert "has a different file with this name, and uses that" in done.stderr
    is_signed(build)


@contextmanager
def another_host(build: Build, told: Callable[[str], str] | None) -> Iterator[str]:
    """The address of one that signs as the daemon does, and tells of its keys in other words, or nothing."""

    class Host(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if told is None:
                self.send_error(404)
                return
            answer = httpx.get(build.daemon.url + self.path, timeout=60)
            self.give(httpx.Response(200, headers={"Content-Type": "application/json"}, text=told(answer.text)))

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {"Content-Type": self.headers["Content-Type"]}
            self.give(httpx.post(build.daemon.url + self.path, content=body, headers=headers, timeout=60))

        def give(self, answer: httpx.Response) -> None:
            self.send_response(answer.status_code)
            self.send_header("Content-Type", answer.headers["Content-Type"])
            self.send_header("Content-Length", str(len(answer.content)))
            self.end_headers()
            self.wfile.write(answer.content)

        def log_message(self, *_: object) -> None:
            """Nothing is said."""

    with HTTPServer(("127.0.0.1", 0), Host) as host:
        threading.Thread(target=host.serve_forever).start()
        try:
            yield f"http://127.0.0.1:{host.server_port}"
        finally:
            host.shutdown()


def test_a_host_that_does_not_tell_its_keys_signs_with_no_other_in_silence(build: Build) -> None:
    """What lies here is compared with what the answer was signed with."""
    with another_host(build, None) as url:
        for name in (build.pki.certificate("CSF"), build.pki.table()):
            build.write(name, build.pki.files[name])
        done = build.sign("-i", "spl.csf", "-o", "out.bin", DIGSIGN_SERVER=url)
        assert (done.returncode, done.stderr) == (0, "")
        stranger = TrialPki.make("p256", srks=2)
        build.write(build.pki.certificate("CSF"), stranger.files[stranger.certificate("CSF")])
        build.write(build.pki.table(), stranger.srk_table)
        done = build.sign("-i", "spl.csf", "-o", "out.bin", DIGSIGN_SERVER=url)
    assert done.returncode == 0
    assert done.stderr.count("the signing host signed with a different file than the local one") == 2


def test_a_host_that_signs_with_another_key_than_it_says_is_not_believed(build: Build) -> None:
    """It tells that it has what lies here, and the answer is by another."""
    stranger = TrialPki.make("p256", srks=1)
    name = build.pki.certificate("CSF")
    build.write(name, stranger.files[stranger.certificate("CSF")])

    def digest(pki: TrialPki) -> str:
        text = pki.files[pki.certificate("CSF")].decode()
        return hashlib.sha256(ssl.PEM_cert_to_DER_cert(text[text.index("-----BEGIN") :])).hexdigest()

    with another_host(build, lambda text: text.replace(digest(build.pki), digest(stranger))) as url:
        done = build.sign("-i", "spl.csf", "-o", "out.bin", DIGSIGN_SERVER=url)
    refused(build, done, f"{name}: the signing host reports this file, but signed with a different one")


def test_nothing_of_a_file_here_is_sent(build: Build) -> None:
    """A private key or a pass phrase by the name of a certificate is no certificate, and stays here."""
    key = build.pki.certificate("CSF").replace("crts/", "keys/").replace("_crt", "_key")
    build.write("my_crt.pem", build.pki.files[key])
    build.write("spl.csf", build.pki.csf(block("spl.bin")).replace(build.pki.certificate("CSF"), "my_crt.pem"))
    done = build.sign("-i", "spl.csf", "-o", "out.bin")
    refused(build, done, '"my_crt.pem" is not in the machine\'s key tarball')


def test_a_file_that_is_none(build: Build) -> None:
    """Missing, a folder, a pipe that nobody writes to."""
    (build.folder / "folder").mkdir()
    os.mkfifo(build.folder / "pipe")
    for name, text in (
        ("no.bin", "file not present"),
        ("folder", "is not a regular file"),
        ("pipe", "is not a regular file"),
    ):
        csf_with(build, block(name))
        refused(build, build.sign("-i", "spl.csf", "-o", "out.bin"), "line 29, column 14", text, f'"{name}"')


# --- which descriptions


ENCRYPTED = '[Install Secret Key]\nVerification index = 0\nTarget index = 0\nKey = "dek.bin"\nKey Length = 128\n'


@pytest.mark.parametrize(
    ("change", "texts"),
    [
        (("", ENCRYPTED), ["line 30", "[Install Secret Key]", "encrypted boot"]),
        (("", '[Decrypt Data]\nMac Bytes = 16\nBlocks = 0 0 16 "spl.bin"\n'), ["line 30", "[Decrypt Data]"]),
        (("Version = 4.3", "Version = 4.3\n    Mode = HSM"), ["line 3, column 12", "Mode = HSM", "DIGSIGN_BACKEND"]),
        (("Version = 4.3", "Target = AHAB\nVersion = 1.0"), ["line 4", "AHAB"]),
        (("[Unlock]", "[Install Certificate]"), ["line 18", "AHAB"]),
        (("[Authenticate Data]", "[NOP]\n#"), ["no argument"]),
        (("Version = 4.3", "Version = 3.0"), ["line 2", "HAB3"]),
        (("Features = MID", "Features = MIDD"), ["line 20, column 16", "did you mean MID?"]),
        (("0x7e0fc0", "0x7e0fc0x"), ["line 29"]),
    ],
)
def test_descriptions_that_no_server_signs(build: Build, change: tuple[str, str], texts: list[str]) -> None:
    """Are refused here, with the line, before anything is uploaded."""
    text = build.pki.csf(block("spl.bin"))
    old, new = change
    assert not old or old in text
    build.write("spl.csf", text.replace(old, new) if old else text + new)
    refused(build, build.sign("-i", "spl.csf", "-o", "out.bin", DIGSIGN_SERVER="http://127.0.0.1:9"), *texts)


def test_descriptions_that_cannot_be_read(build: Build) -> None:
    """Empty ones, binary ones, a folder, an image in place of the description, one that signs nothing."""
    build.write("empty", "")
    build.write("none", build.pki.csf(block("spl.bin")).partition("[Authenticate Data]")[0])
    build.write("binary", bytes(range(256)))
    build.write("image", IMAGE.data + bytes(1 << 20))
    (build.folder / "folder").mkdir()
    for name, text in (
        ("empty", "begin with [Header]"),
        ("none", "no [Authenticate Data]"),
        ("binary", "binary: line"),
        ("image", "not the image"),
        ("folder", "Is a directory"),
        ("not\x1bthere", 'unable to open "not\\x1bthere": No such file'),
    ):
        refused(build, build.sign("-i", name, "-o", "out.bin"), text)


def test_a_description_from_a_pipe(build: Build) -> None:
    """As bash's <(...) gives it."""
    done = build.run("bash", "-c", "cst -i <(sed 's/nothing/nothing/' spl.csf) -o out.bin")
    assert (done.returncode, done.stderr) == (0, "")
    is_signed(build)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (("Features = MID", "Features = MFG, SCS"), "SCS"),
        (("0x0 0x", "0x100 0x"), "no block covers an IVT"),
        (("CSF1_1_", "CSF7_1_"), "is not in the machine's key tarball"),
        (("Source index = 0", "Source index = 1"), ""),
    ],
)
def test_what_the_server_refuses_is_told_in_its_words(build: Build, change: tuple[str, str], text: str) -> None:
    """With the line, and the id under which its log has more."""
    build.write("spl.csf", build.pki.csf(block("spl.bin")).replace(*change))
    done = build.sign("-i", "spl.csf", "-o", "out.bin")
    refused(build, done, text, "request ")


def test_a_token_signs(tmp_path: Path, cst_base: Path, pki: TrialPki) -> None:
    """`-b pkcs11`, with URIs in the description, as with the real one; the PIN is on the server alone."""
    hsm = SoftHsm(tmp_path / "hsm")
    hsm.init_token("release", PIN)
    hsm.put_pki("release", PIN, pki)
    (tmp_path / "pin").write_text(PIN + "\n")
    config = (
        f'[pkcs11]\nmodule = "{SoftHsm.MODULE}"\nprovider = "{provider(cst_base)}"\n'
        f'paths = ["{hsm.folder}"]\n'
        f'[pkcs11.tokens.release]\npin_file = "{tmp_path / "pin"}"\nmachines = ["{MACHINE}"]\n'
    )
    folder = tmp_path / "daemon"
    folder.mkdir()
    daemon = Daemon(folder, cst_base, config, environ=hsm.environ)
    daemon.put_keys(MACHINE, hsm.srk_tarball(pki))
    daemon.start()
    try:
        build = Build(tmp_path / "build", daemon, pki)
        build.write("spl.bin", IMAGE.data)
        build.write("spl.csf", hsm.csf(pki, "release", block("spl.bin")))
        refused(build, build.sign("-i", "spl.csf", "-o", "out.bin"), "ssl")
        for arguments, environ in ((["-b", "pkcs11"], {}), ([], {"DIGSIGN_BACKEND": "pkcs11"})):
            done = build.sign("-i", "spl.csf", "-o", "out.bin", *arguments, **environ)
            assert (done.returncode, done.stderr) == (0, "")
            is_signed(build)
            (build.folder / "out.bin").unlink()
    finally:
        daemon.stop()


# --- what is written


def test_the_file_has_the_rights_that_cst_gives(build: Build, cst_base: Path) -> None:
    """By the umask."""
    for mask in ("022", "027", "077"):
        modes = []
        for program in (str(cst_base / "cst-4.0.1/linux64/bin/cst"), "cst"):
            done = build.run("sh", "-c", f"umask {mask}; rm -f out.bin; exec {program} -i spl.csf -o out.bin")
            assert done.returncode == 0, done.stderr
            modes.append(stat.S_IMODE((build.folder / "out.bin").stat().st_mode))
        assert modes[0] == modes[1]


def test_where_the_file_goes(build: Build) -> None:
    """Over an older one, into a folder, through a link, to a pipe."""
    build.write("sub/out.bin", b"old")
    (build.folder / "link.bin").symlink_to("sub/through.bin")
    for name, found in (("sub/out.bin", "sub/out.bin"), ("link.bin", "sub/through.bin"), ("/dev/stderr", None)):
        done = subprocess.run(
            ["cst", "-i", "spl.csf", "-o", name],
            cwd=build.folder, env=build.environ, capture_output=True, check=True,
        )  # fmt: skip
        assert done.stdout.decode() == DONE.format(name)
        blob = done.stderr if found is None else (build.folder / found).read_bytes()
        proven(blob, build.pki, IMAGE.data, [BLOCK])
    assert (build.folder / "link.bin").is_symlink()
    assert {path.name for path in (build.folder / "sub").iterdir()} == {"out.bin", "through.bin"}


def test_an_older_file_stays_when_nothing_is_signed(build: Build, cst_base: Path) -> None:
    """As it does with the real cst."""
    build.write("old.bin", b"old")
    build.write("spl.csf", build.pki.csf(block("missing.bin")))
    for program in (cst_base / "cst-4.0.1/linux64/bin/cst", "cst"):
        assert build.run(program, "-i", "spl.csf", "-o", "old.bin").returncode == 1
        assert (build.folder / "old.bin").read_bytes() == b"old"


def test_ctrl_c_leaves_nothing(build: Build) -> None:
    """While the server takes its time."""
    before = build.files()
    with socket.create_server(("127.0.0.1", 0)) as server:
        process = subprocess.Popen(
            ["cst", "-i", "spl.csf", "-o", "out.bin"],
            cwd=build.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**build.environ, "DIGSIGN_SERVER": f"http://127.0.0.1:{server.getsockname()[1]}"},
        )  # fmt: skip
        with server.accept()[0] as connection:
            connection.recv(1)
            process.send_signal(signal.SIGINT)
            try:
                out, err = process.communicate(timeout=60)
            finally:
                process.kill()
    assert process.returncode == 130
    assert (out, err) == ("", "digsign: interrupted\n")
    assert build.files() == before


class _Replay(BaseHTTPRequestHandler):
    """A host, or something on the way to it, that answers every request alike."""

    answer = b""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(len(self.answer)))
        self.end_headers()
        self.wfile.write(self.answer)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_an_answer_that_is_for_another_file_is_not_written(build: Build) -> None:
    """A blob of other bytes, one that was changed, and what is no blob at all."""
    build.write("other.bin", IMAGE.data[:0x1000] + b"!" + IMAGE.data[0x1001:])
    build.write("other.csf", build.pki.csf(block("other.bin")))
    assert build.sign("-i", "other.csf", "-o", "other.out").returncode == 0
    blob = (build.folder / "other.out").read_bytes()
    with HTTPServer(("127.0.0.1", 0), _Replay) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for answer in (blob, blob[:-1], b"", b"<html>please log in</html>"):
            _Replay.answer = answer
            url = f"http://127.0.0.1:{server.server_address[1]}"
            refused(build, build.sign("-i", "spl.csf", "-o", "out.bin", DIGSIGN_SERVER=url))
        server.shutdown()


def test_a_file_that_changes_meanwhile_is_noticed(build: Build) -> None:
    """A CSF for what was uploaded is not one for what lies there now."""
    path = build.folder / "spl.bin"
    changed = bytearray(path.read_bytes())
    changed[0x1000] ^= 1

    class _Change(_Replay):
        def do_POST(self) -> None:
            path.write_bytes(bytes(changed))
            super().do_POST()

    assert build.sign("-i", "spl.csf", "-o", "first.out").returncode == 0
    _Replay.answer = (build.folder / "first.out").read_bytes()
    with HTTPServer(("127.0.0.1", 0), _Change) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        done = build.sign("-i", "spl.csf", "-o", "out.bin", DIGSIGN_SERVER=url)
        server.shutdown()
    refused(build, done, "fails verification with spl.bin", "the file did not change")


# --- docs/cst.md


TEXT = (Path(__file__).parents[2] / "docs/cst.md").read_text()


def test_the_document_has_every_option(build: Build) -> None:
    """Those that `--help` tells of, and no others."""
    told = set(re.findall(r"^  (-\w), (--\w+)", build.sign("--help").stdout, re.MULTILINE))
    assert set(re.findall(r"`(-\w)`, `(--\w+)`", TEXT)) == told


def test_the_document_shows_errors_as_they_are(build: Build) -> None:
    """Each line of its examples begins one that `cst` says."""
    build.write("flash.bin", IMAGE.data)
    many = [build.write(f"part{n}", b"x" * 16).name for n in range(9)]
    text = build.pki.csf(block("flash.bin"))
    said = ""
    for description in (
        text.replace("flash.bin", "missing.bin"),
        build.pki.csf(*(f'{0x1000 * n:#x} 0 16 "{name}"' for n, name in enumerate(many))),
        text + "[Decrypt Data]\n",
        text.replace("    Version = 4.3", "    Target = AHAB\n    Version = 1.0"),
    ):
        build.write("csf_fit.txt", description)
        said += build.sign("-i", "csf_fit.txt", "-o", "out.bin").stderr.replace("missing.bin", "flash.bin")
    build.write("csf_fit.txt", text)
    said += build.sign("-i", "csf_fit.txt", "-o", "out/csf_fit.bin").stderr
    examples = re.findall(r"^```text\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)[0].splitlines()
    assert len(examples) == 5
    for example in examples:
        assert f"\n{example}" in f"\n{said}", said
