"""The rich table of results, with and without floor and ceiling."""

from io import StringIO

from rich.console import Console

from mtl_jax.metrics.table import metrics_table


def entry(value, low=None, high=None, **more):
    return {"value": value, "low": low, "high": high, "rows": 1234, **more}


def nested(value):
    return {"test": {"click": {"all": {"auc": value, "f1": entry(0.5, 0.4, 0.6)}}}}


def text(table):
    page = StringIO()
    Console(width=160, file=page).print(table)
    return page.getvalue()


def test_floor_ceiling_and_share_are_beside_the_value():
    shown = text(
        metrics_table(
            nested(entry(0.7, 0.68, 0.72)),
            "results",
            nested(entry(0.6)),
            nested(entry(0.725)),
            metrics=["auc", "absent"],
        )
    )
    row = next(line for line in shown.splitlines() if "auc" in line)
    for cell in ("test", "click", "all", "0.7000", "0.6800 to 0.7200", "1,234", "0.6000", "0.7250"):
        assert cell in row
    assert "0.80" in row.replace("0.6800", "")
    assert "f1" not in shown
    assert "results" in shown


def test_columns_are_only_those_given():
    shown = text(metrics_table(nested(entry(0.7, 0.68, 0.72)), floor=nested(entry(0.6))))
    assert "floor" in shown
    assert "ceiling" not in shown
    assert "share" not in shown
    assert "f1" in shown


def test_an_undefined_value_is_a_dash_with_its_reason():
    shown = text(
        metrics_table(
            nested(entry(None, why="one class only")), floor=nested(entry(0.6)), ceiling={}
        )
    )
    row = next(line for line in shown.splitlines() if "auc" in line)
    assert "one class only" in row
    assert row.count(" - ") == 3  # value, ceiling, share
