"""The sections of docs/results.md and the tables of README.md, one function per file of bench/results.

A section is registered under the name of its file and returns parts: paragraphs, tables and code blocks as Markdown.
SECTIONS has them in the order of the page.
"""
from results_tables import geometric_mean, interval, number, percent, sentence, size_text, table, times, where

SECTIONS = {}  # name of the file: (title, function)


def section(name, title):
    def register(function):
        SECTIONS[name] = (title, function)
        return function
    return register


def suite_table(data, only=None):
    """A row per operator and suite: geometric mean and range of the speed-ups of each type."""
    dtypes, groups = sorted(data["summary"], reverse=True), {}
    for row in data["rows"]:
        if row["suite"] != "extra" and "metrics" in row and (not only or row["suite"] in only):
            group = groups.setdefault((row["op"], row["suite"]), {dtype: [] for dtype in dtypes})
            group[row["dtype"]].append(row["metrics"]["speedup_vs_ref"])
    return table(["operator", "suite", *dtypes], [[*key, *map(suite_cell, group.values())] for key, group in groups.items()])


def suite_cell(values):
    return f"{times(geometric_mean(values))} ({min(values):.1f} to {max(values):.1f})" if values else ""


def peer_table(rows):
    cells = []
    for row in rows:
        ratios = row["ratio_to_kernel"]
        others = (ratios[key] for key in ("torch_eager", "torch_compile", "jax_jit"))
        cells.append([f"{row['op']} {row['shape']['rows']}x{row['shape']['D']}", row["dtype"],
                      f"{row['median_us']['kernel']:.0f}", f"{100 * ratios['copy']['median']:.0f} %",
                      *(f"{other['median']:.2f}x ({interval(other['lo'], other['hi'])})" for other in others)])
    return table(["operator", "type", "mlx-kd, us", "share of a copy's rate", "PyTorch eager", "torch.compile", "JAX jit"],
                 cells)


def readme_tables(suites, peers):
    totals = ", ".join(f"{times(total['geometric_mean'])} in {dtype} (least {times(total['least'])})"
                       for dtype, total in sorted(suites["summary"].items(), reverse=True))
    return [suite_table(suites, ("glm_flash_decode", "glm_flash_small")),
            f"""Each cell is the geometric mean over the sizes of the suite, and the range. Over all
            {suites['summary']['float32']['sizes']} sizes of all suites: {totals}. Two cores of an AMD EPYC with AVX-512, MLX
            {suites['runtime']['mlx_version']}, a budget of {suites['budget']} ([suites.json](bench/results/suites.json)).""",
            """Large sizes in `kernel` mode, compared sample by sample in random order: how many times longer the others take
            ([peers.json](bench/results/peers.json)).""",
            peer_table(peers["rows"])]


@section("suites", "Speed-ups over MLX")
def suites(data):
    cells = [[row["op"], size_text(row["shape"]), row["dtype"], f"{m['kernel_us']:.2f}", f"{m['latency_us']:.2f}",
              f"{m['baseline_us']:.2f}", times(m["speedup_vs_ref"]), interval(m["speedup_lo"], m["speedup_hi"])]
             for row in data["rows"] if row["suite"] == "extra" for m in [row["metrics"]]]
    return [f"""`kd run --budget {data['budget']}` on every suite, in a graph, against the faster of MLX's plain and compiled
            form: geometric mean over the sizes of a suite, and the range.""",
            suite_table(data), "Single sizes:",
            table(["operator", "size", "type", "kernel us", "in a graph us", "MLX us", "speed-up", "95% CI"], cells)]


@section("peers", "Large sizes and other frameworks")
def peers(data):
    others = ", ".join(f"{name} {version}" for name, version in data["versions"].items())
    return [f"""`kernel` mode, {data['rounds']} rounds, compared sample by sample in random order: how many times longer the
            others take, with the 95% CI ({others}).""", peer_table(data["rows"])]


def rate(found):
    return f"{number(found['median'])} ({number(found['lo'])} to {number(found['hi'])})" if found else ""


