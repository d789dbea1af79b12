"""An upload: checked, read into a private work directory, signed and removed."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from twisted.internet.defer import CancelledError, Deferred, DeferredLock
from twisted.logger import Logger
from twisted.web.http_headers import Headers

from digsigd.callers.access import Asking
from digsigd.callers.model import ANONYMOUS, Caller
from digsigd.errors import DigsigError, NotAllowed, TooLarge
from digsigd.signing.ahab_sums import expected
from digsigd.signing.evidence import Evidence
from digsigd.signing.request import Signed, SigningRequest
from digsigd.signing.signed_file import SignedFile
from digsigd.signing.sums import StreamSum
from digsigd.signing.workdir import Workdir
from digsigd.web.answers import text_of
from digsigd.web.form import BESIDES, Form, check_body
from digsigd.web.outcomes import GONE, SIGNED
from digsigd.web.room import Reservation
from digsigd.web.sending import Sending
from digsigd.web.storing import stored
from digsigd.web.upload_state import Action, Event

if TYPE_CHECKING:
    from digsigd.web.uploads import Uploads

# The most characters of a traceparent that are recorded: W3C's Trace Context has 55.
_TRACEPARENT = 128
T = TypeVar("T")

Sign: TypeAlias = Callable[[SigningRequest, Workdir], Coroutine[Any, Any, Signed]]
# Passes an event to the state machine, carries out its actions, and returns them.
Happened: TypeAlias = Callable[[Event, DigsigError | None], tuple[Action, ...]]


class Upload:
    """One request to sign: its form, its work directory, and the signing.

    Its state is in `upload_state.py`; `happened` passes an event there. `request` is None until the form is complete.
    """

    log = Logger()
    # Whether it is sent from the page for people.
    is_of_page = False

    def __init__(self, uploads: Uploads, headers: Headers, name: str, happened: Happened, who: dict[str, str]) -> None:
        self.request_id = who["request_id"]
        self.who = who
        self.since = uploads.clock.seconds()
        self.accept = text_of(headers, b"accept")
        self.caller: Caller = ANONYMOUS
        self.request: SigningRequest | None = None
        self.evidence = Evidence(
            server_id=who["own_id"],
            traceparent=text_of(headers, b"traceparent")[:_TRACEPARENT],
        )
        self.happened = happened
        self._uploads = uploads
        self._rules = uploads.rules.value
        self._name = name
        self._form: Form | None = None
        self._received = 0
        # When it was signed, and how long the answer is.
        self._signed_at, self._answer_size = 0.0, 0
        # Whether a file is kept for the answer: what the upload has taken of the host is given back after that.
        self._keeps_file = False
        # The answer on its way, if it is a file.
        self._sending: Sending | None = None
        self._is_removed = False
        self._room: Reservation | None = None
        # Who it counts for; None until it is counted.
        self._party: str | None = None
        self._workdir: Workdir | None = None
        self._signing: Deferred[Any] | None = None
        # Held while something works in the directory, and by its removal in the end.
        self._working = DeferredLock()
        self._removal: Deferred[None] | None = None

    @property
    def stage(self) -> str:
        """What is done for it, in words."""
        if self._signing is None:
            return "receiving"
        return "signing" if "keys" in self.evidence.milliseconds else "fetching keys"

    def workdir(self) -> Workdir:
        """Return the work directory of this request, made at the first call. Raises `DigsigError` if it cannot be."""
        if self._workdir is None:
            self._workdir = self._uploads.root.new(self._name)
        return self._workdir

    def begin(self, headers: Headers, length: int | None, asking: Asking) -> None:
        """Check what is known from the headers, and reserve room. `length` is the body's, in bytes.

        Raises `Busy`, `RateLimited`, `NoSpace`, `NotAuthenticated`, `NotAllowed`, `TooLarge`, `BadRequest` or
        `UnsupportedCoding`.
        """
        self._uploads.check_room()
        self.caller = self._uploads.access.identify(asking)
        self.evidence.proof = self.caller.proof
        self.who["caller"] = self.caller.name
        if self._uploads.shares is not None:
            party = self._uploads.shares.party(self.caller.name, self.who["address"])
            self._uploads.shares.enter(party)
            self._party = party
        largest = self._uploads.bounds.max_artifact
        check_body(text_of(headers, b"content-encoding"), length, largest)
        self._form = self._new_form(text_of(headers, b"content-type"), largest)
        if self._uploads.room is not None:
            self._room = self._uploads.room.reserve(self._party or "", length)

    def _new_form(self, content_type: str, largest: int) -> Form:
        return Form(
            content_type,
            max_artifact=largest,
            workdir=self.workdir,
            checks={
                "machine": self._check_machine,
                "backend": self.caller.check_backend,
                "cstversion": self.caller.check_cst_version,
            },
            new_sum=self._new_sum,
        )

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes of the body.

        Raises `BadRequest`, `TooLarge`, `NotAllowed`, `NoSpace`, and `DigsigError` if they cannot be stored.
        """
        self._received += len(chunk)
        if self._received > self._uploads.bounds.max_artifact + BESIDES:
            raise TooLarge(
                f"the body is too large; artifacts may have at most {self._uploads.bounds.max_artifact} bytes"
            )
        if self._room is not None:
            self._room.store(len(chunk))
        if self._form is not None:
            stored(self.who, self._form.feed, chunk)

    @property
    def is_behind(self) -> bool:
        """Whether bytes that have arrived wait for their digest."""
        return self._form is not None and self._form.is_behind

    def finish(self) -> None:
        """Take the end of the body, and set `request`.

        Raises `BadRequest`, `NotAllowed`, and `DigsigError` if the upload cannot be stored.
        """
        if self._form is None:
            return
        if self._room is not None:
            self._room.settle()
        self._take(self._form)
        self._form = None

    def _take(self, form: Form) -> None:
        """Take what the complete form has."""
        request = stored(
            self.who,
            form.finish,
            request_id=self.request_id,
            caller=self.caller.name,
            csf_allow=self.caller.csf_allow,
        )
        # A missing `backend` means ssl, for which the caller needs permission, too.
        self.caller.check_backend(request.backend)
        self.request = replace(
            request,
            rules=self._rules.of(request.machine),
            evidence=self.evidence,
            own_id=self.who["own_id"],
            party=self._party or "",
        )

    async def sign(self, sign: Sign) -> Signed:
        """Sign the request, remove its directory, and return the result. A file of it has to be sent by `send`.

        Raises what `sign` raises, `DigsigError` if the upload was removed before, and `CancelledError` if the client
        has gone away.
        """
        if self.request is None:
            raise _gone()
        try:
            signed = await self.worked_on(partial(self._signed, sign, self.request))
        except BaseException:
            self._let_go_of_file()
            raise
        self._signed_at, self._answer_size = self._uploads.clock.seconds(), signed.size
        return signed

    async def _signed(self, sign: Sign, request: SigningRequest, workdir: Workdir) -> Signed:
        signed = await sign(request, workdir)
        self._keeps_file = signed.file is not None
        return signed

    async def send(self, request: Any, file: SignedFile) -> None:
        """Write a file as the body of the answer to `request`, and close it. Cancelled if the connection is lost."""
        bounds = self._uploads.bounds
        self._sending = Sending(
            request, file, in_thread=self._uploads.in_thread, clock=self._uploads.clock,
            idle=bounds.idle_timeout, longest=bounds.timeout, who=self.who,
        )  # fmt: skip
        try:
            await self._sending.send()
        finally:
            self._sending = None
            file.close()
            self._let_go_of_file()

    def stop_sending(self) -> None:
        """Abort the answer, if it is a file that is being sent."""
        if self._sending is not None:
            self._sending.abort("this signing host is shutting down")

    def _let_go_of_file(self) -> None:
        self._keeps_file = False
        self._give_back()

    async def worked_on(self, work: Callable[[Workdir], Coroutine[Any, Any, T]]) -> T:
        """Do what the upload is for in its directory, remove that, and return the result. Raises as `sign` does."""
        if self._removal is not None:
            raise _gone()
        event = Event.FAILED
        try:
            async with self._working:
                working = Deferred.fromCoroutine(work(self.workdir()))
                self._signing = working
                result = await working
            event = Event.SIGNED
        finally:
            actions = self.happened(event, None)
            await self.remove()
        if Action.ANSWER not in actions:
            raise CancelledError
        return result

    async def decided(self, error: DigsigError) -> DigsigError:
        """Record a refusal that was decided before signing began, and return the error to answer with.

        What is not a decision of this host, such as a body that is too large, and what is recorded already is returned
        as it is.
        """
        if error.record or not isinstance(error, NotAllowed):
            return error
        return await self._uploads.decisions.refused(
            self.evidence, self.request, error, request_id=self.request_id, caller=self.caller.name
        )

    def count(self, outcome: str, seconds: float) -> None:
        """Count it, at its end `seconds` after its begin. `outcome` is empty if nothing was answered."""
        if outcome == SIGNED:
            self.evidence.took("answer", self._uploads.clock.seconds() - self._signed_at)
        if (outcomes := self._uploads.outcomes) is not None:
            sizes = {"received": self._received, "sent": self._answer_size}
            outcomes.over(outcome or GONE, self.evidence, self.who, seconds=seconds, **sizes)

    def _check_machine(self, machine: str) -> None:
        self.evidence.machine = machine
        self.caller.check_machine(machine)

    def _new_sum(self, description: bytes | None, name: str) -> StreamSum:
        if self._uploads.hashing is None:
            return StreamSum()
        return self._uploads.hashing.stream(None if description is None else partial(expected, description, name))

    def cancel(self) -> None:
        """Cancel signing, if it has begun. `sign` ends when nothing works in the directory any more."""
        if self._signing is not None:
            self._signing.cancel()

    def remove(self) -> Deferred[None]:
        """Close and remove everything of the upload, and fire when that is done. It may be called again."""
        if self._removal is None:
            self._removal = Deferred.fromCoroutine(self._remove())
        waiting: Deferred[None] = Deferred()

        def pass_on(result: Any) -> Any:
            waiting.callback(None)
            return result

        self._removal.addBoth(pass_on)
        return waiting

    async def _remove(self) -> None:
        await self._working.acquire()
        try:
            if self._form is not None:
                form, self._form = self._form, None
                form.close()
        except OSError:
            pass  # the file is removed below
        try:
            if self._uploads.left:
                await self._uploads.in_thread(self._uploads.remove_left)
            if self._workdir is not None and not self._workdir.removed:
                await self._uploads.in_thread(self._workdir.remove)
        except DigsigError as error:
            self.log.error("{error}", error=str(error), **self.who, event="left-behind")
            if self._workdir is not None:
                self._uploads.left.append(self._workdir)
        finally:
            self._is_removed = True
            self._give_back()

    def _give_back(self) -> None:
        """Give back what the upload has taken of the host, once it is removed and its answer needs no file."""
        if not self._is_removed or self._keeps_file:
            return
        if self._room is not None:
            self._room.release()
        if self._uploads.shares is not None and self._party is not None:
            self._uploads.shares.leave(self._party)
            self._party = None
        self._uploads.removed(self)


def _gone() -> DigsigError:
    return DigsigError("internal error on the signing host: the upload is gone")
