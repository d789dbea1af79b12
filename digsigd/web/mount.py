"""Mount the endpoint at a path of another site. It stays valid when the service stops and starts again."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from twisted.web.iweb import INonQueuedRequestFactory
from twisted.web.resource import IResource, Resource
from twisted.web.server import Request
from zope.interface import implementer

from digsigd.web.request import RequestFactory
from digsigd.web.uploads import Uploads

# RFC 3986, 2.3: unreserved characters. A URL can write other characters in several ways.
_SEGMENT = re.compile(r"[A-Za-z0-9._~-]+")


class CurrentResource(Resource):
    """A resource that passes each request to the resource that `current` returns at that time."""

    isLeaf = True

    def __init__(self, current: Callable[[], IResource]) -> None:
        super().__init__()
        self._current = current

    def render(self, request: Any) -> Any:
        """Implement `IResource.render`."""
        return self._current().render(request)


@implementer(INonQueuedRequestFactory)
class CurrentRequests:
    """A request factory that makes each request for the `Uploads` that `current` returns at that time.

    `mount` is the path of the resource on the site.
    """

    def __init__(self, current: Callable[[], Uploads], mount: str) -> None:
        self._current = current
        self._mount = mount

    def __call__(self, channel: Any, queued: bool = False) -> Request:
        """Return a new request for a channel."""
        return RequestFactory(self._current(), mount=self._mount, keep_others=True)(channel, queued)


def put(root: Resource, path: str, resource: IResource) -> None:
    """Put `resource` at `path` below `root`. Folders that are missing on the way are added as plain resources.

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
            raise ValueError(f"cannot mount at {path!r}: the resource at {name!r} cannot have child resources")
        folder = inner
    if folder.getStaticEntity(last.encode()) is not None:
        raise ValueError(f"cannot mount at {path!r}: the path already has a resource")
    folder.putChild(last.encode(), resource)
