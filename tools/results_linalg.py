"""The sections of docs/results.md on factorisations: times next to MLX, residuals."""
from results_sections import section
from results_tables import interval, table


def batch(shape):
    *count, rows, columns = shape
    return f"{count[0] if count else 1} of {rows} x {columns}"


@section("linalg_cpu_float64", "Factorisations of batches on a CPU, float64")
@section("linalg_cpu", "Factorisations of batches on a CPU")
def times(data):
    parts = []
    for name, found in data["results"].items():
        rows = [[row["op"], batch(row["shape"]), *(f"{row['ms'][side]['median']:.3f}" for side in ("mlx_kd", "MLX")),
                 f"{row['speedup']['median']:.2f}x ({interval(row['speedup']['lo'], row['speedup']['hi'])})"]
                for row in found["rows"]]
        parts += [f"""MLX with {name}: {found['geometric_mean']:.2f}x over all batches, at least {found['least']:.2f}x. Median
                  ms of one call; the ratio is that of paired calls, with its 95% CI.""",
                  table(["operator", "batch", "mlx_kd", "MLX", "MLX / mlx_kd"], rows)]
    return parts


@section("linalg_gpu_h200", "Factorisations of batches on an H200")
def times_on_gpu(data):
    others = ("torch", "MLX")
    rows = []
    for row in data["rows"]:
        cells = [row["op"], batch(row["shape"]), f"{row['ms']['mlx_kd']['median']:.3g}"]
        for side in others:
            ratio = row["ratio"].get(side)
            cells += ([f"{row['ms'][side]['median']:.3g}",
                       f"{ratio['median']:.2f}x ({interval(ratio['lo'], ratio['hi'])})"] if ratio else ["", ""])
        rows.append(cells)
    return [f"""float32, default settings, MLX {data['mlx']}, PyTorch {data['torch']}; ms of a call of {data['calls']} that are
            queued together, medians of at most {data['rounds']} rounds in which the sides took turns; the ratios are those
            of paired samples, with their 95% CI (least and greatest of fewer than 6). newton_schulz is in bfloat16, and
            torch's are its 15 products in one CUDA graph.""",
            table(["operator", "batch", "mlx_kd", *(head for side in others for head in (side, f"{side} / mlx_kd"))], rows)]


@section("linalg_accuracy", "Residuals of factorisations")
def residuals(data):
    sides = ("mlx_kd", "MLX")
    rows = [[row["op"], row["kind"], *("" if row[side] is None else f"{row[side]:.2f}" for side in sides)]
            for row in data["rows"]]
    sizes = ", ".join(map(str, data["sizes"]))
    return [f"The largest LAPACK ratio over 20 matrices of each of the sizes {sizes}; 30 is the limit.",
            table(["operator", "matrices", *sides], rows)]
