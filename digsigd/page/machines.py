"""The machines: fuse values, kinds of keys, and when the first certificate ends, as a bar."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from twisted.web.template import Flattenable, Tag, tags

from digsigd.page.frame import Frame, cut, day, document, problem, table
from digsigd.page.values import Machine, Machines

PLACE = "page/machines"
# A full bar is this many days or more. Below the second number, a certificate should be replaced.
_FULL, _SOON = 730, 90
_HEADS = ("Machine", "Keys", "First certificate ends", "Certificate", "SRK fuse value")


def machines_page(frame: Frame, found: Machines) -> Tag:
    """Return the page with some of the machines."""
    return document(frame, "Machines", _filter(frame, found), *_content(frame, found), at=PLACE)


def machine_table(machines: Sequence[Machine]) -> Tag:
    """Return a table of machines."""
    return table("Machines", _HEADS, [_row(one) for one in machines])


def expiry(machine: Machine, now: datetime | None = None) -> Flattenable:
    """Return when the first certificate of a machine ends, as a bar and in words."""
    if machine.expires is None:
        return ""
    left = (machine.expires - (now or datetime.now(UTC))).total_seconds() / 86400
    kind = "bad" if left < 0 else "note" if left < _SOON else "good"
    width = round(100 * min(max(left / _FULL, 0.0), 1.0))
    bar = Tag("svg")(
        Tag("rect")(width="100", height="8", class_="track"),
        Tag("rect")(width=str(width if left >= 0 else 100), height="8", class_=f"fill-{kind}"),
        viewBox="0 0 100 8",
        preserveAspectRatio="none",
        class_="bar",
        **{"aria-hidden": "true"},
    )
    words = tags.span(_left(left), class_=f"nowrap {'muted' if kind == 'good' else kind}")
    return [bar, day(machine.expires), " ", words]


def _row(machine: Machine) -> list[Flattenable]:
    name = tags.span(cut(machine.name))
    if machine.problem:
        return [name, tags.span(cut(machine.problem), class_="bad")]
    if not machine.is_known:
        return [name, tags.span("being read: reload the page", class_="muted")]
    fuses = [[tags.br() if index else "", tags.code(cut(one))] for index, one in enumerate(machine.fuse_values)]
    return [
        name,
        [[", " if index else "", tags.span(cut(one), class_="nowrap")] for index, one in enumerate(machine.kinds)],
        expiry(machine),
        tags.code(cut(machine.certificate, 80)),
        fuses,
    ]


def _left(days: float) -> str:
    if days < 0:
        return f"ended {_span(-days)} ago"
    return f"in {_span(days)}"


def _span(days: float) -> str:
    for size, name in ((365.25, "year"), (30.44, "month")):
        if days >= 2 * size:
            return f"{days / size:.0f} {name}s"
    return "1 day" if 1 <= days < 2 else f"{days:.0f} days"


def _filter(frame: Frame, found: Machines) -> Tag:
    orders = [("name", "name"), ("expiry", "end of the first certificate")]
    options = [
        tags.option(words, value=one, **({"selected": "selected"} if one == found.order else {}))
        for one, words in orders
    ]
    return tags.form(
        tags.div(
            tags.label("Name contains", for_="machine"),
            tags.input(type="search", id="machine", name="machine", value=cut(found.text, 64), maxlength="64"),
            class_="grow",
        ),
        tags.div(tags.label("Order by", for_="order"), tags.select(options, id="order", name="order")),
        tags.button("Show", type="submit"),
        action=frame.to(PLACE),
        method="get",
        class_="row",
        role="search",
    )


def _content(frame: Frame, found: Machines) -> list[Flattenable]:
    if found.trouble:
        return [problem(cut(found.trouble))]
    notes: list[Flattenable] = []
    if not found.is_complete:
        text = (
            "The key store cannot be listed: these are the machines that the configuration names. Others can be signed"
            " for, too."
        )
        notes.append(tags.p(text, class_="muted"))
    if not found.total:
        what = "No machine's name contains this." if found.text else "There are no machines that you may sign for."
        return [*notes, tags.p(what)]
    if found.order == "expiry" and found.known < found.total:
        text = f"The keys of {found.known} of {found.total} machines have been read so far. The others come last."
        notes.append(tags.p(text, class_="muted"))
    return [*notes, _pager(frame, found), machine_table(found.rows), _pager(frame, found) if found.pages > 1 else ""]


def _pager(frame: Frame, found: Machines) -> Tag:
    def link(page: int, words: str) -> Flattenable:
        if not 1 <= page <= found.pages:
            return ""
        order = found.order if found.order != "name" else ""
        return tags.a(words, href=frame.to(PLACE, machine=found.text, order=order, page=str(page)))

    count = f"{found.total} machine{'' if found.total == 1 else 's'}"
    where = f", page {found.page} of {found.pages}" if found.pages > 1 else ""
    return tags.p(
        tags.span(count + where), link(found.page - 1, "Previous page"), link(found.page + 1, "Next page"),
        class_="pager",
    )  # fmt: skip
