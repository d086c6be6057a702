"""Operators of whole models written with MLX in float32, for tests of what calls them.

``with stand_ins():`` puts those that this build lacks (or all of them) into ``mlx_kd._operators``; ``calls`` counts by
name. Their results are rounded once, so they are nearer to float32 than MLX's own.
"""
import collections
import contextlib

import mlx.core as mx

calls = collections.Counter()


def f32(x):
    return None if x is None else x.astype(mx.float32)


def unpacked(w, scales, biases, width):
    if scales.dtype == mx.uint8:
        group = width // scales.shape[-1]
        bits = 32 * w.shape[-1] // width
        mode = {(32, 4): "mxfp4", (32, 8): "mxfp8", (16, 4): "nvfp4"}[group, bits]
        return mx.dequantize(w, scales, group_size=group, bits=bits, mode=mode).astype(mx.float32)
    return mx.dequantize(w, f32(scales), f32(biases), group_size=width // scales.shape[-1],
                         bits=32 * w.shape[-1] // width)


def normed(x, norm, eps):
    return f32(x) if norm is None else f32(mx.fast.rms_norm(x, norm, eps))


def finished(y, x, bias, residual):
    y = y.astype(x.dtype)
    y = y if bias is None else y + bias
    return y if residual is None else residual + y


def matvec(x, w, norm=None, bias=None, residual=None, eps=1e-5):
    return finished(normed(x, norm, eps) @ f32(w).T, x, bias, residual)


def qmatvec(x, w, scales, biases=None, norm=None, bias=None, residual=None, eps=1e-5):
    return finished(normed(x, norm, eps) @ unpacked(w, scales, biases, x.shape[-1]).T, x, bias, residual)


def gated(gate, up, dtype, activation):
    act = gate * mx.sigmoid(gate) if activation == 0 else \
        0.5 * gate * (1 + mx.tanh(0.7978845608 * (gate + 0.044715 * gate * gate * gate)))
    return (act * up).astype(dtype)


def matvec_gate_up(x, w_gate, w_up, norm=None, eps=1e-5, activation=0):
    h = normed(x, norm, eps)
    return gated(h @ f32(w_gate).T, h @ f32(w_up).T, x.dtype, activation)


def qmatvec_gate_up(x, w_gate, scales_gate, biases_gate, w_up, scales_up, biases_up, norm=None, eps=1e-5,
                    activation=0):
    h, width = normed(x, norm, eps), x.shape[-1]
    return gated(h @ unpacked(w_gate, scales_gate, biases_gate, width).T,
                 h @ unpacked(w_up, scales_up, biases_up, width).T, x.dtype, activation)


def matvec_qkv(x, wq, wk, wv, norm=None, bias_q=None, bias_k=None, bias_v=None, eps=1e-5):
    return tuple(matvec(x, w, norm, b, eps=eps) for w, b in ((wq, bias_q), (wk, bias_k), (wv, bias_v)))


def qmatvec_qkv(x, wq, sq, bq, wk, sk, bk, wv, sv, bv, norm=None, bias_q=None, bias_k=None, bias_v=None, eps=1e-5):
    return (qmatvec(x, wq, sq, bq, norm, bias_q, eps=eps), qmatvec(x, wk, sk, bk, norm, bias_k, eps=eps),
            qmatvec(x, wv, sv, bv, norm, bias_v, eps=eps))


def rope_standard(x, offset, freqs=None, base=10000.0, scale=1.0, dims=0, traditional=0):
    offset = offset.reshape(()) if offset.size == 1 else offset
    return mx.fast.rope(x, dims or x.shape[-1], traditional=bool(traditional), base=None if freqs is not None else base,
                        scale=scale, offset=offset, freqs=freqs)


def qk_norm_rope(q, k, offset, wq=None, wk=None, freqs=None, eps=1e-6, base=10000.0, scale=1.0, dims=0, traditional=0):
    def one(x, weight):
        x = x if weight is None else mx.fast.rms_norm(x, weight, eps)
        return rope_standard(x, offset, freqs, base, scale, dims, traditional)
    return one(q, wq), one(k, wk)


def attention(q, k, v, mask=None, sinks=None, bias=None, scale=1.0, causal=0, window=0):
    assert not window and bias is None
    return mx.fast.scaled_dot_product_attention(q, k, v, scale=scale, mask="causal" if causal else mask, sinks=sinks)


def of_experts(x, ids, w, scales, biases, bias):
    w = unpacked(w[ids], scales[ids], None if biases is None else biases[ids], x.shape[-1])
    y = (f32(x)[..., None, :] * w).sum(-1).astype(x.dtype)
    return y if bias is None else y + bias[ids]


def gather_qmatvec(x, ids, w, scales, biases=None, bias=None):
    return of_experts(x, ids, w, scales, biases, bias)


def gather_qmatvec_gate_up(x, ids, w_gate, scales_gate, biases_gate, w_up, scales_up, biases_up, bias_gate=None,
                           bias_up=None, activation=0):
    gate = f32(of_experts(x, ids, w_gate, scales_gate, biases_gate, bias_gate))
    up = f32(of_experts(x, ids, w_up, scales_up, biases_up, bias_up))
    if activation < 2:
        return gated(gate, up, x.dtype, activation)
    gate, up = mx.minimum(gate, 7), mx.clip(up, -7, 7)
    return (gate * mx.sigmoid(1.702 * gate) * (up + 1)).astype(x.dtype)


def router(logits, correction=None, scale=1.0, top=1, scoring=0, normalise=0, groups=1, top_groups=1, group_best=1):
    if scoring == 1:
        return chosen_by_sigmoids(f32(logits), correction, scale, top, normalise, groups, top_groups)
    assert correction is None and groups == 1
    ids = mx.argsort(-f32(logits), -1)[..., :top]
    weights = mx.take_along_axis(mx.softmax(f32(logits), -1), ids, -1)
    if normalise or scoring == 2:
        weights = weights / weights.sum(-1, keepdims=True)
    return ids, (scale * weights).astype(logits.dtype)


def chosen_by_sigmoids(logits, correction, scale, top, normalise, groups, top_groups):
    scores = mx.sigmoid(logits)
    choice = scores if correction is None else scores + correction
    if groups > 1:
        parts = choice.reshape(*choice.shape[:-1], groups, -1)
        worst = mx.argsort(mx.topk(parts, 2, axis=-1).sum(-1, keepdims=True), -2)[..., :groups - top_groups, :]
        choice = mx.put_along_axis(parts, worst, mx.array(0.0), -2).reshape(choice.shape)
    ids = mx.argsort(-choice, -1)[..., :top]
    weights = mx.take_along_axis(scores, ids, -1)
    return ids, scale * (weights / weights.sum(-1, keepdims=True) if normalise else weights)


def expert_combine(x, weights, wide=0):
    return (x * weights[..., None]).astype(mx.float32).sum(-2).astype(x.dtype)


def qembedding(ids, w, scales, biases=None, like=None, bits=4):
    rows = unpacked(w[ids], scales[ids], None if biases is None else biases[ids], w.shape[-1] * 32 // bits)
    return rows.astype(biases.dtype if biases is not None else like.dtype)


ALL = (attention, expert_combine, gather_qmatvec, gather_qmatvec_gate_up, matvec, matvec_gate_up, matvec_qkv,
       qembedding, qk_norm_rope, qmatvec, qmatvec_gate_up, qmatvec_qkv, rope_standard, router)


def counted(function):
    def call(*arguments, **numbers):
        calls[function.__name__] += 1
        return function(*arguments, **numbers)
    return call


@contextlib.contextmanager
def stand_ins(*, but=()):
    """In place of the operators of these names, present or not; those of `but` are absent."""
    from mlx_kd import _operators
    absent = object()
    before = {function.__name__: getattr(_operators, function.__name__, absent) for function in ALL}
    calls.clear()
    try:
        for function in ALL:
            if function.__name__ in but:
                if before[function.__name__] is not absent:
                    delattr(_operators, function.__name__)
            else:
                setattr(_operators, function.__name__, counted(function))
        yield calls
    finally:
        for name, value in before.items():
            if value is not absent:
                setattr(_operators, name, value)
            elif hasattr(_operators, name):
                delattr(_operators, name)
