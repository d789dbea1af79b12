"""The page in a real Chromium: both themes, a desktop and a phone, a thousand machines, and what axe finds.

The pictures are kept in the folder of the environment variable DIGSIGD_PICTURES, if it is set.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from digsigd.testing import TrialPki
from tests.helpers import golden
from tests.helpers.browser import DESKTOP, PHONE, Browser, browser
from tests.helpers.daemons import IMAGE, MACHINE, RIGHTS, TOKEN, Daemon
from tests.helpers.signed_images import signed

LOOKS = {
    "light": (False, DESKTOP),
    "dark": (True, DESKTOP),
    "phone": (False, PHONE),
    "phone-dark": (True, PHONE),
}
CONFIG = f"""
[page]
enabled = true
[callers.team]
{RIGHTS}token_file = "token"
"""


@dataclass
class Site:
    """A daemon with a thousand machines and some decisions, and a browser."""

    daemon: Daemon
    browser: Browser
    pictures: Path
    image: Path
    record: str

    def open(self, path: str) -> None:
        self.browser.open(self.daemon.url + path, "team", TOKEN)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, cst_base: Path, pki: TrialPki) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("browser")
    (folder / "token").write_text(f"{TOKEN}\n")
    daemon = Daemon(folder, cst_base, CONFIG + f'[record]\nfolder = "{folder / "state"}"\n')
    first = daemon.put_keys(MACHINE, pki.tarball())
    for number in range(1, 998):
        path = daemon.keys / f"imx8mm-board-{number:04}" / "imxsign"
        path.mkdir(parents=True)
        (path / first.name).hardlink_to(first)
    for name, days in (("ended", -30), ("soon", 40)):
        daemon.put_keys(name, TrialPki.make("p256", srks=1, valid_days=days).tarball())
    image = folder / "flash.bin"
    image.write_bytes(signed(golden.flash("mm", "nxp-new")))
    daemon.start()
    try:
        who = {"Authorization": f"Bearer {TOKEN}"}
        answers = [daemon.post(pki, headers=who) for _ in range(3)]
        daemon.post(pki, csf="[Header]", headers=who)
        with browser() as one:
            pictures = Path(os.environ.get("DIGSIGD_PICTURES", folder / "pictures"))
            yield Site(daemon, one, pictures, image, answers[0].headers["X-Digsigd-Record"])
        daemon.stop()
    finally:
        daemon.kill()


def wait_for(site: Site, path: str, text: str, *, gone: bool = False) -> None:
    """Reload a page until the background has done what it begins with a view: a text is there, or gone."""

    def is_there() -> bool:
        site.open(path)
        return (text in site.browser.text()) is not gone

    site.daemon.wait_for(is_there, what=text)


def check(site: Site, name: str) -> None:
    """In each look: nothing for axe to find, nothing to scroll sideways, and a picture that is not empty."""
    for look, (dark, size) in LOOKS.items():
        site.browser.look(dark=dark, size=size)
        picture = site.browser.picture(site.pictures / f"{name}-{look}.png")
        assert len(picture) > 10_000
        assert site.browser.violations() == [], look
        assert not site.browser.is_too_wide(), look
    assert site.browser.complaints() == []
    site.browser.look()


def test_the_first_page(site: Site) -> None:
    """With the state of the host, what expires next, and the latest decisions."""
    wait_for(site, "/", "ended")
    wait_for(site, "/", "begun", gone=True)
    check(site, "overview")


def test_a_thousand_machines(site: Site) -> None:
    """In parts, by name and by what ends first; the filter is a form that works without a script."""
    site.open("/page/machines")
    assert "1000 machines, page 1 of 40" in site.browser.text()
    check(site, "machines")
    field = site.browser.driver.find_element(By.ID, "machine")
    with site.browser.next_page():
        field.send_keys("board-0990", Keys.ENTER)
    assert "1 machine" in site.browser.text()
    wait_for(site, "/page/machines?order=expiry", "ended")
    site.open("/page/machines?machine=o")
    check(site, "machines-filtered")


def test_signatures_and_one_of_them(site: Site) -> None:
    """The list, an entry, a search with an answer, and one that cannot be made."""
    site.open("/page/signatures")
    check(site, "signatures")
    site.open(f"/page/signatures/{site.record}")
    check(site, "entry")
    site.open("/page/signatures?sha256=none")
    check(site, "search-wrong")


def test_an_image_is_dropped_and_verified(site: Site) -> None:
    """The browser sends the form with its Origin, and shows the report with the map."""
    site.open("/page/verify")
    check(site, "verify")
    site.browser.driver.find_element(By.ID, "artifact").send_keys(str(site.image))
    with site.browser.next_page():
        site.browser.driver.find_element(By.CSS_SELECTOR, "button[type=submit]").click()
    assert "Everything holds for boards with the fuse value" in site.browser.text()
    check(site, "report")


def test_a_changed_image_shows_in_the_map(site: Site, tmp_path: Path) -> None:
    """Bytes that the board runs and no signature covers, in colour and hatched."""
    data = bytearray(site.image.read_bytes())
    data[0x20000] ^= 0xFF
    changed = tmp_path / "changed.bin"
    changed.write_bytes(data)
    site.open("/page/verify")
    site.browser.driver.find_element(By.ID, "artifact").send_keys(str(changed))
    site.browser.driver.find_element(By.ID, "fuses").send_keys("0" * 64)
    with site.browser.next_page():
        site.browser.driver.find_element(By.CSS_SELECTOR, "button[type=submit]").click()
    assert "It does not hold" in site.browser.text()
    check(site, "report-fails")


def test_no_script_runs(site: Site) -> None:
    """Not even one that is put into the page: its policy refuses it, and anything from elsewhere."""
    site.open("/")
    site.browser.run(
        "const s = document.createElement('script'); s.textContent = 'window.ran = 1'; document.body.append(s)"
    )
    site.browser.run("const i = document.createElement('img'); i.src = '/page/x.png'; document.body.append(i)")
    assert site.browser.run("return window.ran") is None
    assert any("Content Security Policy" in one for one in site.browser.complaints())


def test_the_keyboard_reaches_everything(site: Site) -> None:
    """The first key leads past the navigation, and each field and link can be reached and seen."""
    site.open("/page/verify")

    def tab() -> None:
        ActionChains(site.browser.driver).send_keys(Keys.TAB).perform()

    tab()
    assert site.browser.run("return document.activeElement.textContent") == "Skip to the content"
    assert site.browser.run("return getComputedStyle(document.activeElement).outlineStyle") == "solid"
    count = site.browser.run("return document.querySelectorAll('a, input, select, button, summary').length")
    reached = set()
    for _ in range(count):
        reached.add(site.browser.run("return document.activeElement.outerHTML"))
        tab()
    # Fields in the closed part are not reached before it is open.
    hidden = site.browser.run("return document.querySelectorAll('details:not([open]) :is(input, select)').length")
    assert len(reached) >= count - hidden - 1


@pytest.mark.parametrize("path", ["/sign/imx", "/page/verify"])
def test_another_sites_form_is_refused(site: Site, tmp_path: Path, path: str, pki: TrialPki) -> None:
    """In a browser that is signed in: it sends the token along, and the daemon refuses the Origin."""
    site.open("/")
    text = pki.csf(IMAGE.blocks("spl.bin"))
    page = tmp_path / "elsewhere.html"
    page.write_text(
        f'<form method="post" enctype="multipart/form-data" action="{site.daemon.url}{path}">'
        f'<input name="machine" value="{MACHINE}"><input name="cstversion" value="3.4.1">'
        f'<textarea name="csf">{text}</textarea><button>Win a prize</button></form>'
    )
    before = site.daemon.log_so_far().count("requests of web pages are refused")
    site.browser.driver.get(page.as_uri())
    site.browser.driver.find_element(By.TAG_NAME, "button").click()
    site.daemon.wait_for_log("requests of web pages are refused", before + 1)


def test_without_scripts_the_page_is_the_same(site: Site) -> None:
    """It has none: turning them off changes nothing."""
    site.open("/page/machines")
    with_scripts = site.browser.text().split("As of")[0]
    site.browser.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    site.open("/page/machines")
    site.browser.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    assert site.browser.text().split("As of")[0] == with_scripts
