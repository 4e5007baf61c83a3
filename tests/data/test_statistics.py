"""The vectorised statistics against a slow loop, and what must never leak."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtl_jax.core.errors import UserError
from mtl_jax.data.config import StatisticsConfig
from mtl_jax.data.keys import Attributes, Key, expand_keys
from mtl_jax.data.schema import Label
from mtl_jax.data.statistics import Rows, Statistics, _fold, fit, folds_of
from mtl_jax.data.sums import Counted, Table

LABELS = (Label("click", "binary"), Label("rating", "value", 1.0, 5.0), Label("dwell", "value"))
ATTRIBUTES = Attributes(
    n_users=4,
    n_items=5,
    item={
        "genre": np.array([0, 1, 2, 1, 0], np.int32),
        "brand": np.array([0, 1, 1, 2, 2], np.int32),
    },
    tags=np.array([[0, 0], [1, 2], [2, 0], [0, 0], [1, 3]], np.int32),
    user={"gender": np.array([0, 1, 2, 1], np.int32)},
    contexts={"device": 3},
    category="genre",
)
KEYS = (
    "user",
    "item",
    "category",
    "categorical",
    "tags",
    "user*category",
    "user*tags",
    "profile*category",
    "item*context",
)
CONFIG = StatisticsConfig(keys=KEYS)


def make_rows(n: int, seed: int) -> Rows:
    """Random events with many ties in time and missing labels."""
    rng = np.random.default_rng(seed)
    missing = rng.random((2, n)) < 0.3
    return Rows(
        user=rng.integers(1, 4, n).astype(np.int32),
        item=rng.integers(1, 5, n).astype(np.int32),
        time=np.sort(rng.integers(1, 2 + n // 2, n)) * 1800,
        row=np.arange(n),
        labels={
            "click": np.where(missing[0], np.nan, rng.random(n) < 0.4).astype(np.float32),
            "rating": np.where(missing[1], np.nan, rng.integers(1, 6, n)).astype(np.float32),
            "dwell": rng.normal(2, 1, n).astype(np.float32),
        },
        contexts={"device": rng.integers(0, 3, n).astype(np.int32)},
    )


def fitted(rows: Rows, config: StatisticsConfig = CONFIG) -> Statistics:
    return fit(config, LABELS, "click", ATTRIBUTES, rows)


def values_of(key: Key, user: int, item: int, device: int) -> list[tuple[int, ...]]:
    """Every value a key takes for one event (several for tags), none if a part is unknown."""
    found: list[tuple[int, ...]] = [()]
    for part in key.parts:
        codes = {
            "user": [user],
            "item": [item],
            "tags": ATTRIBUTES.tags[item].tolist(),
            "genre": [ATTRIBUTES.item["genre"][item]],
            "brand": [ATTRIBUTES.item["brand"][item]],
            "profile.gender": [ATTRIBUTES.user["gender"][user]],
            "context.device": [device],
        }[part]
        found = [(*value, code) for value in found for code in codes if code > 0]
    return found


def oracle(
    rows: Rows, seen: list[int], earlier: list[int], user: int, item: int, device: int, now: float,
    strengths: tuple[tuple[str, float], ...] = (),
) -> list[float]:  # fmt: skip
    """Features by plain loops: rates over the rows `seen`, recency over the rows `earlier`."""

    def prior(label: Label) -> float:
        present = [rows.labels[label.name][i] for i in seen]
        present = [v for v in present if not np.isnan(v)]
        centre = {"click": 0.5, "rating": 3.0, "dwell": 0.0}[label.name]
        return (sum(present) + CONFIG.strength * centre) / (len(present) + CONFIG.strength)

    def one(key: Key, value: tuple[int, ...]) -> list[float]:
        def mine(of: list[int]) -> list[int]:
            return [
                i
                for i in of
                if value in values_of(key, rows.user[i], rows.item[i], rows.contexts["device"][i])
            ]

        a = dict(strengths).get(key.name, CONFIG.strength)
        counted, dated = mine(seen), mine(earlier)
        found = [np.log1p(len(counted))]
        for label in LABELS:
            present = [rows.labels[label.name][i] for i in counted]
            present = [v for v in present if not np.isnan(v)]
            n, total, p = len(present), float(sum(present)), prior(label)
            if label.kind == "binary":
                rate = (total + a * p) / (n + a)
                found += [np.log(rate / (1 - rate)) - np.log(p / (1 - p)), np.log1p(total)]
            else:
                found += [(total - n * p) / (n + a), np.log1p(n)]
        clicks = [i for i in dated if rows.labels["click"][i] == 1]
        for of in (dated, clicks):
            found += [np.log1p((now - max(rows.time[i] for i in of)) / 3600), 0] if of else [0, 1]
        if key.parts == ("user",):
            first = min((rows.time[i] for i in dated), default=now)
            found += [np.log1p((now - first) / 3600)]
        return found

    columns: list[float] = []
    for key in expand_keys(KEYS, ATTRIBUTES):
        several = [one(key, value) for value in values_of(key, user, item, device)]
        nothing = one(key, (-1,))
        columns += np.mean(several, 0).tolist() if several else nothing
    return columns


def check_training(rows: Rows, config: StatisticsConfig) -> None:
    got = fitted(rows, config).training_features(rows)
    fold = _fold(rows.row, config.folds)
    if config.train == "blocks":
        fold = np.array([int(t // (config.block_days * 86_400)) for t in rows.time])
    for i in range(len(rows.user)):
        everyone = range(len(rows.user))
        earlier = [j for j in everyone if rows.time[j] < rows.time[i]]
        others = [j for j in everyone if fold[j] != fold[i]]
        seen = earlier if config.train == "causal" else others
        event = rows.user[i], rows.item[i], rows.contexts["device"][i]
        wanted = oracle(rows, seen, earlier, *event, rows.time[i], config.strengths)
        np.testing.assert_allclose(got[i], wanted, rtol=1e-4, atol=2e-5)


@settings(max_examples=12, deadline=None)
@given(st.integers(1, 25), st.integers(0, 10**6))
def test_causal_features_against_a_loop(n: int, seed: int) -> None:
    check_training(make_rows(n, seed), CONFIG)


@settings(max_examples=8, deadline=None)
@given(st.integers(2, 25), st.integers(0, 10**6))
def test_out_of_fold_features_against_a_loop(n: int, seed: int) -> None:
    check_training(make_rows(n, seed), replace(CONFIG, train="kfold", folds=3))


@settings(max_examples=8, deadline=None)
@given(st.integers(2, 25), st.integers(0, 10**6), st.sampled_from([0.05, 0.1, 5.0]))
def test_features_without_the_own_block_of_time_against_a_loop(
    n: int, seed: int, days: float
) -> None:
    strengths = (("user", 2.0), ("user*tags", 0.5))
    config = replace(CONFIG, train="blocks", block_days=days, strengths=strengths)
    check_training(make_rows(n, seed), config)


def test_blocks_of_time_are_counted_from_the_epoch() -> None:
    config = replace(CONFIG, train="blocks", block_days=7.0)
    week = 7 * 86_400
    time = np.array([3 * week - 1, 3 * week, 4 * week - 1, 6 * week])
    block, blocks = folds_of(config, time, np.arange(4))
    assert block.tolist() == [0, 1, 1, 4]
    assert blocks == 5


def test_a_label_moves_no_row_of_its_own_block() -> None:
    rows = make_rows(60, 4)
    config = replace(CONFIG, train="blocks", block_days=0.2, recency="off")
    before = fitted(rows, config).training_features(rows)
    changed = {name: values.copy() for name, values in rows.labels.items()}
    changed["dwell"][10] = -77.7
    other = replace(rows, labels=changed)
    after = fitted(other, config).training_features(other)
    block, _ = folds_of(config, rows.time, rows.row)
    mine = block == block[10]
    assert 1 < mine.sum() < 60
    np.testing.assert_array_equal(after[mine], before[mine])
    assert (after[~mine] != before[~mine]).any()


@settings(max_examples=8, deadline=None)
@given(st.integers(1, 25), st.integers(0, 10**6), st.sampled_from(["frozen", "now"]))
def test_frozen_features_against_a_loop(n: int, seed: int, recency: Any) -> None:
    rows = make_rows(n, seed)
    statistics = fitted(rows, replace(CONFIG, recency=recency))
    everyone = list(range(n))
    users, items = np.repeat(np.arange(4), 5), np.tile(np.arange(5), 4)
    device = (users + items) % 3
    now = int(rows.time[-1]) + 7200
    got = statistics.features(users, items, {"device": device}, now)
    at = now if recency == "now" else rows.time[-1]
    for i in range(20):
        wanted = oracle(rows, everyone, everyone, users[i], items[i], device[i], at)
        np.testing.assert_allclose(got[i], wanted, rtol=1e-4, atol=2e-5)


def test_code_0_is_counted_nowhere() -> None:
    rows = Counted(np.array([1, 2, 3]), np.ones(3, bool), [], [])
    table = Table.fit(np.array([5, 0, 5]), rows)
    assert table.data[:2].tolist() == [[5], [2]]
    assert table.at(np.array([0, 5, 7])).events().tolist() == [0, 2, 0]
    nothing = Table.fit(np.zeros(3, np.int64), rows).at(np.array([0, 5]))
    assert nothing.events().tolist() == [0, 0]
    assert nothing.times().last.tolist() == [-1, -1]


def test_names_and_groups() -> None:
    statistics = fitted(make_rows(9, 0))
    names = {column.name: column.group for column in statistics.columns}
    assert len(names) == len(statistics.columns)
    assert names["user.click.rate"] == "user"
    assert names["user.tenure"] == "user"
    assert names["profile.gender*category.log_count"] == "cross"
    assert names["brand.rating.mean"] == names["tags.never"] == "item"
    assert names["user*category.click.log_positives"] == "cross"
    assert names["item*context.device.rating.log_count"] == "cross"
    user, item, cross = (statistics.indices(g) for g in ("user", "item", "cross"))
    assert (*user, *item, *cross) == tuple(range(len(names)))


def test_groups_can_be_asked_alone() -> None:
    rows = make_rows(20, 1)
    statistics = fitted(rows)
    ask = (rows.user, rows.item, rows.contexts, rows.time)
    everything = statistics.features(*ask)
    for group in ("user", "item", "cross"):
        alone = statistics.features(*ask, groups=(group,))  # type: ignore[arg-type]
        np.testing.assert_array_equal(alone, everything[:, statistics.indices(group)])  # type: ignore[arg-type]


def test_unknown_users_and_items_get_the_prior() -> None:
    statistics = fitted(make_rows(20, 2))
    none = np.zeros(1, np.int32)
    values = statistics.features(none, none, {"device": none}, 10**6)[0]
    for column, value in zip(statistics.columns, values, strict=True):
        assert value == (1.0 if ".never" in column.name else 0.0), column


def test_a_label_moves_neither_its_own_row_nor_earlier_ones() -> None:
    rows = make_rows(60, 3)
    before = fitted(rows).training_features(rows)
    for i in range(0, 60, 7):
        changed = {name: values.copy() for name, values in rows.labels.items()}
        changed["click"][i] = 1 - np.nan_to_num(changed["click"][i])
        changed["rating"][i], changed["dwell"][i] = np.nan, 1e4
        other = replace(rows, labels=changed)
        after = fitted(other).training_features(other)
        unmoved = rows.time <= rows.time[i]
        np.testing.assert_array_equal(after[unmoved], before[unmoved])
        assert (after != before).any() or i == 59


def test_a_label_moves_no_row_of_its_own_fold() -> None:
    rows, config = make_rows(60, 4), replace(CONFIG, train="kfold", folds=4, recency="off")
    before = fitted(rows, config).training_features(rows)
    changed = {name: values.copy() for name, values in rows.labels.items()}
    changed["dwell"][10] = -77.7
    other = replace(rows, labels=changed)
    after = fitted(other, config).training_features(other)
    fold = _fold(rows.row, 4)
    np.testing.assert_array_equal(after[fold == fold[10]], before[fold == fold[10]])
    assert (after != before).any()


def test_folds_are_spread() -> None:
    counts = np.bincount(_fold(np.arange(10_000), 5), minlength=5)
    assert counts.min() > 1800
    assert counts.max() < 2200


def test_loaded_tables_answer_the_same(tmp_path: Path) -> None:
    rows = make_rows(50, 5)
    statistics = fitted(rows, replace(CONFIG, strengths=(("item", 3.0),)))
    statistics.save(tmp_path / "a")
    statistics.save(tmp_path / "b")
    loaded = Statistics.load(tmp_path / "a")
    ask = (rows.user, rows.item, rows.contexts, rows.time + 999)
    np.testing.assert_array_equal(loaded.features(*ask), statistics.features(*ask))
    assert loaded.columns == statistics.columns
    assert loaded.config == statistics.config
    assert loaded.priors() == statistics.priors()
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_a_truncated_table_is_named(tmp_path: Path) -> None:
    fitted(make_rows(50, 5)).save(tmp_path)
    path = tmp_path / "table_1.npy"
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(UserError, match=r"table_1\.npy: unreadable or truncated"):
        Statistics.load(tmp_path)


def test_priors_are_the_smoothed_means() -> None:
    rows = make_rows(40, 6)
    dwell = rows.labels["dwell"].astype(np.float64)
    assert fitted(rows).priors()["dwell"] == pytest.approx(dwell.sum() / 50, abs=1e-5)


def test_recency_can_be_left_out() -> None:
    statistics = fitted(make_rows(9, 0), replace(CONFIG, recency="off"))
    assert not [c for c in statistics.columns if "age" in c.name or "never" in c.name]


def test_a_source_without_a_column_has_no_such_key() -> None:
    bare = replace(ATTRIBUTES, item={}, tags=np.zeros((5, 0), np.int32), user={}, contexts={},
                   category="")  # fmt: skip
    assert [key.name for key in expand_keys(KEYS, bare)] == ["user", "item"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"keys": ("user", "itm")}, "there is no 'itm'; nearest is 'item'"),
        ({"keys": ("user*profile.gendre",)}, r"nearest is 'profile\.gender'"),
        ({"labels": ("clicks",)}, "'clicks' is not one of"),
        ({"strength": 0.0}, "strength must be above 0"),
        ({"strengths": (("item", 0.0),)}, "strengths too"),
        ({"strengths": (("itm", 1.0),)}, "no key 'itm' among"),
        ({"train": "blocks", "block_days": 0.0}, "block_days above 0"),
    ],
)
def test_a_wrong_configuration_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        fitted(make_rows(9, 0), replace(CONFIG, **change))


def test_wrong_questions_are_refused() -> None:
    statistics = fitted(make_rows(9, 0))
    one = np.ones(1, np.int32)
    with pytest.raises(UserError, match="item id 5 at place 0 is not one of the 5"):
        statistics.features(one, one * 5, {"device": one})
    with pytest.raises(UserError, match="user id -1"):
        statistics.features(-one, one, {"device": one})
    with pytest.raises(UserError, match="need the context 'device'"):
        statistics.features(one, one)


def test_a_label_too_large_to_sum_exactly_is_refused() -> None:
    rows = make_rows(9, 0)
    huge = {**rows.labels, "dwell": np.full(9, 1e13, np.float32)}
    with pytest.raises(UserError, match="'dwell' reaches"):
        fitted(replace(rows, labels=huge))
