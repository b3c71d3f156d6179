"""The pages of the console, without a browser: who is let in, what is escaped, what is refused."""

import re
from html import unescape

from embedfleet.web.pages.rendering import POLICY, ROOT
from embedfleet.web.pages.routing import ACTIONS, LOOKS
from embedfleet_schema.types import Document
from plugins.command_line import POISON
from plugins.consoles import HERE, TOKEN, client_of, csrf_of
from plugins.fleets import ask, drain, filled_by

ATTACK = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"
KEY = f"{ATTACK}/../\u202etxt.md?key=#%&+ é"


def fill(fleet, worker):
    docs = fleet.collection("docs", model="fake/16")
    hostile = Document(KEY, f"{ATTACK} a text", {ATTACK: ATTACK}, source=ATTACK)
    docs.enqueue(
        [hostile, Document("twin", f"{ATTACK} a text"), Document("bad", f"{ATTACK} {POISON}")]
    )
    drain(worker(fake_faults=f"poison={POISON}"))
    docs.enqueue([Document(f"{ATTACK} empty", "")], tenant=ATTACK)
    waiting = fleet.collection("waiting", model="fake/16")
    waiting.enqueue([Document("late", "a late text")]).pause()


copied_database = filled_by(fill)


def addresses(fleet) -> list[str]:
    """One of each page."""
    (job,) = ask(fleet, "SELECT max(id) FROM embedfleet.job")[0]
    paths = [path.replace("{name}", "docs").replace("{job:int}", str(job)) for path in LOOKS]
    return [ROOT + path for path in paths]


def test_a_browser_without_a_session_gets_no_page_but_the_one_that_asks_for_the_token(fleet):
    with client_of(fleet, signed_in=False) as client:
        for address in addresses(fleet):
            answer = client.get(address)
            assert (303, f"{ROOT}/login?after=") == (
                answer.status_code,
                answer.headers["location"][: len(ROOT) + 13],
            )
            renewed = client.get(address, headers={"HX-Request": "true"})
            assert (401, "true", b"") == (
                renewed.status_code,
                renewed.headers["hx-refresh"],
                renewed.content,
            )
        for path in ACTIONS:
            address = ROOT + path.replace("{name}", "docs").replace("{job:int}", "1")
            assert 303 == client.post(address).status_code
        for token in ("", "wrong", TOKEN + "x", "\ud800".encode("utf-8", "surrogatepass")):
            refused = client.post(f"{ROOT}/login", data={"token": token})
            assert (403, None) == (refused.status_code, refused.headers.get("set-cookie"))
        elsewhere = {"origin": "https://evil.example"}
        refused = client.post(f"{ROOT}/login", data={"token": TOKEN}, headers=elsewhere)
        assert (403, None) == (refused.status_code, refused.headers.get("set-cookie"))
        let_in = client.post(f"{ROOT}/login", data={"token": TOKEN})
        cookie = let_in.headers["set-cookie"].lower()
        assert {"httponly", "samesite=strict"} <= set(cookie.split("; "))
        assert 200 == client.get(f"{ROOT}/overview").status_code
        client.post(f"{ROOT}/logout", data={"csrf": csrf_of(client)})
        assert 303 == client.get(f"{ROOT}/overview").status_code


def test_the_login_leads_to_pages_of_the_console_alone(fleet):
    asked = {
        "/console/jobs?before=3": "/console/jobs?before=3",
        "https://evil.example/": "/console/overview",
        "//evil.example/": "/console/overview",
        "/elsewhere": "/console/overview",
        "/console/\r\nset-cookie: a=b": "/console/%0D%0Aset-cookie:%20a=b",
    }
    with client_of(fleet, signed_in=False) as client:
        for after, leads_to in asked.items():
            answer = client.post(f"{ROOT}/login", params={"after": after}, data={"token": TOKEN})
            assert (303, leads_to) == (answer.status_code, answer.headers["location"])


