"""Our recommender written in torch, module by module, under our parameters' names.

Shapes: B rows, H history, U texts (distinct, or one for every copy), D width, Dt text width.
`Mirror` takes a batch whose `item` [B] and `hist` [B, H] are indices into U `ids`, text 0 being no
item; `Texts` makes text vectors [U, Dt] with Hugging Face's BERT.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from transformers import BertModel

from benchmarks.recommender_data import HostArray

Tensor = Any
DAY, WEEK, YEAR = 24.0, 168.0, 8766.0  # hours


def modules(params: Mapping[str, HostArray]) -> tuple[nn.ModuleDict, nn.ParameterDict]:
    """Linear, LayerNorm and Embedding of flax's leaves by path, and what is none of them."""
    made, free = nn.ModuleDict(), nn.ParameterDict()
    parents: dict[str, dict[str, Tensor]] = {}
    for path, value in params.items():
        parent, _, leaf = path.rpartition("/")
        parents.setdefault(parent, {})[leaf] = torch.from_numpy(value.copy())
    for parent, leaves in parents.items():
        if "kernel" in leaves:
            n, m = leaves["kernel"].shape
            made[parent] = nn.Linear(n, m, bias="bias" in leaves)
            made[parent].weight.data = leaves["kernel"].T.contiguous()
        elif "embedding" in leaves:
            made[parent] = nn.Embedding.from_pretrained(leaves["embedding"], freeze=False)
        elif set(leaves) == {"scale", "bias"}:
            made[parent] = nn.LayerNorm(len(leaves["scale"]), eps=1e-6)
            made[parent].weight.data = leaves["scale"]
        else:
            free.update({f"{parent}/{k}": nn.Parameter(v) for k, v in leaves.items()})
            continue
        if "bias" in leaves:
            made[parent].bias.data = leaves["bias"]
    return made, free


def waves(of_week: Tensor, of_year: Tensor) -> Tensor:
    """sin and cos of day, week and year [B, 16]."""
    angles = [2 * math.pi * k * of_week / DAY for k in (1, 2, 3, 4)]
    angles += [2 * math.pi * k * of_week / WEEK for k in (1, 2, 3)]
    x = torch.stack([*angles, 2 * math.pi * of_year / YEAR], -1)
    return torch.cat([torch.sin(x), torch.cos(x)], -1)


def gelu(x: Tensor) -> Tensor:
    """flax's gelu is the tanh form."""
    return F.gelu(x, approximate="tanh")


def unit(x: Tensor) -> Tensor:
    """Rows of length 1; zeros stay zeros."""
    return x * torch.rsqrt(torch.clamp(x.square().sum(-1, keepdim=True), min=1e-12))


