"""What the model is made of; owned here, composed in `mtl_jax/config.py`."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class ModelConfig:
    """Towers, context, fusion, trunk and heads.

    width:        D, of item and user vectors.
    item_id, user_id: learn an embedding row and a bias per item / per user beside text and profile.
    id_dropout:   share of rows whose ids are hidden in training, so that the unseen works.
    stats_dropout: an item whose id is dropped loses its statistics as well.
    user_layers, user_heads: the transformer over the behaviour history.
    attended:     latest events of the history that transformer and attention read; 0 = all.
    ridge_heads, ridge_width: linear models of the user over the whole history, solved in closed
                  form (`mtl_jax.nn.ridge`): how many (0 = none), and the width of their item
                  vectors.
    target_attention: attend from the row's item to the history (DIN, arXiv:1706.06978).
    dropout:      in towers, trunk and heads.
    trunk_dropout, input_dropout: in trunk and heads instead (None: `dropout`); of the trunk's
                  inputs.
    trunk_norm:   LayerNorm after each layer of the trunk.
    inputs:       what trunk and wide path read. "all": z, the vectors of user, item and context
                  with scores and statistics. "plain": the trunk reads statistics and the item's
                  tags and numbers, the wide path these and the scores: for logs too small to learn
                  vectors from their labels. No event task trains the towers then, only the
                  content and interest tasks do.
    text_dropout: of the text vectors, before all else: for texts that memorise their items.
    text_hidden:  width of the hidden layer between text vector and item vector; 0 is linear.
    trunk, trunk_widths: a key of `mtl_jax.nn.trunks.TRUNKS` and its layer widths (of a mixture:
                  those of each expert). The fields down to `chain` are read by some trunks only,
                  see `docs/trunks.md`.
    experts:      E shared experts of "omoe", "mmoe", "dselect_k".
    task_experts, shared_experts: experts of each task, and those of all tasks, on each level of
                  "cgc", "ple", "adatt" (0 shared: AdaTT-sp) and "stem".
    levels:       levels of "ple" and "adatt"; each has experts of all `trunk_widths`.
    gate_temperature: softmax gates are softmax(W x / temperature).
    experts_k:    experts that a task of "dselect_k" selects at most.
    step_width:   of its smooth step: the range of a bit's score within which it is no 0 and no 1.
    entropy_weight: of its penalty on the entropy of the selectors, in nats; 0 turns it off.
    calibrator_weight: of the penalty of "aitm" on p(later) above p(earlier); 0 turns it off.
    chain:        names of two or more binary tasks in causal order, e.g. ("click", "purchase"), for
                  "esmm", "aitm" and "classifier_chain".
    head_width:   hidden width of each head.
    wide:         a linear path from z to every head beside the trunk (arXiv:1606.07792).
    wide_text:    with inputs "plain": the wide path also reads the item's text vector, scaled to
                  length 2, by weights of their own ("/text/" in `optim.rates`, `optim.decays`).
    history_text: the history also rendered as text through the encoder.
    dtype:        "float32" or "bfloat16": compute of towers, trunk and encoder; parameters, losses
                  and reductions stay float32.
    """

    width: int = 64
    item_id: bool = True
    user_id: bool = True
    id_dropout: float = 0.2
    stats_dropout: bool = True
    user_layers: int = 1
    user_heads: int = 4
    attended: int = 0
    ridge_heads: int = 0
    ridge_width: int = 8
    target_attention: bool = True
    dropout: float = 0.1
    trunk_dropout: float | None = None
    input_dropout: float = 0.0
    trunk_norm: bool = True
    inputs: Literal["all", "plain"] = "all"
    text_hidden: int = 0
    text_dropout: float = 0.0
    trunk: str = "shared_bottom"
    trunk_widths: tuple[int, ...] = (128, 64)
    experts: int = 4
    task_experts: int = 2
    shared_experts: int = 2
    levels: int = 2
    gate_temperature: float = 1.0
    experts_k: int = 2
    step_width: float = 1.0
    entropy_weight: float = 0.1
    calibrator_weight: float = 0.6
    chain: tuple[str, ...] = ()
    head_width: int = 32
    wide: bool = True
    wide_text: bool = False
    history_text: bool = False
    dtype: str = "float32"
