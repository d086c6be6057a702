// How close products of one row of x come to reading their weights: the time of a kernel beside a
// plain read of the same bytes by all cores, directly before and after it. Weights are cold: the
// matrices of a size take turns, 512 MiB of them.
//
//   bench_product_streams [ROUNDS] > bench/results/product_streams.json
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <iostream>
#include <vector>

#include "mlx_kd/base/clock.h"
#include "mlx_kd/base/error.h"
#include "mlx_kd/base/json.h"
#include "mlx_kd/base/version.h"
#include "mlx_kd/devices/device.h"
#include "mlx_kd/devices/host/thread_pool.h"
#include "mlx_kd/kernels/op_table.h"

namespace {

using namespace mlx_kd;
using base::Json;

constexpr int64_t kCold = int64_t(512) << 20;
constexpr int64_t kPart = int64_t(256) << 10;  // bytes a task of the read

struct Size {
  int64_t n, k, bits;  // bits 16: bfloat16 weights
};
constexpr Size kSizes[] = {{2048, 2048, 4},  {5632, 2048, 4},  {2048, 5632, 4}, {32000, 2048, 4},
                           {4096, 4096, 4},  {4096, 14336, 4}, {2048, 2048, 8}, {4096, 4096, 8},
                           {2048, 2048, 16}, {4096, 4096, 16}};

// Memory of the inputs of one call; those that are not weights are shared.
using Arrays = std::vector<std::vector<std::byte>>;

struct Read {
  const std::byte* from;
  int64_t bytes;
};

void read_parts(const void* context, int64_t begin, int64_t end) {
  typedef long Line __attribute__((vector_size(64)));
  const auto& read = *static_cast<const Read*>(context);
  Line sums[4] = {};
  const int64_t last = std::min(end * kPart, read.bytes) - int64_t{sizeof sums};
  for (int64_t at = begin * kPart; at <= last; at += sizeof sums) {
    Line lines[4];
    std::memcpy(lines, read.from + at, sizeof lines);
    for (int i = 0; i < 4; ++i) sums[i] ^= lines[i];
  }
  asm volatile("" : : "m"(sums));
}

double us_since(int64_t start) {
  return 1e6 * base::seconds_since(start);
}

double read_us(const std::vector<std::byte>& memory, int threads) {
  const Read read{memory.data(), static_cast<int64_t>(memory.size())};
  const int64_t parts = (read.bytes + kPart - 1) / kPart;
  const int64_t start = base::steady_ns();
  devices::cpu::ThreadPool::shared().run(threads, parts, (parts + threads - 1) / threads,
                                         read_parts, &read);
  return us_since(start);
}

class Product {
 public:
  Product(const devices::Device& device, const Size& size)
      : op_(kernels::find_op(size.bits == 16 ? "matvec" : "qmatvec")) {
    spec::Dims given = {{"M", 1}, {"N", size.n}, {"K", size.k}};
    if (size.bits < 16) {
      given.set("bits", size.bits);
      given.set("group", 64);
    }
    dims_ = spec::complete(op_, given);
    const spec::Variant& variant = op_.variants.front();
    const spec::Space space = variant.space(kType, device.id().traits);
    const spec::Setting knobs = spec::default_setting(space);
    const auto candidate = spec::make_candidate(op_, variant, kType, knobs, space, dims_);
    const devices::Artifact artifact = device.compile(candidate, 120);
    if (!artifact.ok) base::fail("bench", "the kernel is refused: " + artifact.error);
    program_ = device.load(artifact, candidate);
    call_ = devices::make_call(op_, variant, kType, dims_, knobs, spec::default_scalars(op_));
    fill(size);
  }

  int64_t bytes() const { return bytes_; }
  const std::vector<std::byte>& weights(size_t turn) const { return sets_[turn % sets_.size()][1]; }

  double launch_us(size_t turn) {
    const Arrays& set = sets_[turn % sets_.size()];
    std::vector<const void*> inputs;
    for (const auto& array : set) inputs.push_back(array.data());
    const int64_t start = base::steady_ns();
    program_->launch(inputs, {output_.data()}, call_);
    return us_since(start);
  }