class Mirror(nn.Module):
    """Towers, context, scores, trunk and heads; `gathered`: content scores read the history's
    texts row by row and not from one product with all U."""

    def __init__(self, dump: Mapping[str, Any], gathered: bool = False, sparse: bool = False):
        super().__init__()
        self.meta, self.gathered = dump["meta"], gathered
        self.m, self.free = modules(dump["params"])
        self.tables = nn.ModuleDict(
            {
                k: nn.Embedding.from_pretrained(torch.from_numpy(v.copy()), False, sparse=sparse)
                for k, v in dump["tables"].items()
            }
        )
        for name, value in dump["items"].items():
            if name not in ("tokens", "offsets"):
                self.register_buffer(f"items_{name}", torch.from_numpy(value.copy()))
        self.register_buffer("users_warm", torch.from_numpy(dump["users"]["warm"].copy()))
        self.drop = nn.Dropout(self.meta["dropout"])

    def forward(self, x: Mapping[str, Tensor], text: Tensor) -> dict[str, Tensor]:
        """Sums over rows of each task's loss."""
        d, m = self.meta["width"], self.m
        item_rows, user_rows = self.tables["item"](x["ids"]), self.tables["user"](x["user"])
        keep = self.items_warm[x["ids"]].float()
        user_keep = self.users_warm[x["user"]].float()
        items = self._items(x["ids"], item_rows, keep, text)
        user, memory, mask = self._users(x, items, user_rows[:, :d] * user_keep[:, None])
        context = m["towers/context/time"](waves(x["ctx/hour_of_week"], x["ctx/hour_of_year"]))
        context = gelu(m["towers/context/norm"](context))
        user = user * (1 + torch.tanh(m["towers/context_gate/gate"](context)))
        interest = m["towers/interest"](user)
        item = items[x["item"]]
        bias = item_rows[x["item"], d] * keep[x["item"]] + user_rows[:, d] * user_keep
        collaborative = (user * item).sum(-1) / math.sqrt(d) + bias + self.meta["mu"]
        mean, best = self._content(x, text)
        column = getattr(self, f"items_cat_{self.meta['category']}")
        category = column[x["ids"][x["item"]]].long()
        own = interest.log_softmax(-1).gather(1, category[:, None])[:, 0]
        told = torch.where(category > 0, own, 0.0)
        stacked = torch.stack([collaborative, mean, best, told], -1)
        gate = m["towers/fusion/gate"](torch.cat([context, user], -1)).softmax(-1)
        scale, shift = self.free["towers/fusion/scale"], self.free["towers/fusion/shift"]
        fused = (gate * (stacked * scale + shift)).sum(-1, keepdim=True)
        seen = self._attend("towers/target", item, memory, mask)
        z = torch.cat([user, item, user * item, context, fused, stacked, seen, item * seen], -1)
        return self._losses(z, interest, x)

    def _items(self, ids: Tensor, rows: Tensor, keep: Tensor, text: Tensor) -> Tensor:
        m, d = self.m, self.meta["width"]
        v = m["towers/item/text"](text) + rows[:, :d] * keep[:, None]
        for column in self.meta["columns"]:
            v = v + m[f"towers/item/cat_{column}"](getattr(self, f"items_cat_{column}")[ids])
        tags = self.items_tags[ids]
        some = (tags > 0).to(v.dtype)[..., None]
        total = (m["towers/item/tags"](tags) * some).sum(1)
        v = v + total / some.sum(1).clamp(min=1.0)
        v = m["towers/item/norm"](v + m["towers/item/dense"](self.items_dense[ids]))
        h = gelu(m["towers/item/in"](self.drop(v)))
        return v + m["towers/item/out"](h)

    def _users(
        self, x: Mapping[str, Tensor], items: Tensor, profile: Tensor
    ) -> tuple[Tensor, tuple[Tensor, Tensor], Tensor]:
        m, mask = self.m, x["hist"] > 0
        age = x["hist_age"][..., None]
        h = F.embedding(x["hist"], items) + m["towers/user/type"](x["hist_type"])
        h = h + m["towers/user/age"](torch.cat([age, torch.exp(-age)], -1))
        h = h + self.free["towers/user/position"]
        B, H, d = h.shape
        n = self.meta["heads"]
        both = m["towers/user/memory/key_value"](h).view(B, H, 2, n, d // n)
        k, v = both.permute(2, 0, 3, 1, 4)
        summary = self._attend("towers/user/pool", profile, (k, v), mask)
        weight = mask.to(h.dtype)
        mean = torch.einsum("bhd,bh->bd", h, weight) / (weight.sum(1) + 5.0)[:, None]
        u = m["towers/user/merge"](torch.cat([summary, mean, profile], -1))
        u = m["towers/user/norm"](u)
        h = gelu(m["towers/user/in"](self.drop(u)))
        return u + m["towers/user/out"](h), (k, v), mask

    def _attend(
        self, name: str, query: Tensor, memory: tuple[Tensor, Tensor], mask: Tensor
    ) -> Tensor:
        k, v = memory
        n, d = k.shape[1], query.shape[-1]
        q = self.m[f"{name}/query"](query).view(-1, n, 1, d // n)
        logits = (q @ k.transpose(-1, -2))[:, :, 0] / math.sqrt(d // n)
        keep = mask[:, None]
        weights = torch.where(keep, logits, -1e9).softmax(-1) * keep
        out = (weights[:, :, None] @ v).reshape(-1, d)
        return self.m[f"{name}/out"](out) * mask.any(-1, keepdim=True)

    def _content(self, x: Mapping[str, Tensor], text: Tensor) -> tuple[Tensor, Tensor]:
        directions = unit(text)
        own, keep = directions[x["item"]], (x["hist"] > 0).to(text.dtype)
        if self.gathered:
            cosines = torch.einsum("bd,bhd->bh", own, F.embedding(x["hist"], directions))
        else:
            cosines = (own @ directions.T).gather(1, x["hist"])
        weights = torch.where(keep > 0, 10.0 * cosines, -1e9).softmax(1) * keep
        total = keep.sum(1).clamp(min=1.0)
        return (cosines * keep).sum(1) / total, (cosines * weights).sum(1)

    def _losses(self, z: Tensor, interest: Tensor, x: Mapping[str, Tensor]) -> dict[str, Tensor]:
        m, h = self.m, z
        for n in range(self.meta["trunk_layers"]):
            h = m[f"heads/trunk/norm_{n}"](gelu(m[f"heads/trunk/layer_{n}"](h)))
            h = self.drop(h)
        h = self.drop(gelu(m["heads/head_like/hidden"](h)))
        y = m["heads/head_like/out"](h) + m["heads/head_like/wide"](z)
        logit = self.meta["like_offset"] + y[:, 0]
        like = F.binary_cross_entropy_with_logits(logit, x["label/like"], reduction="none")
        soft = -(x["label/interest"] * interest.log_softmax(-1)).sum(-1)
        return {
            "like": (like * x["mask/like"]).sum(),
            "interest": (soft * x["mask/interest"]).sum(),
        }


def pretrained(folder: str) -> BertModel:
    """Hugging Face's BERT with sdpa attention."""
    return BertModel.from_pretrained(folder, attn_implementation="sdpa", add_pooling_layer=False)


class Texts(nn.Module):
    """Hugging Face's BERT, mean-pooled; `cut` lower layers are frozen.

    rounded: frozen layers' states are rounded to bfloat16, as the cache of them holds them.
    """

    def __init__(self, bert: BertModel, train_layers: int = -1):
        super().__init__()
        self.rounded = False
        self.bert = bert
        layers = self.bert.encoder.layer
        self.cut = 0 if train_layers < 0 else len(layers) - train_layers
        self.frozen = [] if train_layers < 0 else [self.bert.embeddings, *layers[: self.cut]]
        for part in self.frozen:
            part.requires_grad_(False)

    def train(self, mode: bool = True) -> "Texts":
        """Frozen parts drop nothing."""
        super().train(mode)
        for part in self.frozen:
            part.eval()
        return self

    def forward(self, ids: Tensor, lengths: Tensor, states: Tensor | None = None) -> Tensor:
        """[n, L] token ids, or [n, L, Dt] states of layer `cut`, and lengths [n] -> [n, Dt]."""
        width = (ids if states is None else states).shape[1]
        there = torch.arange(width, device=lengths.device)[None] < lengths[:, None]
        mask = there[:, None, None, :]
        if states is None:
            with torch.set_grad_enabled(not self.frozen and torch.is_grad_enabled()):
                states = self.bert.embeddings(ids)
                for layer in self.bert.encoder.layer[: self.cut]:
                    states = layer(states, mask)
            if self.rounded:
                states = states.bfloat16().float()
        for layer in self.bert.encoder.layer[self.cut :]:
            states = layer(states, mask)
        weight = there.to(states.dtype)[..., None]
        return (states * weight).sum(1) / weight.sum(1)
