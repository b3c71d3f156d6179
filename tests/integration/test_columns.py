"""Fields of the metadata as columns of the view: typed, by the index, and never in the way."""

import json
from datetime import UTC, date, datetime

import pytest

import embedfleet as ef
from embedfleet_schema.database_errors import ViewsInTheWay
from embedfleet_schema.errors import BadArgument, BadFilter, ColumnRefused
from plugins.fleets import ask, drain

TYPES = ("int", "float", "text", "bool", "date", "timestamp")
BIG = 2**63
# A value, and what each type shows of it.
VALUES = [
    (2021, {"int": 2021, "float": 2021.0}),
    (2021.0, {"int": 2021, "float": 2021.0}),
    (1.5, {"float": 1.5}),
    (-BIG, {"int": -BIG, "float": -float(BIG)}),
    (BIG, {"float": float(BIG)}),
    (int("9" * 4_000), {}),
    (1e300, {"float": 1e300}),
    ("2021", {"text": "2021"}),
    ("", {"text": ""}),
    ("9" * 6_000, {"text": "9" * 6_000}),
    ('a "quoted" %s', {"text": 'a "quoted" %s'}),
    (True, {"bool": True}),
    (False, {"bool": False}),
    (
        "2024-02-29",
        {"date": date(2024, 2, 29), "timestamp": datetime(2024, 2, 29, tzinfo=UTC)}
        | {"text": "2024-02-29"},
    ),
    (
        "2024-02-29T23:30:00-05:00",
        {"date": date(2024, 3, 1), "timestamp": datetime(2024, 3, 1, 4, 30, tzinfo=UTC)}
        | {"text": "2024-02-29T23:30:00-05:00"},
    ),
    ("2024-02-30", {"text": "2024-02-30"}),
    ([1], {}),
    ({"a": 1}, {}),
    (None, {}),
]


def enqueue_values(docs, worker):
    docs.enqueue(
        [
            *(
                ef.Document(f"d{n:02}", f"text {n}", dict.fromkeys(TYPES, value))
                for n, (value, _) in enumerate(VALUES)
            ),
            ef.Document("none", "nothing"),
        ]
    )
    drain(worker())


@pytest.mark.parametrize("later", [False, True])
def test_a_column_shows_what_has_its_type_and_null_for_all_else(fleet, docs, worker, later):
    if later:
        enqueue_values(docs, worker)
    for type_ in TYPES:
        docs.add_column(type_, type_)
    if not later:
        enqueue_values(docs, worker)
    assert [(each, each, each) for each in TYPES] == [
        (each.name, each.field, each.type) for each in docs.columns()
    ]
    named = ", ".join(f'"{type_}"' for type_ in TYPES)
    shown = ask(fleet, f"SELECT document, {named} FROM embedfleet.docs ORDER BY document")
    wanted = [
        (f"d{n:02}", *(shows.get(type_) for type_ in TYPES)) for n, (_, shows) in enumerate(VALUES)
    ]
    assert [*wanted, ("none", *[None] * len(TYPES))] == shown
    # What is NULL there without being null.
    wanted_others = {
        type_: sum(value is not None and type_ not in shows for value, shows in VALUES)
        for type_ in TYPES
    }
    assert wanted_others == docs.of_another_type()
    # All is searched as before.
    assert len(VALUES) + 1 == len(docs.search([1.0] * 16, k=50))


@pytest.mark.parametrize("later", [False, True])
def test_a_column_brings_the_index_that_filters_use_once(fleet, docs, worker, later):
    if later:
        enqueue_values(docs, worker)
    docs.add_column("year", "int")
    docs.add_column("$.of.day", "timestamp")
    docs.add_column("lang", "text")
    docs.add_column("year", "int")
    assert ["year", "day", "lang"] == [each.name for each in docs.columns()]
    # They are those of `index_field`, which has nothing left to do, and both come out equal.
    for field, kind in (("year", "number"), ("$.of.day", "date")):
        assert docs.index_field(field, kind) is None
        made = described_indexes(fleet)
        docs.index_field(field, kind, wanted=False)
        assert docs.index_field(field, kind) is not None
        assert made == described_indexes(fleet)
    assert docs.remove_column("day")
    assert not docs.remove_column("day")
    assert docs.index_field("$.of.day", "date") is not None


def described_indexes(fleet):
    return ask(
        fleet,
        "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'embedfleet'"
        " UNION ALL SELECT stxname, pg_get_statisticsobjdef(oid) FROM pg_statistic_ext"
        " ORDER BY 1, 2",
    )


@pytest.mark.parametrize("name", ["id", "document", "position", "content", "metadata", "embedding"])
def test_a_column_of_every_view_is_not_to_be_had(docs, name):
    with pytest.raises(ColumnRefused, match="each view has a column of that name"):
        docs.add_column(f"$.of.{name}", "text")


