#!/usr/bin/env python3
"""Draws docs/rooms.svg, the rooms of mlx_kd/ and the data between them: room_figure.py [--check] [ROOT].

Rooms are in rows by their rank and list their inner rooms (both from tools/check_layers.py). A line joins two rooms if
one includes the other (from the sources; an include that follows from others is not drawn). The rooms that nearly all
others use are bars. Numbers on the lines are the data of DATA below; the two rooms of each must include one another, or
the data is a file, whose line is dashed. Writes the figure; with --check exits 1 if the file is out of date.
"""
import html
import sys
from pathlib import Path

import check_layers

# (from, to, what): in the order of a run, then what a program with pins does.
DATA = (
    ("shapes", "discover", "sizes of a suite, a model or a log"),
    ("kernels", "discover", "operators, their variants and search spaces"),
    ("search", "discover", "the next candidates"),
    ("discover", "evaluate", "candidates"),
    ("msl", "devices", "Metal kernels as C++ or CUDA"),
    ("devices", "evaluate", "compiled kernels"),
    ("evaluate", "discover", "verdicts: right or wrong, times"),
    ("discover", "archive", "run directory: records, reports"),
    ("discover", "packs", "winners: best_kernels.json, packs"),
    ("packs", "runtime", "pins"),
    ("devices", "runtime", "compiled kernels as MLX operations"),
    ("runtime", "python", "operations on MLX arrays"),
    ("runtime", "shapes", "shape log (a file)"),
)
FILES = {("runtime", "shapes")}
BARS = ("spec", "base")
# The middle of each room in its row; a room that is not here goes to the end of its row.
MIDDLE = {"cli": 430, "python": 880, "discover": 430, "evaluate": 130, "codegen": 740, "runtime": 880,
          "devices": 130, "kernels": 632,
          "msl": 130, "search": 300, "archive": 440, "shapes": 580, "packs": 880}
WIDTH, ROW, TOP, HIGH, BAR, BAR_ROW, CHARACTER = 1010, 104, 14, 62, 34, 46, 6.1
STYLE = """
:root { color-scheme: light dark; --card: #ffffff; --ink: #1f2328; --muted: #62666d; --rule: #e2e2dd; --line: #b3b8bf;
  --data: #0072b2; --room: #f4f6f8; }
@media (prefers-color-scheme: dark) { :root { --card: #1c1e24; --ink: #e6e8eb; --muted: #a0a5ae; --rule: #33363f;
  --line: #5b616b; --data: #56b4e9; --room: #262a32; } }
text { font: 12px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; fill: var(--muted); }
.card { fill: var(--card); } .name { font-size: 14px; font-weight: 600; fill: var(--ink); }
.room { fill: var(--room); stroke: var(--line); } .rule { stroke: var(--rule); }
.uses { stroke: var(--line); } .data { stroke: var(--data); stroke-width: 1.6; } .file { stroke-dasharray: 5 4; }
.badge { fill: var(--card); stroke: var(--data); } .number { fill: var(--data); font-weight: 600; text-anchor: middle; }
.middle { text-anchor: middle; }
"""


def includes(root):
    """{(room, lower room it includes)} of the headers and sources."""
    house, found = root / "mlx_kd", set()
    for path in sorted(house.rglob("*")):
        inside = path.relative_to(house).parts
        if path.suffix in (".h", ".cpp") and inside[0] in check_layers.RANKS and inside[:2] != check_layers.PRELUDE:
            for line in path.read_text(encoding="utf-8").splitlines():
                match = check_layers.INCLUDE.match(line)
                parts = match.group(2).split("/") if match else []
                if len(parts) > 2 and parts[0] == "mlx_kd" and not check_layers.wrong_room(inside[0], parts[1]) \
                        and parts[1] != inside[0]:
                    found.add((inside[0], parts[1]))
    return found


def reduced(edges):
    """Without the edges that follow from two others or more."""
    below = {}
    for room in sorted({room for edge in edges for room in edge}, key=lambda name: check_layers.RANKS[name]):
        direct = {target for source, target in edges if source == room}
        below[room] = direct.union(*(below[target] for target in direct)) if direct else set()
    return {(source, target) for source, target in edges
            if not any(target in below[other] for start, other in edges if start == source)}


def inner_rooms(room):
    return [name for name in check_layers.INNER.get(room, {}) if name != "."]


class Box:
    """A room: its middle, its size, its lines of text."""

    def __init__(self, room, middle):
        names = inner_rooms(room)
        half = (len(names) + 1) // 2
        self.lines = [", ".join(part) for part in (names[:half], names[half:]) if part]
        self.room, self.x = room, middle
        self.width = max([92, *(CHARACTER * len(line) + 20 for line in self.lines)])
        self.y = top_of(check_layers.RANKS[room]) + HIGH / 2

    def edge(self, other):
        """Where the line to the middle of another box leaves this one: at its lower or upper side."""
        y = self.y + (HIGH / 2 if other.y > self.y else -HIGH / 2)
        share = (y - self.y) / (other.y - self.y)
        x = self.x + share * (other.x - self.x)
        return min(max(x, self.x - self.width / 2 + 8), self.x + self.width / 2 - 8), y

    def svg(self):
        y = self.y - HIGH / 2
        text = [f'<rect class="room" x="{self.x - self.width / 2:.0f}" y="{y:.0f}" width="{self.width:.0f}" '
                f'height="{HIGH}" rx="6"/>',
                f'<text class="name middle" x="{self.x}" y="{y + (20 if self.lines else 36):.0f}">{self.room}</text>']
        text += [f'<text class="middle" x="{self.x}" y="{y + 37 + 15 * i:.0f}">{html.escape(line)}</text>'
                 for i, line in enumerate(self.lines)]
        return text