def test_what_others_wrote_is_text_on_every_page_and_no_page_has_anything_inline(fleet, worker):
    worker()
    found = [f"{ROOT}/find?key=nowhere&collection=docs"]
    found += [
        f"{ROOT}/collections/docs/{path}"
        for path in (
            'search?q=text&where={"document":"twin"}',
            "duplicates?threshold=0.5",
            "map?color=" + ATTACK.replace("<", "%3C"),
            "documents?prefix=%3Cscript",
        )
    ]
    with client_of(fleet, allow_actions=True) as client:
        document = client.get(f"{ROOT}/collections/docs/document", params={"key": KEY})
        answers = [document, *map(client.get, [*addresses(fleet), *found])]
        answers += [
            client.get(
                f"{ROOT}/collections/docs/search",
                params={"q": ATTACK, "where": ATTACK, "k": ATTACK},
            ),
            client.get(f"{ROOT}/collections/docs/search", params={"q": ATTACK}),
            client.get(f"{ROOT}/collections/{ATTACK.replace('/', '')}"),
            client.get(f"{ROOT}/find", params={"key": ATTACK}),
            client.get(f"{ROOT}/find", params={"key": "late", "collection": ATTACK}),
            client.get(f"{ROOT}/collections", params={"part": ATTACK}),
        ]
    assert 200 == document.status_code
    assert KEY in unescape(document.text)
    seen = 0
    for answer in answers:
        if answer.status_code == 303:
            continue
        assert POLICY == answer.headers["content-security-policy"], answer.url
        assert "no-store" == answer.headers["cache-control"]
        text = answer.text
        assert "<script>alert" not in text
        assert "<img" not in text
        # Every attribute that a browser would run.
        assert not re.search(r"<[a-z][^>]*\son\w+\s*=", re.sub(r'"[^"]*"', '""', text)), answer.url
        assert not re.search(r"\sstyle=|javascript:|<style", re.sub(r'"[^"]*"', '""', text))
        assert {"htmx.min.js", "console.js"} == {
            each.partition("?")[0]
            for each in re.findall(r'<script src="/console/static/([^"]+)"', text)
        }
        assert 2 == text.count("<script")
        seen += "&lt;script&gt;alert" in text
    assert seen >= 8


MEANINGLESS = [
    *("jobs?before=0", "jobs?before=x", f"jobs?before={10**30}", "jobs?collection=nope"),
    *("jobs?collection=%00", "jobs/99999", f"jobs/{10**30}", "jobs/0", "money?days=0"),
    *("money?days=9999999", "collections/nope", "collections/%00", "collections/UPPER"),
    *("collections/docs/document?key=%00", "find?key=%00"),
    *("find?key=%ed%a0%80", "find?key=x&collection=%00", "collections?part=%00&after=%00"),
    *(f"collections/docs/search?q=x&{rest}" for rest in ("k=0", "k=101", "where=%5B%5D")),
    "collections/docs/search?q=x&where=%7B%22a%22%3ANaN%7D",
    "collections/docs/search?q=%00&where=%7B%22%00%22%3A1%7D",
    "collections/docs/search?q=x&where=" + "[" * 5_000,
    *(f"collections/docs/duplicates?threshold={threshold}" for threshold in ("x", "nan", "2")),
    *("collections/docs/map?color=%24..", "collections/docs/map?color=%00"),
    "collections/docs/documents?prefix=%00&after=%00",
    *("static/..%2f..%2fvisits.py", "static/nope.js"),
]


def test_what_cannot_be_meant_is_refused_with_a_sentence(fleet):
    with client_of(fleet) as client:
        for query in MEANINGLESS:
            answer = client.get(f"{ROOT}/{query}")
            assert answer.status_code in (200, 400, 404), (query, answer.text)
        nameless = client.get(f"{ROOT}/collections/docs/document?key=")
    assert f"{ROOT}/collections/docs/documents" == nameless.headers["location"]