def model_table(data, rows):
    sides = data["sides"]
    cells = [[row["format"], f"{row['what']}, {row['tokens']} tokens" + (" of context" if row["what"] == "decode" else ""),
              *(rate(row["tokens_per_s"].get(side)) for side in sides),
              *(rate(row["ours_over"].get(side)) for side in sides if side != "ours")] for row in rows]
    return table(["weights", "what", *sides.values(), *(f"times {title}" for side, title in sides.items() if side != "ours")],
                 cells)


def readme_model(data):
    context = min(row["tokens"] for row in data["rows"] if row["what"] == "decode")
    rows = [row for row in data["rows"] if row["what"] == "decode" and row["tokens"] == context]
    sides = data["sides"]
    versions = ", ".join(f"{name} {version}" for name, version in data["versions"].items())
    return [table(["weights", *sides.values()],
                  [[row["format"], *(rate(row["tokens_per_s"].get(side)) for side in sides)] for row in rows]),
            f"""Tokens per second after {context} tokens of context, with the 95% CI, on {where(data)} ({versions}):
            {data['model']['layers']} layers of {data['model']['hidden']} with random weights
            ([results.md](docs/results.md#a-language-model-on-a-cpu) has prompts, other contexts and memory)."""]


def step_rows(profile):
    """Operators of a decode step, those that take longest first, then what is left of the step."""
    for title, sides in profile.items():
        for side, found in sides.items():
            rest = found["step"] - sum(op["seconds"] for op in found["operators"].values())
            for name, op in sorted(found["operators"].items(), key=lambda item: -item[1]["seconds"]):
                yield [title, side, name, op["calls"], number(1e3 * op["seconds"])]
            yield [title, side, "everything else", "", number(1e3 * rest)]


@section("product_streams", "Decode steps and a plain read of what they read")
def product_streams(data):
    rows = [[row["name"], row["format"], f"{row['us']:.1f}", f"{row['kernel_gb_s']:.1f}", f"{row['read_gb_s']:.1f}",
             f"{row['share']:.2f} ({row['interval'][0]:.2f} to {row['interval'][1]:.2f})"] for row in data["rows"]]
    return ["Products of one row of x, experts of one token, attention of one token; weights and caches cold. The read by all "
            "cores is of as many bytes, directly before and after each call. Medians; the share has its 95 % interval.",
            table(["what is read", "format", "us", "GB/s", "read, GB/s", "share of the read"], rows)]


@section("decode_cpu", "A language model on a CPU")
def decode_cpu(data):
    sides, model = data["sides"], data["model"]
    versions = ", ".join(f"{name} {version}" for name, version in data["versions"].items())
    parts = [f"""Tokens per second of a Llama-like model with random weights ({model['layers']} layers, {model['hidden']} wide,
             {model['mlp']} in the MLP, {model['heads']}/{model['kv_heads']} heads of {model['head_dim']}), one sequence, each side
             in a process of its own, sample by sample in random order: median with its 95% CI (least and greatest of fewer
             than 6 samples), and mlx_kd's median paired ratio to each other side. {versions}.""",
             "![tokens per second of each side](decode-cpu.svg)", model_table(data, data["rows"]), "Peak memory, MiB:",
             table(["weights", *sides.values()],
                   [[title, *(found.get(side, "") for side in sides)] for title, found in data["memory_mib"].items()])]
    if data.get("profile"):
        parts += ["Where a token's time goes: all calls of an operator in a decode step, in a graph of their own.",
                  table(["weights", "side", "operator", "calls", "ms"], list(step_rows(data["profile"])))]
    if data.get("replaced"):
        parts += ["What the patch replaced, as it reports it:", "```\n" + "\n".join(data["replaced"]) + "\n```"]
    return parts


@section("decode_cpu_amx", "A language model on a CPU with AMX")
def decode_cpu_amx(data):
    return ["The same next to llama.cpp alone, with tile registers: medians, their 95% CI, and paired ratios.", model_table(data, data["rows"])]


