"""Who may do what: each role logs in and runs everything, held against docs/security.md."""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

import embedfleet as ef
from embedfleet.api_keys import digest
from embedfleet.collection import Collection
from embedfleet.evaluation.scratch import PREFIX, comparing, made
from embedfleet.fleet import Fleet
from embedfleet_schema.database import OwnConnection
from embedfleet_schema.database_errors import NotPermitted, RolesRefused
from embedfleet_schema.errors import NotAnswered
from embedfleet_schema.migrate import migrate
from embedfleet_schema.roles import ROLES, renew_grants, set_up_roles
from embedfleet_schema.settings import load_settings
from embedfleet_schema.store import (
    api_keys,
    limits,
    monitoring,
    provider_batch_answers,
    provider_batches,
    query_cache,
    query_requests,
    shares,
    space_checks,
    text_requests,
    usage,
    workers,
)
from embedfleet_schema.store.batches import Batches
from embedfleet_schema.store.idempotency import Once
from embedfleet_schema.store.samples import points
from embedfleet_schema.store.space_checks import SpaceRecord
from embedfleet_schema.store.sweep import sweep
from embedfleet_schema.store.workers import WorkerIdentity
from embedfleet_workers.embedders.fake import fake_vectors
from embedfleet_workers.runtime import Launch, Runtime
from plugins.documents import ROOT
from plugins.fleets import drain
from plugins.servers import fresh_database

PAGE = (ROOT / "docs/security.md").read_text()
PARTS = ("owner", "producer", "worker", "search", "ask", "monitor")
REFUSED = (NotPermitted, RolesRefused, psycopg.errors.InsufficientPrivilege)


def declared(heading: str) -> dict[str, tuple[str, ...]]:
    """The rows of the table on the page whose heading starts so, by their first cell."""
    wanted = rf"^\| {re.escape(heading)} .*\n\|[ |-]+\n((?:\|.*\n)+)"
    (table,) = re.findall(wanted, PAGE, re.MULTILINE)
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table.splitlines()]
    return {first.strip("` "): tuple(cells) for first, *cells in rows}


@pytest.fixture(scope="module")
def admin_url(stack, template_database) -> Iterator[str]:
    """A database where the roles are set up; they go with it."""
    with fresh_database(stack, template_database) as url:
        yield url
    with psycopg.connect(stack.database_url, autocommit=True) as conn:
        for role in ROLES:
            conn.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(role)))


@dataclass
class Scene:
    """What an operation finds: a fleet of some role, one of an administrator, a collection."""

    admin: Fleet
    fleet: Fleet
    name: str = field(default_factory=lambda: f"c{uuid4().hex[:12]}")

    @property
    def prepared(self) -> Collection:
        return self.admin.collection(self.name, model="fake/16")

    @property
    def docs(self) -> Collection:
        return self.fleet.collection(self.name)

    def enqueue(self, fleet: Fleet | None = None) -> ef.Job:
        """Two documents, one of them changed, one refused."""
        docs = (fleet or self.admin).collection(self.name)
        docs.enqueue([ef.Document("a", "first words"), ef.Document("b", "other words")])
        return docs.enqueue([ef.Document("a", "new words"), ef.Document("c", "")])

    def drain(self) -> None:
        batches = Batches(self.admin.db, owner=uuid4(), lease_seconds=60)
        while lease := batches.claim("cpu", price_of=lambda _: 1.0):
            space = lease.collection.space
            batches.commit(lease, fake_vectors(space, lease.texts, "document"))

    def clear(self) -> None:
        with self.admin.db.transaction() as conn:
            conn.execute("UPDATE embedfleet.batch SET state = 'cancelled' WHERE state = 'pending'")

    def lease(self, fleet: Fleet | None = None, seconds: float = 60.0):
        batches = Batches((fleet or self.admin).db, owner=uuid4(), lease_seconds=seconds)
        lease = batches.claim("cpu", price_of=lambda _: 1.0)
        assert lease is not None
        return lease

    def own_of_admin(self) -> Batches:
        return Batches(self.admin.db, owner=uuid4(), lease_seconds=60)

    def own(self) -> Batches:
        return Batches(self.fleet.db, owner=uuid4(), lease_seconds=60)


