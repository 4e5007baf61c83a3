"""Recommend items to a user, as JSON on standard output.

    python -m experiments.recommend --workdir=runs/ml100k --user=196 --k=10
    python -m experiments.recommend --workdir=runs/ml100k --user=new --profile=gender=F

prints {"user_id": ..., "recommendations": [{"item_id": ..., "score": ...}, ...]}.
"""

import json
from pathlib import Path

from absl import flags

from experiments.common import MESH, WORKDIR, run
from mtl_jax.core.errors import UserError
from mtl_jax.restore import open_trained
from mtl_jax.serve.recommend import Recommender
from mtl_jax.serve.request import Request

USER = flags.DEFINE_string("user", None, "User id of the source; an unknown one is served too.")
K = flags.DEFINE_integer("k", 10, "How many items.")
CONTEXT = flags.DEFINE_multi_string("context", [], "column=value of the moment, repeated.")
PROFILE = flags.DEFINE_multi_string("profile", [], "column=value of a user, repeated.")
NOW = flags.DEFINE_integer("now", 0, "Unix seconds; by default just after the last event.")
VERBOSE = flags.DEFINE_bool("verbose", False, "Add each item's text, predictions and gate.")


def pairs(flag: str, texts: list[str]) -> dict[str, str]:
    """{"a": "b"} of ["a=b"]."""
    for text in texts:
        if "=" not in text:
            raise UserError(f"--{flag}={text}: write it as column=value")
    return dict(text.split("=", 1) for text in texts)


def main() -> None:
    """Print the recommendations."""
    if USER.value is None:
        raise UserError("--user is needed; an id that the data does not know is served too")
    trained = open_trained(Path(WORKDIR.value), mesh=MESH.value)
    job = trained.job
    recommender = Recommender(
        job.evaluator(), trained.state.params, trained.state.tables, job.config.rank
    )
    request = Request(
        USER.value, pairs("profile", PROFILE.value), pairs("context", CONTEXT.value), NOW.value
    )
    found = recommender.recommend(request, K.value)
    for item in found:
        text = job.data.texts[item.pop("item")]
        if VERBOSE.value:
            item["text"] = text
        else:
            del item["predictions"], item["gate"]
    print(json.dumps({"user_id": USER.value, "recommendations": found}))


if __name__ == "__main__":
    run(main)
