#!/usr/bin/env python3
"""Makes a figure for the documents of the pages that `kd replay --html` writes.

    tools/score_figure.py OUT.svg NAME=PAGE.html...

Takes the first chart of each page, the mean score over the spaces, and draws their curves into one: axes and first curve
are those of the first page. The result needs no other file and is readable on light and on dark. docs/search.md's figure is

    for s in tours annealing genetic random; do kd replay --spaces SPACES --strategy $s --html $s.html; done
    tools/score_figure.py docs/search-scores.svg tours=tours.html annealing=annealing.html genetic=genetic.html \\
        random=random.html
"""
import html
import re
import sys
from pathlib import Path

STYLE = """
:root { color-scheme: light dark; --card: #ffffff; --muted: #62666d; --rule: #e2e2dd; --mark: #9aa0a8;
  --c0: #0072b2; --c1: #d55e00; --c2: #009e73; --c3: #86608e; }
@media (prefers-color-scheme: dark) { :root { --card: #1c1e24; --muted: #a0a5ae; --rule: #33363f; --mark: #767c87;
  --c0: #56b4e9; --c1: #f0a35e; --c2: #3dd1a4; --c3: #c9a2d0; } }
.card { fill: var(--card); }
text { font: 13.5px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; fill: var(--muted); }
.grid { stroke: var(--rule); } .axis { stroke: var(--muted); } .mark { stroke: var(--mark); stroke-dasharray: 4 4; }
polyline { fill: none; stroke-linejoin: round; stroke-width: 2.2; }
"""
CURVES = 4  # as many as there are colours
LEFT, TOP, STEP = 330, 150, 19  # of the legend, which lies where curves seldom are


def first_chart(page):
    found = re.search(r"<svg .*?</svg>", page.read_text(), re.DOTALL)
    if not found:
        sys.exit(f"{page}: no chart in it; kd replay --html writes pages that have one")
    return found.group()


def curve_of(chart, page):
    found = re.search(r'<polyline class="best" points="([^"]*)"/>', chart)
    if not found:
        sys.exit(f"{page}: its first chart has no curve")
    return found.group(1).strip()


def view_box(chart):
    return re.search(r'viewBox="([^"]*)"', chart).group(1)


def legend(number, name):
    y = TOP + STEP * number
    return (f'<line x1="{LEFT}" x2="{LEFT + 22}" y1="{y - 4}" y2="{y - 4}" stroke="var(--c{number})" stroke-width="2.2"/>'
            f'<text x="{LEFT + 28}" y="{y}">{html.escape(name)}</text>')


def figure(pages):
    charts = [(name, page, first_chart(page)) for name, page in pages]
    _, _, first = charts[0]
    inner = re.sub(r"<polyline .*?/>\n?", "", first[first.index(">") + 1:-len("</svg>")], flags=re.DOTALL)
    width, height = view_box(first).split()[2:]
    lines = []
    for number, (name, page, chart) in enumerate(charts):
        if view_box(chart) != view_box(first):
            sys.exit(f"{page}: its chart is of another size than that of {charts[0][1]}")
        lines.append(f'<polyline stroke="var(--c{number})" points="{curve_of(chart, page)}"/>')
        lines.append(legend(number, name))
    label = html.escape("mean score over the budget: " + ", ".join(name for name, _, _ in charts))
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
            f'role="img" aria-label="{label}">\n<style>{STYLE}</style>\n'
            f'<rect class="card" width="{width}" height="{height}" rx="8"/>{inner}' + "\n".join(lines) + "\n</svg>\n")


def main():
    pages = [argument.partition("=")[::2] for argument in sys.argv[2:]]
    if not 1 <= len(pages) <= CURVES or not all(page for _, page in pages):
        sys.exit(__doc__)
    out = Path(sys.argv[1])
    part = out.with_name(out.name + ".part")
    part.write_text(figure([(name, Path(page)) for name, page in pages]))
    part.replace(out)


if __name__ == "__main__":
    main()
