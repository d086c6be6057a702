"""The layers and the model of xLSTM-7B (NX-AI's xlstm_large): its parameter names and its config.

>>> from mlx_kd.xlstm.nn import Model, ModelArgs
>>> args = ModelArgs(embedding_dim=64, num_heads=2, num_blocks=2, vocab_size=100)
>>> import mlx.core as mx
>>> Model(args)(mx.array([[1, 2, 3]])).shape
(1, 3, 100)

For mlx-lm, :func:`write_model_file` makes a folder with weights and config one that ``mlx_lm.load`` takes.
"""
from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional, Union

import mlx.core as mx
from mlx.nn.layers import base, embedding, linear

from mlx_kd import _operators
from mlx_kd.xlstm import arrays
from mlx_kd.xlstm.arrays import State
from mlx_kd.xlstm.cache import StateCache
from mlx_kd.xlstm.operators import mlstm_chunkwise, mlstm_step


@dataclass
class ModelArgs:
    """The config of a model; keys of a config file that are not here choose kernels of PyTorch and are not read."""

    embedding_dim: int
    num_heads: int
    num_blocks: int
    vocab_size: int
    model_type: str = "xlstm"
    use_bias: bool = False
    norm_eps: float = 1e-6
    add_out_norm: bool = True
    qk_dim_factor: float = 0.5
    v_dim_factor: float = 1.0
    chunk_size: Optional[int] = 64
    eps: float = 1e-6
    ffn_proj_factor: float = 2.6667
    ffn_round_up_to_multiple_of: int = 64
    gate_soft_cap: Optional[float] = 15.0
    output_logit_soft_cap: Optional[float] = 30.0
    weight_mode: str = "single"

    def __post_init__(self) -> None:
        if self.weight_mode not in ("single", "fused"):
            arrays.refuse(f"weight_mode is {self.weight_mode!r}: give 'single' or 'fused'")
        for name in ("qk_dim", "v_dim"):
            if getattr(self, name) < 1 or getattr(self, name) % self.num_heads:
                arrays.refuse(f"{name} is {getattr(self, name)} and num_heads {self.num_heads}: choose embedding_dim "
                              "and factors of which the heads have equal parts")

    @property
    def qk_dim(self) -> int:
        return int(self.embedding_dim * self.qk_dim_factor)

    @property
    def v_dim(self) -> int:
        return int(self.embedding_dim * self.v_dim_factor)

    @property
    def up_proj_dim(self) -> int:
        by = self.ffn_round_up_to_multiple_of
        return int((self.embedding_dim * self.ffn_proj_factor + by - 1) // by * by)

    @classmethod
    def from_dict(cls, config: dict[str, Any]) -> "ModelArgs":
        known = {field.name for field in fields(cls)}
        missing = [name for name in ("embedding_dim", "num_heads", "num_blocks", "vocab_size") if name not in config]
        if missing:
            arrays.refuse(f"the config lacks {', '.join(missing)}: it is not that of an xlstm_large model")
        return cls(**{name: value for name, value in config.items() if name in known})


def _capped(x: mx.array, cap: Optional[float]) -> mx.array:
    return x if cap is None else _operators.soft_cap(x, cap)


class _Module(base.Module):
    if TYPE_CHECKING:  # MLX's own has no types
        def __init__(self) -> None: ...


class RMSNorm(_Module):
    def __init__(self, size: int, args: ModelArgs):
        super().__init__()
        self.weight = mx.ones(size)
        if args.use_bias:
            self.bias = mx.zeros(size)
        self._eps = args.norm_eps

    def __call__(self, x: mx.array) -> mx.array:
        y = _operators.rmsnorm(x, self.weight, self._eps)
        return y + self.bias if "bias" in self else y


class MultiHeadLayerNorm(_Module):
    """Over each head of ``[B, S, NH, DH]``; then the heads side by side, times a weight."""

    def __init__(self, args: ModelArgs):
        super().__init__()
        self.weight = mx.ones(args.v_dim)
        if args.use_bias:
            self.bias = mx.zeros(args.v_dim)
        self._eps = args.norm_eps

    def __call__(self, x: mx.array) -> mx.array:
        y = mx.fast.layer_norm(x, None, None, self._eps).flatten(-2) * self.weight
        return y + self.bias if "bias" in self else y


class FeedForward(_Module):
    def __init__(self, args: ModelArgs):
        super().__init__()
        up = args.up_proj_dim
        if args.weight_mode == "single":
            self.proj_up_gate = linear.Linear(args.embedding_dim, up, bias=args.use_bias)
            self.proj_up = linear.Linear(args.embedding_dim, up, bias=args.use_bias)
        else:
            self.proj_up_gate_z = linear.Linear(args.embedding_dim, 2 * up, bias=args.use_bias)
        self.proj_down = linear.Linear(up, args.embedding_dim, bias=args.use_bias)

    def __call__(self, x: mx.array) -> mx.array:
        if "proj_up" in self:
            gate, z = self.proj_up_gate(x), self.proj_up(x)
        else:
            gate, z = self.proj_up_gate_z(x).split(2, -1)
        return self.proj_down(_operators.swiglu2(gate, z))


class mLSTMLayer(_Module):
    """``(x [B, S, D], state) -> (y, state)``; the biases of the gates begin as in the training of xLSTM-7B."""

    def __init__(self, args: ModelArgs):
        super().__init__()
        self._args = args
        width, qk, v, heads = args.embedding_dim, args.qk_dim, args.v_dim, args.num_heads
        of_i, of_f = mx.full(heads, -10.0), mx.linspace(3.0, 6.0, heads)
        if args.weight_mode == "single":
            self.q = linear.Linear(width, qk, bias=args.use_bias)
            self.k = linear.Linear(width, qk, bias=args.use_bias)
            self.v = linear.Linear(width, v, bias=args.use_bias)
            self.ogate_preact = linear.Linear(width, v, bias=args.use_bias)
            self.igate_preact = linear.Linear(width, heads, bias=True)
            self.fgate_preact = linear.Linear(width, heads, bias=True)
            self.igate_preact.bias, self.fgate_preact.bias = of_i, of_f
        else:
            self.qkv_opreact = linear.Linear(width, 2 * qk + 2 * v, bias=args.use_bias)
            self.ifgate_preact = linear.Linear(width, 2 * heads, bias=True)
            self.ifgate_preact.bias = mx.concatenate([of_i, of_f])
        self.multihead_norm = MultiHeadLayerNorm(args)
        self.out_proj = linear.Linear(v, width, bias=args.use_bias)

    def _projections(self, x: mx.array) -> tuple[mx.array, ...]:
        """q, k, v, the output gate, i and f."""
        args = self._args
        rows: tuple[mx.array, ...]
        gates: tuple[mx.array, ...]
        if "q" in self:
            gates = self.igate_preact(x), self.fgate_preact(x)
            rows = (self.q(x), self.k(x), self.v(x), self.ogate_preact(x))
        else:
            ends = (args.qk_dim, 2 * args.qk_dim, 2 * args.qk_dim + args.v_dim)
            rows = tuple(self.qkv_opreact(x).split(ends, -1))
            gates = tuple(self.ifgate_preact(x).split(2, -1))
        return (*rows, *(_capped(gate, args.gate_soft_cap) for gate in gates))

    def __call__(self, x: mx.array, state: Optional[State] = None,
                 mask: Optional[mx.array] = None) -> tuple[mx.array, State]:
        """`mask` ``[B, S]``: tokens where it is False change no state."""
        batch, tokens, _ = x.shape
        *rows, o, i, f = self._projections(x)
        if mask is not None:
            i, f = mx.where(mask[..., None], i, -mx.inf), mx.where(mask[..., None], f, mx.inf)
        heads = self._args.num_heads
        q, k, v = (row.reshape(batch, tokens, heads, -1).swapaxes(1, 2) for row in rows)
        i, f = i.swapaxes(1, 2), f.swapaxes(1, 2)
        if tokens == 1:
            h, state = mlstm_step(q[:, :, 0], k[:, :, 0], v[:, :, 0], i[:, :, 0], f[:, :, 0], state, eps=self._args.eps)
            h = h[:, None]
        else:
            h, state = mlstm_chunkwise(q, k, v, i, f, state=state, return_last_states=True, eps=self._args.eps,
                                       chunk_size=self._args.chunk_size)
            h = h.swapaxes(1, 2)
        return self.out_proj(mx.sigmoid(o) * self.multihead_norm(h)), state


class mLSTMBlock(_Module):
    def __init__(self, args: ModelArgs):
        super().__init__()
        self.norm_mlstm = RMSNorm(args.embedding_dim, args)
        self.mlstm_layer = mLSTMLayer(args)
        self.norm_ffn = RMSNorm(args.embedding_dim, args)
        self.ffn = FeedForward(args)

    def __call__(self, x: mx.array, state: Optional[State] = None,
                 mask: Optional[mx.array] = None) -> tuple[mx.array, State]:
        y, state = self.mlstm_layer(self.norm_mlstm(x), state, mask)
        x = x + y
        return x + self.ffn(self.norm_ffn(x)), state


class BlockStack(_Module):
    def __init__(self, args: ModelArgs):
        super().__init__()
        self.blocks = [mLSTMBlock(args) for _ in range(args.num_blocks)]
        if args.add_out_norm:
            self.out_norm = RMSNorm(args.embedding_dim, args)

    def __call__(self, x: mx.array, cache: list[StateCache]) -> mx.array:
        mask = cache[0].make_mask(x.shape[1])
        for block, held in zip(self.blocks, cache):
            x, held.value = block(x, held.value, mask)
            held.advance(x.shape[1])
        return self.out_norm(x) if "out_norm" in self else x


class Model(_Module):
    """Tokens ``[B, S]`` to logits ``[B, S, vocab_size]``; `cache` from :meth:`make_cache` is continued from call to call."""

    def __init__(self, args: ModelArgs):
        super().__init__()
        self.args = args
        self.model_type = args.model_type
        self.embedding = embedding.Embedding(args.vocab_size, args.embedding_dim)
        self.backbone = BlockStack(args)
        self.lm_head = linear.Linear(args.embedding_dim, args.vocab_size, bias=False)

    def __call__(self, inputs: mx.array, cache: Optional[list[StateCache]] = None,
                 input_embeddings: Optional[mx.array] = None) -> mx.array:
        x = self.embedding(inputs) if input_embeddings is None else input_embeddings
        x = self.backbone(x, self.make_cache() if cache is None else cache)
        return _capped(self.lm_head(x), self.args.output_logit_soft_cap)

    @property
    def layers(self) -> list[mLSTMBlock]:
        return self.backbone.blocks

    def make_cache(self) -> list[StateCache]:
        return [StateCache() for _ in self.layers]

    def sanitize(self, weights: dict[str, mx.array]) -> dict[str, mx.array]:
        """Weights under the names of xlstm_large or of transformers; single ones are joined for a fused model."""
        renamed = {name.replace("backbone.embeddings.", "embedding.").removeprefix("model."): x
                   for name, x in weights.items()}
        return join_weights(renamed) if self.args.weight_mode == "fused" else renamed


_JOINED = {"mlstm_layer.qkv_opreact": ("mlstm_layer.q", "mlstm_layer.k", "mlstm_layer.v", "mlstm_layer.ogate_preact"),
           "mlstm_layer.ifgate_preact": ("mlstm_layer.igate_preact", "mlstm_layer.fgate_preact"),
           "ffn.proj_up_gate_z": ("ffn.proj_up_gate", "ffn.proj_up")}


def join_weights(weights: dict[str, mx.array]) -> dict[str, mx.array]:
    """Weights of ``weight_mode="single"`` as those of ``"fused"``; others stay as they are."""
    made = dict(weights)
    for joined, parts in _JOINED.items():
        for name in weights:
            head, found, kind = name.partition(f".{parts[0]}.")
            if found:
                made[f"{head}.{joined}.{kind}"] = mx.concatenate([made.pop(f"{head}.{part}.{kind}") for part in parts])
    return made


def write_model_file(folder: Union[str, Path]) -> Path:
    """Writes ``xlstm_model.py`` into a folder with a ``config.json``, and names it there as its ``model_file``.

    ``mlx_lm.load(folder, trust_remote_code=True)`` then makes :class:`Model` of it.
    """
    config_file = Path(folder) / "config.json"
    if not config_file.is_file():
        arrays.refuse(f"{config_file} is not there: give the folder of a model", FileNotFoundError)
    config: dict[str, Any] = json.loads(config_file.read_text(encoding="utf-8"))
    ModelArgs.from_dict(config)
    file = Path(folder) / "xlstm_model.py"
    file.write_text("from mlx_kd.xlstm.nn import Model, ModelArgs  # noqa: F401\n", encoding="utf-8")
    config_file.write_text(json.dumps({**config, "model_type": "xlstm", "model_file": file.name}, indent=2) + "\n",
                           encoding="utf-8")
    return file


__all__ = ["BlockStack", "FeedForward", "Model", "ModelArgs", "MultiHeadLayerNorm", "RMSNorm", "StateCache",
           "join_weights", "mLSTMBlock", "mLSTMLayer", "write_model_file"]
