#include "mlx_kd/kernels/matmul/product_kernels.h"

#include <algorithm>

#include "mlx_kd/kernels/divide_up.h"
#include "mlx_kd/kernels/matmul/parts.h"
#include "mlx_kd/kernels/matmul/reference.h"
#include "mlx_kd/kernels/op_table.h"

namespace mlx_kd::kernels::matmul {
namespace {

using spec::Dims;
using spec::Dtype;

int64_t all_rows(const Kind& kind, const Dims& dims) {
  const std::vector<std::string> rows = rows_of(kind.form);
  int64_t count = dims.at(rows[0]);
  if (kind.form == Form::queries) count += dims.at(rows[1]) + dims.at(rows[2]);
  return count;
}

std::vector<spec::Stage> cpu_stages(const Kind& kind, const Dims& dims,
                                    const spec::Setting& knobs) {
  return {{"mlx_kd_" + kind.name, prepare_rows(dims.at("M"), knobs)},
          {"mlx_kd_" + kind.name + "_rows", share_rows(all_rows(kind, dims), knobs)}};
}

std::vector<spec::Stage> cpu_stages_of_tiles(const Kind& kind, const Dims& dims,
                                             const spec::Setting& knobs) {
  const int64_t threads = knobs.at("THREADS"), vector_bytes = knobs.at("VEC");
  spec::Launch prepare, panels;
  prepare.grid[0] = divide_up(dims.at("M"), tile_rows(knobs));
  prepare.group[0] = 1;
  prepare.threads = static_cast<int>(std::min(threads, prepare.grid[0]));
  panels.grid[0] = divide_up(dims.at("N"), vector_bytes / 2);
  panels.group[0] = divide_up(panels.grid[0], threads * knobs.at("TASKS"));
  panels.threads =
      static_cast<int>(std::clamp<int64_t>(divide_up(panels.grid[0], panels.group[0]), 1, threads));
  return {{"mlx_kd_" + kind.name, prepare}, {"mlx_kd_" + kind.name + "_panels", panels}};
}

// x in the order of the codes, in up to three planes of bfloat16, or as floats; sums of its groups;
// x after the norm.
std::vector<int64_t> cpu_scratch(Dtype t, const Dims& dims, const spec::Setting& knobs) {
  const int64_t block = tile_rows(knobs), m = divide_up(dims.at("M"), block) * block;
  const int64_t k = dims.at("K");
  const int64_t planes = divide_up(k, 256) * 256;
  const Format format = format_of(dims);
  const int64_t groups = format.mode == kAffine ? k / format.group : 0;
  return {m * planes * 6 + 64, m * divide_up(groups, 16) * 16 * 4 + 64,
          dims.at("has_norm") ? m * k * spec::size_of(t) + 64 : 64};
}

spec::Variant variant_on_cpu(const Kind& kind) {
  spec::Variant variant = cpu_variant(kind, kind.many_rows ? "tiles" : "streams");
  variant.stages = [kind](const Dims& dims, const spec::Setting& knobs) {
    return kind.many_rows ? cpu_stages_of_tiles(kind, dims, knobs) : cpu_stages(kind, dims, knobs);
  };
  variant.scratch = cpu_scratch;
  return variant;
}

// Affine codes of 4 and 8 bits alone; the other formats are exact in it (int8.cpu.h).
spec::Variant in_int8(const Kind& kind) {
  spec::Variant variant = variant_on_cpu(kind);
  const std::string name = kind.name + "_int8";
  variant.name = "int8";
  variant.source = kernel_source("matmul/" + kind.name + "/" + name + ".cpu.cpp");
  variant.func_name = "mlx_kd_" + name;
  variant.stages = [kind, name](const Dims& dims, const spec::Setting& knobs) {
    std::vector<spec::Stage> stages = cpu_stages(kind, dims, knobs);
    stages[0].func_name = "mlx_kd_" + name;
    stages[1].func_name = "mlx_kd_" + name + "_rows";
    return stages;
  };
  variant.approximate =
      "x is rounded to int8, off by at most 1/254 of the largest of its 8 neighbours with codes of "
      "4 bits and of its 4 with 8 bits; proved within 1/64 of the sum of |x| (|scale code| + "
      "|bias|)";
  variant.approximate_terms = 1.0 / 64;
  return variant;
}

}  // namespace

std::vector<spec::Variant> products_on_cpu(const Kind& kind) {
  std::vector<spec::Variant> variants = {variant_on_cpu(kind)};
  if (kind.form == Form::single && kind.quantised && !kind.many_rows)
    variants.push_back(in_int8(kind));
  return variants;
}

}  // namespace mlx_kd::kernels::matmul
