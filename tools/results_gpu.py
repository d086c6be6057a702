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