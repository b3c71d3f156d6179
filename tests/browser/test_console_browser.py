"""The page in a real browser: what people do with it, by mouse and by keyboard, light and dark."""

import pytest

from embedfleet.web.pages.rendering import at
from embedfleet.web.pages.routing import LOOKS
from plugins.console_browser import NARROW, WIDE
from plugins.consoles import TOKEN, served
from plugins.fleets import ask, documents, drain, workers_of
from plugins.servers import fresh_database
from plugins.shown_fleets import ATTACK, FAILED, LATE, a_line_at_the_limit, fill, settings_for

# A browser on a machine that others use, too.
pytestmark = [pytest.mark.chromium, pytest.mark.timeout(3_600)]

# What axe calls so keeps somebody from using the page.
GRAVE = {"serious", "critical"}
QUESTION = "how do I reset my password?"
FILTER = '{"team": "security"}'
SEARCH = at("collections", "handbook", "search", q=QUESTION, k=5, where=FILTER)


@pytest.fixture(scope="module")
def shown(stack, template_database):
    """The fleet that all tests look at, and what makes workers of it."""
    with (
        fresh_database(stack, template_database) as url,
        settings_for(url, stack.redis_url) as fleet,
        workers_of(fleet) as worker,
    ):
        fill(fleet, worker)
        yield fleet, worker


@pytest.fixture(scope="module")
def console_address(shown):
    with served(shown[0], allow_actions=True) as address:
        yield address


def paths(fleet) -> list[str]:
    """One of each page, and those that are told something."""
    jobs = ask(fleet, "SELECT min(id), max(id) FROM embedfleet.job")[0]
    listed = [
        f"/console{path}".replace("{name}", "tickets").replace("{job:int}", str(number))
        for path in LOOKS
        for number in (jobs if "{job" in path else jobs[:1])
    ]
    return [
        *listed,
        SEARCH,
        at("collections", "handbook", "search", q=QUESTION, where="nonsense"),
        "/console/collections/handbook/map?color=team",
        "/console/collections/handbook/duplicates?threshold=0.9",
        f"/console/collections/tickets/document?key={FAILED}",
        f"/console/collections/archive/document?key={LATE}",
        "/console/find?key=ticket",
        "/console/collections/nowhere",
    ]


