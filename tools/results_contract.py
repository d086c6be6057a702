"""Sections of docs/results.md on the operator contract, the runtime that calls operators, and Metal's front end."""
from results_sections import section
from results_tables import interval, number, sentence, size_text, table, times


READ = {"model": "models' configs, logs of sizes", "msl": "Metal sources", "pack": "packs and their bundled objects",
        "ranks": "frames, introductions, records and hosts of clusters", "run": "run directories",
        "space": "tuning caches, recorded spaces", "tune": "users' kernels: descriptions, heads, TOML",
        "wire": "frames of caches"}


@section("runtime", "Runtime")
def runtime(data):
    lookup = data["lookup"]
    lookups = {"ns_one_size_by_thread": "one size", "ns_random_sizes_by_thread": "random sizes",
               "ns_shared_table_random_sizes_by_thread": "random sizes, one shared table"}
    calls = {"pinned": "pinned", "unpinned": "without a pin", "off": "pins off"}
    return [f"{lookup['pins']:,} pins, {lookup['threads']} threads; lookups on each thread's own processor time.",
            table(["lookup", "ns, least to most over the threads"],
                  [[text, interval(min(lookup[key]), max(lookup[key]), 1)] for key, text in lookups.items()]),
            table(["call", "operation", "us added when the graph is built", "us added in a graph of 100"],
                  [[text, data[key]["op"], *(f"{data[key][when]['us_added']:.3f}"
                                             for when in ("graph_building", "in_a_graph_of_100"))]
                   for key, text in calls.items()]),
            f"""The shape log adds {data['shape_log']['ns_added']:.0f} ns per call. Loading {lookup['pins']:,} pins takes
            {data['load_ms_of_10000_pins'] / 1000:.1f} s."""]


def milliseconds(data):
    return table(["median ms", "95th percentile", "maximum"], [[data["median_ms"], data["p95_ms"], data["max_ms"]]])


@section("python_import", "Python import")
def python_import(data):
    return [f"`import mlx_kd` after `import mlx.core` in a fresh process, {data['rounds']} rounds.", milliseconds(data)]


@section("contract", "The operator contract, and the version before it")
def contract(data):
    rows = [[row["what"], row["goal"], *(f"{row[side]:.4g} {row['unit']}" if row[side] != "" else "" for side in ("old", "new")),
             row["rounds"]] for row in data["rows"]]
    return [f"""Builds of the commits {data['old_commit']} (before) and {data['new_commit']}, sample by sample in turn: the best of
            the rounds.""", table(["what", "goal", "before", "now", "rounds"], rows)]


@section("contract_operators", "Operators of other kinds")
def contract_operators(data):
    rows = [[row["op"], row["dtype"], size_text(row["shape"]), *(number(row[name]) if row[name] is not None else ""
             for name in ("kernel_us", "latency_us", "baseline_us")),
             times(row["speedup_vs_ref"]) if row["speedup_vs_ref"] else "not faster",
             interval(row["speedup_lo"], row["speedup_hi"]) if row["speedup_vs_ref"] else "", row["lapack"]]
            for row in data["rows"]]
    return [f"`kd run --budget {data['budget']}` on every suite, on the CPU, in a graph.",
            table(["operator", "type", "size", "kernel us", "in a graph us", "MLX us", "speed-up", "95% CI", "MLX's LAPACK"],
                  rows)]


@section("suggest_shapes", "kd suggest-shapes")
def suggest_shapes(data):
    return [f"Wall time on a config on disk, start of the process included, {data['rounds']} calls.", milliseconds(data)]


@section("runtime_hardening", "Fuzzing and stress of the runtime")
def runtime_hardening(data):
    fuzz, stress = data["fuzz"], data["stress"]
    return [sentence(data["what"]), table(["test", "amount", "seconds", "findings"], [
        [f"packs ({' and '.join(fuzz['sanitizers'])} sanitizers)", f"{fuzz['inputs']:,} inputs", fuzz["seconds"],
         f"{fuzz['crashes']} crashes, {fuzz['hangs']} hangs"],
        [f"stress ({' and '.join(stress['sanitizers'])} sanitizer)", f"{stress['threads']} threads", stress["seconds"],
         f"{stress['reports']} reports"]])]


@section("fuzzing", "Fuzzing what is read")
def fuzzing(data):
    keys = ["inputs", "seconds", "crashes", "edges"]
    return [f"Each fuzzer of `tests/fuzz` with {' and '.join(data['sanitizers'])} sanitizers (`bench/fuzzing.py`).",
            table(["what is read", "inputs", "seconds", "crashes", "edges covered"],
                  [[READ.get(row["target"], row["target"]), *(f"{row[key]:,}" for key in keys)] for row in data["targets"]])]


@section("msl_executor", "Metal kernels on the CPU")
def msl_executor(data):
    first = data["barriers"][0]
    return [f"{first['groups']:,} groups of {first['threads']} threads with {first['barriers']} barriers, as fibers:",
            table(["cores", "ms, median"], [[row["cores"], f"{row['ms_median']:.1f}"] for row in data["barriers"]]),
            "Kernels that run as loops, compared with hand-written loops of the same work, one core:",
            table(["kernel", "kind", "ratio, median", "10th to 90th percentile", "ms as fibers"], [
                [row["kernel"], row["kind"], f"{row['ratio_median']:.2f}", interval(row["ratio_p10"], row["ratio_p90"]),
                 f"{row['fibers_ms']:.1f}"] for row in data["beside_hand_written_loops"]])]


@section("msl_fuzz", "Fuzzing the Metal front end")
def msl_fuzz(data):
    keys = ["inputs", "seconds", "crashes", "hangs", "edges_covered"]
    return [f"`{data['program']}` with {' and '.join(data['sanitizers'])} sanitizers.",
            table(["front end", "inputs", "seconds", "crashes", "hangs", "edges covered"],
                  [[row["front_end"], *(f"{row[key]:,}" for key in keys)] for row in data["runs"]])]


def in_cpp(data):
    found = data["background_cpp"]
    ratio, machine = found["ratio"], found["machine"]
    return (f"in C++ {ratio['median']:.2f} times (the median of {found['pairs']} pairs of {found['steps']} steps of "
            f"{found['mean_step_ms']:.0f} ms; eight of ten pairs {interval(ratio['lo'], ratio['hi'])}; {machine['cpu']}, "
            f"{machine['cores']} cores)")


@section("check", "Kernels of your own")
def check(data):
    watching, first, served = data["watching"], data["first_call"], data["autotune"]["over_the_kernel_us"]
    background, tune = data["background"], data["tune"]
    return ["Every access watched for races and memory, against the same kernel as fibers, one core: how many times longer.",
            table(["kernel", "ratio, median", "10th to 90th percentile"], [
                [row["kernel"], f"{row['ratio']['median']:.1f}", interval(row["ratio"]["lo"], row["ratio"]["hi"], 1)]
                for row in watching["rows"]]),
            f"""{first['kernels']} kernels watched at their first calls lengthen {first['steps']} steps of
            {first['mean_step_ms']:.0f} ms by {first['extra_s']:.2f} s in all ({first['ratio']:.3f} times). A call that a proved
            setting of `autotune` serves takes {served['median']:.2f} us ({interval(served['lo'], served['hi'])}) longer than the
            kernel's. Steps of {background['mean_step_ms']:.0f} ms with a kernel that is tuned in the background take
            {background['ratio']:.2f} times as long as without, {in_cpp(data)}. `kd tune` of a row softmax
            ({tune['sizes']}) with a budget of {tune['kernels']} takes {tune['wall_s']:.0f} s."""]
