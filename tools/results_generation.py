"""Sections of docs/results.md on what a program does around a model: drawing tokens."""
from results_sections import section
from results_tables import interval, number, table


def ratio(cell):
    return f"{cell[0]:.1f}x ({interval(cell[1], cell[2], 1)})"


@section("sampling_cpu", "Drawing a token on a CPU")
def sampling(data):
    has_torch = any("torch_us" in row for row in data["rows"])
    head = ["filter", "type", "s", "mlx_kd in a graph", "mlx_kd single", "mlx-lm", "mlx-lm / mlx_kd"]
    head += ["PyTorch", "PyTorch / mlx_kd"] * has_torch
    rows = []
    for row in data["rows"]:
        cells = [row["filter"], row["type"], number(row["s"]), row["graph_us"], row["single_us"], row["mlx_us"],
                 ratio(row["mlx_ratio"])]
        rows.append(cells + ([row["torch_us"], ratio(row["torch_ratio"])] if has_torch else []))
    served = data["served"]
    return [f"us to draw one token from logits [1, {data['rows'][0]['V']}] of N(0, s^2), logsumexp included; medians of "
            f"{data['rounds']} rounds, in which the sides took turns. In a graph: {data['calls_in_a_graph']} calls in one "
            "evaluation. The ratios are medians of paired samples, with their 95% CI. mlx_kd and mlx-lm gave the same "
            f"tokens throughout; the operator served {served['kernel']} calls, MLX's own chain {served['chain']}.",
            table(head, rows)]


@section("generation_caches", "Caches of keys and values on a CPU")
def caches(data):
    rows = [[of["tokens"], kind, f"{us:.0f}", f"{of['times_bf16'][kind]:.2f}x", f"{of['bytes'][kind]:.2f}"]
            for of in data["attention"] for kind, us in of["attention_us"].items()]
    return [f"Attention of one token, 32 query heads and 8 key heads of 128, bfloat16, groups of 64, pages of 32 tokens (or as said) in "
            f"random order; a graph has {' and '.join(str(of['layers']) for of in data['attention'])} layers, so that caches "
            f"are read from memory. Medians of {data['samples']} rounds, and medians of paired ratios.",
            table(["tokens", "cache", "us", "speed to bfloat16", "bytes to bfloat16"], rows),
            f"A token appended to a cache of {data['attention'][0]['tokens']} tokens, in a chain of 64, us per call; "
            "the same operator with the same arrays where it writes nothing, and how much more the append is (medians of "
            "paired differences):",
            *appends(data)]


def appends(data):
    us, more = data["append_us"], data["append_more_than_of_nothing_us"]
    return [table(["operator", "us", "of nothing", "more"],
                  [[name, f"{us[name]:.2f}", f"{us[name + ' of nothing']:.2f}", f"{by:+.2f}"] for name, by in more.items()]),
            "Next to them, us: " + ", ".join(f"{name} {one:.2f}" for name, one in us.items()
                                             if name not in more and not name.endswith(" of nothing")) + "."]


@section("gpu_appends_h200", "Appends to caches on an H200")
def gpu_appends(data):
    return ["A token appended to a cache of 4,096 tokens, 8 heads of 128, bfloat16 or codes of 8 bits, in a chain of 64, us "
            "per call; the same operator with the same arrays where it writes nothing, and how much more the append is "
            "(medians of paired differences):", *appends(data)]
