"""kd promote: pins in the whole model that they are for, judged, timed, and written as a pack of those that hold.

The program starts it as ``python -c "... promotion.main(REQUEST)"``, a JSON object with the options by name.
"""
from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

RMS_FACTOR, MAX_FACTOR = 1.25, 2.0
FLOAT32_SHARE = 1e-5     # of the judge's root mean square, for models in float32: MLX is the judge there
POSITIONS, LEAST_POSITIONS = 500, 32
SLOW_TOKENS_PER_S = 5.0  # below, MLX's side is sized to the time
SHARE = 0.25             # of the time: for MLX's logits, for its tokens, for its timed runs
LEAST_TOKENS = 8
MOST_LISTED = 20


class Misuse(ValueError):
    """Exit status 2."""


class Request(NamedTuple):
    pack: str
    model: str
    out: str
    max_tokens: int
    runs: int
    require_identical: bool
    time_budget_s: float
    seed: int
    json: bool


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def quietly() -> contextlib.redirect_stderr[io.StringIO]:
    """A patch prints its report, which the evidence has."""
    return contextlib.redirect_stderr(io.StringIO())


def main(text: str) -> int:
    request = Request(**json.loads(text))
    try:
        importlib.import_module("mlx_lm.models.cache")
    except ImportError as error:
        say(f"[promote] mlx-lm cannot be imported by {sys.executable} ({error}): {sys.executable} -m pip install mlx-lm")
        return 1
    try:
        return Promotion(request).run()
    except Misuse as error:
        say(f"[promote] {error}")
        return 2
    except KeyboardInterrupt:
        return 130
    except (OSError, ValueError, RuntimeError) as error:
        message = str(error)
        say(message if message.startswith("[") else f"[promote] {message}")
        return 1


def load(path: str) -> Any:
    """The model of a folder, or of an id that the hub's cache holds."""
    folder = Path(path).expanduser()
    if not folder.exists():
        try:
            folder = Path(importlib.import_module("huggingface_hub").snapshot_download(path, local_files_only=True))
        except Exception:
            raise Misuse(f"there is no model {path!r}, neither a folder nor in the hub's cache: download it with 'hf "
                         f"download {path}' (after 'hf auth login' where it is gated), or give a folder") from None
    if not (folder / "config.json").exists():
        raise Misuse(f"there is no config.json in {folder}: give the folder of a model in Hugging Face's form")
    try:
        return importlib.import_module("mlx_lm.utils").load_model(folder)[0]
    except (ValueError, KeyError, TypeError, FileNotFoundError) as error:
        raise Misuse(f"the model in {folder} cannot be loaded ({error}): its weights and its config must fit") from None


