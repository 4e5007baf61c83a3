from pathlib import Path

import numpy as np
import pytest

from mtl_jax.data import column_file
from mtl_jax.data.column_file import write_columns


@pytest.mark.parametrize("at_once", [1, 7, 1000])
@pytest.mark.parametrize("width", [0, 1, 5])
def test_columns_become_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int, width: int
) -> None:
    monkeypatch.setattr(column_file, "_ROWS", at_once)
    table = np.random.default_rng(0).normal(size=(23, width)).astype(np.float32)
    table[:, -1:] = 4.0
    train = np.arange(23) % 3 > 0
    path = tmp_path / "events" / "stats.npy"
    told = write_columns(path, iter(table.T), 23, train)
    found = np.load(path)
    assert found.dtype == np.float32
    assert found.flags.c_contiguous
    np.testing.assert_array_equal(found, table)
    np.testing.assert_allclose(told["mean"], table[train].mean(0), rtol=1e-6)
    spread = [*table[train].std(0)[:-1], 1.0] if width else []
    np.testing.assert_allclose(told["std"], spread, rtol=1e-6)
    assert [p.name for p in path.parent.iterdir()] == ["stats.npy"]


def test_a_reused_buffer_may_carry_the_columns(tmp_path: Path) -> None:
    buffer = np.zeros(4, np.float32)

    def columns() -> object:
        for value in (1.0, 2.0):
            buffer[:] = value
            yield buffer

    write_columns(tmp_path / "x.npy", columns(), 4, np.ones(4, bool))  # type: ignore[arg-type]
    assert np.load(tmp_path / "x.npy").tolist() == [[1.0, 2.0]] * 4


def test_nothing_is_left_when_a_column_fails(tmp_path: Path) -> None:
    def columns() -> object:
        yield np.zeros(3, np.float32)
        raise ValueError("no such column")

    with pytest.raises(ValueError, match="no such column"):
        write_columns(tmp_path / "x.npy", columns(), 3, np.ones(3, bool))  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())
