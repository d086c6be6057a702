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