def faults(page, **options) -> list[tuple[str, list[str]]]:
    """The grave ones that axe finds on a page, with where they are."""
    from axe_playwright_python.sync_playwright import Axe

    return [
        (each["id"], [node["target"] for node in each["nodes"]])
        for each in Axe().run(page, options=options).response["violations"]
        if each["impact"] in GRAVE
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_keeps_somebody_out(shown, window, scheme):
    opened = window(scheme)
    found = {"login": faults(opened.open("/console/login"))}
    opened.log_in(TOKEN)
    # In the dark all is the same but the colours.
    options = {} if scheme == "light" else {"runOnly": ["color-contrast"]}
    for path in paths(shown[0]):
        found[path] = faults(opened.open(path), **options)
    assert {} == {path: grave for path, grave in found.items() if grave}


def test_no_page_is_wider_than_a_phone(shown, window):
    opened = window(size=NARROW)
    opened.log_in(TOKEN)
    widths = {}
    for path in paths(shown[0]):
        page = opened.open(path)
        widths[path] = page.evaluate("document.documentElement.scrollWidth")
    assert {} == {path: width for path, width in widths.items() if width > NARROW["width"]}
    assert [] == faults(opened.open("/console/overview"))


def test_why_a_document_is_not_searchable_takes_one_click_and_the_retry_one_more(shown, window):
    _, worker = shown
    opened = window()
    page = opened.log_in(TOKEN)

    page.get_by_label("Document key").fill(FAILED)
    page.get_by_role("button", name="Find").click()

    page.get_by_role("heading", name=FAILED).wait_for()
    assert "Chunk 0 failed" in page.locator(".explanation").inner_text()
    assert page.get_by_text("Not searchable.").is_visible()
    page.get_by_role("button", name="Retry the failed chunks of tickets").click()
    page.locator("h1 .state").wait_for()
    assert "0 of 1" in page.locator(".big").inner_text()
    drain(worker())
    # The page sees by itself that the job is done.
    page.locator("h1 .is-done").wait_for()
    opened.open(f"/console/collections/tickets/document?key={FAILED}")
    page.locator(".is-live").wait_for()


def test_the_way_by_links_takes_three_clicks_too(window):
    page = window().log_in(TOKEN)
    page.get_by_role("link", name="Collections", exact=True).click()
    page.get_by_role("link", name="archive").click()
    page.get_by_label("Why is a document not searchable? Its key").fill(LATE)
    page.get_by_role("button", name="Explain").click()
    page.get_by_role("heading", name=LATE).wait_for()
    assert "is paused" in page.locator(".explanation").inner_text()
    assert page.get_by_role("button", name="Resume job").is_visible()


def test_a_job_is_paused_resumed_and_cancelled(shown, window):
    fleet, _ = shown
    job = fleet.collection("extra", model="fake/32").enqueue(documents(5))
    page = window().log_in(TOKEN)
    page.get_by_role("link", name="Jobs", exact=True).click()
    page.get_by_role("link", name=f"enqueue {job.id}", exact=True).click()
    page.get_by_role("button", name="Pause").click()
    page.locator("h1 .is-paused").wait_for()
    assert "paused" == job.status.state
    page.get_by_role("button", name="Resume").click()
    page.locator("h1 .is-running").wait_for()
    page.get_by_text("Cancel", exact=True).click()
    page.get_by_role("button", name=f"Cancel job {job.id}").click()
    page.locator("h1 .is-cancelled").wait_for()
    assert "cancelled" == job.status.state
    assert 0 == page.get_by_role("button", name="Pause").count()


def test_a_search_shows_scores_and_the_sql_that_psql_takes(shown, window):
    fleet, _ = shown
    page = window().log_in(TOKEN)
    page.get_by_role("link", name="Collections", exact=True).click()
    page.get_by_role("link", name="handbook").click()
    page.get_by_label("Search handbook").fill(QUESTION)
    page.get_by_label("Filter, as JSON").fill(FILTER)
    page.get_by_role("button", name="Search").click()
    page.locator(".hits li").first.wait_for()
    shown_keys = page.locator(".hits li a").all_inner_texts()
    assert 6 == len(shown_keys)
    assert all(key.startswith("security/") for key in shown_keys)
    page.get_by_role("button", name="Copy").click()
    page.get_by_role("button", name="Copied").wait_for()
    copied = page.evaluate("navigator.clipboard.readText()")
    with fleet.db.transaction() as conn:
        rows = conn.execute(copied).fetchall()
    assert shown_keys == [row[1] for row in rows]


def test_a_search_that_no_worker_answers_says_so(window):
    page = window().log_in(TOKEN)
    page.goto(page.url.replace("/overview", "/collections/manuals"))
    page.get_by_label("Search manuals").fill("anything")
    page.get_by_role("button", name="Search").click()
    said = page.get_by_role("alert").inner_text()
    assert said.startswith("No worker embedded the query"), said


def test_the_keyboard_alone_does_it_all(window):
    opened = window()
    page = opened.open("/")
    page.keyboard.type(TOKEN)
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Overview").wait_for()
    page.keyboard.press("Tab")
    assert "Skip to the content" == page.evaluate("document.activeElement.textContent")
    assert page.locator(".skip").bounding_box()["x"] >= 0
    for _ in range(9):
        page.keyboard.press("Tab")
    assert "find-key" == page.evaluate("document.activeElement.id")
    page.keyboard.type(LATE)
    page.keyboard.press("Enter")
    page.get_by_role("heading", name=LATE).wait_for()


def test_duplicates_and_points_of_the_map_lead_to_their_documents(window):
    page = window().log_in(TOKEN)
    page.goto(page.url.replace("/overview", "/collections/handbook/duplicates"))
    page.get_by_role("button", name="Find pairs").click()
    page.get_by_role("link", name="security/copy-of-01.md").first.click()
    page.get_by_role("heading", name="security/copy-of-01.md").wait_for()
    page.goto(page.url.partition("/document")[0] + "/map")
    page.get_by_label("Colour by a field of the metadata").fill("team")
    page.get_by_role("button", name="Draw").click()
    page.locator(".legend").get_by_text("travel").wait_for()
    page.locator("svg.map a").first.click()
    page.get_by_role("heading", name="Why").wait_for()


def test_what_customers_wrote_runs_nowhere(window):
    page = window().log_in(TOKEN)
    page.goto(page.url.replace("/overview", "/collections/tickets/documents"))
    page.get_by_role("link", name=ATTACK).click()
    page.get_by_role("heading", name=ATTACK).wait_for()
    assert 0 == page.locator("main img, main script").count()
    # The window itself says so if anything asked for a dialog, or broke the policy.


def test_limits_show_who_waits_in_line(shown, window):
    page = window().log_in(TOKEN)
    with a_line_at_the_limit(shown[0]):
        page.get_by_role("link", name="Limits", exact=True).click()
        page.get_by_text(IN_LINE).wait_for()


IN_LINE = "1 under way, 1 waits in line"
PICTURES = {
    # First: what is under way is forgotten after a while.
    "limits": ("/console/limits", "light", WIDE),
    "overview": ("/console/overview", "light", WIDE),
    "overview-dark": ("/console/overview", "dark", WIDE),
    "overview-narrow": ("/console/overview", "light", NARROW),
    "document": (f"/console/collections/archive/document?key={LATE}", "light", WIDE),
    "document-narrow": (f"/console/collections/archive/document?key={LATE}", "dark", NARROW),
    "search": (SEARCH, "light", WIDE),
    "map": ("/console/collections/handbook/map?color=team", "dark", WIDE),
    "money": ("/console/money", "dark", WIDE),
}


def test_pictures_for_the_documents_are_small(shown, window, request, tmp_path):
    folder = request.config.getoption("--pictures") or tmp_path
    folder.mkdir(exist_ok=True)
    windows = {}
    with a_line_at_the_limit(shown[0]):
        for name, (path, scheme, size) in PICTURES.items():
            key = (scheme, size["width"])
            if key not in windows:
                windows[key] = window(scheme, size)
                windows[key].log_in(TOKEN)
            page = windows[key].open(path)
            if name == "limits":
                page.get_by_text(IN_LINE).wait_for()
            height = page.evaluate("document.body.getBoundingClientRect().height")
            clip = {"x": 0, "y": 0, "width": size["width"], "height": min(size["height"], height)}
            page.screenshot(path=folder / f"console-{name}.png", clip=clip)
            assert (folder / f"console-{name}.png").stat().st_size < 150_000