def top_of(rank):
    """The upper side of a row; the rows of the bars are low."""
    first = max(check_layers.RANKS[room] for room in BARS) + 1
    high, low = max(check_layers.RANKS.values()) - max(rank, first), max(first - rank, 0)
    return TOP + ROW * high + (low and HIGH - BAR + BAR_ROW * low)


def boxes(rooms):
    placed = {room: Box(room, MIDDLE[room]) for room in rooms if room in MIDDLE}
    for number, room in enumerate(sorted(set(rooms) - set(placed))):
        placed[room] = Box(room, WIDTH - 60 - 100 * number)
    return placed


def line(start, end, kind):
    (x1, y1), (x2, y2) = start.edge(end), end.edge(start)
    return f'<line class="{kind}" x1="{x1:.0f}" y1="{y1:.0f}" x2="{x2:.0f}" y2="{y2:.0f}"/>'


def badges(start, end, numbers):
    """Number and direction of the data on the line between two boxes, side by side."""
    (x1, y1), (x2, y2) = start.edge(end), end.edge(start)
    x, y = x1 + 0.42 * (x2 - x1), y1 + 0.42 * (y2 - y1)
    for i, (number, source) in enumerate(numbers):
        at = x + 36 * (i - (len(numbers) - 1) / 2)
        target = end if source == start.room else start
        arrow = "↓" if target.y > (start if target is end else end).y else "↑"
        yield f'<rect class="badge" x="{at - 16:.0f}" y="{y - 10:.0f}" width="32" height="20" rx="10"/>'
        yield f'<text class="number" x="{at:.0f}" y="{y + 4:.0f}">{number} {arrow}</text>'


def data_by_pair(edges):
    """{(upper room, lower room): [(number, room that sends)]}; refuses data between rooms that share nothing."""
    pairs = {}
    for number, (source, target, what) in enumerate(DATA, 1):
        pair = (source, target) if check_layers.RANKS[source] > check_layers.RANKS[target] else (target, source)
        if pair not in edges and (source, target) not in FILES:
            sys.exit(f"room_figure.py: no include joins {source} and {target} ('{what}'): correct DATA")
        pairs.setdefault(pair, []).append((number, source))
    return pairs


def legend(y):
    column = (len(DATA) + 1) // 2
    for i, (source, target, what) in enumerate(DATA):
        text = f"{i + 1}  {source} → {target}: {what}"
        yield f'<text x="{40 + 480 * (i // column)}" y="{y + 20 * (i % column)}">{html.escape(text)}</text>'


def bar(room):
    y = top_of(check_layers.RANKS[room])
    return [f'<rect class="room" x="40" y="{y}" width="{WIDTH - 80}" height="{BAR}" rx="6"/>',
            f'<text class="name middle" x="{WIDTH // 2}" y="{y + 22}">{room}</text>']


def figure(root):
    edges = includes(root)
    pairs = data_by_pair(edges)
    placed = boxes([room for room in check_layers.RANKS if room not in BARS])
    drawn = sorted(pair for pair in reduced(edges) | set(pairs) if not set(pair) & set(BARS))
    height = top_of(0) + 58 + 20 * ((len(DATA) + 1) // 2)
    body = [f'<rect class="card" width="{WIDTH}" height="{height}" rx="8"/>']
    for rank in range(max(check_layers.RANKS.values()) + 1):
        body.append(f'<text x="8" y="{top_of(rank) + 14}">{rank}</text>')
    for upper, lower in drawn:
        kind = "uses" if (upper, lower) not in pairs else "data" if (upper, lower) in edges else "data file"
        body.append(line(placed[upper], placed[lower], kind))
    for room in sorted(placed):
        body += placed[room].svg()
    for room in BARS:
        body += bar(room)
    for (upper, lower), numbers in sorted(pairs.items()):
        body += badges(placed[upper], placed[lower], numbers)
    body += legend(top_of(0) + 64)
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
            f'height="{height}" role="img" aria-label="the rooms of mlx-kd by rank, and the data between them">\n<style>{STYLE}</style>\n'
            + "\n".join(body) + "\n</svg>\n")


def main():
    arguments = [argument for argument in sys.argv[1:] if argument != "--check"]
    root = Path(arguments[0]) if arguments else Path(__file__).resolve().parent.parent
    out, text = root / "docs" / "rooms.svg", figure(root)
    if "--check" not in sys.argv[1:]:
        out.write_text(text, encoding="utf-8")
    elif not out.exists() or out.read_text(encoding="utf-8") != text:
        print(f"{out}: out of date: run tools/room_figure.py")
        return 1
    else:
        print("the figure of the rooms is up to date")
    return 0


if __name__ == "__main__":
    sys.exit(main())
