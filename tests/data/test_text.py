import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from mtl_jax.core.errors import UserError
from mtl_jax.data.text import load_tokenizer, position_limit, render, tokenise, tokenizer_files

ITEMS = pl.DataFrame(
    {
        "title": ["red shoe", None, "a|b\n c"],
        "tags": [["x", "y"], [], None],
        "price": [1.5, float("nan"), 2.0],
        "year": [1999, None, 2001],
    }
)


def test_a_template_is_filled() -> None:
    texts = render("{title} [{tags}] {price} {year}", ITEMS)
    assert texts == ["red shoe [x, y] 1.5 1999", "[]", "a|b c [] 2 2001"]


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{titel}", "no column 'titel'; nearest is 'title'"),
        ("{}", "no column ''"),
        ("{title", "expected '}'"),
        ("{price:.2f}", "only plain"),
    ],
)
def test_a_wrong_template_is_refused(template: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        render(template, ITEMS)


def test_texts_become_ids(tokenizer_folder: Path) -> None:
    tokens = tokenise(
        load_tokenizer(tokenizer_folder), ["red shoe", "", "hat hat new blue odd"], None, 6
    )
    assert tokens.ids.dtype == np.int32
    assert tokens.offsets.tolist() == [0, 4, 6, 12]
    assert tokens.ids[:6].tolist() == [2, 4, 6, 3, 2, 3]
    assert tokens.ids[6:].tolist() == [2, 7, 7, 8, 5, 3]
    assert tokens.types is None
    assert tokens.cut == 1


def test_a_text_that_just_fits_is_not_cut(tokenizer_folder: Path) -> None:
    tokens = tokenise(load_tokenizer(tokenizer_folder), ["hat hat new blue"], None, 6)
    assert (len(tokens.ids), tokens.cut) == (6, 0)


def test_pairs_have_token_types(tokenizer_folder: Path) -> None:
    tokens = tokenise(load_tokenizer(tokenizer_folder), ["red", "hat"], ["blue hat", ""], 16)
    assert tokens.types is not None
    assert tokens.ids.tolist() == [2, 4, 3, 5, 7, 3, 2, 7, 3, 3]
    assert tokens.types.tolist() == [0, 0, 0, 1, 1, 1, 0, 0, 0, 1]


def test_a_text_beyond_the_position_table_is_refused(tokenizer_folder: Path) -> None:
    tokenizer = load_tokenizer(tokenizer_folder)
    assert len(tokenise(tokenizer, ["red"], None, 8, positions=8).ids) == 3
    with pytest.raises(UserError, match=r"data\.max_tokens=9 is more than the 8 positions"):
        tokenise(tokenizer, ["red"], None, 9, positions=8)
    with pytest.raises(UserError, match="no room for text"):
        tokenise(tokenizer, ["red"], None, 3)


@pytest.mark.parametrize(
    ("config", "limit"),
    [
        ({"model_type": "bert", "max_position_embeddings": 512}, 512),
        ({"model_type": "roberta", "max_position_embeddings": 514, "pad_token_id": 1}, 512),
        ({"model_type": "xlm-roberta", "max_position_embeddings": 20, "pad_token_id": 3}, 16),
        ({"model_type": "other"}, None),
    ],
)
def test_position_limit(tmp_path: Path, config: dict[str, object], limit: int | None) -> None:
    assert position_limit(tmp_path) is None
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert position_limit(tmp_path) == limit


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a folder"):
        load_tokenizer(tmp_path / "nowhere")
    with pytest.raises(UserError, match="no tokenizer in"):
        load_tokenizer(tmp_path)


def test_the_tokenizer_is_known_by_its_files(tokenizer_folder: Path) -> None:
    assert [name for name, _ in tokenizer_files(tokenizer_folder)] == [
        "tokenizer.json",
        "tokenizer_config.json",
    ]
