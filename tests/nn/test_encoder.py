"""The encoder by itself: masks, packing, cuts, dropout, refusals. Parity is in tests/adapt."""

from dataclasses import replace
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtl_jax.core.errors import UserError
from mtl_jax.nn import encoder as encoder_module
from mtl_jax.nn.attention import attend
from mtl_jax.nn.encoder import Encoder, EncoderConfig, check_ids, init_params, table_rows
from mtl_jax.nn.encoder_config import REMAT

BERT = EncoderConfig("bert", 50, width=24, layers=2, heads=3, ffn=40, max_positions=12)
ROBERTA = replace(BERT, model_type="roberta", pad_id=1, max_positions=14, type_vocab=1)


# Compiling, not computing, is what these tests wait for.
@pytest.fixture(autouse=True, scope="module")
def _quick_compilation():
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


EACH = pytest.mark.parametrize("config", [BERT, ROBERTA], ids=["bert", "roberta"])


@cache
def drawn(config: EncoderConfig) -> dict:
    """Parameters where every bias and scale counts."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(lambda: init_params(config, jax.random.key(0)))

    def draw(path, leaf):
        name = path[-1].key
        if name == "scale":
            return rng.uniform(0.5, 1.5, leaf.shape).astype(np.float32)
        return rng.normal(0, 0.3, leaf.shape).astype(np.float32)

    return jax.tree_util.tree_map_with_path(draw, shapes)


@partial(jax.jit, static_argnames=("config", "deterministic", "start_layer", "stop_layer"))
def run(config, params, ids, *args, rngs=None, **kwargs):
    return Encoder(config).apply({"params": params}, ids, *args, rngs=rngs, **kwargs)


def encode(*args, **kwargs):
    return np.asarray(run(*args, **kwargs))


def count_draws(jaxpr) -> int:
    """Calls of the random generator in a jaxpr and in what it calls."""
    count = 0
    for equation in jaxpr.eqns:
        count += equation.primitive.name == "random_bits"
        for value in equation.params.values():
            if hasattr(value, "jaxpr"):
                count += count_draws(value.jaxpr)
    return count


def some_ids(shape, seed=1):
    return np.random.default_rng(seed).integers(5, 50, shape).astype(np.int32)


LENGTHS = [3, 1, 4]


def three_texts(config):
    """ids and mask [3, 8] of texts of LENGTHS, padded; and the same packed into one row."""
    ids = np.full((3, 8), config.pad_id, np.int32)
    mask = (np.arange(8) < np.array(LENGTHS)[:, None]).astype(np.int32)
    ids[mask > 0] = some_ids(8)
    row = {
        "ids": np.full((1, 10), config.pad_id, np.int32),
        "segment_ids": np.array([[1, 1, 1, 2, 3, 3, 3, 3, 0, 0]]),
        "position_ids": np.array([[0, 1, 2, 0, 0, 1, 2, 3, 0, 0]]),
    }
    row["ids"][0, :8] = ids[mask > 0]
    return ids, mask, row


@EACH
def test_padding_and_packing_give_the_vectors_of_the_text_alone(config):
    params = drawn(config)
    ids, mask, row = three_texts(config)
    padded = encode(config, params, ids, mask)
    alone = encode(config, params, ids[2:, :4])
    np.testing.assert_allclose(padded[2:, :4], alone, atol=1e-5)
    assert np.abs(encode(config, params, ids)[2:, :4] - alone).max() > 1e-2
    packed = encode(config, params, row["ids"], **{k: v for k, v in row.items() if k != "ids"})
    np.testing.assert_allclose(packed[0, :8], padded[mask > 0], atol=1e-5)
    derived = encode(config, params, row["ids"], segment_ids=row["segment_ids"])
    np.testing.assert_allclose(derived[0, :8], packed[0, :8], atol=1e-5)
    assert np.isfinite(packed).all()


def test_a_mask_works_inside_a_packed_row_too():
    params = drawn(BERT)
    ids, mask, row = three_texts(BERT)
    shorter = np.array([[1, 1, 1, 1, 1, 1, 1, 0, 1, 1]])
    packed = encode(BERT, params, row["ids"], shorter, segment_ids=row["segment_ids"])
    mask[2, 3] = 0
    padded = encode(BERT, params, ids, mask)
    np.testing.assert_allclose(packed[0, 4:7], padded[2, :3], atol=1e-5)


def test_roberta_counts_positions_from_ids_and_not_from_the_mask():
    ids = np.array([[7, 1, 8, 9, 1, 1]])
    rows = table_rows(ROBERTA, jnp.asarray(ids), None, None)
    assert rows.tolist() == [[2, 1, 3, 4, 1, 1]]
    segments = np.array([[1, 1, 1, 2, 2, 0]])
    rows = table_rows(ROBERTA, jnp.asarray(ids), segments, None)
    assert rows.tolist() == [[2, 1, 3, 2, 1, 1]]
    assert table_rows(BERT, jnp.asarray(ids), segments, None).tolist() == [[0, 1, 2, 0, 1, 0]]


def test_a_row_without_a_single_token_is_finite_and_so_is_its_gradient():
    config = ROBERTA
    params, ids = drawn(config), some_ids((2, 5))
    mask = np.array([[1, 1, 1, 0, 0], [0, 0, 0, 0, 0]])
    segments = np.array([[1, 1, 2, 0, 0], [0, 0, 0, 0, 0]])

    def loss(params):
        return (run(config, params, ids, mask, segment_ids=segments) ** 2).sum()

    value, gradient = jax.jit(jax.value_and_grad(loss))(params)
    assert np.isfinite(value)
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(gradient))


@pytest.mark.parametrize("cut", [0, 1, 2])
def test_two_parts_with_their_own_parameters_give_the_whole(cut):
    params = drawn(BERT)
    ids, mask, _ = three_texts(BERT)
    below = {k: v for k, v in params.items() if k == "embeddings" or int(k[6:]) < cut}
    above = {k: v for k, v in params.items() if k not in below}
    states = encode(BERT, below, ids, mask, stop_layer=cut)
    rest = encode(BERT, above, None, mask, start_layer=cut, hidden=states)
    np.testing.assert_allclose(rest, encode(BERT, params, ids, mask), atol=1e-5)


def test_an_impossible_part_is_refused():
    params, ids = drawn(BERT), some_ids((1, 4))
    for wrong in ({"stop_layer": 3}, {"start_layer": 1}, {"start_layer": -1}):
        with pytest.raises(UserError, match="cannot run layers"):
            encode(BERT, params, ids, **wrong)
    with pytest.raises(UserError, match="ids are needed"):
        encode(BERT, params, None)


def test_dropout_acts_in_four_places_and_only_when_asked():
    params, ids = drawn(BERT), some_ids((2, 6))
    rngs = {"dropout": jax.random.key(3)}

    def draws(config):
        traced = jax.make_jaxpr(lambda p: run(config, p, ids, deterministic=False, rngs=rngs))
        return count_draws(traced(params).jaxpr)

    off = replace(BERT, hidden_dropout=0.0, attention_dropout=0.0)
    assert draws(off) == 0
    assert draws(replace(off, attention_dropout=0.1)) == BERT.layers
    assert draws(replace(off, hidden_dropout=0.1)) == 1 + 2 * BERT.layers
    dropped = encode(BERT, params, ids, deterministic=False, rngs=rngs)
    again = encode(BERT, params, ids, deterministic=False, rngs=rngs)
    np.testing.assert_array_equal(dropped, again)
    assert np.abs(dropped - encode(BERT, params, ids)).max() > 1e-2


def test_attention_dropout_falls_on_probabilities():
    states = jnp.ones((1, 2, 3, 4))
    dropped = attend(states, states, states, None, 1.0, jax.random.key(0))
    assert not dropped.any()


def test_the_embeddings_dropout_comes_after_their_norm():
    params, ids = drawn(BERT), some_ids((2, 6))
    rngs = {"dropout": jax.random.key(3)}
    half = replace(BERT, hidden_dropout=0.5)
    embedded = encode(half, params, ids, stop_layer=0, deterministic=False, rngs=rngs)
    plain = encode(half, params, ids, stop_layer=0)
    kept = embedded != 0
    assert 0.3 < kept.mean() < 0.7
    np.testing.assert_allclose(embedded[kept], 2 * plain[kept], rtol=1e-5)


def test_full_fine_tuning_reaches_every_layer():
    config = BERT
    params, ids = drawn(config), some_ids((2, 6))
    target = jnp.asarray(np.random.default_rng(5).normal(size=(2, 6, config.width)), jnp.float32)

    @jax.jit
    def step(params):
        def loss(params):
            rngs = {"dropout": jax.random.key(0)}
            hidden = run(config, params, ids, deterministic=False, rngs=rngs)
            return ((hidden - target) ** 2).mean()

        value, gradient = jax.value_and_grad(loss)(params)
        return value, gradient, jax.tree.map(lambda p, g: p - 0.05 * g, params, gradient)

    first, gradient, params = step(params)
    for path, g in jax.tree_util.tree_leaves_with_path(gradient):
        names = [k.key for k in path]
        if names[1:] != ["key", "bias"]:  # softmax does not feel it
            assert np.abs(g).max() > 0, names
    for _ in range(10):
        last, _, params = step(params)
    assert last < first


def test_remat_keeps_less_and_gives_the_same_gradient():
    ids, params = some_ids((2, 7)), drawn(BERT)
    key = jax.random.key(3)

    def loss(params, config):
        out = Encoder(config).apply(
            {"params": params}, ids, deterministic=False, rngs={"dropout": key}
        )
        return jnp.sum(out**2)

    kept = {}
    one = jax.jit(jax.grad(partial(loss, config=BERT)))(params)
    for name in REMAT:
        config = replace(BERT, remat=name)
        pull = jax.eval_shape(lambda p, f=partial(loss, config=config): jax.vjp(f, p)[1], params)
        kept[name] = sum(x.size for x in jax.tree.leaves(pull))
        two = jax.jit(jax.grad(partial(loss, config=config)))(params)
        for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-4)
        assert jax.tree.structure(init_params(config, key)) == jax.tree.structure(params)
    assert kept["layers"] < kept["activations"] < kept["none"]
    with pytest.raises(UserError, match="remat"):
        replace(BERT, remat="dots")


ROWS, LENGTH = 7, 12  # in slices of two rows: not a multiple


def by_slices(monkeypatch, on: bool) -> None:
    monkeypatch.setattr(encoder_module, "SLICED", 1 if on else 10**9)
    monkeypatch.setattr(encoder_module, "SLICE", 2 * LENGTH)


def found_by(config, sliced, monkeypatch, *, key=None, cut=0, mask=None, segments=None):
    """Loss, hidden states and gradient of every parameter."""
    by_slices(monkeypatch, sliced)
    ids, params = some_ids((ROWS, LENGTH)), drawn(config)
    below = Encoder(config).apply({"params": params}, ids, stop_layer=cut) if cut else None
    above = {k: v for k, v in params.items() if not cut or k == "layer_1"}
    weight = jnp.asarray(np.random.default_rng(8).normal(size=(ROWS, LENGTH, config.width)))

    def loss(params):
        out = Encoder(config).apply(
            {"params": params},
            ids,
            mask,
            segment_ids=segments,
            hidden=below,
            start_layer=cut,
            deterministic=key is None,
            rngs=None if key is None else {"dropout": key},
        )
        return jnp.mean(out * weight), out

    return jax.jit(jax.value_and_grad(loss, has_aux=True))(above)


@pytest.mark.parametrize("kind", ["segments", "mask", "all", "cut"])
def test_slices_of_rows_give_the_same(monkeypatch, kind):
    rows = np.sort(np.random.default_rng(7).integers(0, 4, (ROWS, LENGTH)), 1)
    given = {
        "segments": {"segments": rows},
        "mask": {"mask": rows > 0},
        "all": {},
        "cut": {"segments": rows, "cut": 1},
    }[kind]
    whole = found_by(BERT, False, monkeypatch, **given)
    for remat in REMAT:
        parts = found_by(replace(BERT, remat=remat), True, monkeypatch, **given)
        assert jax.tree.structure(whole) == jax.tree.structure(parts)
        for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(parts), strict=True):
            np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-5, err_msg=remat)


def test_slices_drop_apart_and_again_the_same(monkeypatch):
    by_slices(monkeypatch, True)
    same = jnp.broadcast_to(jnp.asarray(some_ids((1, LENGTH))), (ROWS, LENGTH))
    config = replace(BERT, hidden_dropout=0.3)
    key = jax.random.key(1)

    def once():
        states = jnp.broadcast_to(drawn(config)["embeddings"]["word"][same], (*same.shape, 24))
        return Encoder(config).apply(
            {"params": drawn(config)},
            None,
            hidden=states,
            start_layer=1,
            deterministic=False,
            rngs={"dropout": key},
        )

    out = np.asarray(once())
    assert len({x.tobytes() for x in out}) == ROWS
    np.testing.assert_array_equal(out, once())
    (_, a), g = found_by(config, True, monkeypatch, key=key)
    (_, b), h = found_by(config, True, monkeypatch, key=key)
    np.testing.assert_array_equal(a, b)
    for x, y in zip(jax.tree.leaves(g), jax.tree.leaves(h), strict=True):
        np.testing.assert_array_equal(x, y)


def test_the_gradient_of_a_sliced_step_is_that_of_its_own_masks(monkeypatch):
    """A mask drawn anew in the backward pass would give another gradient than differences do."""
    by_slices(monkeypatch, True)
    params, ids = drawn(BERT), some_ids((ROWS, LENGTH))

    @jax.jit
    def loss(scale):
        layer = {**params["layer_1"]}
        layer["ffn_out"] = {**layer["ffn_out"], "kernel": scale * layer["ffn_out"]["kernel"]}
        out = Encoder(BERT).apply(
            {"params": {**params, "layer_1": layer}},
            ids,
            deterministic=False,
            rngs={"dropout": jax.random.key(2)},
        )
        return jnp.mean(out**3)

    step = 1e-2
    by_difference = (loss(1.0 + step) - loss(1.0 - step)) / (2 * step)
    np.testing.assert_allclose(jax.grad(loss)(1.0), by_difference, rtol=1e-2)


def test_a_sliced_step_needs_a_fraction_of_the_memory(monkeypatch):
    config = replace(BERT, width=32, heads=4, ffn=128, max_positions=64)
    shapes = jax.eval_shape(lambda: init_params(config, jax.random.key(0)))
    hidden = jax.ShapeDtypeStruct((64, 64, 32), jnp.float32)

    def needs(sliced):
        monkeypatch.setattr(encoder_module, "SLICED", 1 if sliced else 10**9)
        monkeypatch.setattr(encoder_module, "SLICE", 128)

        def loss(params, hidden):
            return jnp.sum(
                Encoder(config).apply(
                    {"params": params},
                    None,
                    hidden=hidden,
                    start_layer=1,
                    deterministic=False,
                    rngs={"dropout": jax.random.key(0)},
                )
                ** 2
            )

        compiled = jax.jit(jax.grad(loss)).lower(shapes, hidden).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert needs(True) < 0.4 * needs(False)


def test_slices_map_over_lanes_and_stay_whole_on_a_mesh(monkeypatch):
    by_slices(monkeypatch, True)
    ids, params = some_ids((ROWS, LENGTH)), drawn(BERT)

    def loss(scale):
        out = Encoder(BERT).apply({"params": jax.tree.map(lambda x: scale * x, params)}, ids)
        return jnp.mean(out**2)

    scales = jnp.array([0.9, 1.1])
    together, alone = jax.jit(jax.vmap(jax.grad(loss)))(scales), jax.jit(jax.grad(loss))
    for a, b in zip(together, scales, strict=True):
        np.testing.assert_allclose(a, alone(b), rtol=1e-4)
    mesh = jax.sharding.AbstractMesh((2,), ("data",))
    assert encoder_module._parts((ROWS, LENGTH), 1) == 4
    with jax.sharding.use_abstract_mesh(mesh):
        assert encoder_module._parts((ROWS, LENGTH), 1) == 1


def test_bfloat16_keeps_parameters_and_stays_near_float32():
    params, ids = drawn(BERT), some_ids((2, 9))
    low = run(replace(BERT, dtype="bfloat16"), params, ids)
    assert low.dtype == jnp.bfloat16
    high = encode(BERT, params, ids)
    error = np.abs(np.asarray(low, np.float32) - high).max()
    assert 1e-4 < error < 0.15


def test_random_parameters_are_float32_and_of_the_named_spread():
    config = replace(BERT, layers=1, dtype="bfloat16", has_pooler=True, init_range=0.3)
    fresh = init_params(config, jax.random.key(0))
    assert {x.dtype for x in jax.tree.leaves(fresh)} == {jnp.dtype("float32")}
    assert fresh["pooler"]["kernel"].shape == (24, 24)
    for kernel in (fresh["embeddings"]["word"], fresh["layer_0"]["ffn_in"]["kernel"]):
        assert 0.27 < kernel.std() < 0.33


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ids": [[1, 50]]}, r"ids\[0, 1\] = 50 .* vocabulary \(0 to 49\)"),
        ({"ids": [[-1, 2]]}, r"ids\[0, 0\] = -1"),
        ({"ids": [[1.0, 2.0]]}, "must be integers"),
        ({"ids": [list(range(13))]}, "a row of 13 tokens is longer than the 12 positions"),
        ({"ids": [[1, 2]], "position_ids": [[0, 12]]}, r"position_ids\[0, 1\] = 12"),
        ({"ids": [[1, 2]], "token_type_ids": [[0, 2]]}, r"token_type_ids\[0, 1\] = 2"),
        ({"ids": [[1, 2]], "token_type_ids": [[0, 1, 1]]}, "has shape"),
        ({"ids": [[1] * 14], "segment_ids": [[1] * 13 + [2]]}, "a row of 13 tokens"),
        ({"ids": [[1, 2]], "segment_ids": [[-1, 1]]}, "segment_ids must be 0"),
    ],
)
@pytest.mark.parametrize("kind", ["check", "numpy", "jax"])
def test_what_cannot_be_read_is_refused_on_the_host(arguments, message, kind):
    wrap = jnp.asarray if kind == "jax" else np.asarray
    arguments = {name: wrap(value) for name, value in arguments.items()}
    encoder = Encoder(BERT).bind({"params": drawn(BERT)})
    refuse = partial(check_ids, BERT) if kind == "check" else encoder
    with pytest.raises(UserError, match=message):
        refuse(**arguments)


def test_roberta_uses_less_than_its_table():
    assert ROBERTA.usable_length == 12
    params = drawn(ROBERTA)
    assert np.isfinite(encode(ROBERTA, params, some_ids((1, 12)))).all()
    with pytest.raises(UserError, match="longer than the 12 positions"):
        encode(ROBERTA, params, some_ids((1, 13)))
    with pytest.raises(UserError, match=r"position_ids\[0, 2\] = 12"):
        check_ids(ROBERTA, some_ids((1, 3)), position_ids=np.array([[0, 1, 12]]))


def test_under_jit_too_long_is_refused_and_a_bad_id_is_nan_and_never_clamped():
    params = drawn(BERT)
    with pytest.raises(UserError, match="longer than the 12 positions"):
        encode(BERT, params, some_ids((1, 13)))
    for bad in (50, -1):
        assert np.isnan(encode(BERT, params, np.array([[3, bad, 4]], np.int32))).any()


def test_shapes_that_do_not_fit_are_refused():
    params, ids = drawn(BERT), some_ids((2, 5))
    with pytest.raises(UserError, match="attention_mask has shape"):
        encode(BERT, params, ids, np.ones((2, 4)))
    with pytest.raises(UserError, match=r"ids must be \[rows, tokens\]"):
        encode(BERT, params, ids[0])


@pytest.mark.parametrize(
    "change",
    [
        {"model_type": "mpnet"},
        {"activation": "quick_gelu"},
        {"dtype": "float16"},
        {"heads": 5},
        {"layers": 0},
        {"hidden_dropout": 1.0},
        {"norm_eps": 0.0},
        {"type_vocab": 0},
    ],
)
def test_a_config_that_cannot_be_is_refused(change):
    with pytest.raises(UserError, match="encoder"):
        replace(BERT, **change)
