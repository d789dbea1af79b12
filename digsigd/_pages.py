"""The page for people, made from the parts of the service."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Iterable
from functools import partial

from twisted.internet.interfaces import IReactorTime

import digsigd
from digsigd._pools import Pools
from digsigd.callers.access import CurrentAccess
from digsigd.keys import KeySource
from digsigd.keys.file import FileSource
from digsigd.record.recorder import DatabaseRecorder, Recorder
from digsigd.settings import Settings
from digsigd.signing.host import Turns
from digsigd.signing.machine_list import MachineList
from digsigd.signing.rules import MachineRules
from digsigd.signing.self_tests import SelfTests
from digsigd.web.page_queries import RecordView
from digsigd.web.pages import HostFacts, Pages
from digsigd.web.shares import Shares
from digsigd.web.uploads import Uploads
from digsigd.web.verify_upload import PATH, VerifyUpload


def pages_of(
    settings: Settings,
    *,
    source: KeySource,
    named: Callable[[], Iterable[str]],
    rules: Callable[[str], MachineRules],
    access: CurrentAccess,
    shares: Shares,
    clock: IReactorTime,
    missing: Callable[[], Awaitable[list[str]]],
    queue: Turns,
    uploads: Uploads,
    recorder: Recorder | None,
    pools: Pools,
    tests: SelfTests,
) -> Pages:
    """Return the page, and let `uploads` accept images that are sent to it. `named` are the machines of the settings.

    `recorder` writes the record of this host; None if there is none.
    """
    machines = MachineList(
        source=source,
        named=named,
        names=source.machines if isinstance(source, FileSource) else None,
        rules=rules,
        max_unpacked=settings.keys.max_unpacked,
        in_thread=pools.in_page_thread,
        clock=clock,
    )
    pages = Pages(
        host=HostFacts(socket.gethostname(), digsigd.__version__, settings.worker_count),
        callers=settings.page.callers,
        access=access,
        shares=shares,
        clock=clock,
        machines=machines,
        self_tests=tests,
        missing=missing,
        cst_queue=queue,
        uploads=uploads,
        record=_record_view(recorder, pools),
        in_thread=pools.in_page_thread,
    )
    uploads.kinds[PATH] = partial(VerifyUpload, may_open=pages.check_may_open)
    return pages


def _record_view(recorder: Recorder | None, pools: Pools) -> RecordView:
    if isinstance(recorder, DatabaseRecorder):
        return RecordView(recorder.url, in_thread=pools.in_record_thread)
    why = "This host keeps no record." if recorder is None else "The record of this host cannot be searched here."
    return RecordView(None, why=why, in_thread=pools.in_record_thread)
