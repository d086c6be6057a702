"""The float32 evaluation of a model's own weights, which judges what MLX and the pins make of them."""
from __future__ import annotations

from typing import Any

import mlx.core as mx

from mlx_kd.patching.samples import clone, to_float32
from mlx_kd.patching.structure import nn


def number(value: mx.array) -> float:
    result: Any = value.item()
    return float(result)


def weight_of(module: Any) -> mx.array:
    """Quantised weights as float32, without another rounding: scales and biases are float32 here."""
    return mx.dequantize(module["weight"], module["scales"], module.get("biases"), group_size=module.group_size,
                         bits=module.bits, mode=module.mode).astype(mx.float32)


class ExactLinear(nn.Module):  # type: ignore[misc]
    """A quantised layer whose product is that of float32 weights: MLX's quantised one takes long for a whole text."""

    def __call__(self, x: mx.array) -> mx.array:
        y: mx.array = x @ weight_of(self).T
        return y + self["bias"] if "bias" in self else y


class ExactEmbedding(nn.QuantizedEmbedding):  # type: ignore[misc]
    def as_linear(self, x: mx.array) -> mx.array:
        return x @ weight_of(self).T


CLASSES = {nn.QuantizedLinear: ExactLinear, nn.QuantizedEmbedding: ExactEmbedding}


def judge_of(model: Any) -> Any:
    """A twin of the model in float32. Dense weights are copied; quantised ones are shared, and opened at each call."""
    twin = clone(model, to_float32)
    for module in twin.modules():
        if module.__class__ in CLASSES:
            object.__setattr__(module, "__class__", CLASSES[module.__class__])
    return twin


def logits_of_text(model: Any, tokens: mx.array) -> mx.array:
    """[tokens, vocabulary]: of all positions of a text at once."""
    result: mx.array = model(tokens[None])[0].astype(mx.float32)
    mx.eval(result)
    return result


class Distance:
    """How far logits are from those of the judge."""

    def __init__(self, logits: mx.array, judge: mx.array) -> None:
        error = logits - judge
        self.rms = number(mx.sqrt(mx.mean(mx.square(error))))
        self.maximum = number(mx.max(mx.abs(error)))
        self.finite = bool(mx.all(mx.isfinite(logits)).item())

    def json(self) -> dict[str, Any]:
        return {"rms": self.rms, "max": self.maximum, "finite": self.finite}
