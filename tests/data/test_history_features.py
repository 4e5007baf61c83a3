"""Histories as columns: a slow loop says what they are, serving must give the same numbers."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtl_jax.core.errors import UserError
from mtl_jax.data import history_features
from mtl_jax.data.config import DataConfig, StatisticsConfig
from mtl_jax.data.history import EventColumns, own_histories
from mtl_jax.data.history_features import Entries, HistoryStatistics, fit_history
from mtl_jax.data.keys import Attributes
from mtl_jax.data.prepare import prepare_raw
from mtl_jax.data.prepared import open_prepared
from mtl_jax.data.schema import Label, RawData
from mtl_jax.data.statistics import Rows, Statistics, fit, folds_of
from mtl_jax.serve.request import Request, resolve, rows_for

YEAR = np.array([np.nan, -1.0, 0.1, 0.2, np.nan, 5.0], np.float32)
ATTRIBUTES = Attributes(
    n_users=4,
    n_items=6,
    item={
        "genre": np.array([0, 1, 2, 1, 0, 3], np.int32),
        "brand": np.array([0, 1, 1, 2, 2, 0], np.int32),
    },
    tags=np.array([[0, 0], [1, 2], [2, 0], [0, 0], [1, 3], [2, 3]], np.int32),
    user={},
    contexts={},
    category="genre",
    item_dense={"year": YEAR},
)
CONFIG = StatisticsConfig(keys=("user",), strength=4.0, history_last=6, block_days=0.3)


def make_rows(n: int, seed: int) -> Rows:
    """Random events with ties in time."""
    rng = np.random.default_rng(seed)
    return Rows(
        user=rng.integers(1, 4, n).astype(np.int32),
        item=rng.integers(1, 6, n).astype(np.int32),
        time=1_000_000 + np.sort(rng.integers(1, 2 + n // 2, n)) * 1800,
        row=np.arange(n),
        labels={"like": (rng.random(n) < 0.6).astype(np.float32)},
        contexts={},
    )


def entries_of(rows: Rows) -> Entries:
    liked = rows.labels["like"] == 1
    types = np.ones(len(liked), np.int8)
    h = own_histories(EventColumns(rows.user, rows.item, rows.time, types, liked))
    time = np.where(h.item == 5, 0, h.time)  # nobody knows when item 5 was liked
    return Entries(h.item, time, h.start, h.stop)


def fitted(rows: Rows, config: StatisticsConfig = CONFIG) -> HistoryStatistics:
    return fit_history(fit(config, (Label("like", "binary"),), "like", ATTRIBUTES, rows), rows)


def oracle(rows: Rows, seen: list[int], item: int, now: float, entries: list[Any]) -> list[float]:
    """The columns of one row by plain loops; entries: (item, time), oldest first."""
    a, like = CONFIG.strength, rows.labels["like"]
    p = (sum(like[j] for j in seen) + a / 2) / (len(seen) + a)

    def rate(of: int) -> float:
        mine = [like[j] for j in seen if rows.item[j] == of]
        drawn = (sum(mine) + a * p) / (len(mine) + a)
        return float(np.log(drawn / (1 - drawn)) - np.log(p / (1 - p)))

    latest = entries[::-1][: CONFIG.history_last]
    ages = [now - t if t > 0 else None for _, t in latest]
    rates = [rate(i) for i, _ in latest]
    found = [np.log1p(len(entries)), float(not entries)]
    found += [np.mean(rates or [0]), np.mean(rates[:5] or [0])]
    for rank in (0, 4):
        age = ages[rank] if len(latest) > rank else None
        found.append(np.log1p((365 * 86_400 if age is None else age) / 60))
    for span in (600, 3600, 86_400, 30 * 86_400):
        found.append(np.log1p(sum(age is not None and age < span for age in ages)))
    years = [float(YEAR[i]) for i, _ in latest if not np.isnan(YEAR[i])]
    found.append(np.mean(years or [0]))
    for column in (ATTRIBUTES.item["genre"][:, None], ATTRIBUTES.tags,
                   ATTRIBUTES.item["brand"][:, None]):  # fmt: skip
        own = {int(v) for v in column[item] if v}
        sets = [{int(v) for v in column[i] if v} for i, _ in latest]
        total = len(rows.item) + column.max() + 1
        ratios = []
        for v in own:
            base = (sum(v in column[i] for i in rows.item) + 1) / total
            drawn = (sum(v in s for s in sets) + 10 * base) / (len(sets) + 10)
            ratios.append(np.log(drawn / base))
        weights = [0.5 ** (rank / 5) for rank in range(len(sets))]
        cosines = [len(own & s) / np.sqrt(max(len(own) * len(s), 1)) for s in sets]
        found.append(np.mean(ratios or [0]))
        found.append(np.log1p(sum(bool(own & s) for s in sets)))
        found.append(np.average(cosines, weights=weights) if sets else 0)
    gaps = [abs(y - YEAR[item]) for y in years] if not np.isnan(YEAR[item]) else []
    found.append(np.mean([min(g, 3.0) for g in gaps] or [1.0]))
    found.append(np.mean([g < 0.25 for g in gaps] or [0.15]))
    return [float(v) for v in found]


def history_of(entries: Entries, row: int) -> list[Any]:
    here = slice(entries.start[row], entries.stop[row])
    return list(zip(entries.item[here].tolist(), entries.time[here].tolist(), strict=True))


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 40), st.integers(0, 10**6), st.sampled_from(["causal", "kfold", "blocks"]))
def test_training_rows_against_a_loop(n: int, seed: int, mode: Any) -> None:
    rows, config = make_rows(n, seed), replace(CONFIG, train=mode, folds=3)
    entries = entries_of(rows)
    got = fitted(rows, config).training_features(rows, entries)
    fold = None if mode == "causal" else folds_of(config, rows.time, rows.row)[0]
    for i in range(n):
        seen = [
            j
            for j in range(n)
            if (rows.time[j] < rows.time[i] if fold is None else fold[j] != fold[i])
        ]
        wanted = oracle(rows, seen, rows.item[i], rows.time[i], history_of(entries, i))
        np.testing.assert_allclose(got[i], wanted, rtol=1e-5, atol=1e-5)


@settings(max_examples=10, deadline=None)
@given(st.integers(2, 40), st.integers(0, 10**6))
def test_later_rows_against_a_loop(n: int, seed: int) -> None:
    rows = make_rows(n, seed)
    entries, history = entries_of(rows), fitted(rows)
    items, now = np.arange(6), np.full(6, rows.time[-1] + 5000)
    places = np.arange(6) % n
    got = history.features(items, now, entries.take(places))
    for i in range(6):
        wanted = oracle(rows, list(range(n)), i, now[i], history_of(entries, places[i]))
        np.testing.assert_allclose(got[i], wanted, rtol=1e-5, atol=1e-5)


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = make_rows(80, 1)
    entries, history = entries_of(rows), fitted(rows)
    whole = history.training_features(rows, entries)
    monkeypatch.setattr(history_features, "_PAIRS", 7)
    np.testing.assert_array_equal(history.training_features(rows, entries), whole)


def test_no_label_of_the_row_or_later_moves_a_causal_row() -> None:
    rows = make_rows(60, 3)
    entries = entries_of(rows)
    before = fitted(rows).training_features(rows, entries)
    flipped = rows.labels["like"].copy()
    flipped[30] = 1 - flipped[30]
    other = replace(rows, labels={"like": flipped})
    after = fitted(other).training_features(other, entries)
    unmoved = rows.time <= rows.time[30]
    np.testing.assert_array_equal(after[unmoved], before[unmoved])
    assert (after != before).any()


def test_loaded_tables_answer_the_same(tmp_path: Path) -> None:
    rows = make_rows(50, 5)
    entries, history = entries_of(rows), fitted(rows)
    history.statistics.save(tmp_path)
    history.save(tmp_path / "history")
    statistics = Statistics.load(tmp_path)
    loaded = HistoryStatistics.load(tmp_path / "history", statistics)
    ask = (rows.item, rows.time + 999, entries)
    np.testing.assert_array_equal(loaded.features(*ask), history.features(*ask))
    assert loaded.columns == history.columns
    (tmp_path / "history" / "share_1.npy").write_bytes(b"")
    with pytest.raises(UserError, match=r"share_1\.npy: unreadable"):
        HistoryStatistics.load(tmp_path / "history", statistics)


def test_a_request_has_the_numbers_of_its_event(raw: RawData, config: DataConfig) -> None:
    data = open_prepared(prepare_raw(raw, config))
    e, users = data.events, data.vocabulary("users").values
    devices = data.vocabulary("ctx_device").values
    later = [i for i in data.part(1) if e["item"][i] and e["hist_stop"][i] > e["hist_start"][i]]
    assert len(later) > 5
    for i in later:
        device = devices[e["ctx_device"][i]]
        context = {"device": device} if device else {}
        request = Request(users[e["user"][i]], context=context, now=int(e["time"][i]))
        rows = rows_for(data, resolve(data, request), np.array([e["item"][i], 3]), 4)
        np.testing.assert_array_equal(rows.stats[0], data.standardised(e["stats"][i]))
        assert (rows.stats[1] != rows.stats[0]).any() or e["item"][i] == 3