 private:
  static constexpr spec::Dtype kType = spec::Dtype::bfloat16;

  void fill(const Size& size) {
    Arrays first;
    std::vector<void*> pointers;
    for (const spec::Port& port : op_.inputs)
      first.emplace_back(static_cast<size_t>(spec::array_of(port, kType, dims_).bytes()));
    for (auto& array : first) pointers.push_back(array.data());
    op_.fill({pointers, kType, dims_, call_.scalars, spec::Distribution::normal, 1});
    for (size_t i = 1; i < first.size() && i <= (size.bits == 16 ? 1u : 3u); ++i)
      bytes_ += static_cast<int64_t>(first[i].size());
    const int64_t copies = std::max<int64_t>(2, kCold / bytes_);
    for (int64_t i = 0; i < copies; ++i) sets_.push_back(first);
    output_.resize(static_cast<size_t>(spec::array_of(op_.outputs[0], kType, dims_).bytes()));
  }

  const spec::Op& op_;
  spec::Dims dims_;
  std::shared_ptr<devices::Program> program_;
  devices::Call call_;
  std::vector<Arrays> sets_;
  std::vector<std::byte> output_;
  int64_t bytes_ = 0;
};

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

double rounded(double value, double parts) {
  return std::round(value * parts) / parts;
}

// The 95 % interval of a median by its order statistics.
Json interval_of(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const auto count = static_cast<double>(values.size());
  const double half = 0.98 * std::sqrt(count);
  const auto at = [&](double place) {
    return rounded(values[static_cast<size_t>(std::clamp(place, 0.0, count - 1))], 1000);
  };
  return {at(count / 2 - half), at(count / 2 + half)};
}

Json measure(const devices::Device& device, const Size& size, int rounds) {
  Product product(device, size);
  const int threads = std::max(1, device.id().traits.cores);
  std::vector<double> shares, kernels, reads;
  size_t turn = 0;
  product.launch_us(turn++);
  for (int i = 0; i < rounds; ++i) {
    // The reads scale to the bytes of all weights, scales and biases among them.
    const auto stream = [&] {
      const auto& memory = product.weights(turn++);
      return read_us(memory, threads) * static_cast<double>(product.bytes()) /
             static_cast<double>(memory.size());
    };
    const double before = stream(), kernel = product.launch_us(turn++), after = stream();
    shares.push_back((before + after) / 2 / kernel);
    kernels.push_back(kernel);
    reads.push_back((before + after) / 2);
  }
  const auto gb_s = [&](double us) {
    return rounded(static_cast<double>(product.bytes()) / us / 1e3, 10);
  };
  return {{"n", size.n},
          {"k", size.k},
          {"bits", size.bits},
          {"us", rounded(median(kernels), 10)},
          {"kernel_gb_s", gb_s(median(kernels))},
          {"read_gb_s", gb_s(median(reads))},
          {"share", rounded(median(shares), 1000)},
          {"interval", interval_of(shares)}};
}

std::string now() {
  const std::time_t seconds = std::time(nullptr);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", std::gmtime(&seconds));
  return text;
}

}  // namespace

int main(int argc, char** argv) try {
  const int rounds = argc > 1 ? std::atoi(argv[1]) : 101;
  if (rounds < 5) base::misuse("bench", "ROUNDS is below 5: give more");
  const auto device = devices::open_device("cpu");
  Json rows = Json::array();
  for (const Size& size : kSizes) {
    rows.push_back(measure(*device, size, rounds));
    std::cerr << rows.back().dump() << std::endl;
  }
  const Json result = {
      {"what", "products of one row with cold weights beside a plain read of the same bytes"},
      {"date", now()},
      {"machine", {{"cpu", device->id().name}, {"cores", device->id().traits.cores}}},
      {"versions", {{"mlx_kd", base::version()}}},
      {"rounds", rounds},
      {"rows", rows}};
  std::cout << result.dump(1) << std::endl;
  return 0;
} catch (const std::exception& error) {
  std::cerr << error.what() << std::endl;
  return 1;
}
