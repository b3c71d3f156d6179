import queue
import threading

from embedfleet_workers.cooling import LONGEST_S, Cooling

PATIENCE_S = 60.0


def test_a_space_cools_and_then_its_queue_is_rung_without_anybody_asking():
    rings = queue.Queue()
    cooling = Cooling(rings.put)
    cooling.cool(7, "cpu", 30.0)
    cooling.cool(8, "api", 0.05)
    assert "api" == rings.get(timeout=PATIENCE_S)
    assert ([7], True) == (cooling.spaces(), rings.empty())
    cooling.stop()


def test_of_two_waits_for_one_space_the_longer_one_holds():
    rings = queue.Queue()
    cooling = Cooling(rings.put)
    cooling.cool(7, "api", 30.0)
    cooling.cool(7, "api", 0.01)
    cooling.cool(8, "cpu", 0.02)
    assert "cpu" == rings.get(timeout=PATIENCE_S)
    assert ([7], True) == (cooling.spaces(), rings.empty())
    cooling.stop()


def test_a_space_that_begins_to_cool_later_and_ends_earlier_is_rung_for_first():
    rings = queue.Queue()
    cooling = Cooling(rings.put)
    cooling.cool(1, "cuda", 3.0)
    cooling.cool(2, "api", 0.05)
    assert ["api", "cuda"] == [rings.get(timeout=PATIENCE_S) for _ in range(2)]
    cooling.stop()


def test_a_wait_of_a_day_is_asked_about_again_after_a_minute(monkeypatch):
    monkeypatch.setattr("embedfleet_workers.cooling.LONGEST_S", 0.05)
    rings = queue.Queue()
    cooling = Cooling(rings.put)
    cooling.cool(7, "api", 86_400.0)
    assert "api" == rings.get(timeout=PATIENCE_S)
    assert 60.0 == LONGEST_S
    cooling.stop()


def test_a_stopped_process_rings_no_more():
    rings = queue.Queue()
    cooling = Cooling(rings.put)
    cooling.cool(7, "api", 30.0)
    (thread,) = (each for each in threading.enumerate() if each.name == "embedfleet-cooling")
    cooling.stop()
    cooling.cool(8, "api", 0.0)
    assert (False, True) == (thread.is_alive(), rings.empty())
