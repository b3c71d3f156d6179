"""A browser of the machine, driven by Playwright, that looks at a console: `--pages`.

`make test-browser` gives the option; without it, and where Debian's `chromium` is missing, these
tests are left out. With `--pictures FOLDER` they leave their pictures there.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# Nothing that the browser does by itself, and no name of any other machine.
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
WIDE, NARROW = {"width": 1200, "height": 800}, {"width": 400, "height": 800}
# A busy machine is no fault of the page.
PATIENCE_MS = 240_000.0


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--pages", action="store_true", help="use the pages of a console in Chromium")
    parser.addoption("--pictures", type=Path, metavar="FOLDER", help="where pictures are put")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--pages"):
        return
    left_out = [item for item in items if item.path.parent.name == "browser"]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


class Window:
    """A page of the browser, and what came of everything that it opened."""

    def __init__(self, context: Any, address: str) -> None:
        self.address = address
        self.page = context.new_page()
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", self._hear)
        self.page.on("dialog", self._dialog)

    def open(self, path: str) -> Any:
        self.page.goto(self.address + path)
        return self.page

    def log_in(self, token: str) -> Any:
        page = self.open("/")
        page.get_by_label("Token").fill(token)
        page.get_by_role("button", name="Log in").click()
        page.get_by_role("heading", name="Overview").wait_for()
        return page

    @property
    def left_the_machine(self) -> list[str]:
        return [url for url in self.requests if not url.startswith(f"{self.address}/")]

    def _hear(self, message: Any) -> None:
        # A page that says what was asked wrongly, or that no worker answers, has its status.
        told = any(f"a status of {status} " in message.text for status in (400, 404, 503))
        if message.type in ("error", "warning") and not told:
            self.complaints.append(message.text)

    def _dialog(self, dialog: Any) -> None:
        self.complaints.append(f"a dialog: {dialog.message}")
        dialog.dismiss()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """The browser, shared by the tests of a module."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=list(FLAGS), timeout=PATIENCE_MS
        )
        yield browser
        browser.close()


@pytest.fixture
def window(chromium: Any, console_address: str) -> Iterator[Any]:
    """Opens windows with cookies of their own; none of them asked another machine for anything."""
    opened: list[Window] = []

    def make(scheme: str = "light", size: dict[str, int] = WIDE) -> Window:
        context = chromium.new_context(
            viewport=size,
            color_scheme=scheme,
            locale="en",
            reduced_motion="reduce",
            permissions=["clipboard-read", "clipboard-write"],
        )
        context.set_default_timeout(PATIENCE_MS)
        opened.append(Window(context, console_address))
        return opened[-1]

    yield make
    for each in opened:
        each.page.context.close()
    assert [] == [url for each in opened for url in each.left_the_machine]
    assert [] == [said for each in opened for said in each.complaints]