def search(scene: Scene) -> None:
    scene.drain()
    assert scene.docs.search([1.0] + [0.0] * 15, k=1, where={})
    with scene.fleet.db.transaction() as conn:
        conn.execute(f"SELECT document, content FROM embedfleet.{scene.name}")


def embed_by_http(scene: Scene) -> None:
    info = scene.docs.info
    own = OwnConnection(scene.fleet.db)
    try:
        with suppress(NotAnswered):  # there is no worker
            text_requests.ask(own, info.space_id, info.queue, ["a text"], "query")
        assert [] == text_requests.answers(own, [uuid4()])
        assert 0 == text_requests.withdraw(own, [uuid4()])
    finally:
        own.close()


def make_key(scene: Scene) -> None:
    keys, name = scene.fleet.api_keys, uuid4().hex
    key, _ = keys.create(name, ["search"])
    found = api_keys.find(scene.fleet.db, digest(key))
    assert found is not None
    once = Once(scene.fleet.db, found.id, digest("a request"))
    assert once.begin(digest("what it asks")) is None
    once.extend()
    once.give_up()
    keys.revoke(name)


def draw(scene: Scene) -> None:
    scene.drain()
    _, vectors, total = points(
        scene.fleet.db, scene.docs.info, field="$.lang", limit=5, characters=9
    )
    assert (2, (2, 16)) == (total, vectors.shape)


def compare(scene: Scene) -> None:
    scene.drain()
    # Who may do it waits for a worker, of which there is none.
    with comparing(scene.fleet):
        made(scene.fleet, 1, scene.prepared.info.space, scene.prepared.info.chunking)
    assert not any(each.name.startswith(PREFIX) for each in scene.admin.collections())


def create(scene: Scene) -> None:
    made = scene.fleet.collection(f"n{uuid4().hex[:12]}", model="fake/16", storage="halfvec")
    assert made.counts().vectors == 0


def add_columns(scene: Scene) -> None:
    made = scene.fleet.collection(f"n{uuid4().hex[:12]}", model="fake/16")
    made.add_column("year", "int")
    made.add_column("$.of.lang", "text")
    assert ["year", "lang"] == [each.name for each in made.columns()]


def change_columns(scene: Scene) -> None:
    scene.drain()
    scene.docs.add_column("year", "int")
    assert scene.docs.remove_column("year")


def enqueue(scene: Scene) -> None:
    scene.enqueue(scene.fleet)
    scene.drain()
    assert 2 == scene.enqueue(scene.fleet).status.documents + 1
    pages = [ef.Document("p", "one page"), ef.Document("q", "another page")]
    for given, deleted in ((pages, 0), (pages[:1], 1)):
        done = scene.docs.enqueue(given, source="wiki", mirror=True).enqueued
        assert (deleted, None) == (done.deleted, done.undeleted)


def watch(scene: Scene) -> None:
    assert scene.fleet.jobs()[0].status
    scene.fleet.queues()
    scene.fleet.workers()


def steer(scene: Scene) -> None:
    job = scene.fleet.jobs()[0]
    job.pause()
    job.resume()
    job.cancel()


def resume(scene: Scene) -> None:
    scene.own_of_admin().pause_space(scene.lease(), code="quota", reason="?")
    try:
        assert scene.fleet.resume("fake/16")
    finally:
        scene.admin.resume("fake/16")


def set_limits(scene: Scene) -> None:
    name = limits.LimitName("fake", "", "16")
    limits.set_limits(scene.fleet.db, name, {"requests": 60.0})
    limits.set_limits(scene.fleet.db, name, {"requests": 90.0})
    limits.join_group(scene.fleet.db, "fake", "16", "all")
    assert "all" == limits.leave_group(scene.fleet.db, "fake", "16")
    assert 1 == limits.clear_limits(scene.fleet.db, "fake", "16")


def set_weights(scene: Scene) -> None:
    shares.set_weight(scene.fleet.db, "acme", 2.0)
    shares.set_weight(scene.fleet.db, "acme", 3.0)
    assert shares.clear_weight(scene.fleet.db, "acme")


