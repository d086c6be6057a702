"""Random calls of mlx_kd.sample next to MLX's chain of operators. Import tests.support.package first."""
import math
import random

import mlx.core as mx

import mlx_kd
from mlx_kd.sampling import chain
from mlx_kd.sampling.settings import Settings

TYPES = (mx.float32, mx.float16, mx.bfloat16)


class Dice:
    """Choices that are the same in every run."""
    types = TYPES

    def __init__(self, seed):
        self.random = random.Random(seed)

    def one(self, *of):
        return self.random.choice(of)

    def width(self, most):
        return max(2, int(round(2 ** self.random.uniform(1, math.log2(most)))))

    def key(self):
        return mx.array([self.random.getrandbits(32), self.random.getrandbits(32)], dtype=mx.uint32)

    def logits(self, rows, width):
        """Spread by 0.1 to 20; some with many equals, half of them masked, all equal, or few values."""
        spread = self.one(0.1, 1.0, 2.0, 4.0, 8.0, 20.0)
        x = mx.random.normal((rows, width), key=mx.random.key(self.random.getrandbits(32))) * spread
        kind = self.random.random()
        if kind < 0.15:
            x = mx.round(x * 2) / 2
        elif kind < 0.25:
            ids = mx.arange(width)
            x = mx.where((ids % 3 == 1) & (ids > 0), -math.inf, x)
        elif kind < 0.3:
            x = x[:, :1] + mx.zeros((rows, width))
        elif kind < 0.35:
            x = mx.round(x)
        return x.astype(self.one(*self.types))

    def settings(self, width):
        top_k, kept = self.one(0, 0, 1, 5, 50), self.one(1, 1, 2, 5)
        return Settings(self.one(0, 1.0, 0.7, 0.3, 1.5, 0.01), self.one(0, 0.0, 0.9, 0.5, 0.1, 0.99, 0.3333, 1.0),
                        self.one(0, 0.0, 0.05, 0.3, 1.0, 0.001), kept if kept <= width else 1,
                        top_k if top_k < width else 0, self.one(0.0, 0.0, 0.5, 1.0), self.one(0.1, 0.01, 0.4, 0.0))

    def special(self, width):
        return self.one([], [0], [1, width - 1])


def numbers(one):
    return (one.temperature, one.top_p, one.min_p, one.min_tokens_to_keep, one.top_k, one.xtc_probability,
            one.xtc_threshold)


def differences(calls, dice, widths, each=100):
    """Calls whose token, log probability or largest log probabilities differ from those of MLX's chain."""
    found, compared, pending = [], [], []

    def compare():
        mx.eval(compared)
        found.extend(what for what, equal in pending if not equal.item())
        pending.clear(), compared.clear()

    for call in range(calls):
        width, rows = dice.width(widths) if widths <= 4096 else widths, dice.one(1, 1, 1, 2, 5)
        logits, one, special, key = dice.logits(rows, width), dice.settings(width), dice.special(width), dice.key()
        top, normalised = dice.one(0, 0, 0, min(width, 20)), dice.one(False, False, True)
        if normalised:
            logits = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
        if dice.random.random() < 0.1:
            logits, rows = logits[0], 0
        if rows > 1 and dice.random.random() < 0.5:
            given = [dice.settings(width) for _ in range(rows)]
            arguments = list(zip(*map(numbers, given)))
        else:
            given, arguments = one, numbers(one)
        ours = mlx_kd.sample(logits, *arguments, special, key=key, logprobs=top, normalised=normalised)
        theirs = chain.sample(logits, given, special, key, top, normalised)
        equal = mx.all(mx.stack([mx.array_equal(a.reshape(-1), b.reshape(-1)) for a, b in zip(ours, theirs)]))
        pending.append(((call, logits.shape, logits.dtype, given, special, key, normalised, top), equal))
        compared.append(equal)
        if len(pending) == each:
            compare()
    compare()
    return found
