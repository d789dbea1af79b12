"""The first page: the state of the host, what runs and waits, what expires next, the latest signatures."""

from __future__ import annotations

from twisted.web.template import Flattenable, Tag, tags

from digsigd.page.frame import Frame, cut, document, facts, moment, table
from digsigd.page.machines import PLACE as MACHINES
from digsigd.page.machines import expiry
from digsigd.page.report import verify_form
from digsigd.page.signatures import PLACE as SIGNATURES
from digsigd.page.signatures import entry_table, search
from digsigd.page.values import Cst, Entries, Host


def overview_page(frame: Frame, host: Host, latest: Entries) -> Tag:
    """Return the first page."""
    return document(
        frame,
        "Overview",
        _state(host),
        _facts(host),
        tags.div(
            tags.section(tags.h2("Under way"), _work(host)),
            tags.section(tags.h2("Code Signing Tools"), _tools(host)),
            class_="columns",
        ),
        tags.section(tags.h2("Certificates that end next"), _expiring(frame, host)),
        tags.section(tags.h2("Latest decisions"), _latest(frame, latest)),
        tags.div(
            tags.section(tags.h2("Search the record"), search(frame)),
            tags.section(tags.h2("Verify a signed image"), verify_form(frame)),
            class_="columns",
        ),
        at="",
    )


def _state(host: Host) -> Tag:
    if not host.missing:
        return tags.div(tags.p(tags.strong("Ready to sign")), class_="state is-good")
    reasons = [tags.li(cut(one)) for one in host.missing]
    return tags.div(tags.p(tags.strong("Not ready to sign")), tags.ul(reasons), class_="state is-bad")


def _facts(host: Host) -> Tag:
    values: list[tuple[str, Flattenable]] = [
        ("Version", cut(host.version)),
        ("Worker processes", str(host.workers)),
        ("cst running", f"{host.running} of {host.slots}"),
        ("Waiting for cst", str(host.waiting)),
        ("Decisions", "recorded" if host.recorded else "not recorded"),
    ]
    if host.machines is not None:
        values.append(("Machines", str(host.machines)))
    return facts(values)


def _work(host: Host) -> Flattenable:
    which = "Other worker processes have more. " if host.workers > 1 else ""
    if not host.work:
        return tags.p("No request is under way in this process. ", which, class_="muted")
    rows: list[list[Flattenable]] = [
        [
            tags.code(cut(one.request_id, 64)),
            one.stage,
            cut(one.machine, 64),
            cut(one.caller, 64),
            _seconds(one.seconds),
        ]
        for one in host.work
    ]
    return [
        table("Requests under way", ("Request", "Stage", "Machine", "Caller", "Since"), rows, numbers=(4,)),
        tags.p(which, class_="muted") if which else "",
    ]


def _tools(host: Host) -> Flattenable:
    if not host.cst:
        return tags.p("No cst was found.", class_="bad")
    return table("Versions of cst", ("cst", "Self-test"), [[cut(one.version), _tested(one)] for one in host.cst])


def _tested(cst: Cst) -> Flattenable:
    if cst.passed is None:
        return tags.span("has begun: reload the page", class_="muted")
    when: Flattenable = moment(cst.time) if cst.time is not None else ""
    if cst.passed:
        return [tags.span("passed", class_="good"), " ", tags.span(when, class_="muted")]
    return [tags.span("failed", class_="bad"), f": {cut(cst.why)} ", tags.span(when, class_="muted")]


def _expiring(frame: Frame, host: Host) -> Flattenable:
    every = tags.p(tags.a("All machines", href=frame.to(MACHINES)))
    if not host.expiring:
        return [tags.p("No certificates have been read yet: reload the page.", class_="muted"), every]
    rows: list[list[Flattenable]] = [
        [cut(one.name), expiry(one), tags.code(cut(one.certificate, 80))] for one in host.expiring
    ]
    return [table("Certificates that end next", ("Machine", "Ends", "Certificate"), rows), every]


def _latest(frame: Frame, latest: Entries) -> Flattenable:
    if latest.trouble:
        return tags.p(cut(latest.trouble), class_="muted")
    if not latest.rows:
        return tags.p("There are no decisions about machines that you may sign for.", class_="muted")
    return [entry_table(frame, latest.rows), tags.p(tags.a("More decisions", href=frame.to(SIGNATURES)))]


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 60 else f"{seconds / 60:.0f} min"