def read_limits(scene: Scene) -> None:
    with scene.fleet.db.transaction() as conn:
        conn.execute("SELECT amount FROM embedfleet.rate_limit")
        conn.execute("SELECT name FROM embedfleet.limit_group")


def explain(scene: Scene) -> None:
    assert ["c"] == [failure.document for failure in scene.docs.failures()]
    assert "waiting" == scene.docs.explain("a").state


def retry(scene: Scene) -> None:
    Batches(scene.admin.db, owner=uuid4(), lease_seconds=60).fail(
        scene.lease(), code="INPUT_REJECTED", reason="?"
    )
    assert scene.docs.retry() is not None


def delete(scene: Scene) -> None:
    scene.drain()
    assert ["a", "b"] == scene.docs.delete(["a", "b"])


def audit(scene: Scene) -> None:
    scene.clear()
    assert scene.docs.audit(repair=True).missing


def embed_by_sql(scene: Scene) -> None:
    """What is known needs no worker, but the right."""
    vector = fake_vectors(scene.prepared.info.space, ["known words"], "query")[0]
    query_cache.remember(scene.admin.db, scene.prepared.info.space_id, "known words", vector)
    with psycopg.connect(scene.fleet.settings.database, autocommit=True) as conn:
        call = "CALL embedfleet.embed(%s, 'known words', NULL)"
        assert conn.execute(call, [scene.name]).fetchone() is not None


def answer(scene: Scene) -> None:
    with scene.admin.db.transaction() as conn:
        conn.execute(
            "INSERT INTO embedfleet.query_request (space_id, queue, asked_by, text)"
            " VALUES (%s, 'cpu', 'somebody', 'words')",
            [scene.prepared.info.space_id],
        )
    space = scene.prepared.info.space
    with scene.fleet.db.transaction() as conn:
        claimed = query_requests.claim(conn, ["cpu"], loaded=[space], excluding=[])
        query_requests.extend(conn, claimed)
        texts = [each.text for each in claimed]
        query_requests.give(conn, claimed, fake_vectors(space, texts, "query"), [1] * len(texts))
        query_requests.refuse(conn, claimed[0], "?")
        query_requests.give_back(conn, claimed, "?")
        query_requests.forget(conn)
    with scene.admin.db.transaction() as conn:
        assert claimed
        conn.execute("DELETE FROM embedfleet.query_request")


def sign_on(scene: Scene) -> None:
    identity = WorkerIdentity(uuid4(), "host", 1, ["cpu"], 1, "cpu", "0", heartbeat_seconds=15)
    with scene.fleet.db.transaction() as conn:
        workers.register(conn, identity)
        assert workers.beat(conn, identity, batches=1, chunks=1, tokens=1)
        lease = scene.lease()
        assert {lease.id} == scene.own().heartbeat([(lease.id, lease.attempt)], conn)
        workers.leave(conn, identity.id)


def commit(scene: Scene) -> None:
    for together in (False, True):
        scene.drain()
        scene.admin.collection(scene.name).enqueue([ef.Document("a", f"words {together}")])
        lease, own = scene.lease(), scene.own()
        vectors = fake_vectors(lease.collection.space, lease.texts, "document")
        if together:
            own.commit_several([lease, *own.claim_more(lease, "cpu")], vectors)
        else:
            own.commit(lease, vectors)
        assert 0 == scene.prepared.audit().extra


def settle(scene: Scene) -> None:
    own = scene.own()
    own.defer(scene.lease(), delay_s=0, reason="?")
    own.retry(scene.lease(), delay_s=0, reason="?")
    own.split(scene.lease(), reason="?")
    own.fail(scene.lease(), code="INPUT_REJECTED", reason="?")


def set_budgets(scene: Scene) -> None:
    with scene.admin.db.transaction() as conn:
        conn.execute("UPDATE embedfleet.job SET budget_usd = 0.5")


def store_part(scene: Scene) -> None:
    set_budgets(scene)
    lease = scene.lease()
    vectors = fake_vectors(lease.collection.space, lease.texts[:1], "document")
    scene.own().store(lease, [0], vectors, usage.Spending(1, 1, 5, Decimal(1)))
    assert "paused" == scene.admin.job(lease.job_id).status.state


