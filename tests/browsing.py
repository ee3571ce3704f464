"""Chromium without a window, for the tests of pages."""

import importlib
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

Browser = Any  # of selenium, which may be missing


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium without a window."""
    webdriver: Any = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    chromium, driver_path = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not driver_path:
        pytest.skip("Chromium or its driver is not installed (Debian: apt-get install chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless=new", "--hide-scrollbars", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver_path))
    yield driver
    driver.quit()


def appear(browser: Browser, width: int, scheme: str) -> None:
    """Give the browser a width and a colour scheme."""
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)


def waiting(browser: Browser) -> Any:
    """Return what waits, up to 20 seconds, for something to be true in the browser."""
    return importlib.import_module("selenium.webdriver.support.ui").WebDriverWait(browser, 20)