def family_rows(families):
    """A row per family and format, a cell per length: ratio, interval, and ours in ms."""
    for one in families:
        title = {16: "bf16", 32: "float32"}.get(one["bits"], f"{one['bits']} bits")
        if "mlx_cannot" in one:
            yield [one["family"], title, f"MLX cannot: {one['mlx_cannot']}"] + [""] * (len(FAMILY_CELLS) - 1)
            continue
        cells = {(cell["what"], cell["tokens"]): cell for cell in one["cells"]}
        yield [one["family"], title, *(family_cell(cells[key]) for key in FAMILY_CELLS)]


FAMILY_CELLS = (("prompt", 1), ("prompt", 37), ("prompt", 512), ("prompt", 2048), ("step", 512))


def family_cell(cell):
    ratio = cell["ratio"]
    of = "" if cell["mlx_tokens"] == cell["tokens"] or cell["what"] == "step" else f", MLX's of {cell['mlx_tokens']}"
    return f"{ratio['median']:.1f}x ({interval(ratio['lo'], ratio['hi'], 1)}), {number(cell['ours_ms'])} ms{of}"


@section("families_cpu", "Families of models on a CPU")
def families_cpu(data):
    versions = ", ".join(f"{name} {version}" for name, version in data["versions"].items())
    heads = ["a token after 512" if what == "step" else f"prompt of {tokens}" for what, tokens in FAMILY_CELLS]
    return [f"""MLX's time over that of the patched model, two layers of each family with published widths and random weights,
            groups of {data['group']}, pair by pair in one process: median with its 95% CI (least and greatest of fewer than 6
            pairs), and the patched model's time. Where MLX takes longer than a second its time is that of the first tokens,
            as many as the cell says, times as often as the prompt has as many. {versions}.""",
            table(["family", "weights", *heads], list(family_rows(data["families"])))]


@section("patch_cost", "What a patch of a model costs")
def patch_cost(data):
    return [f"""{data['what']}: seconds, and the peak memory of a process that patches the model,
            reads a prompt of 4 tokens and decodes 2, next to one that does so without the patch; medians of
            {data['rounds']} rounds, the first of which compiles the kernels. Other programs ran on the machine (load
            {data['machine']['load']}); processor seconds, those of compilers too, are of the patch alone. MLX {data['mlx']}.""",
            table(["what", "value", "goal"], [
                ["patch, kernels compiled before", f"{number(data['patch_s'])} s", "10 s"],
                ["processor seconds of it", f"{number(data['patch_processor_s'])} s", ""],
                ["first patch, which compiles the kernels", f"{number(data['first_patch_s'])} s", ""],
                ["processor seconds of it", f"{number(data['first_patch_processor_s'])} s", ""],
                ["peak memory without the patch", f"{number(data['peak_mib_mlx'])} MiB", ""],
                ["peak memory with it", f"{number(data['peak_mib_patched'])} MiB", ""],
                ["peak memory with it / without", f"{data['peak_ratio']:.3f}", "1.05"]])]


@section("tune_model_cpu", "A pack of ten minutes")
def tune_model_cpu(data):
    def cells(row):
        rates = [f"{number(side['median'])} ({interval(side['lo'], side['hi'], 1)})" for side in row["tokens_per_s"]]
        ratio = row["first_over_second"]
        return [*rates, f"{ratio['median']:.3f} ({interval(ratio['lo'], ratio['hi'], 3)})"]
    rows = [[row["what"], *cells(row)] for row in data["rows"]]
    return [f"""`kd tune-model --time-budget {data['budget_s'] // 60}m` on the model of `bench/decode` in 4 bits, nothing compiled
            before, took {data['seconds']:.0f} s: {data['kernels']} kernels tried in {data['uses']} uses, {data['searched']} of them
            searched. In {data['trial_s']:.0f} s of trials {data['kept']} of {data['tried']} winners for one token were faster inside
            the model's code than the default kernel. The pack next to default kernels without pins: tokens per second in
            pairs, after 512 tokens or of a prompt of 512. MLX {data['mlx']}.""",
            table(["what", "the pack", "default kernels", "ratio"], rows)]


