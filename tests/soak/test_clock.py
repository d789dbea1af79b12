"""What follows the time of day when that jumps, and what does not."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import httpx
import pytest

from digsigd.testing import TrialPki
from tests.helpers.daemons import IMAGE, MACHINE, RIGHTS, TOKEN, Daemon
from tests.helpers.proof import proven
from tests.soak.faults import ClockJumps

OTHER = "a-token-that-ends-in-an-hour"
HOUR = 3600
CENTURY = 100 * 365 * 24 * HOUR


class Jumping(ClockJumps):
    """The clock jumps when a test says so; there are callers with a rate, and with a token that ends."""

    def made(self) -> Daemon:
        (self.folder / "token").write_text(TOKEN)
        ends = f"{datetime.now(UTC) + timedelta(hours=1):%Y-%m-%dT%H:%M:%SZ}"
        self.config = (
            f'[callers.slow]\ntoken_file = "token"\nrate = 2\n{RIGHTS}[callers.ends]\n{RIGHTS}'
            f'[[callers.ends.tokens]]\nsha256 = "{sha256(OTHER.encode()).hexdigest()}"\nnot_after = {ends}\n'
        )
        daemon = super().made()
        daemon.form = "json"
        return daemon

    def post(self, token: str = OTHER) -> httpx.Response:
        return self.daemon.post(self.pki, headers={"Authorization": f"Bearer {token}"})


@pytest.fixture
def jumping(tmp_path: Path, cst_base: Path, pki: TrialPki, other_pki: TrialPki) -> Iterator[Jumping]:
    one = Jumping(tmp_path, cst_base, pki, other_pki)
    one.daemon.put_keys(MACHINE, pki.tarball())
    one.daemon.start()
    yield one
    one.daemon.stop()


@pytest.mark.parametrize("jump", [10 * HOUR, -10 * HOUR])
def test_no_rate_follows_the_time_of_day(jumping: Jumping, jump: int) -> None:
    """A clock that is set gives a caller no more requests, and makes nobody wait for hours."""
    assert [jumping.post(TOKEN).status_code for _ in range(3)] == [200, 200, 429]
    jumping.set_clock(jump)
    refused = jumping.post(TOKEN)
    assert refused.status_code == 429
    assert 0 < int(refused.headers["Retry-After"]) <= 30


def test_a_token_ends_by_the_time_of_day(jumping: Jumping) -> None:
    """In an hour, by the clock as it is then; set back, it holds again."""
    assert jumping.post().status_code == 200
    jumping.set_clock(2 * HOUR)
    assert jumping.post().status_code == 401
    jumping.set_clock(0)
    assert jumping.post().status_code == 200


def test_certificates_that_have_expired_are_told_to_the_operator(jumping: Jumping, pki: TrialPki) -> None:
    """No boot ROM looks at a clock: the blob is good, and the log says what is over."""
    assert "expired on" not in jumping.daemon.log()
    jumping.set_clock(CENTURY)
    # The token is over as well by then.
    answer = jumping.post(TOKEN)
    assert answer.status_code == 200, answer.text
    proven(pki, IMAGE, answer.content)
    jumping.daemon.wait_for_log("expired on")
