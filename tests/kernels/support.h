// What the tests of kernels share: this machine's traits, compiled kernels, problems with fenced
// outputs, and the comparison with a reference.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "mlx_kd/spec/op.h"
#include "tests/kernels/every_op.h"

namespace mlx_kd::kernels {

spec::DeviceTraits host_traits();    // of the running CPU
spec::DeviceTraits avx512_traits();  // 2 cores of a CPU with all that the sources can use

// A folder of this process, removed at its end.
const std::filesystem::path& scratch_folder();

std::vector<std::string> macros_of(const spec::Space& space, const spec::Setting& knobs,
                                   spec::Dtype dtype);

using KernelFunction = void (*)(const void* const*, void* const*, const long*, const double*, long,
                                long);
// Compiled and loaded, until the process ends. Throws with the compiler's words.
KernelFunction compile_kernel(const spec::Variant& variant, const std::string& source,
                              const std::vector<std::string>& macros);

enum class Values { normal, large, tiny, special };

// Inputs of an op at a size, and what its outputs must be.
struct Problem {
  const spec::Op* op;
  spec::Dtype dtype;
  spec::Dims dims;
  std::vector<double> params;
  std::vector<std::vector<std::byte>> inputs;
  std::vector<spec::Reference64> expected;
};
Problem make_problem(const spec::Op& op, spec::Dtype dtype, const spec::Dims& given, Values values,
                     uint64_t seed);

using Outputs = std::vector<std::vector<std::byte>>;

// Runs all units, `pieces` calls one after the other, into poisoned outputs that start `offset`
// bytes after an aligned address. Throws if a byte beside an output changes.
Outputs run_kernel(KernelFunction kernel, const Problem& problem, int64_t units, int pieces,
                   size_t offset);

// MLX's own result; in float32 and rounded once, if asked, whatever the type.
Outputs run_mlx(const Problem& problem, bool in_float32);

// The largest |y - y64| / bound over all elements; infinite where one of both is NaN or infinite
// and the other is not the same.
double bound_used(const Problem& problem, const Outputs& outputs);

// Whether NaN and infinities are in the same places.
bool same_pattern(const Outputs& a, const Outputs& b, spec::Dtype dtype);

// A mistake in an op's first variant: `right`, some text of its source, is replaced by `wrong`.
struct Mistake {
  std::string op;
  spec::Dtype dtype;
  Values values;
  std::string right, wrong;
};

// Checks that the bound of the op accepts the source and rejects the mistake, at that size.
void expect_rejected(const Mistake& mistake, const spec::Dims& size);

}  // namespace mlx_kd::kernels
