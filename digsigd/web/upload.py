"""One upload from its headers to its whole form, on the way into a directory of its own."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, BinaryIO, TypeVar

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http_headers import Headers

from digsigd.errors import BadRequest, Busy, DigsigError, TooLarge, shutting_down
from digsigd.settings import UploadSettings as Bounds
from digsigd.signing.request import Artifact, SigningRequest, artifact_file
from digsigd.signing.threads import InThread
from digsigd.signing.workdir import Workdir, WorkRoot
from digsigd.web.answers import new_request_id, text_of
from digsigd.web.callers import ANONYMOUS, Caller, Callers
from digsigd.web.form import MAX_CSF, MAX_FIELD, MAX_PARTS, OVERHEAD, Fields, Form

T = TypeVar("T")


class Uploads:
    """All uploads of a daemon: what they share, and how many there are.

    An upload counts from its headers until its directory is gone.
    """

    log = Logger()

    def __init__(
        self, *, bounds: Bounds, callers: Callers, root: WorkRoot, clock: IReactorTime, in_thread: InThread
    ) -> None:
        self.bounds = bounds
        self.callers = callers
        self.root = root
        self.clock = clock
        self.in_thread = in_thread
        self._active: set[Upload] = set()
        self._stopped = False
        self._made = 0
        self._when_drained: list[Deferred[None]] = []
        # Directories that could not be removed: for want of a file descriptor, say.
        self.left: list[Workdir] = []

    @property
    def active(self) -> int:
        """How many there are."""
        return len(self._active)

    @property
    def stopped(self) -> bool:
        """Whether new ones are sent away."""
        return self._stopped

    def begin(self, headers: Headers) -> Upload:
        """A new upload, before anything of it is checked."""
        self._made += 1
        upload = Upload(self, headers, f"r{self._made}")
        self._active.add(upload)
        return upload

    def check_room(self) -> None:
        """Raise `Busy` if there are too many, or the daemon is stopping."""
        if self._stopped:
            raise shutting_down()
        if len(self._active) > self.bounds.max_at_once:
            raise Busy("this signing host has as many requests as it can take")

    def start(self) -> None:
        """Take new ones, as from the beginning on."""
        self._stopped = False

    def stop(self) -> None:
        """Send new ones away; those that are there go on."""
        self._stopped = True

    def end(self) -> None:
        """Refuse those that are still there."""
        for upload in list(self._active):
            if upload.refuse is not None:
                upload.refuse(shutting_down())

    def drained(self) -> Deferred[None]:
        """Fires when there are none."""
        if not self._active:
            return succeed(None)
        drained: Deferred[None] = Deferred(self._when_drained.remove)
        self._when_drained.append(drained)
        return drained

    def remove_left(self) -> None:
        """Try again what could not be removed. It blocks, where there is any."""
        again, self.left = self.left, []
        for workdir in again:
            try:
                workdir.remove()
            except DigsigError:
                self.left.append(workdir)

    def gone(self, upload: Upload) -> None:
        """One less."""
        self._active.discard(upload)
        if not self._active:
            drained, self._when_drained = self._when_drained, []
            for deferred in drained:
                deferred.callback(None)


class Upload:
    """One request to sign while it arrives and is signed.

    `error` is why it will not be signed, once that is known; `request` is the whole request, once it is there.
    `refuse` ends it while it arrives or is signed. Whoever sets `taken` disposes of it; `gone` says that nobody waits
    for the answer.
    """

    log = Logger()

    def __init__(self, uploads: Uploads, headers: Headers, name: str) -> None:
        self.request_id = new_request_id(headers)
        self.accept = text_of(headers, b"accept")
        self.caller: Caller = ANONYMOUS
        self.error: DigsigError | None = None
        self.request: SigningRequest | None = None
        self.refuse: Callable[[DigsigError], None] | None = None
        self.taken = False
        self.gone = False
        self._uploads = uploads
        self._name = name
        self._form: Form | None = None
        self._workdir: Workdir | None = None
        self._disposed: Deferred[None] | None = None

    @property
    def workdir(self) -> Workdir:
        """The directory of this request, made when it is first asked for."""
        if self._workdir is None:
            self._workdir = self._uploads.root.new(self._name)
        return self._workdir

    def begin(self, headers: Headers, length: int | None) -> None:
        """Check what the headers tell: room, caller, size and type. Raises the errors of `digsigd.errors`."""
        self._uploads.check_room()
        self.caller = self._uploads.callers.identify(text_of(headers, b"authorization"))
        largest = self._uploads.bounds.max_artifact
        if length is not None and length > largest + MAX_CSF + MAX_PARTS * MAX_FIELD + OVERHEAD:
            raise TooLarge(f"the body has {length} bytes; artifacts may have {largest}")
        if length == 0:
            raise BadRequest("the request has no body", hint="send a multipart/form-data form")
        self._form = Form(
            text_of(headers, b"content-type"),
            max_artifact=largest,
            open_artifact=self._open_artifact,
            checks={"machine": self.caller.check_machine, "backend": self.caller.check_backend},
        )

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes of the body. Raises the errors of `digsigd.errors`."""
        if self._form is not None:
            self._stored(self._form.feed, chunk)

    def finish(self) -> None:
        """Take the end of the body: `request` is there afterwards. Raises the errors of `digsigd.errors`."""
        if self._form is None:
            return
        fields: Fields = self._stored(self._form.finish)
        # Whoever leaves `backend` out means ssl, and needs to be allowed to.
        self.caller.check_backend(fields.backend)
        self.request = SigningRequest(
            request_id=self.request_id,
            machine=fields.machine,
            cst_version=fields.cst_version,
            csf=fields.csf,
            artifacts=tuple(
                Artifact(self.workdir.path / artifact_file(number), one.name, one.size, repeated=one.repeated)
                for number, one in enumerate(fields.artifacts)
            ),
            backend=fields.backend,
            soctype=fields.soctype,
            caller=self.caller.name,
        )
        self._form = None

    def dispose(self) -> Deferred[None]:
        """Close and remove all there is of it; fires when that is done. A second time waits for the first."""
        if self._disposed is not None:
            waiting: Deferred[None] = Deferred()

            def pass_on(result: Any) -> Any:
                waiting.callback(None)
                return result

            self._disposed.addBoth(pass_on)
            return waiting
        self._disposed = Deferred.fromCoroutine(self._dispose())
        return self.dispose()

    async def _dispose(self) -> None:
        try:
            if self._form is not None:
                form, self._form = self._form, None
                form.close()
        except OSError:
            pass  # what could not be written is removed now
        try:
            if self._uploads.left:
                await self._uploads.in_thread(self._uploads.remove_left)
            if self._workdir is not None and not self._workdir.removed:
                await self._uploads.in_thread(self._workdir.remove)
        except DigsigError as error:
            self.log.error("{error}", error=str(error), request_id=self.request_id, event="left-behind")
            if self._workdir is not None:
                self._uploads.left.append(self._workdir)
        finally:
            self._uploads.gone(self)

    def _open_artifact(self, number: int) -> BinaryIO:
        path = self.workdir.path / artifact_file(number)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        return os.fdopen(descriptor, "wb")

    def _stored(self, step: Callable[..., T], *arguments: bytes) -> T:
        """Call a step of the form; what goes wrong there but the client's own mistakes is this host's fault."""
        try:
            return step(*arguments)
        except DigsigError:
            raise
        except OSError as error:
            raise DigsigError("this signing host cannot store the upload", detail=str(error)) from error
        except Exception:  # noqa: BLE001 - whatever it is, it ends this request alone
            self.log.failure("an upload could not be read", Failure(), request_id=self.request_id, event="unexpected")
            raise DigsigError("this signing host failed to read the upload") from None
