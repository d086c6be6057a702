#include "mlx_kd/evaluate/proof/proof.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>

#include "mlx_kd/evaluate/proof/check_output.h"
#include "mlx_kd/evaluate/proof/staged_launch.h"

namespace mlx_kd::evaluate {
namespace {

using Place = FencedBuffer::Place;

// NaN in every type, and a finite number in every type: what stays of both was not written.
constexpr unsigned char kLowPoison = 0xff, kHighPoison = 0x4b;

void refuse(Proof& proof, spec::Status status, const std::string& reason) {
  if (proof.status != spec::Status::benchmarked) return;
  proof.status = status;
  proof.reason = reason;
}

bool is_poison(const void* data, int64_t element, int64_t size, unsigned char pattern) {
  const auto* bytes = static_cast<const unsigned char*>(data) + element * size;
  return std::all_of(bytes, bytes + size, [&](unsigned char b) { return b == pattern; });
}

// The first element in which the two differ.
int64_t first_difference(const void* a, const void* b, int64_t bytes, int64_t size) {
  const auto *x = static_cast<const unsigned char*>(a), *y = static_cast<const unsigned char*>(b);
  return (std::mismatch(x, x + bytes, y).first - x) / size;
}

}  // namespace

void guard_inputs(const CasePlan& plan, std::byte* memory) {
  for (const Case& c : plan.cases) {
    for (size_t i = 0; i < c.inputs.size(); ++i) {
      std::byte* const end = memory + c.inputs[i].offset + c.inputs[i].bytes;
      mprotect(end, static_cast<size_t>(page_bytes()), PROT_NONE);
    }
  }
  const base::Json line = {{"status", "wrong"},
                           {"reason", "it wrote to an input, or read past the end of one"}};
  register_guard(memory, plan.bytes, line.dump());
}

Prover::Prover(const spec::Op& op, spec::Dtype dtype, const CasePlan& plan, size_t sizes,
               const std::byte* memory, const devices::Accelerator* accelerator)
    : op_(op),
      dtype_(dtype),
      plan_(plan),
      sizes_(sizes),
      memory_(memory),
      accelerator_(accelerator) {
  low_ = make_buffers();
  high_ = make_buffers();
}

std::vector<std::unique_ptr<FencedBuffer>> Prover::make_buffers() const {
  std::vector<std::unique_ptr<FencedBuffer>> result;
  for (size_t i = 0; i < op_.outputs.size(); ++i) {
    int64_t largest = 0;
    for (const Case& c : plan_.cases) largest = std::max(largest, c.expected[i].bytes);
    result.push_back(std::make_unique<FencedBuffer>(largest, op_.outputs[i].name));
  }
  return result;
}

Proof Prover::prove(const spec::Candidate& candidate, const devices::Program& program) {
  Proof proof;
  proof.sizes.resize(sizes_);
  const spec::Variant& variant = spec::variant_of(op_, candidate);
  for (const Case& c : plan_.cases) {
    prove_case(c, variant, candidate.knobs, program, proof);
    if (proof.status != spec::Status::benchmarked) break;
  }
  return proof;
}

void Prover::prove_case(const Case& c, const spec::Variant& variant, const spec::Setting& knobs,
                        const devices::Program& program, Proof& proof) {
  const auto low = run(c, variant, knobs, program, Place::low, proof);
  const auto high = run(c, variant, knobs, program, Place::high, proof);
  compare_runs(c, low, high, proof);
  check(c, low, proof);
}

void Prover::launch(const Case& c, const std::vector<const void*>& inputs,
                    const std::vector<void*>& outputs, const devices::Program& program,
                    const devices::Call& call, Proof& proof) const {
  if (!accelerator_) return program.launch(inputs, outputs, call);
  std::vector<HostBytes> from;
  std::vector<HostSpace> to;
  for (size_t i = 0; i < inputs.size(); ++i) from.push_back({inputs[i], c.inputs[i].bytes});
  for (size_t i = 0; i < outputs.size(); ++i) to.push_back({outputs[i], c.expected[i].bytes});
  const int beside = launch_staged(*accelerator_, program, call, from, to);
  if (beside >= 0)
    refuse(proof, spec::Status::wrong,
           "it wrote beside output '" + op_.outputs[static_cast<size_t>(beside)].name + "' (" +
               c.text() + ")");
}

// The outputs of one run on poisoned memory that lies at one end between the guard pages.
std::vector<const void*> Prover::run(const Case& c, const spec::Variant& variant,
                                     const spec::Setting& knobs, const devices::Program& program,
                                     Place place, Proof& proof) {
  std::vector<const void*> inputs;
  for (const Span& span : c.inputs) inputs.push_back(memory_ + span.offset);
  const auto& buffers = place == Place::low ? low_ : high_;
  const unsigned char pattern = place == Place::low ? kLowPoison : kHighPoison;
  std::vector<void*> outputs;
  for (size_t i = 0; i < buffers.size(); ++i)
    outputs.push_back(buffers[i]->poison(c.expected[i].bytes, place, pattern));
  launch(c, inputs, outputs, program, {c.dims, c.params, variant.launch(c.dims, knobs)}, proof);
  for (size_t i = 0; i < buffers.size(); ++i)
    if (!buffers[i]->intact())
      refuse(proof, spec::Status::wrong,
             "it wrote beside output '" + op_.outputs[i].name + "' (" + c.text() + ")");
  return {outputs.begin(), outputs.end()};
}

void Prover::compare_runs(const Case& c, const std::vector<const void*>& low,
                          const std::vector<const void*>& high, Proof& proof) const {
  const int64_t size = spec::size_of(dtype_);
  for (size_t i = 0; i < low.size(); ++i) {
    const int64_t bytes = c.expected[i].bytes;
    if (std::memcmp(low[i], high[i], static_cast<size_t>(bytes)) == 0) continue;
    const int64_t at = first_difference(low[i], high[i], bytes, size);
    const std::string where =
        "element " + std::to_string(at) + " of output '" + op_.outputs[i].name + "' ";
    const bool unwritten =
        is_poison(low[i], at, size, kLowPoison) && is_poison(high[i], at, size, kHighPoison);
    if (unwritten)
      refuse(proof, spec::Status::wrong, where + "was not written (" + c.text() + ")");
    else
      refuse(proof, spec::Status::unstable,
             where + "differs between two runs on the same inputs (" + c.text() + ")");
  }
}

void Prover::check(const Case& c, const std::vector<const void*>& outputs, Proof& proof) const {
  Proof::Errors& errors = proof.sizes[c.size];
  for (size_t i = 0; i < outputs.size(); ++i) {
    const Compared what{outputs[i],
                        memory_ + c.expected[i].offset,
                        reinterpret_cast<const double*>(memory_ + c.y64[i].offset),
                        reinterpret_cast<const float*>(memory_ + c.bound[i].offset),
                        c.expected[i].bytes / spec::size_of(dtype_),
                        dtype_};
    const Comparison found = compare(what);
    errors.bound_used = std::max(errors.bound_used, found.bound_used);
    if (found.first_wrong >= 0)
      refuse(proof, spec::Status::wrong,
             "output '" + op_.outputs[i].name + "': " + explain(what, found.first_wrong) + " (" +
                 c.text() + ")");
    if (c.distribution != Distribution::normal) continue;
    errors.max_abs_err = std::max(errors.max_abs_err, found.max_abs_err);
    errors.max_rel_err = std::max(errors.max_rel_err, found.max_rel_err);
    errors.bit_exact = errors.bit_exact && found.same_bits;
  }
}

}  // namespace mlx_kd::evaluate