def test_an_action_needs_the_switch_and_a_form_of_the_session(fleet):
    docs = fleet.collection("waiting")
    (job,) = fleet.jobs(limit=1)
    assert ("paused", "waiting") == (job.status.state, docs.name)
    address = f"{ROOT}/jobs/{job.id}/resume"
    with client_of(fleet) as client:
        form = {"csrf": csrf_of(client)}
        refused = client.post(address, data=form)
        assert (403, True) == (refused.status_code, "--allow-actions" in refused.text)
        assert 'action="' + address not in client.get(f"{ROOT}/jobs/{job.id}").text
        assert 405 == client.get(address).status_code
    with client_of(fleet, allow_actions=True) as client:
        form = {"csrf": csrf_of(client)}
        for wrong, headers in (
            ({}, {}),
            ({"csrf": "x"}, {}),
            (form, {"origin": "https://evil.example"}),
            (form, {"origin": "null"}),
            (form, {"origin": HERE + ".evil.example"}),
            ({**form, "more": "x" * 200_000}, {}),
        ):
            assert 403 == client.post(address, data=wrong, headers=headers).status_code
        assert "paused" == job.status.state
        assert 403 == client.post(address, json=form).status_code
        done = client.post(address, data=form)
        assert (303, f"{ROOT}/jobs/{job.id}") == (done.status_code, done.headers["location"])
        assert "running" == job.status.state
        client.post(f"{ROOT}/jobs/{job.id}/pause", data=form)
        assert "paused" == job.status.state
        assert 400 == client.post(address, data={**form, "budget": "much"}).status_code
        client.post(f"{ROOT}/jobs/{job.id}/cancel", data=form)
        assert "cancelled" == job.status.state
        retried = client.post(f"{ROOT}/collections/docs/retry", data=form)
        assert retried.headers["location"].startswith(f"{ROOT}/jobs/")
        again = client.post(f"{ROOT}/collections/docs/retry", data=form)
        assert f"{ROOT}/collections/docs/failures?nothing=1" == again.headers["location"]
        assert "nothing to retry" in client.get(again.headers["location"]).text
        assert (
            400 == client.post(f"{ROOT}/models/resume", data={**form, "model": "nope"}).status_code
        )


def test_the_sql_that_is_shown_gives_the_rows_that_are_shown(fleet):
    with client_of(fleet) as client:
        query = {"q": "what is a text?", "k": "2", "where": '{"document": {"prefix": "t"}}'}
        shown = client.get(f"{ROOT}/collections/docs/search", params=query).text
    statement = unescape(re.search(r'<pre id="statement"[^>]*>(.*?)</pre>', shown, re.DOTALL)[1])
    hits = re.findall(
        r'class="score">([^<]+)</strong> <a class="theirs" href="[^"]+">([^<]+)', shown
    )

    with fleet.db.transaction() as conn:
        rows = conn.execute(statement).fetchall()

    assert [(f"{row[5]:.3f}", row[1]) for row in rows] == hits
    assert ["twin"] == [row[1] for row in rows]


def test_a_key_leads_to_its_document_from_wherever_it_is(fleet):
    with client_of(fleet) as client:
        one = client.get(f"{ROOT}/find", params={"key": "late"})
        assert (303, f"{ROOT}/collections/waiting/document?key=late") == (
            one.status_code,
            one.headers["location"],
        )
        fleet.collection("waiting").enqueue([Document("twin", "another")])
        both = client.get(f"{ROOT}/find", params={"key": "twin"}).text
        assert "It is in 2 collections" in both
        assert "Keys that begin with it" in client.get(f"{ROOT}/find", params={"key": "tw"}).text
        page = client.get(f"{ROOT}/find", params={"key": KEY}, follow_redirects=True)
        assert (200, True) == (page.status_code, KEY in unescape(page.text))
