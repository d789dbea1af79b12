"""A real Chromium without a window, driven by Selenium, and axe, which looks for what is not accessible."""

from __future__ import annotations

import base64
import importlib.util
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.expected_conditions import staleness_of
from selenium.webdriver.support.wait import WebDriverWait

# In CSS pixels.
DESKTOP, PHONE = (1280, 900), (390, 844)
_DEADLINE = 120


class Browser:
    """One browser with its own profile. It speaks with nothing but loopback: all other names lead nowhere."""

    def __init__(self, driver: Chrome) -> None:
        self.driver = driver

    def open(self, url: str, name: str = "", token: str = "") -> None:
        """Open a page, signed in as a caller. Credentials in an address are what its dialog would ask for."""
        parts = urlsplit(url)
        who = f"{name}:{token}@" if name else ""
        self.driver.get(parts._replace(netloc=f"{who}{parts.netloc}").geturl())

    @contextmanager
    def next_page(self) -> Iterator[None]:
        """Wait until what is done within has led to another page, which is loaded: a click returns before."""
        old = self.driver.find_element(By.TAG_NAME, "html")
        yield
        wait = WebDriverWait(self.driver, _DEADLINE)
        wait.until(staleness_of(old))
        wait.until(lambda driver: driver.execute_script("return document.readyState") == "complete")

    def look(self, *, dark: bool = False, size: tuple[int, int] = DESKTOP) -> None:
        """Choose the theme and the size of the window."""
        theme = {"features": [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", theme)
        width, height = size
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def picture(self, path: Path) -> bytes:
        """Take a picture of the whole page, and keep it at `path`."""
        found = self.driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True, "format": "png"})
        data = base64.b64decode(found["data"])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return data

    def text(self) -> str:
        """What can be read on the page."""
        return self.driver.find_element(By.TAG_NAME, "body").text

    def run(self, script: str) -> Any:
        """The result of a script in the page. The page's own policy does not hold for it."""
        return self.driver.execute_script(script)

    def is_too_wide(self) -> bool:
        """Whether the page can be scrolled sideways."""
        return bool(self.run("return document.documentElement.scrollWidth > document.documentElement.clientWidth"))

    def violations(self) -> list[str]:
        """What axe finds, with its best practices: rule, help and the elements. An empty list if it finds nothing."""
        self.run(axe())
        found = self.driver.execute_async_script(
            "const done = arguments[arguments.length - 1];"
            "axe.run(document, {resultTypes: ['violations']})"
            ".then(one => done(one.violations), error => done([{id: String(error), nodes: []}]));"
        )
        return [f"{one['id']}: {one.get('help', '')}: {[node['html'] for node in one['nodes']]}" for one in found]

    def complaints(self) -> list[str]:
        """What the browser wrote to its console since the last call: errors, and what a policy has refused."""
        every = [one["message"] for one in self.driver.get_log("browser")]
        # That a page has a status of an error is no fault of it.
        return [one for one in every if "the server responded with a status of 4" not in one]


@contextmanager
def browser() -> Iterator[Browser]:
    """Start a browser, and end it. Fails if Chromium is missing: `make test` installs it."""
    chromium, chromedriver = shutil.which("chromium"), shutil.which("chromedriver")
    assert chromium, "chromium is missing: `make test` installs it"
    assert chromedriver, "chromedriver is missing: `make test` installs it"
    profile = tempfile.mkdtemp(prefix="digsigd-tests-browser-")
    options = ChromeOptions()
    options.binary_location = chromium
    for one in (
        "--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--hide-scrollbars",
        "--disable-background-networking", "--disable-component-update", "--no-first-run", "--disable-sync",
        "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1", f"--user-data-dir={profile}",
    ):  # fmt: skip
        options.add_argument(one)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = Chrome(options=options, service=Service(executable_path=chromedriver))
    try:
        driver.set_page_load_timeout(_DEADLINE)
        driver.set_script_timeout(_DEADLINE)
        yield Browser(driver)
    finally:
        driver.quit()
        shutil.rmtree(profile, ignore_errors=True)


def axe() -> str:
    """The source of axe-core, from a wheel that has it beside a driver that we do not use."""
    found = importlib.util.find_spec("axe_playwright_python")
    assert found is not None, "axe is missing: `make test` installs it"
    assert found.submodule_search_locations is not None
    return Path(found.submodule_search_locations[0], "axe.min.js").read_text("utf-8")
