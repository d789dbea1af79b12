"""A cst that changes what it signs, or leaves something else in its place: 500, and the host signs on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from digsigd.testing import TrialImage, TrialPki
from tests.helpers.daemons import Daemon
from tests.helpers.proof import proven

SIZES = {"64 KiB": 64 << 10, "2 MiB": 2 << 20}
SIGN = 'exec "{cst}" "$@"\n'
# In the directory that cst runs in, `artifact` is a link to the file beside it. The stand-in tries both.
CHANGES = {
    "swaps four bytes": "printf XXXX | dd of={file} bs=1 seek=4096 conv=notrunc 2>/dev/null\n" + SIGN,
    "truncates": "truncate -s 8192 {file}\n" + SIGN,
    "replaces it by a link": "cp {file} copy; printf XXXX | dd of=copy bs=1 seek=4096 conv=notrunc 2>/dev/null\n"
    "rm {file}; ln -s $PWD/copy {file}\n" + SIGN,
    "replaces it by a link to nothing": "cp {file} copy; rm {file}; ln -s nothing {file}\n" + SIGN,
    "replaces it by a FIFO": '"{cst}" "$@"; code=$?; rm {file}; mkfifo {file}; exit $code\n',
    "signs something else and leaves a FIFO": "printf XXXX | dd of={file} bs=1 seek=4096 conv=notrunc 2>/dev/null\n"
    '"{cst}" "$@"; rm -f {file}; mkfifo {file}; exit 0\n',
    "leaves a FIFO as the blob": '"{cst}" "$@"; rm -f csf.bin; mkfifo csf.bin; exit 0\n',
    "leaves a socket as the blob": "rm -f csf.bin; python3 -c 'import socket; socket.socket(1).bind(\"csf.bin\")'\n",
    "leaves a link as the blob": '"{cst}" "$@"; mv csf.bin ../x; ln -s ../x csf.bin\n',
}
FILES = ["artifact", "../artifact"]


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory, cst_base: Path, pki: TrialPki) -> Iterator[Daemon]:
    """One that has a stand-in for each change. They need a shell, so that no cage keeps them from it."""
    folder = tmp_path_factory.mktemp("changes")
    cst = cst_base / "cst-3.4.1/linux64/bin/cst"
    versions = ""
    for number, text in enumerate(CHANGES.values()):
        for place, file in enumerate(FILES):
            tool = folder / f"cst{number}-{place}"
            tool.write_text("#!/bin/sh\n" + text.replace("{file}", file).replace("{cst}", str(cst)))
            tool.chmod(0o755)
            versions += f'"{number}-{place}" = "{tool}"\n'
    made = Daemon(folder, cst_base, f"[cst.versions]\n{versions}")
    made.put_keys("imx8mm-evk", pki.tarball())
    made.start()
    yield made
    made.stop()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("change", CHANGES)
def test_no_answer_is_of_other_bytes_than_were_sent(daemon: Daemon, pki: TrialPki, change: str, size: str) -> None:
    """Whatever cst does to the artifact or leaves as its blob: 500, nothing stays, and the next request is signed."""
    image = TrialImage.of_size(SIZES[size])
    for place, file in enumerate(FILES):
        number = list(CHANGES).index(change)
        answer = daemon.post(pki, image, cstversion=f"{number}-{place}")
        if file == "artifact" and answer.status_code == 200:
            # Only a link of cst's own was replaced: what was sent is what was signed.
            proven(pki, image, answer.content)
        elif file == "artifact" and answer.status_code == 422:
            # cst has failed by its own fault.
            assert "cst refused" in answer.text
        else:
            assert answer.status_code == 500, answer.text
            assert "internal error" not in answer.text
        assert daemon.left_behind() == []
    answer = daemon.post(pki, image)
    assert answer.status_code == 200
    proven(pki, image, answer.content)
    assert daemon.left_behind() == []
