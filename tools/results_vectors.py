"""The section of docs/results.md on vector search, and its figure: recall over the time of 64 queries."""
import html
import math

from results_sections import section
from results_tables import interval, table

STYLE = """
:root { color-scheme: light dark; --card: #ffffff; --ink: #24262b; --muted: #62666d; --ours: #0072b2; --faiss: #d55e00; }
@media (prefers-color-scheme: dark) { :root { --card: #1c1e24; --ink: #e8e8e4; --muted: #a0a5ae; --ours: #56b4e9;
  --faiss: #f0a35e; } }
.card { fill: var(--card); }
text { font: 13.5px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; fill: var(--muted); }
.head { fill: var(--ink); font-weight: 600; }
.axis { stroke: var(--muted); stroke-width: 1; }
path { fill: none; stroke-width: 2; }
"""
WIDTH, HEIGHT, LEFT, TOP, SPAN, TALL = 720, 330, 60, 44, 260, 220
SIDES = {"ours": ("mlx_kd", "recall", "ms"), "faiss": ("FAISS", "recall_faiss", "ms_faiss")}


@section("vectors_cpu", "Vector search on a CPU")
def vectors(data):
    sides = list(data["rows"][0]["ms"])
    rows = [[row["what"], *(f"{row['ms'][side]['median']:.2f}" if side in row["ms"] else "" for side in sides),
             f"{row['speedup']['median']:.2f}x ({interval(row['speedup']['lo'], row['speedup']['hi'])})",
             f"{row['recall']:.4f} / {row['recall_faiss']:.4f}" if "recall" in row else ""] for row in data["rows"]]
    return [f"""{data['what']}. Median ms; the ratio is that of the faster of FAISS's forms to mlx_kd, with its 95% CI
            (least and greatest below 6 rounds).""",
            table(["what", *sides, "FAISS / mlx_kd", "recall: mlx_kd / FAISS"], rows),
            *([memory_of(data["memory"])] if "memory" in data else []),
            "![recall over the time of 64 queries](vectors-cpu.svg)"]


@section("vectors_gpu_h200", "Vector search on an H200")
def vectors_on_gpu(data):
    rows = []
    for row in data["rows"]:
        us, ratio = row["us"], row.get("ratio")
        rows.append([row["what"], *(f"{us[side]['median']:.1f}" if side in us else "" for side in ("mlx_kd", "torch", "search")),
                     f"{ratio['median']:.2f}x ({interval(ratio['lo'], ratio['hi'])})" if ratio else "",
                     f"{row['read_gb_per_s']:.0f}" if "read_gb_per_s" in row else "",
                     f"{row['same_ids']:.4f}" if row.get("same_ids") is not None else
                     f"{row['recall']:.4f}" if "recall" in row else ""])
    return [f"""{data['what']}. Median us of a call. Operators are nodes of MLX's graphs, {data['calls']} calls queued together,
            at their default settings without pins; PyTorch {data['torch']}'s product with the vectors and topk has the
            squared norms beforehand, no TF32, and events of its stream as its clock. A search is a whole call of an index,
            one after the other, with arrays of NumPy. The ratio is PyTorch's time to the operator's, with its 95% CI. The
            rate counts each vector that is looked at once; PyTorch's sum of all vectors reads at
            {data['read_gb_per_s']:.0f} GB/s. The last column: the share of the ids of float64's nearest that are found.""",
            table(["what", "operator", "PyTorch", "search", "PyTorch / operator", "GB/s", "found"], rows)]


def memory_of(found):
    """One sentence on what an add holds."""
    ours, theirs = found["mib"]["mlx_kd"], found["mib"]["FAISS"]
    return f"""{found['what']}: {ours['resident']:.0f} MiB stay resident ({theirs['resident']:.0f} of FAISS,
            {found['ratio']['resident']:.2f}x), and {ours['most']:.0f} MiB are the most meanwhile ({theirs['most']:.0f} of
            FAISS, {found['ratio']['most']:.2f}x); each side in a process of its own."""


def panel(left, name, points):
    """One index: recall upwards, ms of 64 queries to the right on a logarithmic scale."""
    times = [point[key] for point in points for key in ("ms", "ms_faiss")]
    least, most = math.floor(math.log10(min(times)) * 2) / 2, math.ceil(math.log10(max(times)) * 2) / 2

    def place(ms, recall):
        return left + SPAN * (math.log10(ms) - least) / (most - least), TOP + TALL * (1 - recall)

    bottom = TOP + TALL
    parts = [f'<text class="head" x="{left}" y="{TOP - 18}">{html.escape(name)}</text>',
             f'<line class="axis" x1="{left}" x2="{left + SPAN}" y1="{bottom}" y2="{bottom}"/>',
             f'<line class="axis" x1="{left}" x2="{left}" y1="{TOP}" y2="{bottom}"/>']
    for recall in (0, 0.25, 0.5, 0.75, 1):
        parts.append(f'<text x="{left - 6}" y="{place(10 ** least, recall)[1] + 4.5:.1f}" text-anchor="end">{recall:g}</text>')
    for tick in range(math.ceil(least), math.floor(most) + 1):
        x = place(10 ** tick, 0)[0]
        parts.append(f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{bottom}" y2="{bottom + 5}"/>'
                     f'<text x="{x:.1f}" y="{bottom + 20}" text-anchor="middle">{10.0 ** tick:g}</text>')
    for side, (_, recall, ms) in SIDES.items():
        at = [place(point[ms], point[recall]) for point in points]
        line = " L".join(f"{x:.1f},{y:.1f}" for x, y in at)
        parts.append(f'<path d="M{line}" style="stroke: var(--{side})"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" style="fill: var(--{side})"/>' for x, y in at]
    return parts


def figure(data):
    parts, names = [], list(dict.fromkeys(point["index"] for point in data["curve"]))
    for number, name in enumerate(names):
        parts += panel(LEFT + number * (SPAN + 80), name, [point for point in data["curve"] if point["index"] == name])
    x = LEFT
    for side, (title, _, _) in SIDES.items():
        parts.append(f'<rect x="{x}" y="{HEIGHT - 26}" width="12" height="12" rx="2" style="fill: var(--{side})"/>'
                     f'<text x="{x + 18}" y="{HEIGHT - 15}">{title}</text>')
        x += 90
    parts.append(f'<text x="{x}" y="{HEIGHT - 15}">recall of 10 neighbours over ms of 64 queries, nprobe 1 to 64</text>')
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
            f'role="img" aria-label="recall over time of mlx_kd and FAISS">\n<style>{STYLE}</style>\n'
            f'<rect class="card" width="{WIDTH}" height="{HEIGHT}" rx="8"/>' + "\n".join(parts) + "\n</svg>\n")
