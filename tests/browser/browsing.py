"""A page in Debian's chromium, looked at from inside: a script in it writes down what it finds."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

CHROMIUM = shutil.which("chromium")
NEEDED = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")]
"""Marks of a module that browses."""


def found_in(page: Path, profile: Path, width: int = 1240, height: int = 2400) -> dict:
    """The JSON that the page's own script has put into `<pre id="probe">` three seconds after it was opened.

    `profile` is a folder for the browser's; sizes are of its window, in pixels.
    """
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync",
        f"--user-data-dir={profile}", f"--window-size={width},{height}", "--virtual-time-budget=3000",
        "--dump-dom", page.as_uri(),
    ]  # fmt: skip
    shown = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True).stdout
    found = re.search(r'<pre id="probe">(.*?)</pre>', shown, re.DOTALL)
    assert found, shown[-2000:]
    return json.loads(found.group(1).replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