class Promotion:
    def __init__(self, request: Request) -> None:
        import mlx.core as mx
        mx.set_default_device(mx.cpu)
        self.request, self.start = request, time.perf_counter()
        self.pack = pack_of(request.pack)
        self.model = load(request.model)
        self.hits: dict[int, int] = {}
        self.keys: dict[int, dict[str, Any]] = {}
        self.evidence: dict[str, Any] = {"schema_version": 1, "model": request.model, "pack": str(self.pack),
                                         "created_at": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "failed": []}

    def count(self, before: dict[int, int]) -> None:
        """Adds the hits of the pins since then."""
        self.keys = pin_keys()
        for pin, hits in pin_hits().items():
            self.hits[pin] = self.hits.get(pin, 0) + hits - before.get(pin, 0)

    def fail(self, why: str) -> None:
        self.evidence["failed"].append(why)

    def run(self) -> int:
        import mlx_kd
        from mlx_kd.promotion import sides
        per_token = sides.seconds_a_token(self.model)
        say(f"MLX: {1 / per_token:.2f} tokens/s; patching and proving")
        with quietly():
            report = mlx_kd.patch(self.model, self.pack)
        self.evidence["patch"] = str(report).splitlines()
        if not mlx_kd.stats()["pins"]:
            raise Misuse(f"no entry of {self.pack} matches this machine, MLX and the type of the model ({report.pins}): "
                         "run kd tune-model here")
        self.judge(per_token)
        self.compare_tokens(per_token)
        self.time(per_token)
        kept = self.choose()
        self.write(kept)
        return 0 if kept else 1

    def share(self, per_token: float, most: int, least: int, parts: int = 1) -> int:
        """How many tokens MLX is given: all, or where it is slow those that fit its share of the time."""
        if 1 / per_token >= SLOW_TOKENS_PER_S:
            return most
        return max(least, min(most, int(SHARE * self.request.time_budget_s / parts / per_token)))

    def judge(self, per_token: float) -> None:
        import mlx.core as mx
        import mlx_kd
        from mlx_kd.promotion import sides
        from mlx_kd.promotion.judge import Distance, judge_of, logits_of_text, number
        count = self.share(per_token, POSITIONS, LEAST_POSITIONS)
        say(f"logits of {count} positions: with pins, in float32, with MLX")
        self.text = sides.own_text(self.model, count, self.request.seed)
        ours = sides.forced_logits(self.model, self.text)
        before = pin_hits()
        at_once = logits_of_text(self.model, mx.array(self.text))  # as a prompt: other sizes, other pins
        self.count(before)
        mlx_kd.unpatch(self.model)
        exact = logits_of_text(judge_of(self.model), mx.array(self.text))
        theirs = sides.forced_logits(self.model, self.text)
        mine, mlx, prompt = (Distance(logits, exact) for logits in (ours, theirs, at_once))
        size = number(mx.sqrt(mx.mean(mx.square(exact))))
        self.evidence["logits"] = {"positions": count, "judge_rms": size, "pins": mine.json(), "mlx": mlx.json(),
                                   "pins_in_a_prompt": prompt.json(),
                                   "rms_factor": RMS_FACTOR, "max_factor": MAX_FACTOR}
        same = bool(mx.array_equal(ours, theirs).item())
        for one, words, equal in ((mine, "its logits are", same), (prompt, "its logits of a prompt are", False)):
            near = one.rms <= max(RMS_FACTOR * mlx.rms, FLOAT32_SHARE * size) \
                and one.maximum <= max(MAX_FACTOR * mlx.maximum, 10 * FLOAT32_SHARE * size)
            if one.finite and (equal or near):
                continue
            self.fail(f"{words} {one.rms:.3g} (at most {one.maximum:.3g}) from float32, MLX's {mlx.rms:.3g} "
                      f"(at most {mlx.maximum:.3g}): {RMS_FACTOR} and {MAX_FACTOR} times that are allowed")
        best: Any = (mx.argmax(theirs, -1) != mx.argmax(ours, -1)).tolist()
        differ = [index for index, other in enumerate(best) if other]
        self.evidence["forced_tokens"] = {
            "positions": count, "different": len(differ),
            "listed": [{"position": index, "gap": sides.gap(theirs[index])} for index in differ[:MOST_LISTED]]}

    def compare_tokens(self, per_token: float) -> None:
        import mlx_kd
        from mlx_kd.promotion import sides
        count = self.share(per_token, self.request.max_tokens, LEAST_TOKENS)
        say(f"{count} tokens with MLX and with pins")
        prompt = self.text[:sides.PROMPT]
        theirs, gaps = sides.greedy(self.model, prompt, count)
        with quietly(), mlx_kd.patched(self.model, self.pack):
            ours, _ = sides.greedy(self.model, prompt, count)
        first = next((i for i, (a, b) in enumerate(zip(theirs, ours)) if a != b), None)
        self.evidence["tokens"] = {"count": count, "identical": first is None}
        if first is not None:  # what follows a different token is another text
            self.evidence["tokens"]["first_difference"] = {"position": first, "mlx": theirs[first], "pins": ours[first],
                                                           "gap": gaps[first]}
        if self.request.require_identical and (first is not None or self.evidence["forced_tokens"]["different"]):
            self.fail("its tokens are not those of MLX, and --require-identical is given")

    def time(self, per_token: float) -> None:
        import mlx_kd
        from mlx_kd.promotion import sides
        runs = self.request.runs
        count = self.share(per_token, self.request.max_tokens, 2, runs)
        prompt, pairs = self.text[:sides.PROMPT], []
        for index in range(runs):
            say(f"pair {index + 1} of {runs}: {count} tokens of each")
            sides_of_pair = {}
            for side in ("mlx", "pins") if index % 2 == 0 else ("pins", "mlx"):
                if side == "mlx":
                    sides_of_pair[side] = sides.timed(self.model, prompt, count)
                    continue
                with quietly(), mlx_kd.patched(self.model, self.pack):
                    before = pin_hits()
                    sides_of_pair[side] = sides.timed(self.model, prompt, count)
                    self.count(before)
            pairs.append(sides_of_pair)
        ratios = sorted(pair["pins"].tokens_per_s / pair["mlx"].tokens_per_s for pair in pairs)
        peak = {side: max(pair[side].peak_bytes for pair in pairs) for side in ("mlx", "pins")}
        self.evidence["speed"] = {
            "tokens": count, "pairs": [{side: pair[side].tokens_per_s for side in pair} for pair in pairs],
            "ratio": ratios[len(ratios) // 2], "lo": ratios[0], "hi": ratios[-1], "interval": "minimum and maximum",
            "peak_bytes": peak}
        if ratios[0] <= 1:
            self.fail(f"it is {ratios[0]:.2f} to {ratios[-1]:.2f} times as fast as MLX in the whole model")

    def choose(self) -> list[dict[str, Any]]:
        """The entries of the pack that are surely faster and were called; none where the whole failed."""
        kept, left = [], []
        for entry in entries_of(self.pack):
            why = why_not(entry, self.keys, self.hits)
            one = {"op": entry["key"]["op_name"], "shape": entry["key"]["shape_signature"],
                   "candidate_id": entry["candidate_id"]}
            if why:
                left.append({**one, "why": why})
            else:
                kept.append({**one, "metrics": entry.get("metrics", {})})
        if not kept:
            self.fail("no pin was called by this model")
        passed = not self.evidence["failed"]
        self.evidence.update(promoted=kept if passed else [], left=left, passed=passed,
                             seconds=time.perf_counter() - self.start)
        return kept if passed else []

    def write(self, kept: list[dict[str, Any]]) -> None:
        out = Path(self.request.out) if self.request.out else self.pack.parent / "promoted.json"
        evidence = out.with_suffix(".evidence.json")
        if kept:
            write_pack(self.pack, kept, out)
        write_whole(evidence, json.dumps(self.evidence, indent=2) + "\n")
        if self.request.json:
            print(json.dumps(self.evidence, indent=2))
        else:
            print(summary(self.evidence))
        for why in self.evidence["failed"]:
            say(f"[promote] nothing is promoted: {why}: the evidence is in {evidence}")
        if kept:
            say(f"{len(kept)} of {len(kept) + len(self.evidence['left'])} pins in {out}, evidence in {evidence}")


def pack_of(path: str) -> Path:
    """A pack, or the folder of a tuning or of a run."""
    given = Path(path)
    if given.is_file():
        return given
    for name in ("pack.json", "best_kernels.json"):
        if (given / name).is_file():
            return given / name
    raise Misuse(f"there is no pack.json or best_kernels.json in {given}: give the folder of kd tune-model or of kd run")


def entries_of(pack: Path) -> list[dict[str, Any]]:
    try:
        found = json.loads(pack.read_text())["entries"]
        assert isinstance(found, list)
        return found
    except (ValueError, KeyError, AssertionError, TypeError):
        raise Misuse(f"{pack} is no pack: give one that kd tune-model, kd pack or kd install wrote") from None


def pin_keys() -> dict[int, dict[str, Any]]:
    import mlx_kd
    return dict(enumerate(mlx_kd.stats()["pins"]))


def pin_hits() -> dict[int, int]:
    return {index: int(pin["hits"]) for index, pin in pin_keys().items()}


def why_not(entry: dict[str, Any], pins: dict[int, dict[str, Any]], hits: dict[int, int]) -> str:
    """"" for an entry that is promoted."""
    metrics = entry.get("metrics", {})
    if entry.get("claim", "faster_than_mlx") != "mlx_cannot" and not metrics.get("speedup_lo", 0) > 1:
        return "the interval of its speed-up holds 1"
    for index, pin in pins.items():
        if pin["candidate_id"] == entry["candidate_id"] and size_of(pin["shape"]) == entry["key"]["shape_signature"]:
            return "" if hits.get(index, 0) > 0 else "neither a step nor a prompt of this model called it"
    return "it does not match this machine, MLX or the type of the model"


def size_of(text: str) -> dict[str, int]:
    return {name: int(value) for name, value in re.findall(r"(\w+)=(\d+)", text)}


def write_whole(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def write_pack(pack: Path, kept: list[dict[str, Any]], out: Path) -> None:
    """The entries that are kept, through the program: it checks and orders them."""
    from mlx_kd import discovery
    wanted = {(one["candidate_id"], json.dumps(one["shape"], sort_keys=True)) for one in kept}
    whole = json.loads(pack.read_text())
    whole["entries"] = [entry for entry in whole["entries"]
                        if (entry["candidate_id"], json.dumps(entry["key"]["shape_signature"], sort_keys=True)) in wanted]
    with tempfile.TemporaryDirectory() as folder:
        part = Path(folder) / "kept.json"
        part.write_text(json.dumps(whole))
        out.parent.mkdir(parents=True, exist_ok=True)
        discovery.pack([part], out)


def summary(evidence: dict[str, Any]) -> str:
    logits, tokens, speed = evidence["logits"], evidence["tokens"], evidence["speed"]
    first = tokens.get("first_difference")
    words = "identical" if first is None else f"the first {first['position']} identical, then a gap of {first['gap']:.3g}"
    peak = speed["peak_bytes"]
    middle = speed["pairs"][len(speed["pairs"]) // 2]
    return "\n".join([
        f"logits    {logits['positions']} positions, from float32: pins {logits['pins']['rms']:.3g} (at most "
        f"{logits['pins']['max']:.3g}), MLX {logits['mlx']['rms']:.3g} (at most {logits['mlx']['max']:.3g})",
        f"tokens    {tokens['count']}: {words}",
        f"speed     {middle['pins']:.2f} tokens/s, MLX {middle['mlx']:.2f}: {speed['lo']:.2f} to {speed['hi']:.2f} times",
        f"memory    peak {peak['pins'] / 2**20:.0f} MiB, MLX {peak['mlx'] / 2**20:.0f} MiB"])
