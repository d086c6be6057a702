"""The section of docs/results.md on dense products, and the table of docs/gemm.md."""
from results_sections import section
from results_tables import interval, table


def product_table(data):
    """A row per product: GFLOP/s of mlx_kd, and how many times as long the peers take."""
    peers = list(dict.fromkeys(name for row in data["rows"] for name in row["ratio"]))
    rows = []
    for row in data["rows"]:
        cells = [f"{one['median']:.2f}x ({interval(one['lo'], one['hi'])})" if one else ""
                 for one in map(row["ratio"].get, peers)]
        rows.append([row["what"], row["dtype"], f"{row['ms']['mlx_kd']['median']:.3f}", f"{row['gflops']:.0f}", *cells])
    return table(["product", "type", "mlx_kd, ms", "GFLOP/s", *peers], rows)


@section("gemm_cpu", "Dense products on a CPU")
def products(data):
    versions = ", ".join(f"{name} {version}" for name, version in data["versions"].items())
    return [f"""M x N x K: {data['what']}. How many times as long the others take, with the 95% CI of the paired ratios (least
            and greatest of fewer than 6 rounds; a side that takes longer than ten seconds is timed once). {versions}.""",
            product_table(data)]


@section("gemm_gpu_h200", "Dense products on an H200")
def products_on_gpu(data):
    rows = []
    for row in data["rows"]:
        batch = f"{row['batch']:,} of " if row["batch"] > 1 else ""
        ratios = [row["ratio"][side] for side in ("MLX", "PyTorch")]
        rows.append([f"{batch}{row['M']} x {row['N']} x {row['K']}", row["transposed"], row["dtype"],
                     *(f"{row['us'][side]['median']:.1f}" for side in ("mlx_kd", "MLX", "PyTorch")),
                     f"{row['tflops']:.0f}", f"{row['read_gb_per_s']:.0f}",
                     *(f"{ratio['median']:.2f}x ({interval(ratio['lo'], ratio['hi'])})" for ratio in ratios)])
    return [f"""Calls of matmul with its default kernels as nodes of MLX's graphs, MLX {data['mlx']}'s own product, and
            PyTorch {data['torch']}'s with cuBLAS, in one process, several calls queued together; the letters say which of a
            and b are transposed. float32 is without TF32 everywhere. Median us of a call; a ratio is how many times as long
            a peer takes, with its 95% CI. PyTorch's sum of 512 MB reads at {data['read_gb_per_s']:.0f} GB/s.""",
            table(["M x N x K", "transposed", "type", "mlx_kd, us", "MLX, us", "PyTorch, us", "TFLOP/s", "GB/s read", "MLX",
                   "PyTorch"], rows)]
