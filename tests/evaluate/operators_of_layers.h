// What a model calls beside its products, and has kernels in C++ for.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "mlx_kd/kernels/op_table.h"

namespace mlx_kd::evaluate {

inline const std::vector<std::string> kOperatorsOfLayers = {"rmsnorm",
                                                            "rmsnorm_residual",
                                                            "layernorm",
                                                            "rope",
                                                            "rope_standard",
                                                            "qk_norm_rope",
                                                            "qk_norm_rope_append",
                                                            "qk_norm_rope_append_paged",
                                                            "qk_norm_rope_append_quantized",
                                                            "qk_norm_rope_append_paged_quantized",
                                                            "kv_append",
                                                            "kv_append_quantized",
                                                            "attention",
                                                            "attention_paged",
                                                            "attention_quantized",
                                                            "attention_paged_quantized",
                                                            "swiglu",
                                                            "precise_swiglu",
                                                            "swiglu_oai",
                                                            "geglu",
                                                            "relu2",
                                                            "soft_cap",
                                                            "router",
                                                            "expert_combine",
                                                            "qembedding",
                                                            "mlstm_step",
                                                            "greedy_token",
                                                            "sample_tokens"};

// The op's first variant in C++; every one of these has one.
inline const spec::Variant& first_in_cpp(const spec::Op& op) {
  return *std::find_if(op.variants.begin(), op.variants.end(),
                       [](const spec::Variant& variant) { return variant.language == "cpp"; });
}

}  // namespace mlx_kd::evaluate
