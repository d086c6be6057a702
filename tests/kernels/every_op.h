// What the tests of all operators share: lists, sizes and settings.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "mlx_kd/base/random.h"
#include "mlx_kd/kernels/op_table.h"

namespace mlx_kd::kernels {

// A random valid setting; its launch knobs vary too.
spec::Setting random_setting(const spec::Space& space, base::Random& random);

// The valid settings of a space, one by one; how many they are.
void each_valid(const spec::Space& space, const std::function<void(const spec::Setting&)>& visit);
int64_t count_valid(const spec::Space& space);

// The variant of a language; nullptr if the op has none.
const spec::Variant* variant_in(const spec::Op& op, const std::string& language);

// Names of the operators that have a variant of a language.
std::vector<std::string> ops_in(const std::string& language);

// Whether a variant's source takes seconds to compile: a test without MLX_KD_LONG tries fewer
// settings.
inline bool takes_long(const spec::Variant& variant) {
  return variant.source.size() > (32 << 10);
}

// Op::edge_sizes, completed.
std::vector<spec::Dims> edge_sizes(const spec::Op& op);

using Texts = std::vector<std::string>;
Texts sizes_in(const std::string& op, const std::string& suite);  // empty if there is no such suite
Texts names_of(const std::vector<spec::Port>& ports);

}  // namespace mlx_kd::kernels
