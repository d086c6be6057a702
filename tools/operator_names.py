#!/usr/bin/env python3
"""Checks that operators are known by their folders alone: operator_names.py [ROOT].

An operator's name may occur, outside the folders of operators (mlx_kd/kernels/<family>/<op>/), in no
product code of a room of lower rank than python: neither as an identifier nor in a text. Comments may
name operators as examples, and one operator may name another, as its gradient say. MLX's functions keep
their names, and a name that is an English word counts where it is the whole text. Prints one line per
violation (file:line: what is wrong) and exits 1 if there is any.
"""
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from check_layers import RANKS  # noqa: E402

# Names of a technique, as fields of configs and functions of MLX have them.
WORDS = ("attention", "inv", "lu", "matmul", "qr", "rope", "router", "solve", "svd")
# The functions in C++ that stand in front of several operators, as mlx_kd.linalg and mlx_kd.cache do in Python.
FRONTS = ("runtime/cache/", "runtime/call/linalg.", "runtime/call/sample.cpp")
COMMENT = re.compile(r'("(?:\\.|[^"\\\n])*")|//[^\n]*|/\*.*?\*/', re.DOTALL)


def without_comments(text):
    """The same lines without comments; texts in quotation marks stay."""
    return COMMENT.sub(lambda match: match[1] or "\n" * match[0].count("\n"), text)


def operators(kernels):
    """{name: folder}; an operator is <family>/<op>/op.cpp."""
    return {path.parent.name: path.parent for path in sorted(kernels.glob("*/*/op.cpp"))}


def check_tree(root):
    house = root / "mlx_kd"
    folders = operators(house / "kernels")
    if not folders:
        yield f"{house / 'kernels'}: there is no operator"
        return
    own = set(folders.values())
    plain = sorted((name for name in folders if name not in WORDS), key=len, reverse=True)
    words = "|".join(WORDS)
    names = re.compile(rf"(?<![A-Za-z0-9])(?<!fast::)({'|'.join(plain)})(?![A-Za-z0-9])|\"({words})\"")
    for path in sorted(house.rglob("*")):
        room = path.relative_to(house).parts[0]
        if path.suffix not in (".h", ".cpp", ".in") or RANKS.get(room, 0) >= RANKS["python"]:
            continue
        if path.relative_to(house).as_posix().startswith(FRONTS):
            continue
        for number, line in enumerate(without_comments(path.read_text(encoding="utf-8")).split("\n"), 1):
            for match in names.finditer(line):
                name = match[1] or match[2]
                if not own.intersection(path.parents):
                    yield f"{path}:{number}: it names the operator '{name}': make it data of the operator"


def main():
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent.parent
    violations = list(check_tree(root))
    print("\n".join(violations) or "no room names an operator")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
