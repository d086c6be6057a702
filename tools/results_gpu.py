"""The sections of docs/results.md on GPUs; they follow those of results_sections.py."""
from results_sections import section
from results_tables import interval, number, sentence, size_text, table


def ratios_by_op(rows):
    """A row per operator, a column per size: the range of the ratios over the types."""
    sizes = list(dict.fromkeys(row["size"] for row in rows))
    cells = {}
    for row in rows:
        cells.setdefault(row["op"], {}).setdefault(row["size"], []).append(row["ratio"])
    return table(["ratio over three types", *sizes],
                 [[op, *(interval(min(found[size]), max(found[size])) for size in sizes)] for op, found in cells.items()])


def hand(data):
    rows = data["rows"]
    met = sum(row["ratio"] <= 1.05 for row in rows)
    parts = [sentence(data["what"]),
             f"""{met} of {len(rows)} rows are within the goal of 1.05; the highest is {max(row['ratio'] for row in rows):.3f}
             (median of {data['pairs']} pairs).""", ratios_by_op(rows)]
    for earlier in data.get("earlier", []):
        parts += [f"Earlier ({earlier['date'][:10]}): {sentence(earlier['what'])}", ratios_by_op(earlier["rows"])]
    return parts


section("cuda_hand_h100", "Translated and hand-written CUDA, H100")(hand)
section("cuda_hand_h200", "Translated and hand-written CUDA, H200")(hand)


@section("metal_suite_h100", "Metal test kernels on a GPU")
def metal_suite(data):
    others = "; ".join(f"{row['kernel']}: {row['result']}" for row in data["rows"] if row["result"] != "right")
    return [sentence(data["what"]), table(["kernels", "right", "wrong", "others"],
                                          [[data["kernels"], data["right"], data["wrong"], others]])]


@section("metal_kernel_h100", "metal_kernel on a GPU")
def metal_kernel(data):
    def passed(tests):
        return f"{sum(test['result'] == 'completed' for test in tests)} of {len(tests)}"
    checks = data["python"]["rows"]
    return [sentence(data["what"]), table(["checks", "passed"], [
        ["metal_kernel from C++ (the test of large arrays is skipped here)", passed(data["metal_kernel"])],
        ["arrays of more than 2^31 elements", passed(data["arrays_over_2_to_31"])],
        ["bodies of packs", passed(data["bodies"])], ["Metal's accuracy tables", passed(data["accuracy"])],
        ["metal_kernel from Python", f"{sum(check['right'] for check in checks)} of {len(checks)}"]])]


def run_rows(rows, *more):
    """A table of winners; `more`: keys of a row that are shown after its operator."""
    return table(["operator", *more, "size", "kernel us", "in a graph us", "MLX us", "speed-up", "95% CI", "claimed"],
                 [[row["op"], *(row[key] for key in more), size_text(row["shape"]),
                   *(number(row[key]) for key in ("kernel_us", "graph_us", "mlx_us")), f"{row['speedup']:.2f}x",
                   interval(*row["interval"]), "yes" if row["claimed"] else "no"] for row in rows])


@section("cuda_runs_h100", "Runs on a GPU")
def cuda_runs(data):
    return [sentence(data["what"]), f"{data['proved']} of {data['candidates_an_op']} candidates per operator were proved.",
            run_rows(data["rows"])]


@section("cuda_runs_h200", "Runs on an H200")
def cuda_runs_all(data):
    return [sentence(data["what"]), f"{data['proved']} of {data['candidates']} candidates were proved.",
            run_rows([row for row in data["rows"] if "speedup" in row], "dtype", "language")]