@section("pinned_claims", "Claims in a user's process")
def pinned_claims(data):
    def spread(values):
        return f"{values['median']:.2f} ({interval(values['p10'], values['p90'])})"
    return ["""Pins called through the public functions in a process of their own an hour after their runs, compared with what
            these claimed: median, and 10th to 90th percentile.""",
            table(["what", "value"], [
                ["pins", data["entries"]],
                ["pins within the 90th percentile of the claimed time", data["within_p90_of_the_claim"]],
                ["pins whose speed-up lies in what their run expects of a new process (goal: 90 % on a machine in the same state)",
                 f"{data['within_what_they_expect']} of {data['that_expect_an_interval']}"],
                ["time over claimed time", spread(data["us_over_claimed"])],
                ["speed-up over claimed speed-up", spread(data["speedup_over_claimed"])]])]


@section("example_decode", "The example decoder")
def example_decode(data):
    return ["`examples/decode.py` with and without pins; norms and gate of one layer in a graph.", table(["what", "value"], [
        ["us with MLX's operators", data["ops_us_mlx"]], ["us with pins", data["ops_us_pinned"]],
        ["speed-up of the rounds", ", ".join(f"{value}x" for value in data["speedups"])],
        ["peak MiB without and with pins", f"{data['peak_mib_plain']}, {data['peak_mib_pinned']}"],
        ["largest difference of a logit, and its bound", f"{data['largest_difference']:.2g}, {data['bound']:.2g}"]])]


@section("aa_trials", "False and missed claims")
def aa_trials(data):
    more = data["five_percent_more_work"]
    return [f"""{data['trials']:,} trials of each kind with {data['op']} {size_text(data['dims'])} {data['dtype']},
            {data['calls']} calls per sample, {data['pairs']} pairs. Goals: at most 6.4 % claimed, at least 90 % found.""",
            table(["trial", "result"], [
                ["a kernel against itself: claimed faster", percent(data["same"]["claimed"])],
                ["one call in twenty more: found", f"{percent(more['found'])} (median ratio {more['ratio']:.3f})"],
                ["spread of single pairs, 90th over 10th percentile", f"{data['same']['spread']:.1f}"]])]


def claims_of_processes(data, more, work):
    return [f"""{data['processes']} processes measured {data['op']} {size_text(data['dims'])} {data['dtype']} against itself,
            with {data['pairs_of_a_process']} pairs each; {data['trials']:,} claims of {data['processes_of_a_claim']} of them,
            drawn at random. Goals: at most 5 % claimed, at least 90 % found, at least 90 % of new processes inside.""",
            table(["trial", "result"], [
                ["a kernel against itself: claimed faster", percent(data["same"]["claimed"])],
                [f"one call in {work} more: found", f"{percent(more['found'])} (median ratio {more['ratio']:.3f})"],
                ["a new process inside of the interval that it is expected in",
                 percent(more["next_process_within_what_is_expected"])],
                ["spread of processes, 90th over 10th percentile", f"{data['same']['spread']:.3f}"]])]


@section("aa_processes", "Claims of several processes")
def aa_processes(data):
    return claims_of_processes(data, data["ten_percent_more_work"], "ten")


@section("aa_processes_long", "Long claims of several processes")
def aa_processes_long(data):
    return claims_of_processes(data, data["five_percent_more_work"], "twenty")


@section("drift", "Drift of log ratios")
def drift(data):
    kinds = {"log_ratio_over_the_incumbents": "added up over all incumbents",
             "log_ratio_over_the_anchor": "relative to the first candidate"}
    return ["""Two passes over random settings of rope B=4 float32 on shared cores: log ratios as a chain of incumbents, and
            relative to the first candidate, as they are now.""",
            table(["log ratio", "settings", "incumbents", "least log ratio", "noise of two passes"],
                  [[text, *(data[kind][key] for key in ("settings", "incumbents", "least_log_ratio", "noise_of_two_passes"))]
                   for kind, text in kinds.items()])]


