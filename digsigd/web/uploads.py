"""All uploads of a daemon: how many may be active, what they share, and what is made for a POST to a path."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.web.http_headers import Headers

from digsigd.callers.access import CurrentAccess
from digsigd.errors import Busy, DigsigError, shutting_down
from digsigd.settings import UploadSettings as Bounds
from digsigd.signing.decisions import Decisions
from digsigd.signing.hashing import Hashing
from digsigd.signing.rules import CurrentRules
from digsigd.signing.threads import InThread
from digsigd.signing.workdir import Workdir
from digsigd.signing.workroot import WorkRoot
from digsigd.web.outcomes import Outcomes
from digsigd.web.room import Room
from digsigd.web.shares import Shares
from digsigd.web.upload import Happened, Upload
from digsigd.web.upload_state import Event

PATH = b"/sign/imx"


class Uploads:
    """All uploads of a daemon, and what they share.

    An upload is active from its headers until its work directory is removed. `come_again` says after how many seconds
    one that finds no room should be sent again.
    """

    def __init__(
        self,
        *,
        bounds: Bounds,
        access: CurrentAccess,
        rules: CurrentRules,
        root: WorkRoot,
        clock: IReactorTime,
        in_thread: InThread,
        decisions: Decisions,
        shares: Shares | None = None,
        room: Room | None = None,
        hashing: Hashing | None = None,
        come_again: Callable[[], int] = lambda: 5,
        outcomes: Outcomes | None = None,
    ) -> None:
        self.outcomes = outcomes
        self.decisions = decisions
        self._come_again = come_again
        self.bounds = bounds
        self.access = access
        self.rules = rules
        self.shares = shares
        self.room = room
        self.hashing = hashing
        self.root = root
        self.clock = clock
        self.in_thread = in_thread
        # What is made for a POST to each path.
        self.kinds: dict[bytes, Callable[..., Upload]] = {PATH: Upload}
        self._active: set[Upload] = set()
        self._stopped = False
        self._made = 0
        self._when_drained: list[Deferred[None]] = []
        # Directories that could not be removed, because file descriptors ran out for example.
        self.left: list[Workdir] = []

    @property
    def active(self) -> int:
        """The number of active uploads."""
        return len(self._active)

    @property
    def has_pages(self) -> bool:
        """Whether this host has the page for people."""
        return len(self.kinds) > 1

    def under_way(self) -> list[Upload]:
        """Return the active uploads."""
        return list(self._active)

    @property
    def stopped(self) -> bool:
        """Whether new uploads are refused."""
        return self._stopped

    def begin(self, headers: Headers, happened: Happened, who: dict[str, str], path: bytes = PATH) -> Upload:
        """Return a new upload, counted as active. Nothing of it is checked yet.

        `who` are the log fields of the request, to which the upload adds its caller. `path` is one of `kinds`.
        """
        self._made += 1
        upload = self.kinds[path](self, headers, f"r{self._made}", happened, who)
        self._active.add(upload)
        self._on_host()
        return upload

    def check_room(self) -> None:
        """Raise `Busy` if there are too many uploads, or the daemon is stopping."""
        if self._stopped:
            raise shutting_down()
        if self._on_host() > self.bounds.max_at_once:
            raise Busy("too many requests on this signing host", retry_after=self._come_again())

    def start(self) -> None:
        """Accept new uploads. A new object accepts them already."""
        self._stopped = False

    def stop(self) -> None:
        """Refuse new uploads with `Busy`. Active uploads continue."""
        self._stopped = True

    def end(self) -> None:
        """End the active uploads: bodies that still arrive are answered, signing is cancelled, files not sent on."""
        for upload in list(self._active):
            upload.happened(Event.SHUTDOWN, shutting_down())
            upload.stop_sending()

    def drained(self) -> Deferred[None]:
        """Return a Deferred that fires when no upload is active."""
        if not self._active:
            return succeed(None)
        drained: Deferred[None] = Deferred(self._when_drained.remove)
        self._when_drained.append(drained)
        return drained

    def remove_left(self) -> None:
        """Remove the directories that could not be removed before. It blocks."""
        again, self.left = self.left, []
        for workdir in again:
            try:
                workdir.remove()
            except DigsigError:
                self.left.append(workdir)

    def removed(self, upload: Upload) -> None:
        """Stop counting an upload as active: its directory is removed."""
        self._active.discard(upload)
        self._on_host()
        if not self._active:
            drained, self._when_drained = self._when_drained, []
            for deferred in drained:
                deferred.callback(None)

    def _on_host(self) -> int:
        """Return how many uploads are active on this host, after counting those here."""
        return self.shares.active(len(self._active)) if self.shares is not None else len(self._active)
