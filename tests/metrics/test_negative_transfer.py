"""Delta-m by hand, and what counts as harm."""

import pytest

from mtl_jax.metrics.negative_transfer import delta_m, relative_change, verdict


def test_delta_m_by_hand():
    # AUC .75 -> .765 is +2 %; RMSE 1.0 -> .9 is +10 %; log loss .5 -> .53 is -6 %
    found = delta_m([0.765, 0.9, 0.53], [0.75, 1.0, 0.5], [True, False, False])
    assert found == pytest.approx(2.0)


def test_positive_is_better_either_way():
    assert relative_change(0.8, 0.5, True) == pytest.approx(60.0)
    assert relative_change(0.8, 0.5, False) == pytest.approx(-60.0)


def test_a_share_of_nothing_is_undefined():
    assert relative_change(0.1, 0.0, True) is None
    assert relative_change(0.1, -0.2, True) is None
    assert delta_m([0.1, 0.8], [0.0, 0.5], [True, True]) is None
    assert delta_m([], [], []) is None


def test_tasks_are_told_apart_by_number():
    with pytest.raises(ValueError):
        delta_m([0.1], [0.1, 0.2], [True])


def test_harm_is_significant_and_in_the_wrong_direction():
    assert verdict(-0.01, 0.01, True) == "worse"
    assert verdict(-0.01, 0.01, False) == "better"
    assert verdict(0.01, 0.01, False) == "worse"
    assert verdict(-0.01, 0.05, True) == ""
    assert verdict(-0.01, None, True) == ""
    assert verdict(0.0, 0.0, True) == ""
