from embedfleet.polling import rest_s


def test_a_quick_look_is_taken_at_the_interval_and_a_slow_one_less_often():
    assert 1.0 == rest_s(1.0, 0.01)
    assert 4.5 == rest_s(1.0, 0.5)
