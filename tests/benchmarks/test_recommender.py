"""Our recommender and torch's copy of it are one model: losses, and gradients of both its ways."""

import numpy as np
import polars as pl
import pytest

from benchmarks import recommender_ours as ours
from benchmarks.recommender_data import copies
from mtl_jax.adapt.minilm import minilm_folder
from mtl_jax.core.errors import UserError

GENRES = [f"genre{n:02}" for n in range(18)]  # and 0, unknown: the 19 classes of interest
ITEMS, USERS, ROWS = 36, 6, 48


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    try:
        minilm_folder()
    except UserError as error:
        pytest.skip(str(error))
    found = tmp_path_factory.mktemp("collm")
    rng = np.random.default_rng(0)
    n = np.arange(1, ITEMS + 1)
    words = np.array(["red", "cold", "river", "night of the", "return", "last", "king"])
    pl.DataFrame(
        {
            "iid": n,
            "title": [f"The {' '.join(rng.choice(words, k % 5 + 1))} ({1950 + k})" for k in n],
            "genres": [f"{GENRES[k % 18]}|{GENRES[k % 7]}" for k in n],
            "year": [str(1950 + k) for k in n],
            "rated": ["R" if k % 2 else "" for k in n],
            "director": [f"Director {k % 5}" for k in n],
            "actors": [f"Star {k % 6}" for k in n],
            "plot": ["A plot."] * ITEMS,
        }
    ).write_parquet(found / "items.parquet")
    for part, start in (("train", 0), ("valid", ROWS)):
        time = np.arange(start, start + ROWS) * 5000 + 10**9
        pl.DataFrame(
            {
                "uid": rng.integers(1, USERS + 1, ROWS),
                "iid": rng.integers(1, ITEMS + 1, ROWS),
                "label": rng.integers(0, 2, ROWS).astype(float),
                "timestamp": time,
                "his": [[0, *rng.integers(1, ITEMS + 1, k % 6).tolist()] for k in range(ROWS)],
            },
            schema_overrides={"his": pl.List(pl.Int64)},
        ).write_parquet(found / f"{part}.parquet")
    return found


@pytest.fixture(scope="module")
def theirs():
    pytest.importorskip("torch", reason="torch is in the extras dev and bench")
    from benchmarks import recommender_theirs

    return recommender_theirs


@pytest.fixture
def opened(request, folder, theirs, tmp_path, quick_compilation):
    told = ours.open_world(str(tmp_path), str(folder), "titles", 16, 6, request.param)
    return told, theirs.open_world(told["dump"])


@pytest.mark.parametrize("opened", [0, 1, -1], indirect=True, ids=["frozen", "top", "all"])
def test_torch_has_the_same_losses(opened, theirs):
    told, found = opened
    assert found, "nothing was compared"
    for losses in found.values():
        np.testing.assert_allclose(losses, told["losses"], rtol=1e-4)
    (w,) = theirs._world
    assert set(found) == ({"distinct"} if w.texts is None else {"distinct", "as-written"})


def gradients(theirs, w, way):
    """Gradients after one step, nothing dropped and nothing moved."""
    model, optimisers = theirs._model(w)
    model.eval()
    w.texts.eval()
    w.texts.rounded = w.states is not None
    for group in optimisers[0].param_groups:
        group["lr"] = group["weight_decay"] = 0.0
    factor = way.step(way.make(0))
    both = {**dict(model.named_parameters()), **dict(w.texts.named_parameters())}
    return factor, {k: p.grad.clone() for k, p in both.items() if p.grad is not None}


@pytest.mark.parametrize("opened", [1], indirect=True)
def test_micro_batches_of_copies_give_the_gradients_of_distinct_texts(opened, theirs, monkeypatch):
    (w,) = theirs._world
    monkeypatch.setattr(theirs, "CALL", 300)
    parts, share = theirs._copies(w, 0)
    assert len(parts) > 2
    assert share == 1.0
    _, wanted = gradients(theirs, w, theirs.best(w, groups=3))
    factor, found = gradients(theirs, w, theirs.as_written(w, 0))
    assert factor == 1.0
    assert set(found) == set(wanted)
    assert any("encoder.layer.5" in k for k in found)
    assert not any("encoder.layer.4" in k for k in found), "frozen"
    for k, g in wanted.items():
        np.testing.assert_allclose(found[k], g, rtol=1e-3, atol=1e-5, err_msg=k)
    few, _ = gradients(theirs, w, theirs.as_written(w, 2))
    assert few > 1.0, "a part of the batch counts for all of it"


def test_texts_and_distinct_texts_of_a_batch_are_counted():
    found = copies({"item": np.array([[1, 2]]), "hist": np.array([[[2, 3, 0], [2, 0, 0]]])})
    assert found == {"texts": 5.0, "distinct": 3.0, "copies": 5 / 3}
