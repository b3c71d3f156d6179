from embedfleet_workers.breaker import Breaker


def test_a_closed_breaker_lets_everyone_pass():
    breaker = Breaker(3600)
    assert [True, True] == [breaker.admits(), breaker.admits()]


def test_an_open_breaker_lets_nobody_pass_before_its_time():
    breaker = Breaker(3600)
    breaker.open()
    assert [False, False] == [breaker.admits(), breaker.admits()]


def test_one_at_a_time_tries_whether_the_fault_is_over():
    breaker = Breaker(0.5)
    breaker.open()
    while not breaker.admits():
        pass
    assert not breaker.admits()


def test_a_success_closes_it():
    breaker = Breaker(3600)
    breaker.open()
    breaker.close()
    assert breaker.admits()
