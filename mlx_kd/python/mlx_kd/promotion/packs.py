"""Packs, as promotion reads and writes them, and what a process did with their pins."""
from __future__ import annotations

import json
import os
import re
import tempfile
from pathlib import Path
from typing import Any


class Misuse(ValueError):
    """Exit status 2."""


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
        raise Misuse(f"{pack} is not a pack: give one that kd tune-model, kd pack or kd install wrote") from None


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
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name)
        try:
            with os.fdopen(handle, "w") as file:
                file.write(text)
            os.replace(name, path)
        except BaseException:
            os.unlink(name)
            raise
    except OSError as error:
        raise RuntimeError(f"cannot write {path} ({error.strerror}): free some space, or name another place with "
                           "--out") from None


def write_part(pack: Path, entries: list[dict[str, Any]], out: Path) -> None:
    """The pack with these of its entries."""
    write_whole(out, json.dumps({**json.loads(pack.read_text()), "entries": entries}))


def write_pack(pack: Path, entries: list[dict[str, Any]], out: Path) -> None:
    """The same, through the program: it checks and orders them."""
    from mlx_kd import discovery
    with tempfile.TemporaryDirectory() as folder:
        part = Path(folder) / "kept.json"
        write_part(pack, entries, part)
        out.parent.mkdir(parents=True, exist_ok=True)
        discovery.pack([part], out)
