"""What a model says and how fast with a pack of pins, next to MLX and to a float32 evaluation of the same weights."""
from __future__ import annotations

import contextlib
import io
import sys
from pathlib import Path
from typing import Any

import mlx.core as mx

import mlx_kd
from mlx_kd.patching.samples import clone
from mlx_kd.promotion import packs, sides
from mlx_kd.promotion.judge import Distance, judge_of, logits_of_text, number

RMS_FACTOR, MAX_FACTOR = 1.25, 2.0
FLOAT32_SHARE = 1e-5     # of the judge's root mean square, for models in float32: MLX is the judge there
POSITIONS, LEAST_POSITIONS = 500, 32
SLOW_TOKENS_PER_S = 5.0  # below, MLX's side is sized to the time
SHARE = 0.25             # of the time: for MLX's logits, and for its timed runs
LEAST_TIMED = 2          # tokens of a run
MOST_LISTED = 20


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def quietly() -> contextlib.redirect_stderr[io.StringIO]:
    """A patch prints its report, which the evidence has."""
    return contextlib.redirect_stderr(io.StringIO())


class Sizes:
    """What MLX's side computes: all that is asked for, or where MLX is slow what fits its shares of the time budget."""

    def __init__(self, request: Any, per_token: float) -> None:
        self.per_token, self.runs = per_token, int(request.runs)
        self.slow = 1 / per_token < SLOW_TOKENS_PER_S
        fits = int(SHARE * request.time_budget_s / per_token) if self.slow else request.max_tokens + POSITIONS
        self.positions = max(LEAST_POSITIONS, min(POSITIONS, fits)) if self.slow else POSITIONS
        self.prompt = min(sides.PROMPT, self.positions // 2)
        # Where MLX is slow, the text that is judged ends with the tokens that are compared.
        self.tokens = min(request.max_tokens, self.positions - self.prompt + 1) if self.slow else request.max_tokens
        self.timed = max(LEAST_TIMED, min(request.max_tokens, fits // request.runs if self.slow else fits))
        self.untimed = 0 if self.slow else 1

    @property
    def steps(self) -> int:
        """Of MLX."""
        others = 0 if self.slow else self.prompt - 1 + self.tokens
        timed: int = self.runs * (self.untimed + self.timed)
        return self.positions + others + timed

    def __str__(self) -> str:
        return (f"{self.positions} positions, {self.tokens} tokens and {self.runs} runs of {self.timed} take MLX "
                f"{self.steps * self.per_token:.0f} s")


class References:
    """Of one model: a text, its logits in float32 and by MLX, and MLX's own tokens. The model comes patched, so that
    what MLX need not compute takes little time, and is left without the patch; `mlx` is a twin that is never patched."""

    def __init__(self, model: Any, request: Any, sizes: Sizes) -> None:
        self.model, self.request, self.sizes = model, request, sizes
        self.mlx = clone(model)
        self.count = sizes.positions
        say(f"logits of {self.count} positions: in float32 and with MLX")
        text = sides.own_text(model, sizes.prompt if sizes.slow else self.count, request.seed)
        self.prompt = text[:sizes.prompt]
        self.cache = sides.filled(model, self.prompt)
        mlx_kd.unpatch(model)
        if sizes.slow:  # one pass for logits and tokens
            self.text, self.logits = sides.continued(self.mlx, self.prompt, self.count)
            after = [self.logits[sizes.prompt - 1 + at] for at in range(sizes.tokens)]
            self.tokens, self.gaps = [sides.best(one) for one in after], [sides.gap(one) for one in after]
        else:
            self.text, self.logits = text, sides.forced_logits(self.mlx, text)
            self.tokens, self.gaps = sides.greedy(self.mlx, self.prompt, sizes.tokens)
        self.exact = logits_of_text(judge_of(self.mlx), mx.array(self.text))
        if not mx.all(mx.isfinite(self.exact)).item():
            raise packs.Misuse("the logits of the model itself, in float32, have NaN or infinity: its weights are damaged, "
                               "fetch or convert them again")
        self.size = number(mx.sqrt(mx.mean(mx.square(self.exact))))
        self.distance = Distance(self.logits, self.exact)


class Trial:
    """Of the pins of one pack. `right`: what it says holds; `failed` also names a speed that does not."""

    def __init__(self, references: References, pack: Path, timed: bool) -> None:
        self.of, self.pack, self.failed = references, pack, list[str]()
        self.evidence: dict[str, Any] = {}
        self.hits: dict[int, int] = {}
        self.keys: dict[int, dict[str, Any]] = {}
        say(f"logits and tokens with pins, {len(references.text)} positions")
        with contextlib.ExitStack() as context:
            with quietly():
                context.enter_context(mlx_kd.patched(references.model, pack))
            before = packs.pin_hits()
            logits = sides.forced_logits(references.model, references.text)
            prompt = logits_of_text(references.model, mx.array(references.text))  # other sizes, other pins
            tokens, _ = sides.greedy(references.model, references.prompt, len(references.tokens))
            self.judge(logits, prompt)
            self.compare(tokens)
            self.right = not self.failed
            if timed:
                self.time()
            self.count(before)

    def count(self, before: dict[int, int]) -> None:
        """Adds the hits of the pins since then."""
        self.keys = packs.pin_keys()
        for pin, hits in packs.pin_hits().items():
            self.hits[pin] = self.hits.get(pin, 0) + hits - before.get(pin, 0)

    def judge(self, logits: mx.array, prompt: mx.array) -> None:
        of = self.of
        mine, at_once, mlx = Distance(logits, of.exact), Distance(prompt, of.exact), of.distance
        self.evidence["logits"] = {"positions": of.count, "judge_rms": of.size, "pins": mine.json(), "mlx": mlx.json(),
                                   "pins_in_a_prompt": at_once.json(),
                                   "rms_factor": RMS_FACTOR, "max_factor": MAX_FACTOR}
        same = bool(mx.array_equal(logits, of.logits).item())
        for one, words, equal in ((mine, "its logits are", same), (at_once, "its logits of a prompt are", False)):
            near = one.rms <= max(RMS_FACTOR * mlx.rms, FLOAT32_SHARE * of.size) \
                and one.maximum <= max(MAX_FACTOR * mlx.maximum, 10 * FLOAT32_SHARE * of.size)
            if one.finite and (equal or near):
                continue
            self.failed.append(f"{words} {one.rms:.3g} (at most {one.maximum:.3g}) from float32, MLX's {mlx.rms:.3g} "
                               f"(at most {mlx.maximum:.3g}): {RMS_FACTOR} and {MAX_FACTOR} times that are allowed")
        best: Any = (mx.argmax(of.logits, -1) != mx.argmax(logits, -1)).tolist()
        differ = [index for index, other in enumerate(best) if other]
        self.evidence["forced_tokens"] = {
            "positions": of.count, "different": len(differ),
            "listed": [{"position": index, "gap": sides.gap(of.logits[index])} for index in differ[:MOST_LISTED]]}

    def compare(self, tokens: list[int]) -> None:
        theirs = self.of.tokens
        first = next((i for i, (a, b) in enumerate(zip(theirs, tokens)) if a != b), None)
        self.evidence["tokens"] = {"count": len(theirs), "identical": first is None}
        if first is not None:  # what follows a different token is another text
            self.evidence["tokens"]["first_difference"] = {"position": first, "mlx": theirs[first],
                                                           "pins": tokens[first], "gap": self.of.gaps[first]}
        if self.of.request.require_identical and (first is not None or self.evidence["forced_tokens"]["different"]):
            self.failed.append("its tokens are not those of MLX, and --require-identical is given")

    def time(self) -> None:
        """The model is patched; MLX's side is its twin."""
        of, sizes, pairs = self.of, self.of.sizes, []
        models = {"mlx": of.mlx, "pins": of.model}
        for index in range(sizes.runs):
            say(f"pair {index + 1} of {sizes.runs}: {sizes.timed} tokens of each")
            order = ("mlx", "pins") if index % 2 == 0 else ("pins", "mlx")
            pairs.append({side: sides.timed(models[side], of.cache, of.prompt[-1], sizes.timed, sizes.untimed)
                          for side in order})
        ratios = sorted(pair["pins"].tokens_per_s / pair["mlx"].tokens_per_s for pair in pairs)
        peak = {side: max(pair[side].peak_bytes for pair in pairs) for side in ("mlx", "pins")}
        self.evidence["speed"] = {
            "tokens": sizes.timed, "mlx_steps": sizes.steps, "pairs": [{side: pair[side].tokens_per_s for side in pair} for pair in pairs],
            "ratio": ratios[len(ratios) // 2], "lo": ratios[0], "hi": ratios[-1], "interval": "minimum and maximum",
            "peak_bytes": peak}
        if ratios[0] <= 1:
            self.failed.append(f"it is {ratios[0]:.2f} to {ratios[-1]:.2f} times as fast as MLX in the whole model")
