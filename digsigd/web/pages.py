"""The page for people: who may see what of it, and how much is done at a time. `digsigd.page` makes the HTML."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from digsigd.callers.access import Asking, CurrentAccess
from digsigd.callers.model import ANONYMOUS, Caller, pattern_for
from digsigd.errors import DigsigError, NotAllowed, shutting_down
from digsigd.image.ahab_report import AhabReport
from digsigd.image.errors import ImageError
from digsigd.page import machines as machine_pages
from digsigd.page import overview, report, signatures
from digsigd.page.ahab_report import ahab_report_page
from digsigd.page.frame import Frame, html
from digsigd.page.values import Cst, Host, Machines, Work
from digsigd.record import lookup
from digsigd.signing.host import Turns
from digsigd.signing.machine_list import MachineList
from digsigd.signing.queue import Queue
from digsigd.signing.self_tests import SelfTests
from digsigd.signing.threads import InThread
from digsigd.signing.workdir import Workdir
from digsigd.web.answers import HttpError
from digsigd.web.page_queries import RecordView, known_of, selected, soonest, with_fuse_value
from digsigd.web.shares import Shares
from digsigd.web.uploads import Uploads
from digsigd.web.verify_upload import Question, Verified, VerifyUpload, answer

T = TypeVar("T")
# How many views are made at a time, and how many wait; the part that one caller may have of those.
_AT_ONCE, _WAITING, _SHARE = 4, 64, 0.5
# How many images are verified at a time, and how many wait: signing comes first.
_VERIFIED_AT_ONCE, _VERIFICATIONS_WAITING = 1, 8
# How many rows the first page has.
_EXPIRING, _LATEST = 5, 10
# How long a name of a machine that is looked for may be, and a SHA-256 with spaces and a prefix.
_LONGEST_NAME, _LONGEST_SUM = 64, 80
# What a hint of `digsign` calls the fields of the form.
_OPTIONS = {
    "--soc": "“Chip”",
    "--load-address": "“Load address”",
    "--sdp": "“DCD address of a serial download”",
    "--configuration": "“Configuration of the FIT”",
    "--fuses": "“SRK fuse value of the boards”",
}


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who looks at a page, and where: `base` is the path of the host's root, `who` are the log fields."""

    asking: Asking
    who: dict[str, str]
    base: str


@dataclass(frozen=True, slots=True)
class HostFacts:
    """What does not change while the host runs."""

    name: str
    version: str
    workers: int