def pause_space(scene: Scene) -> None:
    lease = scene.lease()
    try:
        scene.own().pause_space(lease, code="quota", reason="?")
    finally:
        scene.admin.resume("fake/16")


def file_and_harvest(scene: Scene) -> None:
    with scene.admin.db.transaction() as conn:
        conn.execute(
            "UPDATE embedfleet.batch SET delivery = 'provider_batch' WHERE state = 'pending'"
        )
    db, space_id = scene.fleet.db, scene.prepared.info.space_id
    try:
        assert [(space_id, "fake/16")] == provider_batches.due(db, patience_s=0)
        taken = provider_batches.take(db, space_id, "a model", price=1.0)
        assert taken is not None
        assert provider_batches.touch(db, taken, requests=1, tokens=1, input_file_id="f")
        assert provider_batches.filed(db, taken, "b", "f")
        for lease in provider_batch_answers.leases(db, taken.id):
            refused = {lease.text_ids[0]: provider_batch_answers.Failed("INPUT_REJECTED", "?")}
            provider_batch_answers.settle(db, lease, refused, "?")
        assert not provider_batch_answers.leases(db, taken.id)
        assert provider_batches.finish(db, taken, {None: usage.Spending(1, 1, 5, Decimal(1))})
    finally:
        scene.clear()


def sweep_once(scene: Scene) -> None:
    set_budgets(scene)
    scene.lease(seconds=-1.0)
    swept = sweep(scene.fleet.db)
    assert swept is not None
    assert swept.reclaimed


def record_model(scene: Scene) -> None:
    space = scene.prepared.info.space
    vectors = fake_vectors(space, ["one", "one"], "document")
    space_checks.record(scene.fleet.db, space, SpaceRecord({"file": "digest"}, ["one"], vectors))


def export(scene: Scene) -> None:
    scene.drain()
    with TemporaryDirectory() as folder:
        assert 2 == scene.docs.export(Path(folder) / "docs.csv").chunks


def import_vectors(scene: Scene) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        path.write_text(json.dumps({"id": "i", "text": "i", "embedding": [1.0] + [0.0] * 15}))
        assert 1 == scene.docs.import_vectors(path, model="fake/16").enqueued.imported


def expose(scene: Scene) -> None:
    scene.docs.expose()
    assert scene.docs.unexpose()


def change_names(scene: Scene) -> None:
    docs = scene.docs
    docs.rename(f"{scene.name}_a")
    docs.rename(scene.name)
    # Nothing is left that a worker would have to embed: there is none.
    scene.drain()
    docs.delete(["a", "b"])
    other = scene.fleet.collection(f"{scene.name}_b", model="fake/24")
    docs.swap(other.name)
    docs.swap(f"{scene.name}_b")
    docs.migrate("fake/24")
    docs.migrate_back()
    docs.migrate_finish()


def measure_recall(scene: Scene) -> None:
    scene.drain()
    scene.prepared.index(memory_mb=8, workers=0)
    assert 1.0 == scene.docs.recall(queries=2).recall


def follow_table(scene: Scene) -> None:
    """Of somebody who lets everybody read it and create triggers on it."""
    rows = f"rows_of_{scene.name}"
    with scene.admin.db.transaction() as conn:
        conn.execute(f"CREATE TABLE public.{rows} (id int PRIMARY KEY, body text)")
        conn.execute(f"INSERT INTO public.{rows} VALUES (1, 'one'), (2, 'two')")
        conn.execute(f"GRANT SELECT, TRIGGER ON public.{rows} TO PUBLIC")
    sync = scene.fleet.sync(scene.prepared.name, table=rows, key="id", text="body")
    try:
        assert 2 == sync.catch_up().backfilled
        with scene.admin.db.transaction() as conn:
            conn.execute(f"UPDATE public.{rows} SET body = 'three' WHERE id = 2")
        assert 1 == sync.status.behind
        sync.catch_up()
        assert 0 == sync.verify().differences
    finally:
        sync.drop()


