// Rows as codes, scales and biases, by MLX's affine rule: what affine_rows.cpu.h computes.
#pragma once

#include <array>
#include <cstddef>
#include <functional>
#include <string>
#include <vector>

#include "mlx_kd/spec/op/port.h"

namespace mlx_kd::kernels {

// "" or what is wrong with a code of so many bits in such groups.
std::string wrong_code(int64_t bits, int64_t group);

// Shapes of the codes of rows (B, heads, S, width), and of their scales and biases.
std::function<spec::Shape(const spec::Dims&)> codes_of(const char* heads, const char* width);
std::function<spec::Shape(const spec::Dims&)> groups_of(const char* heads, const char* width);
// The same of pages (P, heads, L, width).
std::function<spec::Shape(const spec::Dims&)> codes_of_pages(const char* heads, const char* width);
std::function<spec::Shape(const spec::Dims&)> groups_of_pages(const char* heads, const char* width);

struct CodedMemory {
  std::byte *codes, *scales, *biases;
};

// Group g of one row: `x` has the elements.
void quantize_group(const std::vector<float>& x, int64_t bits, spec::Dtype t, int64_t g,
                    const CodedMemory& to);

// `width` elements from `from` on, as a row of codes in groups of `group`.
void quantize_row(const void* from, int64_t first, int64_t width, int64_t bits, int64_t group,
                  spec::Dtype t, const CodedMemory& to);

}  // namespace mlx_kd::kernels