class Pages:
    """The pages. `callers` are patterns of the callers who may see them; each sees the machines that it may sign for.

    `missing` returns what is missing before requests can be signed.
    """

    log = Logger()

    def __init__(
        self,
        *,
        host: HostFacts,
        callers: tuple[str, ...],
        access: CurrentAccess,
        shares: Shares,
        clock: IReactorTime,
        machines: MachineList,
        self_tests: SelfTests,
        missing: Callable[[], Awaitable[list[str]]],
        cst_queue: Turns,
        uploads: Uploads,
        record: RecordView,
        in_thread: InThread,
    ) -> None:
        self._host = host
        self._callers = callers
        self._access = access
        self._shares = shares
        self._clock = clock
        self._machines = machines
        self._self_tests = self_tests
        self._missing = missing
        self._cst_queue = cst_queue
        self._uploads = uploads
        self._record = record
        self._in_thread = in_thread
        self._queue = Queue(_AT_ONCE, _WAITING, clock=clock, share=_SHARE, limited=shares.is_limited)
        self._verifying = Queue(
            _VERIFIED_AT_ONCE, _VERIFICATIONS_WAITING, clock=clock, share=_SHARE, limited=shares.is_limited
        )
        self._making: set[Deferred[Any]] = set()
        self._stopped = False

    async def overview(self, viewer: Viewer) -> bytes:
        """Return the first page. Raises `Busy`, `NotAuthenticated`, `RateLimited`, `NotAllowed`, as all pages do."""

        async def made(caller: Caller) -> bytes:
            names, _ = await self._names(caller)
            self._machines.walk()
            running, waiting = self._cst_queue.on_host
            host = Host(
                version=self._host.version,
                missing=await self._missing(),
                workers=self._host.workers,
                running=running,
                slots=self._cst_queue.slots,
                waiting=waiting,
                cst=await self._tested(),
                work=self._work(caller),
                machines=len(names) if self._machines.is_complete else None,
                recorded=self._record.url is not None,
                expiring=await self._in_thread(soonest, self._machines, names, _EXPIRING),
            )
            latest = await self._record.newest(may_see(caller), _LATEST)
            return await self._html(overview.overview_page, self._frame(viewer, caller), host, latest)

        return await self._viewed(viewer, made)

    async def machines(self, viewer: Viewer, query: Mapping[str, str]) -> bytes:
        """Return a page of machines: those whose names contain the field `machine`, by `order`, part `page`."""
        text = query.get("machine", "").strip()[:_LONGEST_NAME]
        order = "expiry" if query.get("order") == "expiry" else "name"
        number = query.get("page", "")
        page = int(number) if number.isdecimal() and len(number) < 6 else 1

        async def made(caller: Caller) -> bytes:
            names, trouble = await self._names(caller)
            self._machines.walk()
            found = await self._in_thread(selected, self._machines, names, text, order, page)
            await self._machines.read([one.name for one in found.rows])
            found = known_of(found, self._machines) if not trouble else Machines((), trouble=trouble)
            return await self._html(machine_pages.machines_page, self._frame(viewer, caller), found)

        return await self._viewed(viewer, made)

    async def signatures(self, viewer: Viewer, query: Mapping[str, str]) -> tuple[int, bytes]:
        """Return a status and the latest decisions, or those about the file whose SHA-256 is the field `sha256`."""
        given = query.get("sha256", "").strip()[:_LONGEST_SUM]
        sha256 = given.removeprefix("sha256:").lower()

        async def made(caller: Caller) -> tuple[int, bytes]:
            frame, wrong = self._frame(viewer, caller), ""
            if sha256 and not lookup.SHA256.fullmatch(sha256):
                wrong = "This is not a SHA-256: expected 64 hexadecimal digits, as sha256sum prints them."
                page = await self._html(signatures.signatures_page, frame, self._record.nothing, given, wrong)
                return 400, page
            if sha256:
                found = await self._record.about([sha256], may_see(caller))
            else:
                found = await self._record.newest(may_see(caller))
            return 200, await self._html(signatures.signatures_page, frame, found, sha256)

        return await self._viewed(viewer, made)

    async def entry(self, viewer: Viewer, record: str) -> bytes:
        """Return the page of an entry. Raises `HttpError` (404) if there is none that the caller may see."""

        async def made(caller: Caller) -> bytes:
            entry = await self._record.entry(record[:_LONGEST_SUM], may_see(caller))
            if entry is None:
                raise HttpError(404, "the record has no such entry about machines that you may sign for")
            return await self._html(signatures.entry_page, self._frame(viewer, caller), entry)

        return await self._viewed(viewer, made)

    async def form(self, viewer: Viewer) -> bytes:
        """Return the form for an image to verify."""

        async def made(caller: Caller) -> bytes:
            return await self._html(report.verify_page, self._frame(viewer, caller))

        return await self._viewed(viewer, made)

    async def verify(self, upload: VerifyUpload, base: str) -> tuple[int, bytes]:
        """Return a status and the report on the image of an upload, which is removed then.

        Raises what `Upload.sign` raises.
        """
        question = upload.question
        if question is None or self._stopped:
            raise shutting_down()
        self.log.info(
            "verifying {size} bytes {name!r} for {caller} at {address}",
            event="verify", size=question.image.size, name=question.image.name, **upload.who,
        )  # fmt: skip
        return await upload.worked_on(partial(self._reported, question, upload, base))

    def check_may_open(self, caller: Caller) -> None:
        """Raise `NotAllowed` unless a caller may see the pages."""
        if pattern_for(caller.name, self._callers) is None:
            raise NotAllowed(
                f"caller {caller.name!r} may not open this page",
                hint="ask the operator of the signing host to allow it",
            )

    def start(self) -> None:
        """Accept new requests. A new object accepts them already."""
        self._stopped = False

    def stop(self) -> None:
        """Refuse new requests with `Busy`. Requests under way continue."""
        self._stopped = True

    def end(self) -> None:
        """Cancel the requests under way, and what is read and tested in the background."""
        self._queue.stop()
        self._verifying.stop()
        self._machines.stop()
        self._self_tests.stop()
        for making in list(self._making):
            making.cancel()

    @property
    def active(self) -> int:
        """The number of views that are being made or wait."""
        return self._queue.running + self._queue.waiting

    def drained(self) -> Deferred[None]:
        """Return a Deferred that fires when nothing is under way that uses the work directory, or answers a view."""
        return self._queue.drained().addCallback(lambda _: self._self_tests.drained())

    async def _viewed(self, viewer: Viewer, made: Callable[[Caller], Coroutine[Any, Any, T]]) -> T:
        """Check who asks, and how many do, and make a page."""
        if self._stopped:
            raise shutting_down()
        caller = self._access.identify(viewer.asking)
        viewer.who["caller"] = caller.name
        party = self._shares.party(caller.name, viewer.who["address"])
        self._queue.check_room(party)
        self._shares.ask(party)
        self.check_may_open(caller)
        check_fetch(viewer.asking)
        async with self._queue.slot(party):
            making = Deferred.fromCoroutine(made(caller))
            self._making.add(making)
            try:
                return await making
            finally:
                self._making.discard(making)

    def _frame(self, viewer: Viewer, caller: Caller) -> Frame:
        return self._frame_at(viewer.base, caller)

    def _frame_at(self, base: str, caller: Caller) -> Frame:
        return Frame(base, "" if caller.name == ANONYMOUS.name else caller.name, self._host.name)

    async def _html(self, page: Callable[..., Any], *values: Any) -> bytes:
        """Make a page in a thread: templates take milliseconds."""
        made: bytes = await self._in_thread(lambda: html(page(*values)))
        return made

    async def _names(self, caller: Caller) -> tuple[Sequence[str], str]:
        """Return the machines that a caller may see, and why there is no list."""
        try:
            names = await self._machines.names()
        except DigsigError as error:
            return (), error.for_client()
        if caller.rights.machines is None or "*" in caller.rights.machines:
            return names, ""
        allowed = may_see(caller)
        return await self._in_thread(lambda: [name for name in names if allowed(name)]), ""

    async def _tested(self) -> list[Cst]:
        try:
            tests = await self._self_tests.all()
        except DigsigError:
            return []  # what is missing says so
        return [Cst(one.version, one.passed, one.why, one.time) for one in tests]

    def _work(self, caller: Caller) -> list[Work]:
        """Return the requests under way in this process that a caller may see, the oldest first."""
        allowed, now = may_see(caller), self._clock.seconds()
        found = [
            one for one in self._uploads.under_way() if allowed(one.evidence.machine) or one.caller.name == caller.name
        ]
        found.sort(key=lambda one: one.since)
        return [
            Work(one.request_id, one.stage, one.evidence.machine, one.caller.name, now - one.since)
            for one in found[:_LATEST]
        ]

    async def _reported(self, question: Question, upload: VerifyUpload, base: str, _: Workdir) -> tuple[int, bytes]:
        caller, frame = upload.caller, self._frame_at(base, upload.caller)
        party = self._shares.party(caller.name, upload.who["address"])
        try:
            async with self._verifying.slot(party):
                found: Verified = await self._in_thread(answer, question)
        except ImageError as error:
            hint = error.hint
            for option, words in _OPTIONS.items():
                hint = hint.replace(option, words)
            return 422, await self._html(report.verify_page, frame, error.what, hint, upload.given)
        signed_by = await self._record.about(found.sums, may_see(caller))
        machines: list[str] = []
        if found.fuse_values:
            names, _trouble = await self._names(caller)
            machines = await self._in_thread(with_fuse_value, self._machines, names, found.fuse_values)
        make = ahab_report_page if isinstance(found.report, AhabReport) else report.report_page
        return 200, await self._html(
            make, frame, question.image.name, found.sums[-1], found.report, signed_by, machines
        )


def may_see(caller: Caller) -> Callable[[str], bool]:
    """Return the function that says whether a caller may see a machine, and what was decided about it."""
    patterns = caller.rights.machines
    return lambda machine: patterns is None or pattern_for(machine, patterns) is not None


def check_fetch(asking: Asking) -> None:
    """Raise `NotAllowed` for what another site's page loads, such as a picture; a link to a page may be followed."""
    site, mode = ("".join(asking.header(name)) for name in ("Sec-Fetch-Site", "Sec-Fetch-Mode"))
    if site in {"cross-site", "same-site"} and mode != "navigate":
        raise NotAllowed("pages of other sites may only link to this one", hint="open it in a window of its own")