@section("graph_profile", "An operation in a graph")
def graph_profile(data):
    def us(values):
        return ", ".join(f"{value:.1f}" for value in values)
    calls = [[f"{row['op']} {size_text(row['shape'])}", us(row["median_us"]), us(row["median_us_one_cpu"])]
             for row in data["us_of_a_call"]]
    return ["40 independent calls in one eval, float32: us per call in three runs, and the shares of processor time of the "
            "first row.", table(["operation", "us per call", "on one processor"], calls),
            table(["part", "share"], [[part, f"{100 * share:.0f} %"] for part, share in data["share_of_samples"].items()])]


@section("build_units", "What a unit of the build takes")
def build_units(data):
    levels = [level for level in ("O3", "O2", "O1", "Og", "O0", "precompiled") if any(level in row for row in data["units"])]
    header = f""" The precompiled header (GoogleTest, JSON, MLX; at O1) takes {data["header_s"]} s to
             make.""" if "header_s" in data else ""
    return ["Seconds to compile one unit (a folder's sources together) by level of optimisation, two units at a time." + header,
            table(["unit", *levels], [[row["unit"], *(f"{row[level]:.1f}" if level in row else "" for level in levels)]
                                      for row in data["units"]])]


@section("first_run", "Where the time of a run goes")
def first_run(data):
    stages = ["compile", "prove", "time", "claims", "reference", "wall"]
    return ["""The README's first command (200 candidates, four sizes), twice with an empty cache of compiled kernels and twice
            with the objects of the run before: seconds per stage. In the cold runs two stages that overlap are counted
            twice.""",
            table(["cache", *stages], [[run["cache"], *(f"{run['seconds'][stage]:.1f}" for stage in stages)]
                                       for run in data["runs"]])]


COLUMNS = {"tours": "tours", "warm": "tours, warm", "batch4": "tours, batch 4", "genetic": "genetic",
           "annealing": "annealing", "random": "random"}


def mean_text(replay):
    return f"{replay['mean']:.3f} [{replay['lo']:.3f}, {replay['hi']:.3f}]"


def ablation_table(rows):
    return table(["changed", "mean", "difference", "convolution", "dedispersion", "least space"],
                 [[row["change"], f"{row['mean']:.3f}", f"{row['difference']:+.3f} [{row['lo']:+.3f}, {row['hi']:+.3f}]",
                   f"{row['convolution']:.3f}", f"{row['dedispersion']:.3f}", f"{row['least']:.3f}"] for row in rows])


@section("search_replay", "Search scores")
def search_replay(data):
    replays = data["replays"]
    tours, changed, combined = replays["tours"], data["ablation"], data["ablation_of_combinations"]
    rows = [[space["space"], *(f"{replays[key]['spaces'][i]['score']:.3f}" for key in COLUMNS)]
            for i, space in enumerate(tours["spaces"])]
    rows.append(["**mean**", *(mean_text(replays[key]) for key in COLUMNS)])
    return [f"""Recorded spaces ({data['spaces']}), {tours['repeats']} repeats, seed {tours['seed']}: 0 is random search, 1 the
            optimum. Replayed {data['replays_date']}.""",
            table(["space", *COLUMNS.values()], rows),
            table(["with seeds that did not choose the settings", "mean"],
                  [[name, mean_text(replay)] for name, replay in replays.items() if name not in COLUMNS]),
            f"One part changed ({changed['repeats']} repeats, {changed['date']}; as it is: {changed['settings']}):",
            ablation_table(changed["rows"]),
            f"Combinations ({combined['repeats']} repeats, {combined['date']}; \"B\" is the third row):",
            ablation_table(combined["rows"]),
            f"CPU time on one virtual core of an EPYC, nothing else running ({data['speed_date']}, `bench_search_speed`):",
            "```\n" + "\n".join(data["speed"]) + "\n```"]


@section("other_tuners", "Scores of other tuners")
def other_tuners(data):
    return [sentence(data["what"]), table(["tuner", "score"], [
        [row["tuner"], ", ".join(f"{score:.2f}" for score in row["scores"])] for row in data["rows"]])]