@section("cuda_native_h200", "An operation in MLX's CUDA graphs, H200")
def cuda_native(data):
    def chains(rows):
        return table(["chain", "us", "of the group's first", "least", "first of four", "without evaluation"],
                     [[row["chain"], number(row["us_per_operation"]), f"{row['of_first_in_group']:.2f}x",
                       *(number(row[f"{key}_us_per_operation"]) for key in ("least", "first", "build"))] for row in rows])
    return [sentence(data["what"] + ", us per operation"), sentence(data["reading"]),
            table(["operator", "setting", "kernel us", "default's kernel us"],
                  [[row["operator"], row["setting"], number(row["kernel_us"]), number(row["default_kernel_us"])]
                   for row in data["operators"]]),
            "With the native module:", chains(data["native"]), "Without it:", chains(data["without"])]


@section("gpu_operators_h200", "Operators of decoding on an H200")
def gpu_operators(data):
    """A row per size, and what was not searched."""
    timed = [row for row in data["rows"] if "speedup" in row]
    left = {}
    for row in data["rows"]:
        if "speedup" not in row:
            left.setdefault(row["reason"], {}).setdefault(row["op"], []).append(row)
    parts = [sentence(data["what"]), table(
        ["operator", "size", "kernel us", "GB/s", "in a graph us", "MLX us", "speed-up", "95% CI", "pinned"],
        [[row["op"], size_text(row["shape"]), *(number(row[key]) for key in ("kernel_us", "gbps", "graph_us", "mlx_us")),
          f"{row['speedup']:.2f}x", interval(*row["interval"]), "yes" if row["pinned"] else "no"] for row in timed])]
    return parts + [f"{len(ops)} operators were {reason}: " + ", ".join(f"{op} ({len(rows)} sizes)"
                                                                        for op, rows in ops.items()) + "."
                    for reason, ops in left.items()]


def decode_cell(side):
    """Tokens a second with the range of the turns, and the share of the copy's rate."""
    share = f", {100 * side['roof']:.0f} %" if "roof" in side else ""
    return f"{number(side['tok_s'])} ({number(side['range'][0])} to {number(side['range'][1])}){share}"


@section("gpu_decode_h200", "A language model on an H200")
def gpu_decode(data):
    """Tokens a second of the sides, then the host's times and the operations of a token."""
    rows, roof = data["rows"], data.get("roof", {})
    others = [side for side in ("torch",) if any(side in row for row in rows)]
    rates = table(["model", "bits", "MLX", "mlx_kd", *(["torch.compile, CUDA graphs"] if others else [])],
                  [[row["model"], row["bits"], *(decode_cell(row[side]) if side in row else "-"
                                                 for side in ("mlx", "ours", *others))] for row in rows])
    head = ["model", "bits", "MLX: Python, queuing ms", "mlx_kd: Python, queuing ms", "MLX's operations", "with mlx_kd"]
    has_logits = any("logits_off" in row for row in rows)
    firsts = [f"{row['model']} of {row['bits']} bits {number(row['first_s'])}" for row in rows if "first_s" in row]
    hosts = table(head + ["logits off"] * has_logits,
                  [[row["model"], row["bits"], *(f"{number(row[side]['python_ms'])}, {number(row[side]['queue_ms'])}"
                                                 if side in row else "-" for side in ("mlx", "ours")),
                    row.get("mlx_operations", "-"), row["ours_operations"],
                    *([number(row["logits_off"]) if "logits_off" in row else "-"] if has_logits else [])]
                   for row in rows if "ours" in row])
    words = "In brackets the range of the turns."
    if roof:
        words += f""" The percentage is the weights' bytes per second as a share of a copy's {number(roof['copy_gbps'])} GB/s, read
                  and written."""
    if "read_gbps" in roof:
        words += f" Reading alone reaches {number(roof['read_gbps'])} GB/s through PyTorch's sum."
    told = "What the host does for a token, and the operations of MLX's graph" + (
        """; `logits off` is the root mean square of the difference to MLX's logits, as a share of theirs.""" if has_logits
        else ".")
    parts = [sentence(data["what"]), words, rates, told, hosts]
    if firsts:
        parts.append(f"The first prompt and the token after it took, in seconds: {', '.join(firsts)}.")
    errors = [f"{row['model']} {row['bits']} bits: {error}" for row in rows for error in row.get("errors", [])]
    return parts + ([sentence("Not run: " + "; ".join(errors))] if errors else [])


