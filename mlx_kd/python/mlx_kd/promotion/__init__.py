"""kd promote: pins in the whole model that they are for, judged, timed, and written as a pack of those that hold.

The program starts it as ``python -c "... promotion.main(REQUEST)"``, a JSON object with the options by name.
"""
from __future__ import annotations

import importlib
import json
import re
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Optional

from mlx_kd.promotion import packs, sides
from mlx_kd.promotion.packs import Misuse
from mlx_kd.promotion.trial import References, Sizes, Trial, quietly, say


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


def main(text: str) -> int:
    request = Request(**json.loads(text))
    try:
        importlib.import_module("mlx_lm.models.cache")
    except ImportError as error:
        say(f"[promote] mlx-lm cannot be imported by {sys.executable} ({error}): {sys.executable} -m pip install mlx-lm")
        return 1
    try:
        return Promotion(request).run()
    except KeyboardInterrupt:
        return 130
    except (OSError, ValueError, RuntimeError) as error:
        message = str(error)
        say(message if re.match(r"\[[a-z]+\] ", message) else f"[promote] {message}")
        return 2 if isinstance(error, Misuse) else 1


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

        import mlx_kd
        mx.set_default_device(mx.cpu)
        try:
            mlx_kd.settings()
        except ValueError as error:  # of a variable that cannot be meant
            raise Misuse(str(error)) from None
        self.request, self.start = request, time.perf_counter()
        self.pack = packs.pack_of(request.pack)
        self.entries = packs.entries_of(self.pack)
        self.model = load(request.model)
        self.keys: dict[int, dict[str, Any]] = {}
        self.hits: dict[int, int] = {}
        self.evidence: dict[str, Any] = {"schema_version": 1, "model": request.model, "pack": str(self.pack),
                                         "created_at": time.strftime("%Y-%m-%dT%H:%M:%S%z")}

    def run(self) -> int:
        import mlx_kd
        per_token = sides.seconds_a_token(self.model)
        sizes = Sizes(self.request, per_token)
        say(f"MLX: {1 / per_token:.2f} tokens/s: {sizes}; patching and proving")
        with quietly():
            report = mlx_kd.patch(self.model, self.pack)
        self.evidence["patch"] = str(report).splitlines()
        if not mlx_kd.stats()["pins"]:
            raise Misuse(f"no entry of {self.pack} matches this machine, MLX and the type of the model ({report.pins}): "
                         "run kd tune-model here")
        self.references = References(self.model, self.request, sizes)
        whole = Trial(self.references, self.pack, True)
        self.keys, self.hits = whole.keys, whole.hits
        kept, trial = self.choose(whole)
        passed = bool(kept) and not trial.failed
        failed = trial.failed if kept or trial.failed else ["no pin was called by this model"]
        self.evidence.update(trial.evidence, failed=failed, passed=passed, promoted=[described(entry) for entry in kept] if passed else [],
                             seconds=time.perf_counter() - self.start)
        self.write(kept if passed else [])
        return 0 if passed else 1

    def choose(self, whole: Trial) -> tuple[list[dict[str, Any]], Trial]:
        """The entries that are surely faster, were called, and hold in the whole model; and the trial of them."""
        useful, left = [], []
        for entry in self.entries:
            why = packs.why_not(entry, self.keys, self.hits)
            if why:
                left.append({**described(entry), "why": why})
            else:
                useful.append(entry)
        self.evidence["left"] = left
        if not whole.failed or not useful:
            return useful, whole
        kept, last = self.bisect(useful, whole)
        return (kept, last) if kept else ([], whole)

    def bisect(self, useful: list[dict[str, Any]], whole: Trial) -> tuple[list[dict[str, Any]], Trial]:
        """Halves of the pins until those that do not hold are found: the others, and a last trial of all of them."""
        say(f"the {len(useful)} pins together do not hold ({'; '.join(whole.failed)}): trying parts of them")
        trials: list[dict[str, Any]] = [{"pins": len(useful), "failed": whole.failed}]
        self.evidence["trials"] = trials
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "part.json"

            def holds(entries: list[dict[str, Any]], timed: bool) -> Optional[Trial]:
                packs.write_part(self.pack, entries, file)
                trial = Trial(self.references, file, timed)
                trials.append({"pins": len(entries), "candidates": [entry["candidate_id"] for entry in entries],
                               "failed": trial.failed})
                return None if trial.failed else trial

            kept = good_of(useful, lambda entries: holds(entries, whole.right) is not None)
            last = holds(kept, True) if kept else None
        out = [entry for entry in useful if entry not in kept]
        self.evidence["left"] += [{**described(entry), "why": "with it the model does not hold: " + "; ".join(whole.failed)}
                                  for entry in out]
        return (kept, last) if last is not None else ([], whole)

    def write(self, kept: list[dict[str, Any]]) -> None:
        out = Path(self.request.out) if self.request.out else self.pack.parent / "promoted.json"
        evidence = out.with_suffix(".evidence.json")
        if kept:
            packs.write_pack(self.pack, kept, out)
        packs.write_whole(evidence, json.dumps(self.evidence, indent=2) + "\n")
        print(json.dumps(self.evidence, indent=2) if self.request.json else summary(self.evidence))
        for why in self.evidence["failed"]:
            say(f"[promote] nothing is promoted: {why}: the evidence is in {evidence}")
        if kept:
            say(f"{len(kept)} of {len(kept) + len(self.evidence['left'])} pins in {out}, evidence in {evidence}")


def described(entry: dict[str, Any]) -> dict[str, Any]:
    return {"op": entry["key"]["op_name"], "shape": entry["key"]["shape_signature"], "candidate_id": entry["candidate_id"],
            "metrics": entry.get("metrics", {})}


def good_of(entries: list[dict[str, Any]], holds: Callable[[list[dict[str, Any]]], bool],
            base: Sequence[dict[str, Any]] = ()) -> list[dict[str, Any]]:
    """As many of the entries as hold together with those of `base`; all together do not."""
    if len(entries) == 1:
        return []
    kept: list[dict[str, Any]] = []
    for half in (entries[:len(entries) // 2], entries[len(entries) // 2:]):
        known = [*base, *kept]
        kept += half if holds([*known, *half]) else good_of(half, holds, known)
    return kept


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
