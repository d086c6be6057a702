#include "mlx_kd/evaluate/worker/session.h"

#include <mlx/device.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <exception>

#include "mlx_kd/base/clock.h"
#include "mlx_kd/base/error.h"
#include "mlx_kd/evaluate/proof/process_watch.h"
#include "mlx_kd/evaluate/proof/references.h"
#include "mlx_kd/evaluate/time/statistics.h"
#include "mlx_kd/kernels/op_table.h"
#include "mlx_kd/kernels/user_kernel.h"

namespace mlx_kd::evaluate {
namespace {

EvaluateOptions floors_of(const Setup& setup) {
  EvaluateOptions options;
  options.warmup = setup.warmup;
  options.iters = setup.iters;
  return options;
}

// A kernel may do this share of its operations' time at the measured rate: integer dot products do
// four times the operations of float32 ones.
constexpr double kFlopsShare = 0.2;

// A kernel gets its scratch memory from us, and needs little of its own.
constexpr int64_t kKernelMemory = int64_t(1) << 30;

// Whether the C library's clock has run as the system's has, since this was made.
class ClockCheck {
 public:
  bool agrees() const {
    const int64_t told = base::steady_ns() - told_, passed = base::system_call_ns() - passed_;
    return std::abs(told - passed) <= passed / 10 + 1000000;
  }

