"""The tools for language models, used by the official client over standard input and output."""

import asyncio
import sys

import pytest
from mcp import Client, StdioServerParameters

import embedfleet as ef
from plugins.fleets import drain

QUESTION = "how do I reset my password?"


def fill(fleet):
    docs = fleet.collection("docs", model="fake/16")
    docs.enqueue(
        [ef.Document("vpn.md", QUESTION, {"lang": "en"}), ef.Document("leave.md", "holidays")]
    )
    return docs


def of_text(result):
    return "\n".join(each.text for each in result.content)


@pytest.fixture
def parameters(fleet):
    variables = {
        "EMBEDFLEET_DATABASE_URL": fleet.settings.database,
        "EMBEDFLEET_REDIS_URL": fleet.settings.redis,
    }
    return StdioServerParameters(
        command=sys.executable, args=["-m", "embedfleet", "mcp"], env=variables
    )


async def conversation(parameters):
    async with Client(parameters) as client:
        tools = {each.name: each for each in (await client.list_tools()).tools}
        wanted = {"collection": "docs", "query": QUESTION, "k": 1}
        found = await client.call_tool("search", wanted)
        none = await client.call_tool("search", wanted | {"filter": {"lang": "de"}})
        told = await client.call_tool("explain", {"collection": "docs", "document": "vpn.md"})
        wrong = await client.call_tool("search", wanted | {"collection": "nowhere"})
        bad = await client.call_tool("search", wanted | {"k": 0})
        return tools, found, none, told, wrong, bad


def test_an_mcp_client_searches_and_asks_where_a_document_is(fleet, worker, parameters):
    fill(fleet)
    drain(worker())
    tools, found, none, told, wrong, bad = asyncio.run(conversation(parameters))
    assert {"search", "explain"} == tools.keys()
    assert {"collection", "query", "k", "filter"} == tools["search"].input_schema[
        "properties"
    ].keys()
    assert not found.is_error
    assert "vpn.md" in of_text(found)
    assert "leave.md" not in of_text(found)
    assert "vpn.md" not in of_text(none)
    assert "vpn.md" in of_text(told)
    assert wrong.is_error
    assert "nowhere" in of_text(wrong)
    assert bad.is_error
