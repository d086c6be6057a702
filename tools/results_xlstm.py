"""The section of docs/results.md on mLSTM."""
from results_sections import section
from results_tables import interval, table


@section("mlstm_cpu", "mLSTM on a CPU")
def mlstm(data):
    others = [side for side in data["rows"][0]["ms"] if side != "mlx_kd"]
    rows = []
    for row in data["rows"]:
        cells = [row["what"], f"{row['ms']['mlx_kd']['median']:.3g}"]
        for side in others:
            found = side in row["ms"]
            cells.append(f"{row['ms'][side]['median']:.3g}" if found else "")
            ratio = row["ratio"].get(side)
            cells.append(f"{ratio['median']:.1f}x ({interval(ratio['lo'], ratio['hi'], 1)})" if ratio else "")
        rows.append(cells)
    head = ["what", "mlx_kd", *(title for side in others for title in (side, f"{side} / mlx_kd"))]
    memory = ", ".join(f"{side} {mb:g} MB" for side, mb in data["memory_mb"].items())
    return [f"""{data['what']}: medians of {data['rounds']} rounds in which the sides took turns; the ratios are medians of
            paired samples, with their 95% CI. MLX's operators compute the parallel form, PyTorch
            mlstm_chunkwise__native_autograd with chunks of 64. A process that computes the first size with its gradients
            grows by: {memory}; the arrays that go in and come out are {data['memory_arrays_mb']:g} MB.""",
            table(head, rows)]


@section("mlstm_gpu_h200", "mLSTM on an H200")
def mlstm_on_gpu(data):
    rows = [[row["what"], f"{row['ms']['median']:.3g}", interval(row["ms"]["lo"], row["ms"]["hi"], 3),
             f"{row['peak_over_arrays']:.2f}x" if "peak_over_arrays" in row else ""] for row in data["rows"]]
    return [f"""bfloat16, 16 heads, DHQK 128, DHHV 256, default settings, MLX {data['mlx']}: ms of a call of several that are
            queued together, medians of {data['rounds']} rounds with their 95% CI. The step is that of DHQK 256 and DHHV 512;
            the copy adds 1 to as many floats as its memory has. The peak of memory is that of MLX during a call, over the
            bytes of inputs, outputs and the gradients of both.""",
            table(["what", "ms", "95% CI", "peak of memory"], rows)]


@section("mlstm_stages_h200", "Stages of mLSTM on an H200")
def mlstm_stages(data):
    rows = [[f"{row['what']}, {row['sequences']} x {row['tokens']:,} tokens", f"{row['all']:.3g}",
             ", ".join(f"{name} {ms:.2g}" for name, ms in row["stages"].items())] for row in data["rows"]]
    return [f"""bfloat16, 16 heads, DHQK 128, DHHV 256, exponential gates: ms of the kernels between events of the GPU, without
            MLX, medians of {data['runs']} runs (bench/mlstm/stages.cu). The gradient finds the states again, and no h.""",
            table(["what", "ms", "of its stages"], rows)]
