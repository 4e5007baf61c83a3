"""The metrics by kind of task and name, and which way each is better."""

from collections.abc import Callable, Mapping

from mtl_jax.metrics import binary, multiclass, multilabel, ordinal, ranking, regression, similarity
from mtl_jax.metrics.base import FloatArray, Metric
from mtl_jax.metrics.ranks import Ranks

METRICS: Mapping[str, Mapping[str, Metric]] = {
    "binary": {
        "auc": binary.auc,
        "grouped_auc": binary.grouped_auc,
        "log_loss": binary.log_loss,
        "calibration_error": binary.calibration_error,
        "calibration_error_mass": binary.calibration_error_mass,
        "brier": binary.brier,
        "accuracy": binary.accuracy,
        "precision": binary.precision,
        "recall": binary.recall,
        "f1": binary.f1,
    },
    "multiclass": {
        "accuracy": multiclass.accuracy,
        "f1_macro": multiclass.f1_macro,
        "f1_micro": multiclass.f1_micro,
        "f1_weighted": multiclass.f1_weighted,
        "log_loss": multiclass.log_loss,
        "top_3": multiclass.top_3,
        "top_5": multiclass.top_5,
    },
    "multilabel": {
        "auc_macro": multilabel.auc_macro,
        "auc_micro": multilabel.auc_micro,
        "f1_macro": multilabel.f1_macro,
        "f1_micro": multilabel.f1_micro,
        "subset_accuracy": multilabel.subset_accuracy,
        "hamming_loss": multilabel.hamming_loss,
        "label_ranking_precision": multilabel.label_ranking_precision,
    },
    "ordinal": {
        "accuracy": ordinal.accuracy,
        "mae": ordinal.mae,
        "mae_median": ordinal.mae_median,
        "quadratic_kappa": ordinal.quadratic_kappa,
        "ranked_probability_score": ordinal.ranked_probability_score,
        "log_loss": ordinal.log_loss,
    },
    "regression": {"mae": regression.mae, "rmse": regression.rmse, "r2": regression.r2},
    "similarity": {
        "spearman": similarity.spearman,
        "pearson": similarity.pearson,
        "auc": similarity.auc,
        "rmse": similarity.rmse,
    },
}

# Named with their k: "recall@10". (Ranks, k) -> one value per query.
RANKING: Mapping[str, Callable[[Ranks, float], FloatArray]] = {
    "recall": ranking.recall_at,
    "ndcg": ranking.ndcg_at,
    "mrr": ranking.mrr_at,
    "hit_rate": ranking.hit_rate_at,
    "map": ranking.map_at,
}

HIGHER_IS_BETTER: Mapping[str, bool] = {
    "auc": True,
    "grouped_auc": True,
    "log_loss": False,
    "calibration_error": False,
    "calibration_error_mass": False,
    "brier": False,
    "accuracy": True,
    "precision": True,
    "recall": True,
    "f1": True,
    "f1_macro": True,
    "f1_micro": True,
    "f1_weighted": True,
    "top_3": True,
    "top_5": True,
    "mae": False,
    "rmse": False,
    "r2": True,
    "auc_macro": True,
    "auc_micro": True,
    "subset_accuracy": True,
    "hamming_loss": False,
    "label_ranking_precision": True,
    "mae_median": False,
    "quadratic_kappa": True,
    "ranked_probability_score": False,
    "spearman": True,
    "pearson": True,
    "ndcg": True,
    "mrr": True,
    "hit_rate": True,
    "map": True,
}


def higher_is_better(name: str) -> bool:
    """Which way `name` is better; "recall@10" is looked up as "recall". KeyError if unknown."""
    return HIGHER_IS_BETTER[name.split("@")[0]]
