"""Putting a plan into a module and taking it out: the module gets a subclass of its class, with the same name.

The class of one instance changes and nothing else: parameters, the tree, names in files and ``isinstance`` stay, and
other models of the class are not touched. The plan is set before the class, so a thread that is in the middle of a
generation runs either the old code or the new.
"""
from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

from mlx_kd.patching.plans import Installed
from mlx_kd.patching.structure import nn, original_class

lock = threading.RLock()  # one patch or unpatch at a time
_made: dict[tuple[Any, tuple[str, ...]], Any] = {}


def _replacing(original: Any, method: str, run: str) -> Callable[..., Any]:
    own = getattr(original, method)

    def call(self: Any, *arguments: Any, **named: Any) -> Any:
        plan = self.__dict__.get("_kd_plan")
        if plan is not None:
            result = getattr(plan, run)(self, *arguments, **named)
            if result is not None:
                return result
        return own(self, *arguments, **named)

    call.__doc__ = own.__doc__
    return call


def subclass_of(original: Any, plan: Installed) -> Any:
    """With `run` of the plan as its method; a plan of several has `run_<method>` for all but the first."""
    methods: tuple[str, ...] = getattr(plan, "methods", (plan.method,))
    made = _made.get((original, methods))
    if made is None:
        members = {name: _replacing(original, name, "run" if i == 0 else f"run_{name}") for i, name in enumerate(methods)}
        members |= {"_kd_original": original, "__module__": original.__module__,
                    "__qualname__": original.__qualname__, "__doc__": original.__doc__}
        made = _made[original, methods] = type(original.__name__, (original,), members)
    return made


def install(module: Any, plan: Installed) -> None:
    object.__setattr__(module, "_kd_plan", plan)
    module.__class__ = subclass_of(original_class(module), plan)


def uninstall(module: Any) -> None:
    module.__class__ = original_class(module)
    module.__dict__.pop("_kd_plan", None)


def is_patched(module: Any) -> bool:
    return hasattr(type(module), "_kd_original")


def walk(module: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every module of a tree once, parents first, by its path."""
    seen: set[int] = set()

    def visit(value: Any, at: str) -> Iterator[tuple[str, Any]]:
        if isinstance(value, nn.Module):
            if id(value) in seen:
                return
            seen.add(id(value))
            yield at, value
        items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, (list, tuple)) else ()
        for key, child in list(items):
            yield from visit(child, f"{at}.{key}" if at else str(key))

    yield from visit(module, path)