@section("gpu_prefill_h200", "Chosen experts of a prompt on an H200")
def gpu_prefill(data):
    """The longer of a dense product and one read of W is what the time is compared with."""
    sides = [side for side in ("mlx_kd", "MLX") if side in data["rows"][0]["us"]]
    return [sentence(data["what"]), table(
        ["part", "bits", "tokens", "W MB", "dense product us", "read of W us", *(f"{side} us" for side in sides),
         "over the longer", "95% CI"],
        [[row["part"], row["bits"], f"{row['tokens']:,}", number(row["weight_mb"]), number(row["dense_us"]),
          number(row["read_us"]), *(number(row["us"][side]["median"]) for side in sides),
          f"{row['of_goal']['median']:.2f}x", interval(row["of_goal"]["lo"], row["of_goal"]["hi"])]
         for row in data["rows"]])]


@section("gpu_mixed_h200", "Operators inside a model of MLX's operators, H200")
def gpu_mixed(data):
    """A row per model and operator: its model's time per layer and MLX's, and whether its pin is shipped."""
    others = [f"{row['op']} ({row['model']}, {row['bits']} bits)" for row in data["rows"] if "reason" in row]
    kept = {True: "yes", False: "no", None: "-"}
    parts = [sentence(data["what"]),
             f"""A model of {data['layers']} layers and the head whose other operators are MLX's; `none` has MLX's on both sides. The
             ratio is ours to MLX's, the median of pairs that take turns. Kernels: {data['kernels']}; the last column tells
             which of them are shipped.""",
             table(["model", "bits", "keys", "operator", "ours us", "MLX us", "ratio", "95% CI", "shipped"],
                   [[row["model"], row["bits"], row["keys"], row["op"], *(number(row[key]["median"]) for key in ("ours_us", "mlx_us")),
                     f"{row['ratio']['median']:.3f}x", f"{row['ratio']['lo']:.3f} to {row['ratio']['hi']:.3f}",
                     kept[row.get("kept")]] for row in data["rows"] if "ratio" in row])]
    return parts + ([f"Without a pin, and so MLX's own: {', '.join(others)}."] if others else [])


@section("gpu_sampling_h200", "Drawing tokens on an H200")
def gpu_sampling(data):
    """A row per case; then how many random calls agreed with MLX's chain."""
    rows, compared = data["rows"], data["compared"]
    sides = [side for side in ("ours", "mlx", "torch") if f"{side}_us" in rows[0]]
    names = {"ours": "mlx_kd", "mlx": "mlx-lm's chain", "torch": "PyTorch"}
    return [sentence(data["what"]), table(
        ["rows", "V", "s", "filter", *(names[side] for side in sides)],
        [[row["rows"], row["V"], row["s"], row["filter"], *(number(row[f"{side}_us"]) for side in sides)] for row in rows]),
        f"""Of {compared['calls']:,} random calls of one row (float16 and bfloat16, V up to 4,096 or 151,936, all filters but xtc) {compared['differ']}
        differed from MLX's chain on this GPU in the token, its log probability or the 5 largest."""]


@section("cuda_gemm_h200", "Products of many rows on an H200")
def cuda_gemm(data):
    return [sentence(data["what"]), table(
        ["size", "setting", "us", "TFLOP/s", "cuBLAS us", "cuBLAS TFLOP/s", "cuBLAS takes", "range"],
        [[row["size"], row["setting"], *(number(row[key]) for key in ("us", "tflops", "cublas_us", "cublas_tflops")),
          f"{row['ratio']:.2f}x", interval(*row["interval"])] for row in data["rows"]])]
