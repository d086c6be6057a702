// A copy walks the elements in the order of the result. Large ones are written by whole cache lines
// past the caches: an ordinary store would first read the line that it fills.
#include "mlx_kd/runtime/wire/tensor.h"

#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include "mlx_kd/base/error.h"
#include "mlx_kd/devices/host/memory/buffer_pool.h"
#include "mlx_kd/devices/host/thread_pool.h"

namespace mlx_kd::runtime::wire {
namespace {

namespace mx = mlx::core;

constexpr int64_t kLine = 64;
constexpr int64_t kLarge = int64_t(1)
                           << 20;  // bytes: shared by threads and written past the caches

struct TypeName {
  const char* name;
  mx::Dtype type;
};

const std::array<TypeName, 14>& type_names() {
  static const std::array<TypeName, 14> names = {{{"bool", mx::bool_},
                                                  {"uint8", mx::uint8},
                                                  {"uint16", mx::uint16},
                                                  {"uint32", mx::uint32},
                                                  {"uint64", mx::uint64},
                                                  {"int8", mx::int8},
                                                  {"int16", mx::int16},
                                                  {"int32", mx::int32},
                                                  {"int64", mx::int64},
                                                  {"float16", mx::float16},
                                                  {"bfloat16", mx::bfloat16},
                                                  {"float32", mx::float32},
                                                  {"float64", mx::float64},
                                                  {"complex64", mx::complex64}}};
  return names;
}

const mx::Dtype* type_named(const std::string& name) {
  for (const TypeName& one : type_names())
    if (name == one.name) return &one.type;
  return nullptr;
}

std::string name_of(mx::Dtype type) {
  for (const TypeName& one : type_names())
    if (type == one.type) return one.name;
  base::misuse("wire", "arrays of this type are not sent: convert them to a type that MLX names");
}

// A line, past the caches; `to` is at the begin of one.
void write_line(std::byte* to, const std::byte* from) {
#if defined(__SSE2__)
  for (int64_t at = 0; at < kLine; at += 16)
    _mm_stream_si128(reinterpret_cast<__m128i*>(to + at),
                     _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + at)));
#else
  std::memcpy(to, from, kLine);
#endif
}

// Takes bytes in order and writes them from `to` on, a whole line at a time: one that begins in a
// run and ends in the next is put together here.
class LineWriter {
 public:
  explicit LineWriter(std::byte* to) : to_(to) {
    room_ = kLine - static_cast<int64_t>(reinterpret_cast<uintptr_t>(to) % kLine);
  }
  void add(const std::byte* from, int64_t bytes) {
    if (held_ > 0 || room_ < kLine) {
      const int64_t now = std::min(bytes, room_ - held_);
      hold(from, now);
      from += now, bytes -= now;
    }
    for (; bytes >= kLine; from += kLine, bytes -= kLine, to_ += kLine) write_line(to_, from);
    if (bytes > 0) hold(from, bytes);
  }
  ~LineWriter() {
    std::memcpy(to_, line_, static_cast<size_t>(held_));
#if defined(__SSE2__)
    _mm_sfence();
#endif
  }

 private:
  void hold(const std::byte* from, int64_t bytes) {
    std::memcpy(line_ + held_, from, static_cast<size_t>(bytes));
    held_ += bytes;
    if (held_ < room_) return;
    if (room_ == kLine)
      write_line(to_, line_);
    else
      std::memcpy(to_, line_, static_cast<size_t>(held_));  // the first, up to a line's begin
    to_ += held_;
    held_ = 0, room_ = kLine;
  }

  alignas(kLine) std::byte line_[kLine];
  std::byte* to_;
  int64_t held_ = 0, room_;
};

class PlainWriter {
 public:
  explicit PlainWriter(std::byte* to) : to_(to) {}
  void add(const std::byte* from, int64_t bytes) {
    std::memcpy(to_, from, static_cast<size_t>(bytes));
    to_ += bytes;
  }

 private:
  std::byte* to_;
};

// A tensor with neighbouring axes joined where the memory allows it; strides and `run` in bytes.
struct Walk {
  const std::byte* data;
  std::vector<int64_t> shape, strides;  // of the axes before the run
  int64_t run;

  int64_t outer() const { return shape.empty() ? 1 : shape.front(); }
  int64_t bytes_of_one() const {  // of the first axis
    int64_t bytes = run;
    for (size_t i = 1; i < shape.size(); ++i) bytes *= shape[i];
    return bytes;
  }
};

Walk walk_of(const Tensor& tensor) {
  Walk walk{tensor.data, {}, {}, tensor.element_bytes()};
  const int64_t element = walk.run;
  for (size_t i = 0; i < tensor.shape.size(); ++i) {
    const int64_t length = tensor.shape[i], stride = tensor.strides[i] * element;
    if (length == 1) continue;
    if (!walk.shape.empty() && walk.strides.back() == length * stride) {
      walk.shape.back() *= length, walk.strides.back() = stride;
    } else {
      walk.shape.push_back(length), walk.strides.push_back(stride);
    }
  }
  if (!walk.shape.empty() && walk.strides.back() == walk.run) {
    walk.run *= walk.shape.back();
    walk.shape.pop_back(), walk.strides.pop_back();
  }
  return walk;
}

