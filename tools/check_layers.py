#!/usr/bin/env python3
"""Checks that the rooms of mlx_kd/ keep their order: check_layers.py [ROOT].

A room includes only rooms of strictly lower rank; siblings never include one another. Inside a big
room the same holds for its folders (inner rooms). In kernels/<family>/<op>/ a file uses its own folder,
its family's files and folders of shared texts, kernels/common/ and kernels/*.h; other rooms use kernels/*.h.
Only kernel sources and the texts that they share (*.cpu.h, ...) include by relative path. A folder has at
most 12 modules. Prints one line per violation (file:line: what is wrong) and exits 1 if there is any.
"""
import re
import sys
from pathlib import Path
from posixpath import normpath

RANKS = {"base": 0, "spec": 1, "msl": 2, "search": 2, "archive": 2, "packs": 2, "shapes": 2,
         "devices": 3, "kernels": 3, "codegen": 4, "evaluate": 4, "runtime": 4, "discover": 5, "cli": 6, "python": 6}
# The inner rooms of a room and their ranks; "." is the files next to the folders, 0 unless named.
INNER = {
    "msl": {".": 0, "text": 1, "parse": 2, "rules": 3, "translate": 4, "bodies": 5},
    "archive": {".": 0, "run": 1, "report": 2, "exchange": 2, "evidence": 2},
    "cli": {"terminal": 0, ".": 1, "verbs": 2},
    "devices": {".": 0, "metal_text": 1, "host": 1, "cpu": 2, "simt": 2, "metal": 2, "null": 2, "cuda": 2},
    "devices/simt": {"executor": 0, "program": 1, "checks": 2, ".": 3},
    "evaluate": {".": 0, "proof": 1, "time": 2, "worker": 3, "evaluators": 4},
    "devices/cuda": {"driver": 0, "compile": 1, "call": 2, ".": 3, "module": 3},
    "discover": {"ranks": 0, ".": 0, "run": 1, "revalidate": 1, "cluster": 2, "models": 2},
    "packs": {".": 0, "file": 1, "merge": 1},
    "search": {"space": 0, "strategy": 1, "replay": 2},
    "spec": {".": 0, "op": 1},
    "runtime": {"pins": 0, "state": 1, "call": 2, "wire": 2, "cache": 3, "tuning": 3},
}
# Folders of texts that the kernels of a family share: every operator of it uses them, each those of lower rank.
SHARED = {"matmul": {"weights": 0, "rows": 1, "tiles": 2, "experts": 3}}
# A folder with more modules (a header with its source) than this gets inner rooms.
MOST_MODULES = 12
CATALOGUES = {"cli/verbs": "a verb is a file", "msl/prelude": "a group of Metal's names is a header"}
# What users link stays small, though the ranks would allow it.
NEVER = {"runtime": {"search", "archive"}}
NO_MLX = {room for room, rank in RANKS.items() if rank <= 2}
KERNEL_TEXTS = {".cpu.cpp": ".cpu.h", ".metal": ".metal.h", ".cu": ".cu.h"}  # source: what it may include
PRELUDE = ("msl", "prelude")  # headers of translated kernels: data for the run, in a folder of their own
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')
ROOM = re.compile(r"^\s*mlx_kd_room\((\w+)([^)]*)\)", re.MULTILINE)


def wrong_room(room, other):
    """Why `room` may not use `other`, or None."""
    if other not in RANKS:
        return f"there is no room {other}"
    if other in NEVER.get(room, ()):
        return f"{room} never reaches {other}"
    if other != room and RANKS[other] >= RANKS[room]:
        return f"{room} (rank {RANKS[room]}) may not use {other} (rank {RANKS[other]})"
    return None


def wrong_inner(inside, target):
    """Why a file of an inner room may not include `target` (both as parts below mlx_kd/), or None."""
    for depth in range(1, min(len(inside), len(target))):
        if inside[:depth] != target[:depth]:
            return None
        ranks = INNER.get("/".join(inside[:depth]))
        if not ranks:
            continue
        here = inside[depth] if len(inside) > depth + 1 else "."
        there = target[depth] if len(target) > depth + 1 else "."
        for folder in (here, there):
            if folder not in ranks:
                return f"{'/'.join(inside[:depth])}/{folder} has no rank: give it one in tools/check_layers.py"
        if here != there and ranks[there] >= ranks[here]:
            return f"{here} (rank {ranks[here]} in {'/'.join(inside[:depth])}) may not use {there} (rank {ranks[there]})"
    return None