OPERATIONS: dict[str, Callable[[Scene], object]] = {
    "open and list collections": lambda scene: (scene.docs, scene.fleet.collections()),
    "search, and read the view with SQL": search,
    "have texts embedded by SQL": embed_by_sql,
    "have texts embedded by HTTP": embed_by_http,
    "make and revoke keys of the HTTP API": make_key,
    "evaluate searches": lambda scene: (scene.drain(), scene.docs.eval(sample=2)),
    "draw a map": draw,
    "compare models and sizes of chunks": compare,
    "create a collection": create,
    "give a new collection columns": add_columns,
    "give a filled collection columns, and remove one": change_columns,
    "plan an enqueue": lambda scene: scene.docs.plan([ef.Document("d", "fourth words")]),
    "enqueue documents": enqueue,
    "export a collection": export,
    "import vectors": import_vectors,
    "change a template": lambda scene: scene.docs.set_template("{key} {content}"),
    "watch jobs, queues and workers": watch,
    "export metrics": lambda scene: monitoring.samples(scene.fleet.db),
    "pause, resume and cancel a job": steer,
    "resume a model that was paused": resume,
    "set and clear rate limits": set_limits,
    "set and clear weights of tenants": set_weights,
    "read rate limits": read_limits,
    "read what was spent": lambda scene: usage.by_day(scene.fleet.db),
    "list failures and explain a document": explain,
    "retry failures": retry,
    "delete documents": delete,
    "audit and repair": audit,
    "register and send heartbeats as a worker": sign_on,
    "claim a batch": lambda scene: scene.lease(scene.fleet),
    "commit a batch": commit,
    "store a part of a batch, and what it cost": store_part,
    "answer who has a text embedded": answer,
    "defer, retry, split and fail a batch": settle,
    "pause a model that its provider refuses": pause_space,
    "file batches with a provider, and settle the answers": file_and_harvest,
    "record what a model is": record_model,
    "compare a model with its record": lambda scene: space_checks.find(
        scene.fleet.db, scene.prepared.info.space
    ),
    "sweep": sweep_once,
    "expose a collection to another library": expose,
    "build an index": lambda scene: scene.docs.index(memory_mb=8, workers=0),
    "set how far an index is searched": lambda scene: scene.docs.set_index(ef_search=200),
    "let an index follow the loads": lambda scene: scene.docs.set_index(policy="auto"),
    "measure what an index finds": measure_recall,
    "rename and swap collections, change the model of one": change_names,
    "drop a collection": lambda scene: scene.prepared and scene.docs.drop(),
    "have a collection follow a table, compare the two, and stop it": follow_table,
    "migrate": lambda scene: migrate(scene.fleet.settings.database),
}


@pytest.fixture(scope="module")
def fleets(admin_url, stack) -> Iterator[dict[str, Fleet]]:
    """A fleet for a user of each role, and one for the administrator."""
    set_up_roles(admin_url)
    opened: dict[str, Fleet] = {}
    given = {"redis_url": "redis://127.0.0.1:1/0", "batch_tokens_cpu": 8_192}
    with psycopg.connect(admin_url, autocommit=True) as conn:
        for part in PARTS:
            user = f"test_{part}"
            conn.execute(f"CREATE ROLE {user} LOGIN PASSWORD 'pw' IN ROLE embedfleet_{part}")
            parts = urlsplit(admin_url)
            login = parts._replace(netloc=f"{user}:pw@{parts.hostname}:{parts.port}")
            opened[part] = Fleet(load_settings(database_url=login.geturl(), **given))
        opened["admin"] = Fleet(load_settings(database_url=admin_url, **given))
        yield opened
        for fleet in opened.values():
            fleet.close()
        for part in PARTS:
            conn.execute(f"DROP OWNED BY test_{part}; DROP ROLE test_{part}")


def test_who_is_a_producer_and_a_worker_may_import(fleets, admin_url):
    with psycopg.connect(admin_url, autocommit=True) as conn:
        conn.execute("GRANT embedfleet_worker TO test_producer")
        try:
            scene = Scene(fleets["admin"], fleets["producer"])
            assert scene.prepared
            import_vectors(scene)
        finally:
            conn.execute("REVOKE embedfleet_worker FROM test_producer")


