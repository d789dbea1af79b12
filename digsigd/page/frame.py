"""What all pages have in common: the frame around them, tables, times, hashes. Text of others is escaped here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from urllib.parse import quote

from twisted.python.failure import Failure
from twisted.web.iweb import IRequest
from twisted.web.template import Flattenable, Tag, flattenString, tags

from digsigd.text import one_line

STYLE = (Path(__file__).parent / "style.css").read_bytes()
# The name changes with the content, so that browsers may keep the file for ever.
STYLE_NAME = f"style.{sha256(STYLE).hexdigest()[:16]}.css"
# No script, nothing from elsewhere, in no frame. The icon is an empty data: URL, so that browsers ask for none.
_POLICY = (
    "default-src 'none'; style-src 'self'; img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Type": "text/html; charset=utf-8",
    "Content-Security-Policy": _POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # Not no-referrer: browsers would then send `Origin: null` with this page's own forms.
    "Referrer-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}
STYLE_HEADERS = {
    "Content-Type": "text/css; charset=utf-8",
    "Cache-Control": "public, max-age=31536000, immutable",
    "Cross-Origin-Resource-Policy": "same-origin",
}
# Longer texts of clients and tarballs are cut, in characters.
_LONGEST = 300
_PLACES = (
    ("", "Overview"),
    ("page/machines", "Machines"),
    ("page/signatures", "Signatures"),
    ("page/verify", "Verify"),
)


@dataclass(frozen=True, slots=True)
class Frame:
    """Where a page is and who looks at it: `base` is the path of the host's root, with a slash at its end."""

    base: str
    caller: str = ""
    host: str = ""

    def to(self, place: str, **query: str) -> str:
        """Return the address of a place below the base, with a query of the fields that are not empty."""
        found = "&".join(f"{name}={quote(value, safe='', errors='replace')}" for name, value in query.items() if value)
        return self.base + quote(place, errors="replace") + ("?" + found if found else "")


def cut(text: object, longest: int = _LONGEST) -> str:
    """Return a foreign text as one printable line that is not too long. The template escapes it for HTML."""
    line = one_line(str(text)[: longest + 1])
    return line if len(line) <= longest else line[: longest - 1] + "…"


def document(frame: Frame, title: str, *content: Flattenable, at: str | None = None) -> Tag:
    """Return a whole page. `at` is the place that the navigation marks, None for none of them."""
    places = [
        tags.li(tags.a(name, href=frame.to(place), **({"aria-current": "page"} if place == at else {})))
        for place, name in _PLACES
    ]
    who = tags.p("signed in as ", tags.strong(cut(frame.caller)), class_="who") if frame.caller else ""
    return tags.html(
        tags.head(
            tags.meta(charset="utf-8"),
            tags.title(f"{title} - digsigd{f' on {frame.host}' if frame.host else ''}"),
            tags.meta(name="viewport", content="width=device-width, initial-scale=1"),
            tags.link(rel="stylesheet", href=frame.to(f"page/{STYLE_NAME}")),
            tags.link(rel="icon", href="data:,"),
        ),
        tags.body(
            tags.a("Skip to the content", href="#content", class_="skip"),
            tags.header(
                tags.div(
                    tags.p(tags.span("digsigd", class_="name"), f" {cut(frame.host)}"),
                    tags.nav(tags.ul(places), **{"aria-label": "Pages"}),
                    who,
                )
            ),
            Tag("main")(tags.h1(title), *content, id="content"),
            tags.footer(f"As of {_time_text(datetime.now(UTC))}. Reload for the present state."),
        ),
        lang="en",
    )


def html(page: Tag) -> bytes:
    """Return a page as HTML in UTF-8. It blocks for milliseconds. Raises what the template raises."""
    request: IRequest | None = None
    made: list[bytes] = []
    failed: list[Failure] = []
    # Nothing in it waits, so that this fires at once.
    flattenString(request, page).addCallbacks(made.append, failed.append)
    if failed:
        failed[0].raiseException()
    return b"<!DOCTYPE html>\n" + made[0] + b"\n"


def error_page(frame: Frame, status: str, what: str, hint: str, request_id: str) -> bytes:
    """Return the page of an error, whose texts are for callers."""
    box = tags.div(tags.p(tags.strong(cut(what, 1000))), class_="state is-bad")
    content = box(tags.p(cut(hint, 1000))) if hint else box
    request = tags.p("Request ", tags.code(cut(request_id, 64)), class_="muted")
    return html(document(frame, status, content, request))


def table(name: str, heads: Sequence[str], rows: Sequence[Sequence[Flattenable]], numbers: Sequence[int] = ()) -> Tag:
    """Return a table, called `name` for those who do not see it. The first cell of a row is its heading.

    The last cell of a row that is too short takes up the rest. `numbers` are the columns that are aligned at the right.
    On a narrow screen each row becomes a list. The roles keep it a table for browsers that forget that when it is shown
    in another form.
    """
    kinds = ["number" if index in numbers else "" for index in range(len(heads))]
    head = [tags.th(one, scope="col", role="columnheader", class_=kinds[index]) for index, one in enumerate(heads)]
    body = []
    for first, *rest in rows:
        cells = [tags.th(first, scope="row", role="rowheader")]
        for index, cell in enumerate(rest, 1):
            # One element, beside which a narrow screen shows the heading of the column.
            inner = tags.div(cell) if cell else ""
            made = tags.td(inner, role="cell", class_=kinds[index])
            left = len(heads) - index
            if index == len(rest) and left > 1:
                made.attributes["colspan"] = str(left)
            else:
                made.attributes["data-label"] = heads[index]
            cells.append(made)
        body.append(tags.tr(cells, role="row"))
    return tags.table(
        tags.caption(name, class_="hidden"),
        tags.thead(tags.tr(head, role="row"), role="rowgroup"),
        tags.tbody(body, role="rowgroup"),
        class_="stack",
        role="table",
    )


def facts(values: Sequence[tuple[str, Flattenable]], kind: str = "facts") -> Tag:
    """Return names and their values."""
    return tags.dl([tags.div(tags.dt(name), tags.dd(value)) for name, value in values], class_=kind)


def moment(time: datetime) -> Tag:
    """Return a time in UTC."""
    return tags.time(_time_text(time), datetime=time.isoformat())


def day(time: datetime) -> Tag:
    """Return the day of a time in UTC."""
    return tags.time(f"{time:%Y-%m-%d}", datetime=f"{time:%Y-%m-%d}")


def short_hash(value: str) -> Tag:
    """Return the beginning of a hash."""
    return tags.code(cut(value[:16]), "…" if len(value) > 16 else "")


def problem(text: str, kind: str = "bad") -> Tag:
    """Return a box that says what is wrong; `kind` is "bad", "note" or "good"."""
    return tags.div(tags.p(text), class_=f"state is-{kind}", role="status")


def _time_text(time: datetime) -> str:
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