template <class Writer>
void write_axis(const Walk& walk, size_t axis, const std::byte* from, Writer& writer) {
  if (axis >= walk.shape.size()) return writer.add(from, walk.run);
  for (int64_t i = 0; i < walk.shape[axis]; ++i, from += walk.strides[axis])
    write_axis(walk, axis + 1, from, writer);
}

template <class Writer>
void write_part(const Walk& walk, std::byte* to, int64_t begin, int64_t end) {
  Writer writer(to + begin * walk.bytes_of_one());
  if (walk.shape.empty()) return writer.add(walk.data, walk.run);
  for (int64_t i = begin; i < end; ++i)
    write_axis(walk, 1, walk.data + i * walk.strides.front(), writer);
}

// A single run, cut so that threads can share it.
void cut_run(Walk& walk) {
  constexpr int64_t piece = int64_t(1) << 16;
  if (!walk.shape.empty() || walk.run % piece != 0) return;
  walk.shape = {walk.run / piece}, walk.strides = {piece};
  walk.run = piece;
}

struct Job {
  const Walk& walk;
  std::byte* to;
};

}  // namespace

int64_t Tensor::element_bytes() const {
  const mx::Dtype* type = type_named(dtype);
  return type ? mx::size_of(*type) : 0;
}

int64_t Tensor::bytes() const {
  int64_t bytes = element_bytes();
  for (const int64_t length : shape) bytes *= length;
  return bytes;
}

Tensor tensor_of(mx::array& array) {
  array.eval();
  Tensor tensor{name_of(array.dtype()), {}, {}, nullptr};
  tensor.shape.assign(array.shape().begin(), array.shape().end());
  tensor.strides.assign(array.strides().begin(), array.strides().end());
  if (array.size() > 0) tensor.data = array.data<std::byte>();
  return tensor;
}

Tensor with_axes(const Tensor& tensor, const std::vector<int>& order) {
  Tensor result{tensor.dtype, {}, {}, tensor.data};
  for (const int axis : order) {
    result.shape.push_back(tensor.shape.at(static_cast<size_t>(axis)));
    result.strides.push_back(tensor.strides.at(static_cast<size_t>(axis)));
  }
  return result;
}

Tensor contiguous(std::string dtype, std::vector<int64_t> shape, const std::byte* data) {
  Tensor tensor{std::move(dtype), std::move(shape), {}, data};
  tensor.strides.assign(tensor.shape.size(), 1);
  // Without an element other axes may be of any length, and their product of none.
  const auto& lengths = tensor.shape;
  if (std::find(lengths.begin(), lengths.end(), 0) != lengths.end()) return tensor;
  for (size_t i = lengths.size(); i-- > 1;) tensor.strides[i - 1] = tensor.strides[i] * lengths[i];
  return tensor;
}

void prefer_large_pages(std::byte* memory, int64_t bytes) {
#ifdef MADV_HUGEPAGE
  constexpr uintptr_t page = uintptr_t(2) << 20;
  const auto begin = reinterpret_cast<uintptr_t>(memory);
  const uintptr_t first = (begin + page - 1) / page * page;
  const uintptr_t last = (begin + static_cast<uintptr_t>(bytes)) / page * page;
  if (last > first) madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
#else
  (void)memory, (void)bytes;
#endif
}

void copy(const Tensor& tensor, std::byte* to) {
  const int64_t bytes = tensor.bytes();
  if (bytes == 0) return;
  Walk walk = walk_of(tensor);
  if (bytes < kLarge) return write_part<PlainWriter>(walk, to, 0, walk.outer());
  cut_run(walk);
  const Job job{walk, to};
  const int64_t grain = std::max<int64_t>(1, (int64_t(1) << 18) / walk.bytes_of_one());
  devices::cpu::ThreadPool::shared().run(
      1 << 10, walk.outer(), grain,
      [](const void* context, int64_t begin, int64_t end) {
        const Job& one = *static_cast<const Job*>(context);
        write_part<LineWriter>(one.walk, one.to, begin, end);
      },
      &job);
}

mx::array to_array(const Tensor& tensor) {
  const mx::Dtype* type = type_named(tensor.dtype);
  if (!type) base::misuse("wire", "'" + tensor.dtype + "' is not a type of MLX");
  mx::Shape shape(tensor.shape.begin(), tensor.shape.end());
  mx::allocator::Data memory =
      devices::cpu::output_memory(static_cast<size_t>(std::max<int64_t>(1, tensor.bytes())));
  mx::allocator::Buffer buffer = memory.buffer();
  copy(tensor, static_cast<std::byte*>(buffer.raw_ptr()));
  return mx::array(std::move(memory), std::move(shape), *type);
}

}  // namespace mlx_kd::runtime::wire
