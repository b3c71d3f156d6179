"""What a worker process counts, and the folder that the processes of a host share."""

import os
import subprocess
import sys
import tempfile
import textwrap

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram

from embedfleet_schema.errors import WorkerStartFailed
from embedfleet_schema.metrics import STAGE_BUCKETS
from embedfleet_workers import signals
from embedfleet_workers.monitoring.instruments import _Observed
from embedfleet_workers.monitoring.metrics_folder import MetricsFolder


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return MetricsFolder(9)


def python(folder: MetricsFolder, script: str, *arguments: str) -> str:
    """What a script says in a process of its own, whose metrics are kept in the folder."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), *arguments],
        env=os.environ | {"TMPDIR": str(folder.path.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (0, "") == (done.returncode, done.stderr)
    return done.stdout


WORK = """
    import os, signal, sys
    from embedfleet_workers.monitoring.metrics_folder import MetricsFolder
    folder = MetricsFolder(9)
    folder.choose()
    folder.enter()
    from embedfleet_workers import signals
    from embedfleet_workers.monitoring.instruments import Instruments
    from embedfleet_workers.pipeline import BatchStats, Outcome
    instruments = Instruments(("cpu",), "cpu")
    instruments.start()
    signals.model_changed.send(signals.LoadedModel("local/m", "torch", "half", "cpu"))
    signals.batch_ended.send(
        BatchStats(1, "cpu", "local/m", Outcome.DONE, 3, 40, 0.1, 0.2, 0.3, waited_s=7.0)
    )
    signals.batch_ended.send(BatchStats(2, "cpu", "local/m", Outcome.RETRY, 5, 60, 0.1, 0.2, 0.3))
    signals.pass_began.send(None)
    signals.pass_ended.send(signals.ModelPass("local/m", 30, 10))
    signals.request_admitted.send(signals.Admitted("openai/m", "bulk", 0.2))
    signals.request_answered.send(signals.Answered("openai/m", "rate_limited"))
    instruments.write()
    if sys.argv[1] == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    instruments.stop()
    folder.leave()
"""

LOOK = """
    from prometheus_client import CollectorRegistry, generate_latest
    from embedfleet_workers.monitoring.metrics_folder import MetricsFolder
    registry = CollectorRegistry(auto_describe=False)
    registry.register(MetricsFolder(9))
    print(generate_latest(registry).decode())
"""


def test_each_event_is_counted_and_stays_when_its_process_has_ended(folder):
    python(folder, WORK, "ends")
    for count in (1, 2):
        said = python(folder, LOOK).splitlines()
        done = 'embedfleet_worker_chunks_total{lane="bulk",queue="cpu",space="local/m"}'
        assert f"{done} {3.0 * count}" in said
        waiting = 'embedfleet_worker_searchable_seconds_bucket{lane="bulk",le="10.0",queue="cpu"}'
        assert f"{waiting} {1.0 * count}" in said
        padding = 'embedfleet_worker_model_tokens_total{kind="padding",space="local/m"}'
        assert f"{padding} {10.0 * count}" in said
        refused = 'embedfleet_worker_requests_total{limit="openai/m",result="rate_limited"}'
        assert f"{refused} {1.0 * count}" in said
        waited = 'embedfleet_worker_limiter_wait_seconds_count{lane="bulk",limit="openai/m"}'
        assert f"{waited} {1.0 * count}" in said
        # Gauges are those of processes that live.
        assert not any(line.startswith("embedfleet_worker_processes{") for line in said)
        assert 3 == len([each for each in folder.path.iterdir() if each.suffix == ".db"]) + 1
        if count == 1:
            killed = subprocess.run(
                [sys.executable, "-c", textwrap.dedent(WORK), "dies"],
                env=os.environ | {"TMPDIR": str(folder.path.parent)},
                check=False,
            )
            assert -9 == killed.returncode


@given(st.lists(st.sampled_from([*STAGE_BUCKETS, 0.0, 0.003, 7.0, 1e6]), max_size=30))
def test_what_is_added_at_once_is_what_one_by_one_would_be(observed):
    found = []
    for at_once in (True, False):
        registry = CollectorRegistry()
        histogram = Histogram("h", "h", registry=registry, buckets=STAGE_BUCKETS)
        many = _Observed(STAGE_BUCKETS)
        for seconds in observed:
            (many if at_once else histogram).observe(seconds)
        if at_once:
            many.add_to(histogram)
        (family,) = registry.collect()
        found.append(
            {
                (sample.name, *sample.labels.values()): sample.value
                for sample in family.samples
                if sample.name != "h_created"
            }
        )
    assert found[0] == pytest.approx(found[1])


def test_a_folder_that_others_may_write_to_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    there = tmp_path / f"embedfleet-metrics-{os.getuid()}-9"
    there.mkdir(mode=0o777)
    there.chmod(0o777)
    with pytest.raises(WorkerStartFailed, match="not this user's alone"):
        MetricsFolder(9)
    there.rmdir()
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    there.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(WorkerStartFailed):
        MetricsFolder(9)


def test_one_process_serves_at_a_time(folder):
    lead = folder.leads()
    assert lead is not None
    assert None is MetricsFolder(9).leads()
    os.close(lead)
    again = MetricsFolder(9).leads()
    assert again is not None
    os.close(again)


def test_a_receiver_that_fails_fails_nothing_else(caplog):
    heard: list[int] = []
    signal: signals.Signal[int] = signals.Signal()

    def fail(_: int) -> None:
        raise ValueError("a text of a document")

    signal.connect(fail)
    signal.connect(heard.append)
    signal.connect(heard.append)
    signal.send(7)
    signal.disconnect(fail)
    signal.send(8)
    assert [7, 8] == heard
    assert ["a receiver of events failed: ValueError"] == caplog.messages