def test_the_search_role_reads_what_is_exposed(fleets):
    scene = Scene(fleets["admin"], fleets["search"])
    assert scene.prepared
    scene.enqueue()
    scene.drain()
    view = scene.prepared.expose()
    with scene.fleet.db.transaction() as conn:
        assert 2 == len(conn.execute(f"SELECT text FROM embedfleet.{view}").fetchall())


def test_the_page_and_the_test_name_the_same_operations():
    assert list(OPERATIONS) == list(declared("|"))


@pytest.mark.parametrize("part", PARTS)
def test_a_role_may_do_exactly_what_the_page_says(part, fleets):
    found = {}
    for name, operation in OPERATIONS.items():
        scene = Scene(fleets["admin"], fleets[part])
        scene.clear()
        assert scene.prepared
        scene.enqueue()
        try:
            operation(scene)
            found[name] = "yes"
        except REFUSED:
            found[name] = "-"
    column = PARTS.index(part)
    assert {name: cells[column] for name, cells in declared("|").items()} == found


def test_a_producer_a_worker_and_a_searcher_do_the_whole_job(fleets):
    name = f"c{uuid4().hex[:12]}"
    docs = fleets["producer"].collection(name, model="fake/16")
    job = docs.enqueue([ef.Document(f"d{n}", f"text number {n}", {"number": n}) for n in range(50)])
    runtime = Runtime(fleets["worker"].settings, Launch(("cpu",), 1, 1))
    runtime.start()
    assert {"done"} == set(drain(runtime))
    runtime.stop()
    assert (50, 0) == (job.status.embedded, job.status.queued)
    found = fleets["search"].collection(name)
    for _ in range(2):
        assert 50 == len(found.search("any words", k=100))
        assert ["d7"] == [hit.document for hit in found.search("any words", where={"number": 7})]
        fleets["owner"].collection(name).index(memory_mb=8, workers=0)


RIGHTS = """
SELECT c.relname, c.relkind::text, a.grantee::regrole::text, a.privilege_type
FROM pg_class AS c CROSS JOIN LATERAL aclexplode(c.relacl) AS a
WHERE c.relnamespace = 'embedfleet'::regnamespace AND a.grantee <> c.relowner
UNION ALL
SELECT c.relname, c.relkind::text, a.grantee::regrole::text,
    a.privilege_type || ' (' || t.attname || ')'
FROM pg_class AS c
JOIN pg_attribute AS t ON t.attrelid = c.oid
CROSS JOIN LATERAL aclexplode(t.attacl) AS a
WHERE c.relnamespace = 'embedfleet'::regnamespace AND a.grantee <> c.relowner
"""


def test_the_rights_in_the_catalog_are_those_of_the_page(fleets):
    fleets["producer"].collection("granted", model="fake/16")
    with fleets["admin"].db.transaction() as conn:
        conn.execute("GRANT TRUNCATE ON embedfleet.batch TO embedfleet_search")
    renew_grants(fleets["admin"].settings.database)
    with fleets["admin"].db.transaction() as conn:
        rights = conn.execute(RIGHTS).fetchall()
    found: dict[tuple[str, str], set[str]] = {}
    for relation, kind, role, right in rights:
        of_ours = kind != "v" or relation == "batch_standing"
        name = relation if of_ours else "view of a collection"
        if relation.startswith("_"):
            name = f"{relation.split('_')[1]} of a collection"
        found.setdefault((name, role.removeprefix("embedfleet_")), set()).add(right)
    expected = {
        (table, role): set(cell.split(", "))
        for table, cells in declared("table").items()
        for role, cell in zip(PARTS[1:], cells, strict=True)
        if cell != "-"
    }
    assert expected == found


