"""The figure of bench/results/decode_cpu.json: tokens per second of each side as bars, one group per format.

Used by results_page.py. The bars of a group share a linear scale; a mark at a bar's end is the interval.
"""
import html

STYLE = """
:root { color-scheme: light dark; --card: #ffffff; --ink: #24262b; --muted: #62666d;
  --mlx: #9aa0a8; --mlx_openblas: #86608e; --ours: #0072b2; --llama: #d55e00;
  --torch: #009e73; }
@media (prefers-color-scheme: dark) { :root { --card: #1c1e24; --ink: #e8e8e4; --muted: #a0a5ae;
  --mlx: #767c87; --mlx_openblas: #c9a2d0; --ours: #56b4e9; --llama: #f0a35e; --torch: #4cc9a0; } }
.card { fill: var(--card); }
text { font: 13.5px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; fill: var(--muted); }
.head { fill: var(--ink); font-weight: 600; } .value { fill: var(--ink); }
.spread { stroke: var(--ink); stroke-width: 1.5; }
"""
WIDTH, LEFT, RIGHT, BAR, GAP, HEAD = 720, 130, 90, 18, 6, 34


def number(value):
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def bar(y, name, title, found, scale):
    length, lo, hi = (LEFT + scale * found[key] for key in ("median", "lo", "hi"))
    middle = y + BAR / 2
    return (f'<text x="{LEFT - 8}" y="{middle + 4.5:.1f}" text-anchor="end">{html.escape(title)}</text>'
            f'<rect x="{LEFT}" y="{y}" width="{max(1.0, length - LEFT):.1f}" height="{BAR}" rx="2" '
            f'style="fill: var(--{name})"/>'
            f'<line class="spread" x1="{lo:.1f}" x2="{hi:.1f}" y1="{middle}" y2="{middle}"/>'
            f'<text class="value" x="{max(length, hi) + 6:.1f}" y="{middle + 4.5:.1f}">{number(found["median"])}</text>')


def figure(data):
    """An SVG of decode at the shortest context."""
    context = min(row["tokens"] for row in data["rows"] if row["what"] == "decode")
    parts, y = [], 16
    for row in data["rows"]:
        if row["what"] != "decode" or row["tokens"] != context:
            continue
        found = row["tokens_per_s"]
        scale = (WIDTH - LEFT - RIGHT) / max(side["hi"] for side in found.values())
        parts.append(f'<text class="head" x="{LEFT}" y="{y + 12}">{html.escape(row["format"])}: decode, tokens per second, '
                     f'{context} tokens of context</text>')
        y += HEAD - 12
        for name, title in data["sides"].items():
            if name in found:
                parts.append(bar(y, name, title, found[name], scale))
                y += BAR + GAP
        y += 14
    label = "tokens per second of " + ", ".join(data["sides"].values())
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" width="{WIDTH}" height="{y}" role="img" '
            f'aria-label="{html.escape(label)}">\n<style>{STYLE}</style>\n<rect class="card" width="{WIDTH}" height="{y}" '
            f'rx="8"/>' + "\n".join(parts) + "\n</svg>\n")