 private:
  int64_t told_ = base::steady_ns(), passed_ = base::system_call_ns();
};

}  // namespace

base::Json launch_error(const std::exception& error) {
  return {{"status", name_of(spec::Status::launch_error)}, {"reason", error.what()}};
}

base::Json to_json(const Proof& proof) {
  base::Json sizes = base::Json::array();
  for (const auto& e : proof.sizes)
    sizes.push_back({{"max_abs_err", e.max_abs_err},
                     {"max_rel_err", e.max_rel_err},
                     {"bound_used", e.bound_used},
                     {"bit_exact", e.bit_exact}});
  return {{"status", name_of(proof.status)}, {"reason", proof.reason}, {"errors", sizes}};
}

Session::Session(const Setup& setup, int memory_fd, std::function<int()> open_memory)
    : setup_(setup),
      op_(setup.description.is_null() ? kernels::find_op(setup.op_name)
                                      : kernels::add_user_op(setup.description)),
      device_(devices::open_device(setup.device_kind)),
      protocol_(protocol_for(floors_of(setup), device_->accelerator() != nullptr)),
      plan_(plan_cases(op_, setup.dtype, setup.sizes, setup.params, protocol_)),
      memory_(SharedMemory::adopt(memory_fd, plan_.bytes)),
      open_memory_(std::move(open_memory)),
      random_(setup.seed) {
  devices::check_types(*device_, op_, setup.dtype, setup.sizes.front());
  if (!device_->accelerator()) mlx::core::set_default_device(mlx::core::Device::cpu);
}

base::Json Session::prepare() {
  const int64_t start = base::steady_ns();
  std::byte* const memory = memory_.map(true);
  for (const Case& c : plan_.cases) prepare_case(op_, setup_.dtype, c, protocol_, memory);
  prepare_inputs(op_, setup_.dtype, plan_.watched, memory);
  return {{"seconds", base::seconds_since(start)}};
}

base::Json Session::bandwidth() {
  bandwidth_ = measure_bandwidth(*device_);
  return {{"bandwidth", to_json(bandwidth_)}};
}

Prover& Session::prover() {
  if (!prover_) {
    std::byte* const memory = memory_.map(false);
    memory_.close_descriptor();
    hide_references(plan_, memory);
    guard_inputs(plan_, memory);
    prover_ = std::make_unique<Prover>(op_, setup_.dtype, plan_, setup_.sizes.size(), memory,
                                       device_->accelerator(), [this] { return references(); });
  }
  return *prover_;
}

std::shared_ptr<const std::byte> Session::references() const {
  const int fd = open_memory_();
  if (fd < 0) base::fail("evaluate", "the references cannot be read again: run the command again");
  const auto memory = std::make_shared<SharedMemory>(SharedMemory::adopt(fd, plan_.bytes));
  return {memory, memory->map(false)};
}

TimingBuffers& Session::buffers(size_t size) {
  prover();  // maps the memory that inputs are copied from
  const auto [at, added] = buffers_.try_emplace(
      size, op_, setup_.dtype, setup_.sizes[size], timed_case(size), memory_.data(),
      device_->id().traits.l2_bytes, bandwidth_, protocol_, device_->accelerator());
  return at->second;
}

Loaded Session::load(const base::Json& request) {
  Loaded result{candidate_from_json(request.at("candidate")), nullptr};
  result.program = device_->load(artifact_from_json(request.at("artifact")), result.candidate);
  return result;
}

const Loaded& Session::incumbent(const base::Json& request) {
  if (!incumbent_ || incumbent_->candidate.id() != candidate_from_json(request["candidate"]).id())
    incumbent_ = load(request);
  return *incumbent_;
}

devices::Call Session::call(const Loaded& what, const spec::Dims& dims,
                            const std::vector<double>& scalars) const {
  return devices::make_call(op_, spec::variant_of(op_, what.candidate), setup_.dtype, dims,
                            what.candidate.knobs, scalars);
}

Timed Session::timed(const Loaded& what, size_t size) const {
  return {what.program.get(), call(what, setup_.sizes[size], setup_.params)};
}

void Session::check_accesses(const Loaded& loaded, Proof& proof) {
  const Case& c = plan_.watched;
  std::vector<std::span<const std::byte>> inputs;
  for (const Span& span : c.inputs)
    inputs.emplace_back(memory_.data() + span.offset, static_cast<size_t>(span.bytes));
  std::vector<size_t> output_bytes;
  for (const OutputSpans& output : c.outputs)
    output_bytes.push_back(static_cast<size_t>(output.array.bytes()));
  const auto faults =
      device_->check(loaded.candidate, inputs, output_bytes, call(loaded, c.dims, c.scalars));
  if (faults.empty()) return;
  proof.status = spec::Status::wrong;
  proof.reason = faults.front();
  if (faults.size() > 1) proof.reason += " (and " + std::to_string(faults.size() - 1) + " more)";
}

base::Json Session::prove(const base::Json& request) try {
  const Loaded loaded = load(request);
  Prover& ready = prover();
  const MemoryLimit limit(kKernelMemory);
  Proof proof = ready.prove(loaded.candidate, *loaded.program);
  if (proof.status == spec::Status::benchmarked && device_->checks()) check_accesses(loaded, proof);
  return to_json(proof);
} catch (const std::exception& error) {
  return launch_error(error);
}

KernelTimes Session::time_size(const Loaded& candidate, const Loaded* incumbent, size_t size,
                               int pairs) {
  TimingBuffers& memory = buffers(size);
  const Timed mine = timed(candidate, size);
  const auto theirs = incumbent ? std::optional(timed(*incumbent, size)) : std::nullopt;
  const Timed* const other = theirs ? &*theirs : nullptr;
  return pairs > 0 ? time_fixed(mine, other, pairs, memory, protocol_, random_)
                   : time_pairs(mine, other, memory, protocol_, random_);
}

spec::SizeMetrics Session::metrics_of(const KernelTimes& times, size_t size) {
  spec::SizeMetrics result{setup_.sizes[size], {}};
  spec::Metrics& m = result.metrics;
  m.kernel_us = median(times.us);
  m.p10_us = percentile(times.us, 0.1);
  m.p90_us = percentile(times.us, 0.9);
  m.log_ratio = times.log_ratios.empty() ? 0 : median(times.log_ratios);
  m.gbps_est = 1e-3 * spec::cost_of(op_, setup_.sizes[size], setup_.dtype).bytes / m.kernel_us;
  m.cold = buffers(size).cold();
  return result;
}

double Session::least_possible_us(size_t size) {
  const double rate = buffers(size).cold() ? bandwidth_.cold : bandwidth_.warm;
  const spec::Cost cost = spec::cost_of(op_, setup_.sizes[size], setup_.dtype);
  const double bytes_us = protocol_.roofline_share * cost.bytes / rate;
  return bandwidth_.flops > 0 ? std::max(bytes_us, kFlopsShare * cost.flops / bandwidth_.flops)
                              : bytes_us;
}

void Session::check_roofline(const spec::SizeMetrics& size, size_t index, Proof& proof) {
  if (proof.status != spec::Status::benchmarked) return;
  if (size.metrics.kernel_us >= least_possible_us(index)) return;
  // The copies may have been disturbed where the kernel was not.
  const Bandwidth again = measure_bandwidth(*device_);
  bandwidth_ = {std::max(bandwidth_.warm, again.warm), std::max(bandwidth_.cold, again.cold),
                std::max(bandwidth_.flops, again.flops)};
  const double least_us = least_possible_us(index);
  if (size.metrics.kernel_us >= least_us) return;
  proof.status = spec::Status::suspicious;
  proof.reason = size.dims.text() + " took " + std::to_string(size.metrics.kernel_us) +
                 " us, and copying its bytes, or its operations, takes at least " +
                 std::to_string(least_us);
}

// On the very memory that was timed, with other numbers: a kernel that remembers is found out.
void Session::prove_after_timing(const Loaded& candidate, Proof& proof) {
  const Case& c = plan_.cases[plan_.after_timing];
  TimingBuffers& memory = buffers(c.size);
  memory.load(c, memory_.data(), 0);
  const auto& set = memory.set(0);
  memory.poison(0, 0xff);
  candidate.program->launch(set.inputs, set.outputs, call(candidate, c.dims, c.scalars));
  std::vector<int64_t> bytes;
  for (const OutputSpans& output : c.outputs) bytes.push_back(output.array.bytes());
  const auto made = memory.read(0, bytes);
  std::vector<const void*> outputs;
  for (const auto& output : made) outputs.push_back(output.data());
  prover().check(c, spec::variant_of(op_, candidate.candidate), outputs, proof);
  memory.load(timed_case(c.size), memory_.data(), 0);
}

base::Json Session::time(const base::Json& request) try {
  const ClockCheck clock;
  const Loaded loaded = load(request);
  const base::Json& other = request.at("incumbent");
  const Loaded* const theirs = other.is_null() ? nullptr : &incumbent(other);
  Proof proof;
  proof.sizes.resize(setup_.sizes.size());
  const base::Json pairs = request.value("pairs", base::Json());
  std::vector<KernelTimes> times;
  std::vector<spec::SizeMetrics> sizes;
  for (size_t i = 0; i < setup_.sizes.size(); ++i) {
    times.push_back(time_size(loaded, theirs, i, pairs.is_null() ? 0 : pairs.get<int>()));
    sizes.push_back(metrics_of(times.back(), i));
  }
  prove_after_timing(loaded, proof);
  if (!clock.agrees() && proof.status == spec::Status::benchmarked) {
    proof.status = spec::Status::suspicious;
    proof.reason = "the clock ran differently while it was timed: it changes how the clock runs";
  }
  for (size_t i = 0; i < sizes.size(); ++i) check_roofline(sizes[i], i, proof);
  base::Json metrics = base::Json::array();
  for (const auto& size : sizes) metrics.push_back(to_json(size.metrics));
  base::Json reply = {
      {"status", name_of(proof.status)}, {"reason", proof.reason}, {"sizes", metrics}};
  if (!pairs.is_null()) reply["wins"] = pairs_won(times);
  return reply;
} catch (const std::exception& error) {
  return launch_error(error);
}

}  // namespace mlx_kd::evaluate
