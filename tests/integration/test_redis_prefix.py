"""Keys with a prefix of one's own, whose hash tag keeps all of them on one shard of a cluster."""

import asyncio

import pytest
import redis
from redis.crc import key_slot

import embedfleet as ef
from embedfleet.fleet import Fleet
from embedfleet_schema.redis_url import PREFIX
from embedfleet_schema.settings import load_settings
from embedfleet_workers.embedding_errors import StoreAway
from embedfleet_workers.rate_limits.stores.redis_script import RedisScript
from embedfleet_workers.rate_limits.stores.redis_store import RedisStore
from plugins.brokers import serving, take_every_step
from plugins.fleets import documents
from plugins.limiter_reservations import LIMIT
from plugins.worker_processes import eventually

pytestmark = pytest.mark.usefixtures("patient")

TAGGED = "{team-a}.fleet"
SHARDED = {"cluster-enabled": "yes", "cluster-config-file": "nodes.conf"}


@pytest.fixture
def shard(tmp_path):
    """A server of a cluster that has all slots, and refuses keys of several in one call."""
    with serving(tmp_path, TAGGED, SHARDED) as broker:
        with broker.client() as client:
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16_383)
        eventually(lambda: is_ready(broker))
        yield broker


def is_ready(broker):
    with broker.client() as client:
        return "cluster_state:ok" in str(client.execute_command("CLUSTER", "INFO"))


@pytest.fixture
def fleet(migrated_url, shard):
    settings = load_settings(
        database_url=migrated_url,
        redis_url=str(shard.url("producer")),
        redis_prefix=TAGGED,
        batch_tokens_cpu=64,
    )
    with Fleet(settings) as fleet:
        yield fleet


@pytest.fixture
def keys_of_the_script(monkeypatch):
    """Those that each call of the limiter's script is given."""
    given = []
    call = RedisScript.call

    async def noted(self, keys, words):
        given.append(keys)
        return await call(self, keys, words)

    monkeypatch.setattr(RedisScript, "call", noted)
    return given


def test_all_keys_of_a_limiter_are_in_one_slot(shard, keys_of_the_script):
    asyncio.run(take_every_step(shard.url("limiter")))
    assert [] == shard.denied()
    slots = {key_slot(key.encode()) for keys in keys_of_the_script for key in keys}
    assert {key_slot(b"team-a")} == slots
    assert any(len(keys) > 1 for keys in keys_of_the_script)
    with shard.client() as client:
        written = client.keys("*")
        found = {client.execute_command("CLUSTER", "KEYSLOT", key) for key in written}
    assert slots == found
    assert all(key.startswith(f"{TAGGED}:limit:".encode()) for key in written)


def test_without_a_hash_tag_a_sharded_server_refuses_the_slots_of_a_limiter(tmp_path):
    with serving(tmp_path, PREFIX, SHARDED) as broker:
        with broker.client() as client:
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16_383)
        eventually(lambda: is_ready(broker))
        with pytest.raises(StoreAway, match=r"CROSSSLOT|same slot"):
            asyncio.run(take_a_slot(broker.url("limiter")))


async def take_a_slot(url):
    store = RedisStore(url)
    try:
        await store.acquire(LIMIT, "one", slots=1, lease_s=60.0, wait_s=1.0)
    finally:
        await store.close()


def test_a_fleet_rings_and_hears_on_a_shard_with_the_rights_of_the_page(
    shard, fleet, worker_process
):
    docs = fleet.collection("docs", model="fake/16")
    worker = worker_process(
        variables={"EMBEDFLEET_REDIS_URL": shard.url("worker"), "EMBEDFLEET_REDIS_PREFIX": TAGGED}
    )
    job = docs.enqueue(documents(50))
    assert job.enqueued.rung
    assert 50 == job.wait(timeout_s=60).embedded
    eventually(lambda: "Task embedfleet.embed" in worker.log.read_text())
    assert [] == shard.denied()
    assert 0 == worker.end()
    with shard.client() as client:
        assert all(key.startswith(f"{TAGGED}:".encode()) for key in client.keys("*"))


def test_fleets_that_share_a_database_of_redis_do_not_hear_each_other(migrated_url, redis_url):
    def ring(prefix):
        settings = load_settings(
            database_url=migrated_url, redis_url=redis_url, redis_prefix=prefix
        )
        with Fleet(settings) as fleet:
            text = ef.Document(prefix, f"a text of {prefix}")
            assert fleet.collection("docs", model="fake/16").enqueue([text]).enqueued.rung

    ring("one")
    ring("two")
    with redis.Redis.from_url(redis_url) as client:
        assert {b"one:cpu", b"two:cpu"} == set(client.keys("*"))
