#include "mlx_kd/runtime/cache/cache.h"

#include <algorithm>

#include "mlx_kd/runtime/cache/rows.h"

namespace mlx_kd::runtime::cache {
namespace {

namespace mx = mlx::core;

[[noreturn]] void refuse(const std::string& what) {
  throw std::invalid_argument("[cache] " + what);
}

void check(const Options& options) {
  const auto number = [](int value) { return std::to_string(value); };
  const bool rotates = options.kind == Kind::rotating || options.kind == Kind::quantized_rotating;
  if (options.bits != 4 && options.bits != 8)
    refuse("bits is " + number(options.bits) + ": quantised caches have 4 or 8 bits");
  if (options.group_size != 32 && options.group_size != 64 && options.group_size != 128)
    refuse("group_size is " + number(options.group_size) + ": give 32, 64 or 128");
  if (options.max_size < 0) refuse("max_size is " + number(options.max_size) + ": give 0 or more");
  if (rotates && options.max_size == 0)
    refuse("a cache that rotates needs max_size, the most tokens that are kept");
  if (options.keep < 0 || (rotates && options.keep >= options.max_size))
    refuse("keep is " + number(options.keep) + " of max_size " + number(options.max_size) +
           ": it must be less, or nothing rotates");
  if (options.block_size < 1)
    refuse("block_size is " + number(options.block_size) + ": give 1 or more");
}

}  // namespace

Planes cut(const Planes& planes, int begin, int end, const mx::Stream& s) {
  if (begin == 0 && end >= rows_of(planes)) return planes;
  Planes parts;
  for (const mx::array& x : planes) {
    mx::Shape to = x.shape();
    to[2] = end;
    parts.push_back(mx::slice(x, {0, 0, begin, 0}, to, s));
  }
  return parts;
}

Planes join(const std::vector<Planes>& parts, const mx::Stream& s) {
  Planes joined;
  for (size_t i = 0; i < parts.front().size(); ++i) {
    std::vector<mx::array> pieces;
    for (const Planes& part : parts)
      if (rows_of(part) > 0) pieces.push_back(part[i]);
    joined.push_back(pieces.empty() ? parts.front()[i] : mx::concatenate(std::move(pieces), 2, s));
  }
  return joined;
}

Planes spare(const Planes& planes, int count, const mx::Stream& s) {
  Planes made;
  for (const mx::array& x : planes)
    made.push_back(mx::zeros({x.shape(0), x.shape(1), count, x.shape(3)}, x.dtype(), s));
  return made;
}

Coding coding_of(const Options& options) {
  const Kind kind = options.kind;
  return {
      kind == Kind::quantized || kind == Kind::quantized_rotating || kind == Kind::quantized_paged,
      options.bits, options.group_size};
}

Planes Coding::encode(const mx::array& rows, const mx::Stream& s) const {
  if (!is_coded) return {rows};
  return mx::quantize(rows, group_size, bits, "affine", std::nullopt, s);
}

int Coding::width_of(const Planes& planes) const {
  const int width = planes.front().shape(3);
  return is_coded ? width * 32 / bits : width;
}

void Coding::check_widths(const mx::array& keys, const mx::array& values) const {
  for (const mx::array* x : {&keys, &values})
    if (is_coded && x->shape(3) % group_size != 0)
      refuse("heads are " + std::to_string(x->shape(3)) + " wide, which is not a multiple of " +
             "group_size " + std::to_string(group_size) + ": choose a smaller group");
}

void check_new_rows(const mx::array& keys, const mx::array& values) {
  const mx::Shape &k = keys.shape(), &v = values.shape();
  const bool alike =
      k.size() == 4 && v.size() == 4 && std::equal(k.begin(), k.begin() + 3, v.begin());
  if (!alike || k[2] == 0)
    refuse("keys have shape " + shape_text(k) + " and values " + shape_text(v) +
           ": they must be [B, H, T, D], of equal B, H and T, with a token at least");
  if (keys.dtype() != values.dtype()) refuse("keys and values have different types: give one type");
}

void check_trim(int n) {
  if (n < 0) refuse("trim of " + std::to_string(n) + " tokens: give 0 or more");
}

size_t Cache::nbytes() const {
  size_t bytes = 0;
  for (const mx::array& one : state()) bytes += one.nbytes();
  return bytes;
}

std::vector<std::unique_ptr<Cache>> make(int layers, const Options& options) {
  if (layers < 0) refuse("layers is " + std::to_string(layers) + ": give 0 or more");
  check(options);
  std::vector<std::unique_ptr<Cache>> caches;
  for (int i = 0; i < layers; ++i)
    caches.push_back(options.kind == Kind::paged || options.kind == Kind::quantized_paged
                         ? make_paged(options)
                         : make_unpaged(options));
  return caches;
}

}  // namespace mlx_kd::runtime::cache
