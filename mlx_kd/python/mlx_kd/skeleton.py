"""What the code of a model calls, as the shape log sees it: kd tune-model counts that.

The program starts it as ``python -c "... skeleton.main(REQUEST)"`` with a JSON object: ``config``, a file; ``folder``,
where ``decode.ndjson`` and ``prompt.ndjson`` are written; ``prompt``, tokens (0: none); and ``dtype``. The model is made
of random weights, patched and called, and nothing of it is computed: MLX makes an array when it is read, and none is. So
a model of any size takes seconds and little memory.
"""
from __future__ import annotations

import ast
import importlib
import importlib.util
import json
import os
import sys
import types
from pathlib import Path
from typing import Any, Optional

import mlx.core as mx

SETTINGS = ("MLX_KD_USE_DISCOVERED_KERNELS", "MLX_KD_DEFAULT_KERNELS", "ZMLX_USE_DISCOVERED_KERNELS")
OWN_LOG = ("MLX_KD_SHAPE_LOG", "MLX_KD_SHAPE_LOG_MODE", "MLX_KD_SHAPE_LOG_MAX")


def main(text: str) -> int:
    request = json.loads(text)
    try:
        run(request)
    except Exception as error:  # of a model's code: any can come
        lines = str(error).splitlines()
        print(f"{type(error).__name__}: {lines[0] if lines else ''}", file=sys.stderr)
        return 1
    return 0


def run(request: dict[str, Any]) -> None:
    folder = Path(request["folder"])
    log = folder / "called.ndjson"
    for name in (*SETTINGS, *OWN_LOG, *("Z" + name for name in OWN_LOG)):
        os.environ.pop(name, None)
    os.environ["MLX_KD_SHAPE_LOG"] = str(log)
    mx.set_default_device(mx.cpu)
    config = json.loads(Path(request["config"]).read_text())
    model = made(config, getattr(mx, request["dtype"]))
    patch(model, getattr(mx, request["dtype"]))
    for name, tokens in (("decode", 1), ("prompt", int(request["prompt"]))):
        lines = called(model, tokens, log) if tokens else ""
        (folder / f"{name}.ndjson").write_text(lines)
    log.unlink()


def called(model: Any, tokens: int, log: Path) -> str:
    """The lines of one call of the model: after a first token, since caches take their form with it, or as a prompt."""
    from mlx_kd import _core
    cache = importlib.import_module("mlx_lm.models.cache").make_prompt_cache(model)
    if tokens == 1:
        model(mx.zeros((1, 1), mx.uint32), cache=cache)
    else:
        without_head(model)  # a prompt's logits are those of its last token
    _core.flush_shape_log()
    before = log.stat().st_size if log.exists() else 0
    model(mx.zeros((1, tokens), mx.uint32), cache=cache)
    _core.flush_shape_log()
    return log.read_bytes()[before:].decode() if log.exists() else ""


def without_head(model: Any) -> None:
    """A head that runs the model's own code is not seen. An embedding that is the head too keeps its rows."""
    from mlx_kd.patching import classes
    for path, module in list(classes.walk(model)):
        plan = module.__dict__.get("_kd_plan")
        if hasattr(plan, "run_as_linear"):
            classes.install(module, plan.run.__self__)
        elif plan is not None and (path.rpartition(".")[2] == "lm_head" or plan.kind == "head"):
            classes.uninstall(module)


def patch(model: Any, dtype: mx.Dtype) -> None:
    """As mlx_kd.patch, without a proof, and without reading a weight."""
    import mlx_kd
    from mlx_kd.patching import PatchReport, classes, plans
    from mlx_kd.patching.operators import chosen
    mlx_kd.reset_settings()  # the environment is read again: no kernel runs, and calls are logged
    for module, plan in plans(model, chosen(None), dtype, False, PatchReport()):
        classes.install(module, plan)


def made(config: dict[str, Any], dtype: mx.Dtype) -> Any:
    code = code_of(str(config.get("model_type", "")))
    model = code.Model(code.ModelArgs.from_dict(config))
    model.set_dtype(dtype)
    quantise(model, config)
    model.eval()
    return model


def code_of(model_type: str) -> Any:
    """The module of mlx-lm that has the code, without the tokenizers that the package imports: they take seconds."""
    spec = importlib.util.find_spec("mlx_lm") if "mlx_lm" not in sys.modules else None
    if spec is not None:
        folder = Path((spec.submodule_search_locations or [""])[0])
        bare = types.ModuleType("mlx_lm")
        bare.__path__ = [str(folder)]
        sys.modules["mlx_lm"] = bare
        model_type = other_names(folder).get(model_type, model_type)
    return importlib.import_module(f"mlx_lm.models.{model_type}")


def other_names(folder: Path) -> dict[str, str]:
    """Types of models that have the code of another one, which mlx-lm lists."""
    for statement in ast.parse((folder / "utils.py").read_text()).body:
        if isinstance(statement, ast.Assign) and getattr(statement.targets[0], "id", "") == "MODEL_REMAPPING":
            names: dict[str, str] = ast.literal_eval(statement.value)
            return names
    return {}


def quantise(model: Any, config: dict[str, Any]) -> None:
    """As mlx-lm does where it loads weights of the config's quantisation."""
    from mlx_kd.patching.structure import nn
    stated: Optional[dict[str, Any]] = config.get("quantization")
    if stated is None:
        return
    choose = getattr(model, "quant_predicate", None)

    def predicate(path: str, module: Any) -> Any:
        if path in stated:
            return stated[path]
        if not hasattr(module, "to_quantized") or module["weight"].shape[-1] % stated["group_size"]:
            return False
        chosen = True if choose is None else choose(path, module)
        return {**stated, **chosen} if isinstance(chosen, dict) else bool(chosen)

    nn.quantize(model, group_size=stated["group_size"], bits=stated["bits"], mode=stated.get("mode", "affine"),
                class_predicate=lambda path, module: only_numbers(predicate(path, module)))


def only_numbers(chosen: Any) -> Any:
    """What to_quantized takes."""
    if not isinstance(chosen, dict):
        return chosen
    return {name: chosen[name] for name in ("group_size", "bits", "mode") if name in chosen}
