"""Reference models of transformers with random weights in which every parameter counts.

HF's own initialisation has zero biases and unit LayerNorms, which hides a port that drops them.
"""

import json
import os
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
import torch
import transformers

from mtl_jax.adapt.families import FAMILIES

torch.set_num_threads(1)
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()

FAMILY_MODELS = {
    "bert": (transformers.BertConfig, transformers.BertModel),
    "roberta": (transformers.RobertaConfig, transformers.RobertaModel),
    "xlm-roberta": (transformers.XLMRobertaConfig, transformers.XLMRobertaModel),
    "camembert": (transformers.CamembertConfig, transformers.CamembertModel),
}


def random_model(model_type: str, seed: int = 0, model_class=None, **shape):
    """An eager float32 HF model in eval mode: biases N(0, .3), LayerNorm weights U(.5, 1.5)."""
    config_class, default = FAMILY_MODELS[model_type]
    torch.manual_seed(seed)
    config = config_class(attn_implementation="eager", **shape)
    model = (model_class or default)(config).eval()
    rng = np.random.default_rng(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.copy_(torch.tensor(rng.normal(0, 0.3, parameter.shape)))
            elif "LayerNorm" in name:
                parameter.copy_(torch.tensor(rng.uniform(0.5, 1.5, parameter.shape)))
    return model


def hf_hidden(model, ids, mask=None, **kwargs) -> np.ndarray:
    """Last hidden state [B, L, H] in the model's own precision."""
    given = {name: torch.tensor(value) for name, value in kwargs.items()}
    with torch.no_grad():
        mask = None if mask is None else torch.tensor(mask)
        return model(torch.tensor(ids), mask, **given).last_hidden_state.numpy()


def hf_gradients(model, config, ids, mask, cotangent) -> dict[tuple[str, ...], np.ndarray]:
    """Gradients of sum(hidden * cotangent) by the path in our tree."""
    model.zero_grad()
    hidden = model(torch.tensor(ids), torch.tensor(mask)).last_hidden_state
    (hidden * torch.tensor(cotangent)).sum().backward()
    named = dict(model.named_parameters())
    found = {}
    for entry in FAMILIES[config.model_type].entries(config):
        if entry.path[0] != "pooler":
            gradient = named[entry.name].grad.numpy()
            found[entry.path] = gradient.T if entry.transpose else gradient
    return found


def write_folder(folder: Path, config: dict, tensors: dict[str, np.ndarray]) -> Path:
    """config.json and model.safetensors."""
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    contiguous = {name: np.ascontiguousarray(t) for name, t in tensors.items()}
    save_file(contiguous, folder / "model.safetensors")
    return folder
