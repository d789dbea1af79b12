"""The endpoint below a path of somebody's site. What is mounted once serves however often the service starts."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from twisted.web.iweb import INonQueuedRequestFactory
from twisted.web.resource import IResource, Resource
from twisted.web.server import Request
from zope.interface import implementer

from digsigd.web.request import RequestFactory
from digsigd.web.upload import Uploads

# RFC 3986, 2.3: what has one form only. Of other characters a path may have several.
_SEGMENT = re.compile(r"[A-Za-z0-9._~-]+")


class CurrentResource(Resource):
    """Renders each request by the resource that is the current one then."""

    isLeaf = True

    def __init__(self, current: Callable[[], IResource]) -> None:
        super().__init__()
        self._current = current

    def render(self, request: Any) -> Any:
        """Render the request."""
        return self._current().render(request)


@implementer(INonQueuedRequestFactory)
class CurrentRequests:
    """Makes each request for the uploads that are the current ones then; `mount` is the path of the resource."""

    def __init__(self, current: Callable[[], Uploads], mount: str) -> None:
        self._current = current
        self._mount = mount

    def __call__(self, channel: Any, queued: bool = False) -> Request:
        """Make the request of a channel."""
        return RequestFactory(self._current(), mount=self._mount, keep_others=True)(channel, queued)


def put(root: Resource, path: str, resource: IResource) -> None:
    """Put `resource` at `path` below `root`, and plain resources between the two where there are none.

    Raises `ValueError` if the path is empty, taken, below a leaf, or has characters that URLs would escape.
    """
    *folders, last = path.removeprefix("/").removesuffix("/").split("/")
    for name in (*folders, last):
        if not _SEGMENT.fullmatch(name) or name in {".", ".."}:
            raise ValueError(f"cannot mount at {path!r}: expected /name or /name/name of A-Z a-z 0-9 . _ ~ -")
    folder = root
    for name in folders:
        inner = folder.getStaticEntity(name.encode())
        if inner is None:
            inner = Resource()
            folder.putChild(name.encode(), inner)
        if not isinstance(inner, Resource) or inner.isLeaf:
            raise ValueError(f"cannot mount at {path!r}: nothing can be put below {name!r}")
        folder = inner
    if folder.getStaticEntity(last.encode()) is not None:
        raise ValueError(f"cannot mount at {path!r}: another resource is there")
    folder.putChild(last.encode(), resource)