@section("search_transfer", "Settings chosen on one kernel")
def search_transfer(data):
    rows = [[choice["chosen_on"], choice["setting"], f"{choice['score_there']:.3f}", confirmed["kernel"],
             mean_text(confirmed["chosen"]), mean_text(confirmed["as_it_is"])]
            for choice in data["kernels"] for confirmed in choice["confirmed"]]
    return [f"""A grid of {len(data['grid'])} settings, each replayed {data['repeats']} times on the spaces of one kernel; the
            one with the best mean over budgets of many lengths is then scored on the other kernel with
            {data['fresh_repeats']} seeds that did not choose it. Goals: 0.80 on the convolution, 0.90 on the dedispersion.""",
            table(["chosen on", "setting", "score there", "confirmed on", "its score", "the settings in use"], rows)]


def regret(rows, space, strategy, one_pass, budget):
    for row in rows:
        if (row["space"], row["strategy"], row["one_pass_seen"]) == (space, strategy, one_pass):
            return next(f"{100 * entry['median']:.2f}" for entry in row["regrets"] if entry["budget"] == budget)
    return ""


@section("real_spaces", "Search on recorded spaces of the operators")
def real_spaces(data):
    kinds = [(strategy, one_pass, budget) for strategy, one_pass in
             (("tours", False), ("annealing", False), ("random", False), ("tours", True)) for budget in (50, 200)]
    head = [f"{strategy}{' on single passes' if one_pass else ''}, {budget}" for strategy, one_pass, budget in kinds]
    spaces = data["recordings"].items()
    return ["""How much slower the best found is than the best known after 50 and 200 evaluations, median of 100 walks, in per
            cent.""",
            table(["space", *head], [[name, *(regret(data["regrets"], name, *kind) for kind in kinds)] for name, _ in spaces]),
            "The recordings:",
            table(["space", "size", "points", "recorded", "best us", "stages", "noise of a pass by stage", "machine"],
                  [[name, space["size"], space["points_of_space"], space["valid"], f"{space['best_us']:.2f}", space["stages"],
                    ", ".join(percent(noise) if noise is not None else "-" for noise in space["noise_of_a_pass_by_stage"]),
                    where({"machine": space.get("machine", data["machine"])})] for name, space in spaces])]


@section("search_memory", "Memory of the search")
def search_memory(data):
    return [f"{data['points']:,} points, {data['knobs']} knobs; peak of the process {data['peak_mib']:.0f} MiB.",
            table(["stage", "resident MiB", "bytes per point"],
                  [[row["stage"], f"{row['resident_mib']:.1f}", f"{row['bytes_a_point']:.1f}"] for row in data["stages"]])]


@section("cluster_simulation", "Many ranks, simulated")
def cluster_simulation(data):
    def regret(row):
        return [[row["ranks"], row["batch"], row["spaces"], row["repeats"], point["round"], f"{point['evaluations']:,.0f}",
                 f"{percent(point['regret'])} ({percent(point['lo'])} to {percent(point['hi'])})"]
                for point in row["rounds"] if point["round"] in (0, 1, 2, 3, 5, 10, 20, 50, row["rounds"][-1]["round"])]

    return ["One rank's part of a meeting, on the null device.",
            table(["ranks", "records known", "own report, KB", "of all, MB", "written, ms", "read, ms", "learned, ms",
                   "next proposed, ms", "appended by rank 0, ms", "hub, ms"],
                  [[f"{row['ranks']:,}", f"{row['records_known']:,}", f"{row['report_bytes'] / 1e3:.1f}",
                    f"{row['meeting_bytes'] / 1e6:.2f}", *(f"{row[key]:.2f}" for key in
                    ("write_ms", "read_ms", "learn_ms", "propose_ms", "append_ms", "hub_ms"))] for row in data["costs"]]),
            """By how much the best found is slower than the best there is, replayed on recorded spaces, mean and 95 %
            interval.""",
            table(["ranks", "batch", "spaces", "repeats", "rounds", "evaluations", "regret"],
                  [cells for row in data["search"] for cells in regret(row)])]
