"""The limits of providers on the command line, and in running processes."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

import pytest

from embedfleet.fleet import Fleet
from embedfleet_schema.store import limits
from embedfleet_schema.store.limits import LimitName
from embedfleet_schema.types import Document
from embedfleet_workers.rate_limits import registry as registry_module
from embedfleet_workers.rate_limits.registry import LimiterRegistry
from embedfleet_workers.stop import Stop

if TYPE_CHECKING:
    from plugins.command_line import Command

MODEL = "openai/text-embedding-3-small"
ACCOUNT = "0123456789abcdef"


def test_a_limit_is_set_shown_and_cleared(command: Command):
    done = command("limits", "set", MODEL, "--requests", 5000, "--tokens", 5_000_000)
    assert f"{MODEL}: 5,000 requests/min, 5e+06 tokens/min\n" == done.out
    (shown,) = command("limits", "show", "--json").json
    assert (MODEL, "", 5_000.0, 5_000_000.0) == (
        shown["name"],
        shown["account"],
        shown["dimensions"]["requests"]["quota"],
        shown["dimensions"]["tokens"]["quota"],
    )
    assert "5,000,000" in command("limits", "show", MODEL).out
    assert f"{MODEL}: nothing is set any more\n" == command("limits", "clear", MODEL).out
    assert f"{MODEL}: nothing was set\n" == command("limits", "clear", MODEL).out
    assert "no limits are set" in command("limits", "show").out


def test_setting_one_dimension_leaves_the_others(command: Command):
    command("limits", "set", MODEL, "--requests", 100, "--concurrency", 2)
    command("limits", "set", MODEL, "--requests", 200)
    (shown,) = command("limits", "show", "--json").json
    quotas = {name: each["quota"] for name, each in shown["dimensions"].items()}
    assert {"requests": 200.0, "concurrency": 2.0} == quotas


def test_models_of_a_group_draw_on_one_limit(command: Command, fleet: Fleet):
    large = "openai/text-embedding-3-large"
    command("limits", "set", MODEL, "--group", "embeddings")
    command("limits", "set", large, "--group", "embeddings", "--tokens", 1_000_000)
    (shown,) = command("limits", "show", MODEL, "--json").json
    assert ("openai/embeddings", [large, MODEL]) == (shown["name"], shown["models"])
    registry = LimiterRegistry(None, partial(limits.read, fleet.db))
    keys = {str(registry.limiter(*name.split("/"), ACCOUNT).key) for name in (MODEL, large)}
    assert {f"openai/{ACCOUNT}/embeddings"} == keys
    command("limits", "clear", MODEL)
    assert str(
        LimiterRegistry(None, partial(limits.read, fleet.db))
        .limiter("openai", MODEL.split("/")[1], ACCOUNT)
        .key
    ) == (f"openai/{ACCOUNT}/text-embedding-3-small")


def test_what_is_set_for_one_account_wins_over_what_is_set_for_all(fleet: Fleet):
    fleet.limits.set(MODEL, {"requests": 100.0, "tokens": 1_000.0})
    fleet.limits.set(MODEL, {"requests": 7.0}, account=ACCOUNT)
    book = limits.read(fleet.db)
    assert {"requests": 7.0, "tokens": 1_000.0} == book.quotas(
        "openai", ACCOUNT, "text-embedding-3-small"
    )
    fleet.limits.clear(MODEL, account=ACCOUNT)
    assert [LimitName("openai", "", "text-embedding-3-small")] == list(limits.read(fleet.db).limits)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["all-MiniLM-L6-v2", "--requests", 5], "limits are those of a provider's API (openai,"),
        (["acme/model", "--requests", 5], "limits are those of a provider's API"),
        ([MODEL], "give a limit: --requests, --tokens, --inputs or --concurrency"),
        ([MODEL, "--tokens", 0], "a limit is a number above 0"),
        ([MODEL, "--tokens", "nan"], "a limit is a number above 0"),
        ([MODEL, "--tokens", "inf"], "a limit is a number above 0"),
        ([MODEL, "--tokens", 5, "--account", "sk-secret"], "is not an account"),
    ],
)
def test_what_cannot_be_a_limit_is_refused(command: Command, words: list[object], says: str):
    done = command("limits", "set", *words)
    assert 2 == done.code
    assert says in done.err


def test_what_running_processes_do_is_shown(command: Command, fleet: Fleet):
    fleet.limits.set(MODEL, {"tokens": 60_000.0})

    async def work() -> None:
        registry = LimiterRegistry(fleet.settings.redis, partial(limits.read, fleet.db))
        limiter = registry.limiter("openai", "text-embedding-3-small", ACCOUNT)
        admission = await limiter.admit({"requests": 1, "tokens": 600}, max_wait_s=5)
        await admission.rate_limited(3_600.0)
        await limiter.stop(Stop("INSUFFICIENT_QUOTA", "no money is left"))
        await registry.close()

    asyncio.run(work())
    (shown,) = command("limits", "show", "--json").json
    tokens = shown["dimensions"]["tokens"]
    assert (ACCOUNT, 60_000.0, 59_100.0) == (
        shown["account"],
        tokens["quota"],
        tokens["effective"],
    )
    assert shown["paused_s"] > 3_000
    said = command("limits", "show").out
    assert "the provider answered 429, asking for 3600.00 s" in said
    assert "stopped by" in said
    assert "INSUFFICIENT_QUOTA: no money is left" in said


def test_without_redis_what_was_set_is_shown_all_the_same(
    command: Command, monkeypatch: pytest.MonkeyPatch
):
    command("limits", "set", MODEL, "--tokens", 1_000)
    monkeypatch.setenv("EMBEDFLEET_REDIS_URL", "redis://127.0.0.1:1/0")
    shown = command("limits", "show")
    assert (0, True) == (shown.code, "1,000" in shown.out)
    assert "Redis does not answer" in shown.err


def test_a_limit_takes_effect_in_a_process_that_runs(fleet: Fleet, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(registry_module, "REFRESH_S", 0.0)
    monkeypatch.setattr(registry_module, "PATIENCE_S", 60.0)

    async def work() -> tuple[int, int]:
        registry = LimiterRegistry(fleet.settings.redis, partial(limits.read, fleet.db))
        limiter = registry.limiter("openai", "text-embedding-3-small", ACCOUNT)
        before = limiter.most_tokens
        await asyncio.to_thread(fleet.limits.set, MODEL, {"tokens": 250_000.0})
        await (await limiter.admit({"tokens": 1}, max_wait_s=5)).settle()
        after = limiter.most_tokens
        await registry.close()
        return before, after

    assert (1_000, 2_500) == asyncio.run(work())


def test_what_refusals_taught_is_said_wherever_one_looks_and_how_to_set_it(
    command: Command, fleet: Fleet
):
    docs = fleet.collection("docs", model=MODEL, dimensions=8)
    docs.enqueue([Document("d", "a text that waits")])

    async def work() -> None:
        registry = LimiterRegistry(fleet.settings.redis, partial(limits.read, fleet.db))
        limiter = registry.limiter("openai", "text-embedding-3-small", ACCOUNT)
        for _ in range(6):
            admission = await limiter.admit({"requests": 1, "tokens": 4_923}, max_wait_s=5)
            await admission.settle({"requests": 1, "tokens": 4_923})
        admission = await limiter.admit({"requests": 1, "tokens": 4_923}, max_wait_s=5)
        await admission.rate_limited(20.0)
        await registry.close()

    asyncio.run(work())
    line = f"embedfleet limits set {MODEL} --requests 6 --tokens 30000"
    said = command("limits", "show").out
    assert line in said
    assert "about 6 requests and 30,000 tokens a minute, at most 6,200 tokens at once" in said
    (shown,) = command("limits", "show", "--json").json
    assert (6.0, 6_153.75) == (
        shown["dimensions"]["requests"]["learnt"],
        shown["largest_request"],
    )
    for words in (["status"], ["explain", "docs", "d"], ["doctor"]):
        assert line in " ".join(command(*words).out.split()), words
    assert [line in each for each in command("status", "--json").json["limits"]] == [True]
    command("limits", "set", MODEL, "--requests", 6, "--tokens", 30_000)
    assert [] == command("status", "--json").json["limits"]