def wrong_folder(inside, target):
    """Why a file may not include `target` of kernels/ (both as parts below mlx_kd/), or None."""
    here, there = inside[1:-1], target[1:-1]
    if inside[0] != "kernels":
        return "other rooms use kernels/*.h alone" if there else None
    if here[:len(there)] == there or (here and there == ("common",)):
        return None
    ranks = SHARED.get(here[0], {}) if here else {}
    if len(here) > 1 and len(there) == 2 and there[0] == here[0] and there[1] in ranks:
        if here[1] not in ranks or ranks[there[1]] < ranks[here[1]]:
            return None
        return f"{here[1]} (rank {ranks[here[1]]} in kernels/{here[0]}) may not use {there[1]} (rank {ranks[there[1]]})"
    return (f"{'/'.join(inside[:-1])} may not use kernels/{'/'.join(there)}: only its own folder, its family's files and "
            "shared texts, kernels/common and kernels/*.h")


def text_kind(name):
    """The suffix of the texts that a kernel source or a shared text may include, or None."""
    return next((shared for source, shared in KERNEL_TEXTS.items() if name.endswith((source, shared))), None)


def wrong_splice(path, inside, bracket, target):
    """Why a kernel source may not include target, or None: its includes are spliced when it is embedded."""
    shared = text_kind(path.name)
    if bracket == "<":
        if shared == ".cpu.h":
            return "a CPU kernel source includes no system header, so that it compiles in milliseconds"
        return None
    parts = tuple(normpath("/".join((*inside[:-1], target))).split("/"))
    if parts in (("kernels", "common", "kd_arguments.h"), ("kernels", "common", "kd_tensor_maps.h")):
        return None  # C++ and CUDA sources share it
    if not target.endswith(shared) or parts[0] != "kernels" or not path.parent.joinpath(target).is_file():
        return f"'{target}' is not a *{shared} below kernels/: a kernel source includes only these, by relative path"
    return wrong_folder(inside, parts)


def wrong_include(inside, bracket, target):
    """Why the file `inside` (path below mlx_kd/, as parts) may not include target, or None."""
    room, parts = inside[0], target.split("/")
    if parts[0] == "mlx" and room in NO_MLX:
        return f"{room} does without MLX"
    if bracket == "<" or parts[0] == "mlx":
        return None
    if parts[0] != "mlx_kd" or len(parts) < 3:
        return f'write the whole path, as "mlx_kd/{room}/...", not "{target}"'
    if parts[1] == "kernels":
        why = wrong_folder(inside, tuple(parts[1:]))
        if why:
            return why
    return wrong_room(room, parts[1]) or wrong_inner(inside, tuple(parts[1:]))


def check_file(path, inside):
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        match = INCLUDE.match(line)
        if not match or inside[:2] == PRELUDE:
            continue
        if inside[0] == "kernels" and text_kind(path.name):
            why = wrong_splice(path, inside, *match.groups())
        else:
            why = wrong_include(inside, *match.groups())
        if why:
            yield f"{path}:{number}: {why}"


def check_cmake(path):
    for room, arguments in ROOM.findall(path.read_text(encoding="utf-8")):
        deps = re.search(r"DEPS\s+([\w\s]+?)(?:\s+LIBS|$)", arguments)
        for other in deps.group(1).split() if deps else []:
            why = "a room is not its own dependency" if other == room else wrong_room(room, other)
            if why:
                yield f"{path}: mlx_kd_room({room}): {why}"


def check_size(folder, name):
    """Whether the folder `name` below mlx_kd/ has too many modules; texts of kernels are not counted."""
    modules = {path.stem for path in folder.iterdir() if path.suffix in (".h", ".cpp") and not text_kind(path.name)}
    if len(modules) > MOST_MODULES and name not in CATALOGUES:
        yield f"{folder}: {len(modules)} modules, more than {MOST_MODULES}: give it inner rooms"


def check_tree(root):
    house = root / "mlx_kd"
    if not house.is_dir():
        yield f"{house}: there is no such folder"
        return
    for path in sorted(house.rglob("*")):
        inside = path.relative_to(house).parts
        if path.is_dir() and len(inside) == 1 and inside[0] not in RANKS:
            yield f"{path}: this room has no rank: give it one in tools/check_layers.py"
        elif path.is_dir():
            yield from check_size(path, path.relative_to(house).as_posix())
        elif path.suffix in (".h", ".cpp", ".metal", ".cu") and inside[0] in RANKS:
            yield from check_file(path, inside)
    yield from check_cmake(root / "CMakeLists.txt")


def main():
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent.parent
    violations = list(check_tree(root))
    print("\n".join(violations) or "every room keeps its rank")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
