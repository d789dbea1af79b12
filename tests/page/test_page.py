"""The page of a real daemon, as a browser asks for it: who sees what, and what is refused."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from digsigd import ahab
from digsigd.callers.tokens import new_token, sha256_of
from digsigd.testing import TrialImage, TrialPki
from tests.helpers import ahab_cases
from tests.helpers.ahab_forge import table_of
from tests.helpers.ahab_samples import all_signed, flash
from tests.helpers.daemons import DEADLINE, IMAGE, MACHINE, USE, Daemon
from tests.helpers.keys import trial_keys
from tests.helpers.pages import HTML, Page

NAMES = ("build", "anna", "ben", "outsider")
TOKENS = {name: new_token() for name in NAMES}
MACHINES = {"build": '["*"]', "anna": '["*"]', "ben": '["other-*"]', "outsider": '["*"]'}
PATHS = ("/", "/page/machines", "/page/signatures", "/page/verify")


def configured(folder: Path) -> str:
    text = f'[page]\nenabled = true\ncallers = ["build", "anna", "ben"]\n[record]\nfolder = "{folder}"\n'
    for name in NAMES:
        text += f"[callers.{name}]\nmachines = {MACHINES[name]}\n{USE if name == 'build' else ''}"
        text += f'[[callers.{name}.tokens]]\nsha256 = "{sha256_of(TOKENS[name].encode()).hex()}"\n'
    return text


@pytest.fixture(scope="module")
def keys() -> TrialPki:
    """Keys that an i.MX 8M supports."""
    return trial_keys("rsa2048", srks=2)


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory, cst_base: Path, keys: TrialPki, pki: TrialPki) -> Iterator[Daemon]:
    folder = tmp_path_factory.mktemp("page")
    daemon = Daemon(folder, cst_base, configured(folder / "state") + '[machines.ahab-board]\nsoc = "mx93"\n')
    daemon.put_keys(MACHINE, keys.tarball())
    daemon.put_keys("other-board", pki.tarball())
    daemon.put_keys("ahab-board", ahab_cases.tarball("pss2048"))
    yield daemon.start()
    daemon.stop()


def get(daemon: Daemon, path: str, name: str = "anna", **headers: str) -> httpx.Response:
    asked = {**HTML, **{key.replace("_", "-"): value for key, value in headers.items()}}
    return httpx.get(f"{daemon.url}{path}", auth=(name, TOKENS[name]), headers=asked, timeout=DEADLINE)


def send(
    daemon: Daemon,
    data: bytes,
    name: str = "anna",
    *,
    headers: dict[str, str] | None = None,
    fields: dict[str, str] | None = None,
) -> httpx.Response:
    """Send an image as a browser does: all fields of the form, most of them empty."""
    form = (
        dict.fromkeys(("fuses", "soc", "load_address", "sdp", "configuration"), "")
        | {"fit_fdt": "auto"}
        | (fields or {})
    )
    return httpx.post(
        f"{daemon.url}/page/verify", auth=(name, TOKENS[name]), headers={**HTML, **(headers or {})}, data=form,
        files={"artifact": ("flash.bin", data, "application/octet-stream")}, timeout=DEADLINE,
    )  # fmt: skip


def signed(daemon: Daemon, pki: TrialPki, image: TrialImage = IMAGE) -> httpx.Response:
    answer = daemon.post(pki, image, headers={"Authorization": f"Bearer {TOKENS['build']}"})
    assert answer.status_code == 200, answer.text
    return answer


def settled(daemon: Daemon, path: str, *, waits_for: str, name: str = "anna") -> Page:
    """A page, asked for again until the background has done what it begins with a view."""
    found: list[Page] = []

    def is_there() -> bool:
        found.append(Page(get(daemon, path, name)))
        return waits_for in found[-1].text

    daemon.wait_for(is_there, what=waits_for)
    return found[-1]


def test_the_first_page_tells_the_state_of_the_host(daemon: Daemon) -> None:
    """Readiness, versions of cst with their self-test, machines, and when certificates end."""
    page = settled(daemon, "/", waits_for="passed")
    assert "Ready to sign" in page.text
    assert page.facts()["Worker processes"] == "1"
    assert re.fullmatch(r"[01] of \d+", page.facts()["cst running"])
    assert page.facts()["Machines"] == "3"
    # One machine after the other.
    machines = {MACHINE, "other-board", "ahab-board"}
    daemon.wait_for(
        lambda: {row[0] for row in Page(get(daemon, "/")).table("Certificates that end next")} == machines,
        what="the certificates of all machines",
    )
    page = Page(get(daemon, "/"))
    daemon.wait_for(lambda: "begun" not in Page(get(daemon, "/")).text, what="all self-tests")
    assert {row[0] for row in page.table("Versions of cst")} == {"3.4.1", "4.0.1"}


def test_machines_are_shown_with_their_keys(daemon: Daemon, pki: TrialPki) -> None:
    """The kind of key, the fuse value and the end of the first certificate, already with the first view."""
    rows = {row[0]: row for row in Page(get(daemon, "/page/machines")).table("Machines")}
    assert rows[MACHINE][1] == "RSA 2048"
    assert rows["other-board"][1] == "ECDSA P-256"
    assert rows["other-board"][4] == pki.fuse_value.hex()
    assert "in 10 years" in rows[MACHINE][2]
    # Of a machine with AHAB, the kind of the keys is the table's, and the value is that of its chip.
    assert rows["ahab-board"][1] == "RSA-PSS 2048"
    assert rows["ahab-board"][4] == ahab_cases.members("pss2048")["crts/SRK_1_2_3_4_fuse_sha256.bin"].hex()


def test_everybody_sees_their_own_machines(daemon: Daemon, keys: TrialPki) -> None:
    """Lists, counts, entries and searches: nothing of a machine that the caller may not sign for."""
    answer = signed(daemon, keys)
    record, blob = answer.headers["X-Digsigd-Record"], hashlib.sha256(answer.content).hexdigest()
    data = IMAGE.with_csf(answer.content)
    assert record in "".join(Page(get(daemon, f"/page/signatures?sha256={blob}")).links())
    assert get(daemon, f"/page/signatures/{record}").status_code == 200
    assert Page(send(daemon, data)).table("Decisions")
    settled(daemon, "/page/machines", waits_for="other-board")

    def hides(page: Page) -> bool:
        return MACHINE not in page.text and record not in page.source and keys.fuse_value.hex() not in page.text

    for path in (*PATHS, f"/page/signatures?sha256={blob}", f"/page/machines?machine={MACHINE[:4]}"):
        assert hides(Page(get(daemon, path, "ben"))), path
    assert get(daemon, f"/page/signatures/{record}", "ben").status_code == 404
    assert Page(get(daemon, "/", "ben")).facts()["Machines"] == "1"
    page = Page(send(daemon, data, "ben"))
    assert not page.table("Decisions")
    assert "Machines with this fuse value" not in page.facts()


def test_only_callers_who_may_open_it_do(daemon: Daemon) -> None:
    """Others are told so, and who is not known is asked for a name and a token."""
    for path in PATHS:
        refused = get(daemon, path, "outsider")
        assert refused.status_code == 403
        assert "caller 'outsider' may not open this page" in Page(refused).text
        asked = httpx.get(daemon.url + path, headers=HTML, timeout=DEADLINE)
        assert asked.status_code == 401
        assert asked.headers["WWW-Authenticate"].startswith("Basic ")
        assert Page(asked).title == "401 Unauthorized"
    assert send(daemon, b"x" * 100, "outsider").status_code == 403
    wrong = httpx.get(daemon.url, auth=("anna", TOKENS["ben"]), timeout=DEADLINE)
    assert (wrong.status_code, wrong.text.startswith("wrong caller name or token")) == (401, True)


def test_a_person_who_may_look_signs_nothing(daemon: Daemon, keys: TrialPki) -> None:
    """A caller without backends and versions sees its machines."""
    assert Page(get(daemon, "/page/machines")).table("Machines")
    refused = daemon.post(keys, headers={"Authorization": f"Bearer {TOKENS['anna']}"})
    assert refused.status_code == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://elsewhere.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:1"},
    ],
)
def test_no_other_page_acts_in_a_persons_name(daemon: Daemon, headers: dict[str, str]) -> None:
    """A browser that is signed in sends the token with forms of other sites, too: their Origin gives them away."""
    answer = send(daemon, b"x" * 200_000, headers=headers)
    assert answer.status_code == 403
    assert "requests of web pages are refused" in Page(answer).text
    assert get(daemon, "/", **headers).status_code == 403


def test_other_sites_may_only_link_to_it(daemon: Daemon) -> None:
    """Not load it as a picture, nor show it in a frame; its own forms and links work."""
    own = daemon.url
    assert send(daemon, b"x" * 100, headers={"Origin": own, "Sec-Fetch-Site": "same-origin"}).status_code == 422
    assert get(daemon, "/", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="no-cors").status_code == 403
    linked = get(daemon, "/", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="navigate")
    assert linked.status_code == 200
    assert "frame-ancestors 'none'" in linked.headers["Content-Security-Policy"]
    assert linked.headers["X-Frame-Options"] == "DENY"
    # With no-referrer, browsers would send Origin: null with the page's own form.
    assert linked.headers["Referrer-Policy"] == "same-origin"
    assert linked.headers["Cache-Control"] == "no-store"


def test_the_style_sheet_is_kept_by_browsers(daemon: Daemon) -> None:
    """It is the only other thing that a page loads, needs no token, and has one name for each content."""
    page = Page(get(daemon, "/"))
    links = {one.get("rel"): one.get("href", "") for one in page.root.iter("link")}
    assert links["icon"] == "data:,"
    style = httpx.get(daemon.url + links["stylesheet"], timeout=DEADLINE)
    assert style.headers["Content-Type"].startswith("text/css")
    assert style.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert httpx.get(f"{daemon.url}/page/style.0000000000000000.css", timeout=DEADLINE).status_code == 404
    assert not [one for one in page.elements() if "src" in one.attrib]


def test_a_file_is_found_by_its_sha256(daemon: Daemon, keys: TrialPki) -> None:
    """By that of the blob, and of the image as it was sent; as sha256sum prints it, or with sha256: in front."""
    image = TrialImage.make(b"an image of its own".ljust(0x1000))
    answer = signed(daemon, keys, image)
    record = answer.headers["X-Digsigd-Record"]
    blob, sent = (hashlib.sha256(one).hexdigest() for one in (answer.content, image.data))
    for wanted in (blob, sent, f"sha256:{sent}", sent.upper(), f"%20{blob}%20"):
        page = Page(get(daemon, f"/page/signatures?sha256={wanted}"))
        assert f"/page/signatures/{record}" in page.links()
        assert [row[1:4] for row in page.table("Decisions")] == [["signed", MACHINE, "build"]]
    entry = Page(get(daemon, f"/page/signatures/{record}"))
    facts = entry.facts()
    assert facts["Caller"].startswith("build, token ")
    assert blob in facts["Answer"]
    assert sent in facts["Artifacts"]
    assert facts["SRK"] == "1 of the SRK table"
    unknown = Page(get(daemon, f"/page/signatures?sha256={'0' * 64}"))
    assert "Nothing is recorded for this file" in unknown.text
    wrong = get(daemon, "/page/signatures?sha256=<b>")
    assert (wrong.status_code, "This is not a SHA-256" in Page(wrong).text) == (400, True)


def test_what_was_refused_is_in_the_list(daemon: Daemon, keys: TrialPki) -> None:
    """With the reason; the newest first."""
    answer = daemon.post(keys, csf="[Header]\n<b>", headers={"Authorization": f"Bearer {TOKENS['build']}"})
    assert answer.status_code == 400
    first = Page(get(daemon, "/page/signatures")).table("Decisions")[0]
    assert first[1:4] == ["bad-request", MACHINE, "build"]
    assert "<b>" not in get(daemon, f"/page/signatures/{answer.headers['X-Digsigd-Record']}").text


def test_an_image_is_verified(daemon: Daemon, keys: TrialPki) -> None:
    """The report, with the machines that it is for and who had it signed, and nothing is left of the upload."""
    answer = signed(daemon, keys)
    data = IMAGE.with_csf(answer.content)
    settled(daemon, "/", waits_for="other-board")
    report = send(daemon, data)
    page = Page(report)
    assert report.status_code == 200
    assert f"Everything holds for boards with the fuse value {keys.fuse_value.hex()}." in page.text
    assert page.facts()["SHA-256"] == hashlib.sha256(data).hexdigest()
    assert page.facts()["Machines with this fuse value"] == MACHINE
    assert f"/page/signatures/{answer.headers['X-Digsigd-Record']}" in page.links()
    assert any(one.get("class") == "map" for one in page.elements())
    assert daemon.left_behind() == []
    other = Page(send(daemon, data, fields={"fuses": f" {'0' * 64} "}))
    assert "It does not hold: a closed board would not boot this image." in other.text


def test_an_image_with_containers_is_verified(daemon: Daemon) -> None:
    """With the chip and the fuse value of the form; a chip with HAB4 is not one of its boards."""
    good = all_signed(flash("good-93-sd-spl"))
    value = ahab.parse_table(table_of("p384")).hash("sha256").hex()
    page = Page(send(daemon, good, fields={"soc": "mx93", "fuses": value}))
    assert f"holds for boards with the fuse value {value}" in page.text
    assert page.facts()["Chip"] == "i.MX 93"
    assert "It does not hold" in Page(send(daemon, good, fields={"fuses": "00" * 64})).text
    answer = send(daemon, good, fields={"soc": "imx8mm"})
    assert answer.status_code == 422
    assert "for chips with AHAB, but i.MX 8M Mini has HAB4" in answer.text
    assert "not proven: OEM container at 0x400" in Page(send(daemon, flash("good-93-sd-spl"))).text


@pytest.mark.parametrize(
    ("fields", "status", "what"),
    [
        ({"fuses": "12"}, 400, "the field fuses must be a fuse value"),
        ({"load_address": "0x123456789"}, 400, "the field load_address must be an address"),
        ({"load_address": "9999999999"}, 400, "the field load_address must be an address"),
        ({"soc": "imx1<b>"}, 422, "imx1<b>"),
        ({"fit_fdt": "perhaps"}, 400, "the field fit_fdt must be auto or required"),
        ({}, 422, "an image has"),
    ],
)
def test_what_cannot_be_verified_is_told(daemon: Daemon, fields: dict[str, str], status: int, what: str) -> None:
    """On a page, with what to do in the words of the form."""
    answer = send(daemon, b"no image", fields=fields)
    assert (answer.status_code, what in Page(answer).text) == (status, True), Page(answer).text
    assert "--soc" not in answer.text
    assert daemon.left_behind() == []


def test_a_form_without_a_file_is_refused(daemon: Daemon) -> None:
    """Browsers send an empty part then."""
    assert "the artifact is empty" in Page(send(daemon, b"")).text


def test_odd_requests_get_pages_or_errors(daemon: Daemon) -> None:
    """Whatever is in the query: no fault, and the page that is nearest."""
    for query in ("page=99999", "page=-1", "page=x", "page=%FF", "order=%00", "machine=%3Cb%3E", "machine=%FF", "a&b"):
        assert get(daemon, f"/page/machines?{query}").status_code == 200, query
    for path in ("/page/signatures/x", "/page/signatures/00000000.0", f"/page/signatures/{'9' * 300}", "/page/none"):
        assert get(daemon, path).status_code == 404, path
    wrong = httpx.post(daemon.url, auth=("anna", TOKENS["anna"]), timeout=DEADLINE)
    assert (wrong.status_code, wrong.headers["Allow"]) == (405, "GET, HEAD")
    head = httpx.head(daemon.url, auth=("anna", TOKENS["anna"]), timeout=DEADLINE)
    assert (head.status_code, head.content) == (200, b"")
    accepts = httpx.get(f"{daemon.url}/page/none", auth=("anna", TOKENS["anna"]), timeout=DEADLINE)
    assert accepts.headers["Content-Type"].startswith("text/plain")


def test_a_caller_who_only_looks_is_no_finding(daemon: Daemon) -> None:
    """A caller who may open the page needs no backend; one who may not, and signs nothing, is a mistake."""
    daemon.wait_for_log("not safe: callers.outsider: may sign nothing")
    assert "callers.anna" not in daemon.log()