def test_rights_are_renewed_beside_a_reader_and_mend_a_policy_of_the_fleet(fleets):
    docs = fleets["producer"].collection("mended", model="fake/16")
    policy = (
        "SELECT polroles::regrole[]::text FROM pg_policy"
        f" WHERE polname = 'fleet' AND polrelid = 'embedfleet.{docs.info.texts}'::regclass"
    )
    url = fleets["admin"].settings.database
    with fleets["admin"].db.transaction() as conn:
        conn.execute(f"ALTER POLICY fleet ON embedfleet.{docs.info.texts} TO embedfleet_producer")
    renew_grants(url)
    with fleets["admin"].db.transaction() as conn:
        assert ("{embedfleet_producer,embedfleet_worker}",) == conn.execute(policy).fetchone()
    with fleets["search"].db.transaction() as conn:
        conn.execute("SELECT FROM embedfleet.mended")
        renew_grants(url)


def test_everything_belongs_to_the_owner_role_and_nobody_else_may_call_its_functions(fleets):
    fleets["producer"].collection("owned", model="fake/16")
    with fleets["admin"].db.transaction() as conn:
        owners = conn.execute(
            "SELECT DISTINCT relowner::regrole::text FROM pg_class"
            " WHERE relnamespace = 'embedfleet'::regnamespace"
        ).fetchall()
        functions = conn.execute(
            "SELECT proname, proowner::regrole::text, prosecdef, proconfig,"
            " ARRAY(SELECT grantee::regrole::text"
            "  FROM aclexplode(coalesce(proacl, acldefault('f', proowner)))"
            "  WHERE grantee <> proowner) AS grantees"
            " FROM pg_proc WHERE pronamespace = 'embedfleet'::regnamespace ORDER BY 1"
        ).fetchall()
    path = "search_path=pg_catalog, pg_temp"
    everybody = ["-"]
    assert [("embedfleet_owner",)] == owners
    assert {"embedfleet_owner"} == {owner for _, owner, *_ in functions}
    # A procedure that commits can have none.
    assert ["embed"] == [name for name, *_, settings, _ in functions if not settings]
    assert all(settings[0] == path for *_, settings, _ in functions if settings)
    found = {(name, definer): grantees for name, _, definer, _, grantees in functions}
    # Those that anybody may call run with the rights of who calls them, but for one that tells what
    # the catalog tells.
    assert {
        ("add_column", True): ["embedfleet_producer"],
        ("answer", True): ["embedfleet_ask"],
        ("answers", True): ["embedfleet_producer"],
        ("as_bool", False): everybody,
        ("as_date", False): everybody,
        ("as_float", False): everybody,
        ("as_int", False): everybody,
        ("as_text", False): everybody,
        ("ask", True): ["embedfleet_ask"],
        ("ask_many", True): ["embedfleet_producer"],
        ("changed_documents", True): [
            "embedfleet_producer",
            "embedfleet_worker",
            "embedfleet_search",
        ],
        ("check_reader", False): everybody,
        ("clusters", False): everybody,
        ("column_expression", False): everybody,
        ("commit_refusal", False): everybody,
        ("compared", True): ["embedfleet_search"],
        ("create_filter_index", True): ["embedfleet_producer"],
        ("create_relations", True): ["embedfleet_producer"],
        ("create_sync_function", True): ["embedfleet_producer"],
        ("create_tables", False): [],
        ("diverse", False): everybody,
        ("drop_sync_function", True): ["embedfleet_producer"],
        ("duplicates", False): everybody,
        ("embed", False): everybody,
        ("expected_rows", False): [],
        ("filter_comparison", False): everybody,
        ("filter_condition", False): everybody,
        ("filter_keys", False): everybody,
        ("filter_plain", False): everybody,
        ("filter_test", False): everybody,
        ("grant_relations", False): [],
        ("grant_view", False): [],
        ("hide_drafts", False): [],
        ("hybrid_search", False): everybody,
        ("index_column", True): ["embedfleet_producer"],
        ("instant", False): everybody,
        ("looked_at", False): everybody,
        ("matched", False): everybody,
        ("matched_by_owner", True): ["embedfleet_search"],
        ("near_texts", False): everybody,
        ("nearest_documents", False): everybody,
        ("neighbours", False): everybody,
        ("note_change", True): [],
        ("remove_column", False): [],
        ("restore_scan", False): everybody,
        ("search", False): everybody,
        ("set_scan", False): everybody,
        ("show_as", False): [],
        ("similar", False): everybody,
        ("space_of", True): everybody,
        ("text_language", False): everybody,
        ("vector_indexes", False): everybody,
        ("view_of", False): [],
        ("withdraw", True): ["embedfleet_producer"],
    } == found


