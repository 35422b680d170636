"""The server's page in a browser: a server process of its own, and headless Chromium, driven by Selenium."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SECONDS = 60.0
WIDTH, HEIGHT = 1280, 900


@contextmanager
def serving(*arguments: object, keys: str = "") -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """The address and the process of a server that is ready, on any free port."""
    environment = os.environ | ({"MODERNRANK_API_KEYS": keys} if keys else {})
    command = [sys.executable, "-m", "modernrank", "serve", *map(str, arguments), "--port", "0"]
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with log.open("wb") as stream:  # not a pipe, which would fill up
            process = subprocess.Popen(command, stderr=stream, env=environment)
        try:
            yield _address(process, log), process
        finally:
            process.terminate()
            process.wait(SECONDS)


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        found = re.search(r"listening for requests on (http://[^,]+),", log.read_text())
        if found and _is_ready(found[1]):
            return found[1]
        time.sleep(0.05)
    raise RuntimeError(f"the server is not ready:\n{log.read_text()}")


def _is_ready(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/health/ready", timeout=5):
            return True
    except urllib.error.URLError:
        return False


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
