"""Area under the ROC curve, over all rows and within users.

AUC = P(score of a positive > score of a negative) + 1/2 P(equal): ties are averaged, as in
`sklearn.metrics.roc_auc_score`. Weights multiply pairs: w_i w_j for the pair (i, j).
"""

from dataclasses import dataclass

import numpy as np

from mtl_jax.metrics.base import (
    AnyArray,
    FloatArray,
    IntArray,
    Prepared,
    Undefined,
    defined,
    floats,
    ratio,
    row_weights,
)


def binary_labels(y: AnyArray) -> FloatArray:
    """y as float64 zeros, ones and probabilities; ValueError naming the first row that is none.

    A row with label y counts as a positive of weight y and a negative of weight 1 - y.
    """
    labels = floats("label", y)
    bad = (labels < 0) | (labels > 1)
    if bad.any():
        row = int(np.argmax(bad))
        raise ValueError(f"label of row {row} is {labels[row]}, a binary label is from 0 to 1")
    return labels


@dataclass(frozen=True)
class AreaUnderCurve:
    """AUC of scores [N] (any increasing function of the probability) for labels 0 to 1 [N]."""

    name: str = "auc"
    why: str = "it needs rows of both classes"

    def __call__(
        self,
        y: AnyArray,
        prediction: AnyArray,
        weights: AnyArray | None = None,
        users: AnyArray | None = None,
    ) -> float:
        w = row_weights(weights, len(y))
        values = self.prepare(y, prediction, np.arange(len(y)), len(y))(w[None])
        return defined(float(values[0]), self.name, self.why)

    def prepare(self, y: AnyArray, prediction: AnyArray, users: IntArray, n_users: int) -> Prepared:
        """One sort for all replicates; each then costs a gather and a running sum over the rows."""
        labels, score = binary_labels(y), floats("prediction", prediction)
        negatives, negative_users, of_0 = _sorted(score, users, 1 - labels)
        positives, positive_users, of_1 = _sorted(score, users, labels)
        left = np.searchsorted(negatives, positives, side="left")
        right = np.searchsorted(negatives, positives, side="right")

        def value(counts: FloatArray) -> float:
            below = np.concatenate([[0.0], np.cumsum(counts[negative_users] * of_0)])
            w = counts[positive_users] * of_1
            pairs = w.sum() * below[-1]
            return float(w @ (below[left] + below[right]) / 2 / pairs) if pairs else float("nan")

        return lambda counts: np.array([value(row) for row in counts])

    def counted(self, y: AnyArray, users: IntArray, n_users: int) -> tuple[int, str]:
        return len(y), ""


def _sorted(
    score: FloatArray, users: IntArray, part: FloatArray
) -> tuple[FloatArray, IntArray, FloatArray]:
    """Scores, users and parts of the rows with a part in the class, by score."""
    rows = np.flatnonzero(part)
    rows = rows[np.argsort(score[rows], kind="stable")]
    return score[rows], users[rows], part[rows]


@dataclass(frozen=True)
class GroupedAreaUnderCurve:
    """Mean of the users' own AUCs, each weighted by the user's rows (sum of their weights).

    A user whose rows are of one class has no AUC: it is left out of the mean and of its weights,
    and `counted` says how many were. Needs `users`.
    """

    name: str = "grouped_auc"
    why: str = "no user has rows of both classes"

    def __call__(
        self,
        y: AnyArray,
        prediction: AnyArray,
        weights: AnyArray | None = None,
        users: AnyArray | None = None,
    ) -> float:
        if users is None:
            raise ValueError("grouped_auc needs users")
        if len(y) == 0:
            raise Undefined(f"{self.name} is undefined: no rows")
        index = np.unique(np.asarray(users), return_inverse=True)[1].reshape(-1)
        area, rows = user_areas(y, prediction, index, int(index.max()) + 1, weights)
        return defined(float(ratio(np.nansum(area * rows), rows.sum())), self.name, self.why)

    def prepare(self, y: AnyArray, prediction: AnyArray, users: IntArray, n_users: int) -> Prepared:
        area, rows = user_areas(y, prediction, users, n_users)
        table = np.stack([rows, np.nan_to_num(area) * rows], axis=-1)

        def values(counts: FloatArray) -> FloatArray:
            sums = counts @ table
            return ratio(sums[:, 1], sums[:, 0])

        return values

    def counted(self, y: AnyArray, users: IntArray, n_users: int) -> tuple[int, str]:
        rows = np.bincount(users, minlength=n_users)
        positives = np.bincount(users, binary_labels(y), minlength=n_users)
        both = (positives > 0) & (positives < rows)
        alone = int((rows > 0).sum() - both.sum())
        note = f"{alone} of {int((rows > 0).sum())} users have rows of one class and are left out"
        return int(rows[both].sum()), note if alone else ""


def user_areas(
    y: AnyArray,
    prediction: AnyArray,
    users: IntArray,
    n_users: int,
    weights: AnyArray | None = None,
) -> tuple[FloatArray, FloatArray]:
    """(AUC [U], NaN for one class; weight of the user's rows [U], 0 for one class).

    One sort by (user, score): within a user, positives count the weight of negatives below them
    and half of that level with them.
    """
    labels, score = binary_labels(y), floats("prediction", prediction)
    w = row_weights(weights, len(labels))
    order = np.lexsort((score, users))
    user, score, w, labels = users[order], score[order], w[order], labels[order]
    below = np.concatenate([[0.0], np.cumsum(w * (1 - labels))])
    starts = np.ones(len(user), dtype=bool)
    starts[1:] = (user[1:] != user[:-1]) | (score[1:] != score[:-1])
    first = np.flatnonzero(starts)
    last = np.append(first[1:], len(user))
    level = np.cumsum(starts) - 1  # the tie group of each row
    halfway = (below[first] + below[last])[level] / 2
    begins = np.searchsorted(user, np.arange(n_users))  # first row of each user
    above = np.bincount(user, w * labels * (halfway - below[begins][user]), minlength=n_users)
    rows = np.bincount(user, w, minlength=n_users)
    positive = np.bincount(user, w * labels, minlength=n_users)
    negative = np.bincount(user, w * (1 - labels), minlength=n_users)
    area = ratio(above, positive * negative)
    return area, np.where(np.isnan(area), 0.0, rows)


auc = AreaUnderCurve()
grouped_auc = GroupedAreaUnderCurve()