def test_a_searcher_sees_live_texts_and_no_more_below_the_view(fleets):
    scene = Scene(fleets["admin"], fleets["search"])
    assert scene.prepared
    scene.enqueue()
    scene.drain()
    scene.prepared.enqueue([ef.Document("b", "a draft"), ef.Document("d", "another")])
    with scene.fleet.db.transaction() as conn:
        rows = conn.execute(f"SELECT document, content FROM embedfleet.{scene.name} ORDER BY 1")
        assert [("a", "new words"), ("b", "other words")] == rows.fetchall()
    info = scene.prepared.info
    for table in info.tables:
        with scene.fleet.db.transaction() as conn:
            assert (2,) == conn.execute(f"SELECT count(*) FROM embedfleet.{table}").fetchone()
        with pytest.raises(NotPermitted, match=table), scene.fleet.db.transaction() as conn:
            conn.execute(f"SELECT ctid, * FROM embedfleet.{table}")
    # Which is not what others of the fleet see.
    for part in ("producer", "worker"):
        with fleets[part].db.transaction() as conn:
            for table, rows in ((info.documents, 3), (info.chunks, 4), (info.texts, 4)):
                assert (rows,) == conn.execute(
                    f"SELECT count(*) FROM embedfleet.{table}"
                ).fetchone()


def test_the_fleet_passes_the_policies_by(fleets):
    """Or each of its statements would ask for every row whether it is live."""
    scene = Scene(fleets["admin"], fleets["search"])
    table = scene.prepared.info.texts
    for part, asked in (("producer", False), ("worker", False), ("owner", False), ("search", True)):
        with fleets[part].db.transaction() as conn:
            plan = conn.execute(f"EXPLAIN SELECT content FROM embedfleet.{table}").fetchall()
        assert asked == ("SubPlan" in str(plan)), part


def test_a_producer_cannot_make_the_function_create_something_else(fleets):
    with fleets["producer"].db.transaction() as conn:
        (space_id,) = conn.execute("SELECT min(id) FROM embedfleet.space").fetchone()
        insert = (
            "INSERT INTO embedfleet.collection (name, space_id, chunk_size, chunk_overlap,"
            " chunk_mode, tokenizer, queue) VALUES (%s, %s, 0, 0, 'text', '', 'cpu') RETURNING id"
        )
        for name, error in (
            ('x"; DROP TABLE embedfleet.batch; --', psycopg.errors.CheckViolation),
            ("batch", psycopg.errors.DuplicateTable),
            ("_vectors_1_1", psycopg.errors.CheckViolation),
        ):
            with pytest.raises(error), conn.transaction():  # noqa: PT012 - either may refuse it
                (made,) = conn.execute(insert, (name, space_id)).fetchone()
                conn.execute("SELECT embedfleet.create_relations(%s)", (made,))


def test_a_user_without_a_role_is_told_in_one_line(fleets):
    url = urlsplit(fleets["admin"].settings.database)
    with psycopg.connect(url.geturl(), autocommit=True) as conn:
        conn.execute("CREATE ROLE test_nobody LOGIN PASSWORD 'pw'")
        login = url._replace(netloc=f"test_nobody:pw@{url.hostname}:{url.port}").geturl()
        try:
            with Fleet(load_settings(database_url=login)) as fleet:
                with pytest.raises(NotPermitted, match="permission denied for schema") as caught:
                    fleet.collections()
                assert "docs/security.md" in str(caught.value)
                with pytest.raises(RolesRefused, match="CREATEROLE"):
                    set_up_roles(login)
        finally:
            conn.execute("DROP ROLE test_nobody")


def test_without_the_roles_nothing_is_granted_and_one_user_does_all(migrated_url, fleets):
    with Fleet(load_settings(database_url=migrated_url)) as fleet:
        fleet.collection("alone", model="fake/16")
        with fleet.db.transaction() as conn:
            assert [] == conn.execute(RIGHTS).fetchall()
