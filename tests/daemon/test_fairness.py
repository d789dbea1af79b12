"""Several callers of a real daemon, one of whom takes all that it can get."""

from __future__ import annotations

from pathlib import Path

from digsigd.testing import TrialImage, TrialPki
from tests.daemon.test_full_and_late import SMALL
from tests.helpers.daemons import RIGHTS, TOKEN, Daemon, Start
from tests.helpers.slow_uploads import slow_uploads

OTHER = "a-token-of-somebody-else"
CALLERS = (
    '[callers.greedy]\ntoken_file = "{folder}/other"\n{rights}{more}[callers.release]\ntoken_file = "token"\n{rights}'
)


def started(start: Start, tmp_path: Path, more: str = "", **environ: str) -> Daemon:
    (tmp_path / "other").write_text(OTHER)
    return start(CALLERS.format(folder=tmp_path, more=more, rights=RIGHTS), **environ)


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_the_slow_uploads_of_one_caller_keep_no_other_out(start: Start, pki: TrialPki, tmp_path: Path) -> None:
    """With 129 uploads that send nothing more, its further ones are 503, and those of another are signed."""
    daemon = started(start, tmp_path)
    with slow_uploads(daemon, OTHER, 129):
        daemon.wait_for_log("answered 503", 129 - 64)
        assert daemon.post(pki, headers=bearer(TOKEN)).status_code == 200
        refused = daemon.post(pki, headers=bearer(OTHER))
        assert refused.status_code == 503
        assert "too many requests of caller 'greedy'" in refused.text
    daemon.wait_for(lambda: daemon.post(pki, headers=bearer(OTHER)).status_code == 200)


def test_one_caller_cannot_reserve_all_room(start: Start, pki: TrialPki, tmp_path: Path) -> None:
    """With half of the work directory announced in slow uploads, it gets no more, and those of another are signed."""
    daemon = started(start, tmp_path, DAEMON_PREFIX=SMALL.replace("8m", "64m"))
    with slow_uploads(daemon, OTHER, 12, 4_000_000):
        daemon.wait_for_log("answered 503", 4)
        assert "uploads of caller 'greedy' would have 36000000 bytes, more than their share" in daemon.log()
        image = TrialImage.of_size(4 << 20)
        assert daemon.post(pki, image, headers=bearer(TOKEN)).status_code == 200
        refused = daemon.post(pki, image, headers=bearer(OTHER))
        assert refused.status_code == 503
        assert "no disk space left" in refused.text
    daemon.wait_for(lambda: daemon.post(pki, image, headers=bearer(OTHER)).status_code == 200)


def test_a_rate_is_told_with_the_time_to_wait(start: Start, pki: TrialPki, tmp_path: Path) -> None:
    """429 with Retry-After for the caller that has it, and for nobody else."""
    daemon = started(start, tmp_path, "rate = 2\n")
    told = [daemon.post(pki, headers=bearer(OTHER)) for _ in range(3)]
    assert [answer.status_code for answer in told] == [200, 200, 429]
    assert 0 < int(told[2].headers["Retry-After"]) <= 30
    assert "caller 'greedy' may send 2 requests per minute" in told[2].text
    assert daemon.post(pki, headers=bearer(TOKEN)).status_code == 200
