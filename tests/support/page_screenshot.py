"""Write a picture of the server's page with its example ranked.

python tests/support/page_screenshot.py ARTIFACT OUT
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from browser import chromium, prefer, wait
from serving import serving

PRESSES = (1, 2, 2, 3, 4, 3, 4, 6, 5, 7, 6, 5)  # of each second, so that the load has a curve


def main(artifact: Path, out: Path) -> None:
    """Press the page's button for some seconds."""
    with serving(artifact) as server, chromium() as driver:
        prefer(driver, color_scheme="light", reduced_motion="reduce")
        driver.get(server.url)
        wait(driver, "document.querySelector('.model')")
        for presses in PRESSES:
            end = time.monotonic() + 1
            for _ in range(presses):
                driver.find_element("id", "example").click()
                wait(driver, "document.querySelector('#ranking li') && !document.querySelector('[aria-busy]')")
            time.sleep(max(0, end - time.monotonic()))
        driver.execute_script("document.activeElement.blur()")
        driver.save_screenshot(str(out))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
