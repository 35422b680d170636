"""Headless Chromium, driven by Selenium, for the server's page."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

SECONDS = 60.0
WIDTH, HEIGHT = 1280, 900


@contextmanager
def chromium(width: int = WIDTH, height: int = HEIGHT) -> Iterator[Any]:
    """A headless browser that records its console and its requests."""
    from selenium import webdriver  # here, because the default tests are collected without it
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = _program("chromium")
    for argument in ("headless=new", "disable-gpu", "hide-scrollbars", "force-device-scale-factor=1"):
        options.add_argument(f"--{argument}")
    if os.geteuid() == 0:
        options.add_argument("--no-sandbox")  # root has no sandbox
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(_program("chromedriver")))
    try:
        resize(driver, width, height)
        yield driver
    finally:
        driver.quit()


def _program(name: str) -> str:
    path = shutil.which(name)
    if path is None:  # Selenium would download one
        raise RuntimeError(f"{name} is not in PATH: apt-get install chromium chromium-driver")
    return path


def resize(driver: Any, width: int, height: int = HEIGHT) -> None:
    """Give the page this size: a window cannot be as narrow as a telephone."""
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def prefer(driver: Any, **preferences: str) -> None:
    """Emulate what a user prefers: ``prefer(driver, color_scheme="dark")``."""
    features = [{"name": f"prefers-{name.replace('_', '-')}", "value": value} for name, value in preferences.items()]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def wait(driver: Any, script: str, *arguments: object) -> Any:
    """The value of a JavaScript expression, as soon as it is true."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        if value := driver.execute_script(f"return {script}", *arguments):
            return value
        time.sleep(0.05)
    raise TimeoutError(script)
