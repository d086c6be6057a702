#!/usr/bin/env python3
"""Checks the Markdown of the tree: check_docs.py [ROOT].

- A link to a file of the tree leads to one, and its #part is a heading there.
- Prose is wrapped at 110 columns. Tables, code, headings and lines without a space to break at may be longer.
- A guide (docs/*.md) has at most 160 lines; the references and generated pages of LONG may have more.
- docs/architecture.md names every room and inner room that tools/check_layers.py ranks.
- Each file of docs/decisions/ is in its README.md, states its status, and has dated decisions only.

Prints one line per violation (file:line: what is wrong) and exits 1 if there is any.
"""
import re
import sys
from pathlib import Path

import check_layers

COLUMNS, LINES = 110, 160
LONG = ("cpp-api.md", "formats.md", "results.md", "add-an-operator.md")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
DECISION = re.compile(r"^## \d{4}-\d{2}-\d{2}: \S")


def documents(root):
    patterns = ("*.md", "docs/**/*.md", "packs/*.md", "bench/*.md")
    return sorted(path for pattern in patterns for path in root.glob(pattern))


def prose_lines(text):
    """(number, line) outside fenced code."""
    inside = False
    for number, line in enumerate(text.split("\n"), 1):
        if line.lstrip().startswith("```"):
            inside = not inside
        elif not inside:
            yield number, line


def anchor(heading):
    """The #part that a heading has: lower case, without marks, blanks as dashes."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def anchors(path):
    return {anchor(line.lstrip("#")) for _, line in prose_lines(path.read_text(encoding="utf-8")) if line.startswith("#")}


def wrong_link(path, target):
    """Why a link of a document leads nowhere, or None."""
    name, _, part = target.partition("#")
    if "://" in target or target.startswith("mailto:"):
        return None
    to = (path.parent / name).resolve() if name else path
    if not to.exists():
        return f"links to {name}, which does not exist"
    if part and to.suffix == ".md" and part not in anchors(to):
        return f"links to {target}, and {to.name} has no such heading"
    return None


def check_document(path):
    text = path.read_text(encoding="utf-8")
    for number, line in prose_lines(text):
        for target in LINK.findall(line):
            why = wrong_link(path, target)
            if why:
                yield f"{path}:{number}: {why}"
        if len(line) > COLUMNS and not re.match(r"\s*(\||#|<!--|!\[)", line) and " " in line.strip()[:COLUMNS].lstrip("-* "):
            yield f"{path}:{number}: {len(line)} columns: wrap prose at {COLUMNS}"


def check_guides(root):
    for path in sorted((root / "docs").glob("*.md")):
        count = len(path.read_text(encoding="utf-8").splitlines())
        if count > LINES and path.name not in LONG:
            yield f"{path}: {count} lines: a guide has at most {LINES}; move results to bench/results, or split it"


def check_architecture(root):
    path = root / "docs" / "architecture.md"
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    rooms = list(check_layers.RANKS) + [f"{room}/{inner}" for room, ranks in check_layers.INNER.items()
                                        for inner in ranks if inner != "."]
    for room in rooms:
        if f"`mlx_kd/{room}/`" not in text:
            yield f"{path}: does not name mlx_kd/{room}/: add a line that says what happens there"


def check_decisions(root):
    index = root / "docs" / "decisions" / "README.md"
    listed = index.read_text(encoding="utf-8") if index.exists() else ""
    for path in sorted(index.parent.glob("*.md")):
        text = path.read_text(encoding="utf-8")
        if path == index:
            continue
        if f"({path.name})" not in listed:
            yield f"{index}: does not list {path.name}"
        if not re.search(r"^Status: \S", text, re.MULTILINE):
            yield f"{path}: has no line 'Status: ...'"
        for number, line in prose_lines(text):
            if line.startswith("## ") and not DECISION.match(line):
                yield f"{path}:{number}: a decision is headed '## YYYY-MM-DD: what was decided'"


def main():
    root = Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else Path(__file__).resolve().parent.parent
    found = documents(root)
    wrong = [line for path in found for line in check_document(path)]
    wrong += [*check_guides(root), *check_architecture(root), *check_decisions(root)]
    if not found:
        wrong.append(f"{root}: no documents here")
    print("\n".join(wrong) or f"{len(found)} documents are in order")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