def test_what_cannot_be_a_column_is_refused_and_nothing_is_made(fleet, docs):
    docs.add_column("year", "int")
    before = described_indexes(fleet)
    with pytest.raises(ColumnRefused, match="it has one of that name, year:int"):
        docs.add_column("year", "float")
    with pytest.raises(ColumnRefused, match="it has one of that name"):
        docs.add_column("$.author.year", "int")
    with pytest.raises(ColumnRefused, match="1 to 63 bytes"):
        docs.add_column("\u00e9" * 32, "int")
    with pytest.raises(BadFilter, match="is no path"):
        docs.add_column("$.a.", "int")
    with pytest.raises(BadArgument, match="int, float, text, bool, date, timestamp"):
        docs.add_column("day", "datetime")
    assert ["year"] == [each.name for each in docs.columns()]
    assert before == described_indexes(fleet)


def test_any_name_can_be_a_column_and_is_only_a_name(fleet, docs, worker):
    names = ['it\'s a "name" %s {x}', "\u00e9" * 31, "Select", "x; DROP TABLE embedfleet.space; --"]
    for name in names:
        docs.add_column(name, "int")
    docs.enqueue([ef.Document("a", "text", {name: n for n, name in enumerate(names)})])
    drain(worker())
    assert names == [each.name for each in docs.columns()]
    assert dict.fromkeys(names, 0) == docs.of_another_type()
    (row,) = ask(fleet, "SELECT * FROM embedfleet.docs")
    assert (0, 1, 2, 3) == row[-4:]


def test_a_removed_column_leaves_the_view_to_who_could_read_it(fleet, docs):
    ask(fleet, "CREATE ROLE reader_of_columns")
    try:
        docs.grant("reader_of_columns", view=True)
        docs.add_column("year", "int")
        docs.add_column("lang", "text")
        rights = "SELECT relacl::text, reloptions FROM pg_class WHERE relname = 'docs'"
        before = ask(fleet, rights)
        ask(fleet, "CREATE VIEW public.mine AS SELECT id, lang FROM embedfleet.docs")
        with pytest.raises(ViewsInTheWay, match="mine"):
            docs.remove_column("year")
        assert ["year", "lang"] == [each.name for each in docs.columns()]
        ask(fleet, "DROP VIEW public.mine")
        assert docs.remove_column("year")
        assert before == ask(fleet, rights)
        ask(fleet, "SELECT lang FROM embedfleet.docs")
    finally:
        ask(fleet, "DROP OWNED BY reader_of_columns")
        ask(fleet, "DROP ROLE reader_of_columns")


def test_a_filter_with_a_range_finds_its_rows_by_the_index_of_a_column(fleet, docs, worker):
    docs.add_column("year", "int")
    docs.enqueue(ef.Document(f"d{n}", f"text {n}", {"year": n}) for n in range(2_000))
    drain(worker(batch_tokens_cpu=65_536))
    ask(fleet, f"ANALYZE embedfleet.{docs.info.chunks}")
    (row,) = ask(
        fleet, "SELECT embedfleet.filter_condition(%s::jsonb)", json.dumps({"year": {"gte": 1990}})
    )
    plan = ask(fleet, f"EXPLAIN SELECT id FROM embedfleet.{docs.info.chunks} WHERE {row[0]}")
    assert f"{docs.info.chunks}_number_" in str(plan)


def test_columns_from_the_command_line(fleet, command):
    words = ["--column", "year:int", "--column", "$.author.born:date"]
    command("collection", "create", "docs", "--model", "fake/16", *words)
    answer = command("collection", "column", "docs", "lang:text")
    assert "docs has the columns year int, born date, lang text" in answer.out
    shown = command("collection", "show", "docs", "--json").json
    assert {"name": "born", "field": "$.author.born", "type": "date", "of_another_type": 0} == (
        shown["columns"][1]
    )
    assert "year int, born date, lang text" in command("collection", "show", "docs").out
    gone = command("collection", "column", "docs", "year", "born", "--remove", "--json").json
    assert (["year", "born"], ["lang"]) == (
        gone["removed"],
        [each["name"] for each in gone["columns"]],
    )
    refused = command("collection", "column", "docs", "year:number")
    assert 2 == refused.code
    assert "'year:number' is no column; write FIELD:TYPE" in refused.err


def test_show_tells_how_many_values_have_another_type(docs, worker, command):
    docs.add_column("year", "int")
    docs.enqueue([ef.Document("a", "one", {"year": "2021"}), ef.Document("b", "two", {"year": 1})])
    drain(worker())
    assert "year int (1 value of another type)" in command("collection", "show", "docs").out


def test_the_table_of_sqlalchemy_has_the_columns(fleet, docs, worker):
    from sqlalchemy import create_engine, select

    for type_ in TYPES:
        docs.add_column(type_, type_)
    enqueue_values(docs, worker)
    table = docs.table()
    engine = create_engine(fleet.settings.database.replace("postgresql:", "postgresql+psycopg:"))
    with engine.connect() as conn:
        statement = select(table.c.document, *(table.c[type_] for type_ in TYPES))
        rows = conn.execute(statement.where(table.c.int > 2_000).order_by(table.c.document))
        assert [
            ("d00", 2021, 2021.0, None, None, None, None),
            ("d01", 2021, 2021.0, None, None, None, None),
        ] == [tuple(row) for row in rows]
    engine.dispose()
