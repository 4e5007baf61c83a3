"""Recommendations of the tiny run: known and unknown users, consumed items, several tasks."""

import numpy as np
import pytest

from mtl_jax.core.errors import UserError
from mtl_jax.restore import open_trained
from mtl_jax.serve.config import RankConfig
from mtl_jax.serve.recommend import Recommender, placed
from mtl_jax.serve.request import Request, resolve, rows_for
from tiny_config import TASKS


@pytest.fixture(scope="module")
def trained(tiny):
    return open_trained(tiny.workdir)


@pytest.fixture(scope="module")
def recommender(trained):
    evaluator = trained.job.evaluator()

    def make(**rank):
        state = trained.state
        return Recommender(evaluator, state.params, state.tables, RankConfig(**rank))

    return make


@pytest.fixture(scope="module")
def data(trained):
    return trained.job.data


@pytest.fixture(scope="module")
def user(data):
    """The user with the most events."""
    users, counts = np.unique(data.events["user"], return_counts=True)
    return data.vocabulary("users").values[users[np.argmax(counts)]]


def ids(found):
    return [item["item_id"] for item in found]


def test_the_best_come_first_and_can_be_read(recommender, user):
    found = recommender().recommend(Request(user), 5)
    assert len(found) == 5
    assert len(set(ids(found))) == 5
    scores = [item["score"] for item in found]
    assert scores == sorted(scores, reverse=True)
    for item in found:
        assert np.isclose(sum(item["gate"].values()), 1.0, atol=1e-5)
        assert set(item["gate"]) == {"collaborative", "interest"}, "there is no text"
        assert set(item["predictions"]) == {"click", "rating", "next_item"}
        p = item["predictions"]
        by_hand = p["click"] + (p["rating"] - 1) / 4 + p["next_item"]
        assert np.isclose(item["score"], by_hand, rtol=1e-4)


def test_what_the_user_had_is_left_out_unless_asked_for(recommender, data, user):
    dense = data.vocabulary("users").values.index(user)
    rows = np.asarray(data.events["user"]) == dense
    had = rows & (np.asarray(data.events["label_click"]) == 1)
    names = data.vocabulary("items").values
    consumed = {names[i] for i in np.asarray(data.events["item"])[had]}
    assert consumed
    n = data.schema.n_items
    every = recommender(candidates=0).recommend(Request(user), n)
    assert len(every) == n - 1 - len(consumed)
    assert not consumed & set(ids(every))
    again = recommender(candidates=0, exclude_consumed=False).recommend(Request(user), n)
    assert len(again) == n - 1
    assert consumed <= set(ids(again))


def test_an_unknown_user_is_served_and_profile_and_context_count(recommender, data):
    make = recommender(candidates=0)
    n = data.schema.n_items
    plain = make.recommend(Request("nobody"), n)
    assert len(plain) == n - 1
    column = data.schema.user_categorical[0].name
    profile = {column: data.vocabulary(f"user_cat_{column}").values[1]}
    place = data.schema.context[0].name
    context = {place: data.vocabulary(f"ctx_{place}").values[1]}
    scores = {item["item_id"]: item["score"] for item in plain}
    for request in (Request("nobody", profile), Request("nobody", context=context)):
        other = make.recommend(request, n)
        moved = [abs(item["score"] - scores[item["item_id"]]) for item in other]
        assert max(moved) > 1e-6


def test_unknown_columns_and_values_are_refused_with_the_nearest(data):
    column = data.schema.user_categorical[0].name
    value = data.vocabulary(f"user_cat_{column}").values[1]
    for request, message in (
        (Request("x", {column[:-1]: value}), f"Did you mean {column!r}?"),
        (Request("x", {column: value + "x"}), f"Did you mean {value!r}?"),
        (Request("x", context={"devce": "phone"}), "Did you mean 'device'?"),
    ):
        with pytest.raises(UserError) as error:
            resolve(data, request)
        assert message in str(error.value)


def test_nothing_after_the_moment_of_the_request_is_known(data, user):
    whole = resolve(data, Request(user))
    dense = data.vocabulary("users").values.index(user)
    times = np.sort(np.asarray(data.events["time"])[np.asarray(data.events["user"]) == dense])
    middle = int(times[len(times) // 2])
    early = resolve(data, Request(user, now=middle))
    assert 0 < len(early.consumed) < len(whole.consumed)
    assert (early.times[early.times > 0] < middle).all()
    assert whole.now == int(data.events["time"][-1]) + 1
    assert (np.diff(whole.times) <= 0).all(), "the most recent first"
    before = resolve(data, Request(user, now=int(times[0])))
    assert len(before.items) == len(before.consumed) == 0


def test_the_newest_positive_is_in_the_history(data, user):
    dense = data.vocabulary("users").values.index(user)
    own = np.asarray(data.events["user"]) == dense
    had = np.flatnonzero(own & (np.asarray(data.events["label_click"]) == 1))
    known = resolve(data, Request(user))
    assert known.items[0] == data.events["item"][had[-1]]
    assert set(known.consumed) == set(np.asarray(data.events["item"])[had].tolist())


def test_a_request_sees_the_history_that_an_event_of_that_moment_saw(trained, data, user):
    dense = data.vocabulary("users").values.index(user)
    row = np.flatnonzero(np.asarray(data.events["user"]) == dense)[-1:]
    event = trained.job.assembler.event_rows(row)
    assert event.history_value[..., 1].any()
    known = resolve(data, Request(user, now=int(event.time[0])))
    asked = rows_for(data, known, event.item, event.history.shape[1])
    for name in ("history", "history_type", "history_age", "history_value"):
        np.testing.assert_allclose(getattr(asked, name), getattr(event, name), rtol=1e-6)


def test_candidates_are_the_best_of_the_retrieval_task(recommender, data, user):
    n = data.schema.n_items
    weights = (("next_item", 1.0),)
    whole = recommender(candidates=0, weights=weights).recommend(Request(user), n)
    few = recommender(candidates=7, weights=weights).recommend(Request(user), n)
    assert ids(few) == ids(whole)[:7]


def test_weights_choose_the_tasks_that_rank(recommender, user):
    found = recommender(weights=(("rating", -1.0),), candidates=0).recommend(Request(user), 20)
    rating = [item["predictions"]["rating"] for item in found]
    assert rating == sorted(rating)
    with pytest.raises(UserError, match=r"rank\.weights: no task 'rting' ranks.*'rating'"):
        recommender(weights=(("rting", 1.0),)).recommend(Request(user), 3)
    with pytest.raises(UserError, match="no task 'content' ranks"):
        recommender(weights=(("content", 1.0),)).recommend(Request(user), 3)


def test_a_rating_is_placed_in_its_range():
    rating = TASKS[1]
    np.testing.assert_allclose(placed(rating, np.array([1.0, 3.0, 5.0])), [0, 0.5, 1])
    np.testing.assert_array_equal(placed(TASKS[0], np.array([0.3])), [0.3])


def test_fewer_than_one_is_refused(recommender, user):
    with pytest.raises(UserError, match="--k=0"):
        recommender().recommend(Request(user), 0)
