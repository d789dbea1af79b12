"""The record for people: the latest decisions, one of them, and who signed a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from twisted.web.template import Flattenable, Tag, tags

from digsigd.page.frame import Frame, cut, document, facts, moment, problem, short_hash, table
from digsigd.page.values import Entries, Entry

PLACE = "page/signatures"
# So many parts of an entry are shown; a client decides how many there are.
_MOST = 40


def signatures_page(frame: Frame, found: Entries, sha256: str = "", wrong: str = "") -> Tag:
    """Return the page with the latest decisions or, with `sha256`, those about one file.

    `wrong` says why a search cannot be made.
    """
    content: list[Flattenable] = [search(frame, sha256)]
    if wrong:
        content.append(problem(cut(wrong)))
    elif found.trouble:
        content.append(problem(cut(found.trouble), "note"))
    elif sha256:
        content += _answer(frame, found)
    elif found.rows:
        content += [tags.h2("Latest decisions"), entry_table(frame, found.rows)]
    else:
        content.append(tags.p("There are no decisions about machines that you may sign for."))
    return document(frame, "Signatures", *content, at=PLACE)


def entry_page(frame: Frame, entry: Entry) -> Tag:
    """Return the page of one entry."""
    values = entry.values
    rows: list[tuple[str, Flattenable]] = [
        ("Outcome", _outcome(values)),
        ("Reason", cut(values.get("reason", ""), 1000)),
        ("Time", _time(values)),
        ("Machine", cut(values.get("machine", ""))),
        ("Caller", _joined(values, "caller", "proof", "address")),
        ("Host", cut(values.get("host", ""))),
        ("cst", cut(_inside(values, "cst", "version"))),
        ("Backend", cut(values.get("backend", ""))),
        ("Chip", cut(values.get("soctype", ""))),
        ("Answer", _file(values.get("blob"))),
        ("Signed containers", [tags.div(_container(one)) for one in _list(_of(values, "blob"), "containers")]),
        ("Artifacts", [tags.div(_file(one)) for one in _list(values, "artifacts")]),
        ("CSF description", _file(values.get("description"))),
        ("Key tarball", _file(values.get("tarball"))),
        ("SRK fuse value", _code(values.get("fuse_value", ""))),
        ("SRK", _srk(values)),
        ("Certificates", [tags.div(_code(one)) for one in _list(values, "certificates")]),
        ("Blocks", [tags.div(_block(one)) for command in _list(values, "blocks") for one in _rows(command)][:_MOST]),
        ("Request", _code(values.get("request", ""))),
        ("Client's request id", _code(values.get("client_request", ""))),
        ("traceparent", _code(values.get("traceparent", ""))),
        ("Took", _took(values)),
    ]
    shown = [(name, value) for name, value in rows if value not in ("", [])]
    proof = tags.p("On the host, with all members: ", tags.code(f"digsigd record show {cut(entry.record)}"))
    return document(frame, f"Record {cut(entry.record)}", facts(shown, "details"), proof)


def entry_table(frame: Frame, entries: Sequence[Entry]) -> Tag:
    """Return a table of entries."""
    heads = ("Time", "Outcome", "Machine", "Caller", "File", "Answer")
    return table("Decisions", heads, [_row(frame, one) for one in entries])


def search(frame: Frame, sha256: str = "") -> Tag:
    """Return the form that asks who signed a file."""
    return tags.form(
        tags.div(
            tags.label(
                "Who signed this file? SHA-256 of the answer (a CSF blob, for AHAB the file), or of the image as sent",
                for_="sha256",
            ),
            tags.input(
                type="search", id="sha256", name="sha256", value=cut(sha256, 64), maxlength="80", class_="mono",
                autocomplete="off", spellcheck="false",
            ),
            class_="grow",
        ),
        tags.button("Search", type="submit"),
        action=frame.to(PLACE),
        method="get",
        class_="row",
        role="search",
    )  # fmt: skip


def _answer(frame: Frame, found: Entries) -> list[Flattenable]:
    if not found.rows:
        text = (
            "Nothing is recorded for this file and machines that you may sign for. The image is known as it was sent,"
            " without its CSF. To search by a signed image, verify it: its CSF blobs are then looked up."
        )
        return [tags.h2("Not found"), tags.p(text)]
    return [tags.h2("Found"), entry_table(frame, found.rows)]


def _row(frame: Frame, entry: Entry) -> list[Flattenable]:
    values = entry.values
    artifacts = _list(values, "artifacts")
    name = cut(_inside({"a": artifacts[0]}, "a", "name"), 60) if artifacts else ""
    more = f" and {len(artifacts) - 1} more" if len(artifacts) > 1 else ""
    time = tags.a(_time(values), href=frame.to(f"{PLACE}/{entry.record}"))
    blob = str(_inside(values, "blob", "sha256"))
    return [
        time,
        _outcome(values),
        cut(values.get("machine", "")),
        cut(values.get("caller", "")),
        name + more,
        short_hash(blob) if blob else "",
    ]


def _outcome(values: Mapping[str, Any]) -> Tag:
    outcome = str(values.get("outcome", ""))
    return tags.span(cut(outcome, 40), class_=f"nowrap {'good' if outcome == 'signed' else 'note'}")


def _time(values: Mapping[str, Any]) -> Flattenable:
    text = str(values.get("time", ""))
    try:
        return moment(datetime.fromisoformat(text))
    except ValueError:
        return cut(text, 40)


def _of(values: Mapping[str, Any], table_name: str) -> Mapping[str, Any]:
    inner = values.get(table_name)
    return inner if isinstance(inner, dict) else {}


def _inside(values: Mapping[str, Any], table_name: str, name: str) -> Any:
    return _of(values, table_name).get(name, "")


def _list(values: Mapping[str, Any], name: str) -> list[Any]:
    found = values.get(name)
    return found[:_MOST] if isinstance(found, list) else []


def _rows(command: Any) -> list[Any]:
    return command if isinstance(command, list) else []


def _code(text: object) -> Flattenable:
    return tags.code(cut(text)) if text else ""


def _joined(values: Mapping[str, Any], *names: str) -> str:
    return ", ".join(cut(values[name]) for name in names if values.get(name))


def _file(values: Any) -> Flattenable:
    """Return name, size and SHA-256 of a file, as far as they are known."""
    if not isinstance(values, dict) or not values:
        return ""
    size = f"{cut(values['size'], 20)} bytes" if values.get("size") else ""
    words = ", ".join(one for one in (cut(values.get("name", "")), size) if one)
    return [words, " " if words else "", _code(values.get("sha256", ""))]


def _srk(values: Mapping[str, Any]) -> str:
    srk = values.get("srk")
    return f"{srk + 1} of the SRK table" if isinstance(srk, int) else ""


def _block(block: Any) -> Flattenable:
    if not isinstance(block, list) or len(block) != 4 or not all(isinstance(one, int) for one in block[:3]):
        return ""
    address, offset, length, name = block
    return tags.code(f"{address:#x}: {length:#x} bytes at {offset:#x} of {cut(name, 80)}")


def _container(container: Any) -> Flattenable:
    """Return the place of a signed AHAB container in the answer, and its SHA-256."""
    if not isinstance(container, dict) or not all(isinstance(container.get(one), int) for one in ("offset", "size")):
        return ""
    return [f"{container['size']:#x} bytes at {container['offset']:#x} ", _code(container.get("sha256", ""))]


def _took(values: Mapping[str, Any]) -> str:
    steps = values.get("milliseconds")
    if not isinstance(steps, dict):
        return ""
    return ", ".join(f"{cut(step, 20)} {cut(took, 20)} ms" for step, took in list(steps.items())[:_MOST])
