"""Convolutions over time with a filter for each channel, as in LFM2 and Qwen3-Next.

On a CPU MLX's conv1d takes ten times as long for a prompt as the sum of the taps' products by other operators of MLX.
Sums in float32 in the order of the taps have the bits of its own.
"""
from __future__ import annotations

from typing import Any, Optional

import mlx.core as mx

from mlx_kd.patching.calls.products import Shared
from mlx_kd.patching.structure import has_call_of, nn


class TapsCall(Shared):
    """y[t] = sum over i of x[t + i] w[i], each channel by itself."""

    kind, method = "convolution", "__call__"
    rows_of_proof = (64, 1)  # of the result; the first is timed

    def missing(self) -> str:
        return ""

    def runs(self) -> str:
        return "a sum of products"

    def inputs(self, m: Any, dtype: mx.Dtype, rows: int) -> tuple[mx.array, dict[str, Any]]:
        from mlx_kd.patching.samples import random

        channels, taps, _ = m["weight"].shape
        return random((1, rows + taps - 1, channels), dtype), {}

    def run(self, m: Any, x: mx.array) -> Optional[mx.array]:
        if x.ndim != 3 or x.shape[1] < m["weight"].shape[1] or x.dtype != m["weight"].dtype:
            return None
        taps: mx.array = m["weight"].squeeze(-1).T.astype(mx.float32)
        wide, count = x.astype(mx.float32), x.shape[1] - taps.shape[0] + 1
        if count == 1:
            total = (wide * taps).sum(1, keepdims=True)
        else:
            total = wide[:, :count] * taps[0]
            for i in range(1, taps.shape[0]):
                total = total + wide[:, i:i + count] * taps[i]
        y: mx.array = total.astype(x.dtype)
        return y + m["bias"] if "bias" in m else y


def taps_plan_of(module: Any) -> Optional[TapsCall]:
    """Of a convolution of each channel by itself, without padding, steps or gaps."""
    if mx.default_device() != mx.cpu or not has_call_of(module, nn.Conv1d):
        return None
    channels, _, each = module["weight"].shape
    plain = (module.stride, module.padding, module.dilation) == (1, 0, 1)
    return TapsCall() if plain and each == 1 and module.groups == channels else None
