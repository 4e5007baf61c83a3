"""Which pretrained encoder reads the texts, and how much of it trains."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class EncoderChoice:
    """folder: a Hugging Face folder (config.json, weights, tokenizer), "minilm" for the installed
        package, "" for no text at all.
    train_layers: 0 freezes the encoder and uses pooled vectors, computed once; n trains the top n
        layers on cached token states; -1 trains everything.
    pooling: "mean", "cls" or "pooler".
    random: keep the shape and tokenizer but draw random weights (an ablation).
    row_tokens: L, tokens of a packed row where the encoder trains; 0 chooses it for the texts:
        `mtl_jax.data.packing.row_length`.
    history_tokens: tokens of the history rendered as text (`model.history_text`).
    centre: take the trained items' mean off frozen pooled vectors and divide by their spread: most
        of a mean-pooled vector is common to all texts.
    remat: trade time for memory where layers train: what the backward pass computes anew. "layers":
        all that is inside a layer, "activations": all but the results of products with parameters.
    attention: by what the layers that train attend: "flash", a kernel that reads segment ids, on a
        GPU; "mask", on every device; "auto" takes flash where there is one GPU.
    cache: folder of frozen outputs; "" is beside the prepared data.
    """

    folder: str = "minilm"
    train_layers: int = 0
    pooling: Literal["mean", "cls", "pooler"] = "mean"
    random: bool = False
    row_tokens: int = 0
    history_tokens: int = 128
    centre: bool = False
    remat: Literal["none", "layers", "activations"] = "none"
    attention: Literal["auto", "mask", "flash"] = "auto"
    cache: str = ""
