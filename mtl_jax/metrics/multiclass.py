"""Metrics of a multi-class task: labels [N] in 0..C-1 and probabilities [N, C].

The predicted class is the first of the largest. F1 averages are over the classes that occur in
the labels or in the predictions, as scikit-learn's are.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from mtl_jax.metrics.base import (
    Additive,
    AnyArray,
    FloatArray,
    IntArray,
    Terms,
    floats,
    mean_of,
    mean_terms,
    ratio,
    row_weights,
)
from mtl_jax.metrics.binary import EPSILON, probabilities


def class_labels(y: AnyArray, classes: int) -> IntArray:
    """y as int64; ValueError naming the first row that is no class id below `classes`."""
    labels = floats("label", y)
    bad = (labels != np.floor(labels)) | (labels < 0) | (labels >= classes)
    if bad.any():
        row = int(np.argmax(bad))
        raise ValueError(f"label of row {row} is {labels[row]}, classes are 0..{classes - 1}")
    return labels.astype(np.int64)


def read(y: AnyArray, prediction: AnyArray) -> tuple[IntArray, FloatArray]:
    """Class ids [N] and probabilities [N, C]; ValueError for others."""
    p = probabilities(prediction)
    if p.ndim != 2:
        raise ValueError(f"multi-class predictions have shape [N, C], these {p.shape}")
    return class_labels(y, p.shape[1]), p


def _log_loss(y: AnyArray, prediction: AnyArray, weights: FloatArray) -> Terms:
    labels, p = read(y, prediction)
    p = p / p.sum(axis=1, keepdims=True)
    own = p[np.arange(len(labels)), labels]
    return mean_terms(-np.log(np.clip(own, EPSILON, 1 - EPSILON)))


def _hits(y: AnyArray, prediction: AnyArray, weights: FloatArray) -> Terms:
    labels, p = read(y, prediction)
    return mean_terms((p.argmax(axis=1) == labels).astype(np.float64))


def class_terms(labels: IntArray, said: IntArray, classes: int) -> Terms:
    """Columns, C of each: rows rightly called the class; rows called it; rows of the class."""
    one = np.ones(len(labels))
    right = (labels == said).astype(np.float64)
    return Terms(3 * classes, [(labels, right), (classes + said, one), (2 * classes + labels, one)])


def _classes(y: AnyArray, prediction: AnyArray, weights: FloatArray) -> Terms:
    labels, p = read(y, prediction)
    return class_terms(labels, p.argmax(axis=1).astype(np.int64), p.shape[1])


def _scores(sums: FloatArray) -> tuple[FloatArray, FloatArray]:
    """(F1 [..., C], NaN for a class that does not occur; rows of the class [..., C])."""
    right, called, own = np.moveaxis(sums.reshape(*sums.shape[:-1], 3, -1), -2, 0)
    return ratio(2 * right, called + own), own


def macro_f1(sums: FloatArray) -> FloatArray:
    """Mean F1 over the classes that occur; sums as `class_terms` has them [..., 3 C] -> [...]."""
    f, _ = _scores(sums)
    return ratio(np.nansum(f, axis=-1), (~np.isnan(f)).sum(axis=-1))


def _weighted(sums: FloatArray) -> FloatArray:
    f, own = _scores(sums)
    return ratio(np.nansum(f * own, axis=-1), own.sum(axis=-1))


def top_k(k: int) -> Additive:
    """Share of rows whose class is among the k most probable (rank, ties averaged, at most k)."""

    def hits(y: AnyArray, prediction: AnyArray, weights: FloatArray) -> Terms:
        labels, p = read(y, prediction)
        own = p[np.arange(len(labels)), labels][:, None]
        rank = (p > own).sum(axis=1) + ((p == own).sum(axis=1) + 1) / 2
        return mean_terms((rank <= k).astype(np.float64))

    return Additive(f"top_{k}", hits, mean_of)


# Mean of -log p(class), p first divided by its row's sum, then clipped as the binary one.
log_loss = Additive("log_loss", _log_loss, mean_of)
accuracy = Additive("accuracy", _hits, mean_of)
f1_macro = Additive("f1_macro", _classes, macro_f1)
f1_weighted = Additive("f1_weighted", _classes, _weighted)
# One label and one prediction a row: micro F1 is the accuracy.
f1_micro = Additive("f1_micro", _hits, mean_of)
top_3 = top_k(3)
top_5 = top_k(5)


def classification_report(
    y: AnyArray,
    said: AnyArray,
    names: Sequence[str] | None = None,
    weights: AnyArray | None = None,
) -> dict[str, Any]:
    """Precision, recall, F1 and support by class, as scikit-learn's dict.

    y, said: class ids [N] (labels and predicted); names: all classes' names, else "0", "1", ...
    A class without names that occurs in neither is left out. A ratio 0/0 is 0.0 here, as
    scikit-learn's default: the support beside it tells. Keys: each class, "accuracy",
    "macro avg", "weighted avg".
    """
    classes = len(names) if names else 1 + int(max(np.max(y, initial=0), np.max(said, initial=0)))
    labels, predicted = class_labels(y, classes), class_labels(said, classes)
    w = row_weights(weights, len(labels))
    right = np.bincount(labels, w * (labels == predicted), minlength=classes)
    called = np.bincount(predicted, w, minlength=classes)
    own = np.bincount(labels, w, minlength=classes)
    columns = {
        "precision": np.nan_to_num(ratio(right, called)),
        "recall": np.nan_to_num(ratio(right, own)),
        "f1-score": np.nan_to_num(ratio(2 * right, called + own)),
    }
    shown = np.arange(classes) if names else np.flatnonzero(called + own)
    report: dict[str, Any] = {}
    for c in shown.tolist():
        row = {key: float(column[c]) for key, column in columns.items()}
        report[names[c] if names else str(c)] = row | {"support": float(own[c])}
    total = float(own.sum())
    report["accuracy"] = float(ratio(right.sum(), own.sum()))
    for key, share in (("macro avg", np.ones(len(shown))), ("weighted avg", own[shown])):
        means = {n: float(ratio(v[shown] @ share, share.sum())) for n, v in columns.items()}
        report[key] = means | {"support": total}
    return report


def report_text(report: dict[str, Any], digits: int = 2) -> str:
    """The table of a `classification_report`, laid out as scikit-learn's."""
    width = max(len(name) for name in [*report, "weighted avg"])
    heads = ("precision", "recall", "f1-score", "support")
    lines = [" " * width + "".join(f" {head:>9}" for head in heads), ""]
    total = report["weighted avg"]["support"]
    for name, row in report.items():
        if name == "accuracy":
            lines += ["", f"{name:>{width}}" + " " * 20 + f" {row:>9.{digits}f} {total:>9g}"]
        else:
            numbers = "".join(f" {row[head]:>9.{digits}f}" for head in heads[:3])
            lines.append(f"{name:>{width}}{numbers} {row['support']:>9g}")
    return "\n".join(lines)
