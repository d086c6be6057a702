#include "mlx_kd/evaluate/proof/proof.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <iterator>

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

std::string number_text(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.4g", value);
  return text;
}

// The first element in which the two differ.
int64_t first_difference(const void* a, const void* b, int64_t bytes, int64_t size) {
  const auto *x = static_cast<const unsigned char*>(a), *y = static_cast<const unsigned char*>(b);
  return (std::mismatch(x, x + bytes, y).first - x) / size;
}

}  // namespace

// Other memory lies in its place, so that the mapping can still be given back whole.
void hide_references(const CasePlan& plan, std::byte* memory) {
  const auto hide = [&](const Span& span) {
    if (span.bytes > 0)
      mmap(memory + span.offset, static_cast<size_t>(round_up(span.bytes, page_bytes())), PROT_NONE,
           MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
  };
  for (const Case& c : plan.cases)
    for (const OutputSpans& output : c.outputs)
      for (const Span& span : {output.expected, output.y64, output.bound, output.terms}) hide(span);
}

void guard_inputs(const CasePlan& plan, std::byte* memory) {
  const auto guard = [&](const Case& c) {
    for (const Span& span : c.inputs)
      mprotect(memory + span.offset + span.bytes, static_cast<size_t>(page_bytes()), PROT_NONE);
  };
  for (const Case& c : plan.cases) guard(c);
  guard(plan.watched);
  const base::Json line = {{"status", "wrong"},
                           {"reason", "it wrote to an input, or read past the end of one"}};
  register_guard(memory, plan.bytes, line.dump());
}

Prover::Prover(const spec::Op& op, spec::Dtype t, const CasePlan& plan, size_t sizes,
               const std::byte* memory, const devices::Accelerator* accelerator,
               References references)
    : op_(op),
      t_(t),
      plan_(plan),
      sizes_(sizes),
      memory_(memory),
      references_(std::move(references)),
      accelerator_(accelerator) {
  if (!references_)
    references_ = [memory] {
      return std::shared_ptr<const std::byte>(std::shared_ptr<void>(), memory);
    };
  low_ = make_buffers();
  high_ = make_buffers();
}

std::vector<std::unique_ptr<FencedBuffer>> Prover::make_buffers() const {
  std::vector<std::unique_ptr<FencedBuffer>> result;
  for (size_t i = 0; i < op_.outputs.size(); ++i) {
    int64_t largest = 0;
    for (const Case& c : plan_.cases) largest = std::max(largest, c.outputs[i].array.bytes());
    result.push_back(std::make_unique<FencedBuffer>(largest, op_.outputs[i].name));
  }
  return result;
}

// Ports that take views get one kind after the other.
Proof Prover::prove(const spec::Candidate& candidate, const devices::Program& program,
                    std::optional<size_t> size) {
  constexpr ViewKind kViews[] = {ViewKind::row_major, ViewKind::gaps, ViewKind::transposed};
  Proof proof;
  proof.sizes.resize(sizes_);
  ProcessWatch watch;
  const Kernel kernel{spec::variant_of(op_, candidate), candidate.knobs, program,
                      candidate.language == "cpp" ? &watch : nullptr};
  for (size_t i = 0; i < plan_.cases.size(); ++i) {
    if (size && plan_.cases[i].size != *size) continue;
    prove_case(plan_.cases[i], kernel, kViews[i % std::size(kViews)], proof);
    if (proof.status != spec::Status::benchmarked) break;
  }
  return proof;
}

void Prover::prove_case(const Case& c, const Kernel& kernel, ViewKind view, Proof& proof) {
  const auto low = run(c, kernel, view, Place::low, proof);
  const auto high = run(c, kernel, view, Place::high, proof);
  compare_runs(c, low, high, proof);
  check(c, kernel.variant, low, proof);
}

std::vector<const void*> Prover::inputs_of(const Case& c) const {
  std::vector<const void*> inputs;
  for (const Span& span : c.inputs) inputs.push_back(memory_ + span.offset);
  return inputs;
}

void Prover::launch(const Case& c, const std::vector<const void*>& inputs,
                    const std::vector<void*>& outputs, const devices::Program& program,
                    const devices::Call& call, Proof& proof) const {
  if (!accelerator_) return program.launch(inputs, outputs, call);
  std::vector<HostBytes> from;
  std::vector<HostSpace> to;
  for (size_t i = 0; i < inputs.size(); ++i)
    from.push_back({inputs[i], span_bytes(call.inputs[i])});
  for (size_t i = 0; i < outputs.size(); ++i)
    to.push_back({outputs[i], c.outputs[i].array.bytes()});
  const int outside = launch_staged(*accelerator_, program, call, from, to);
  if (outside >= 0)
    refuse(proof, spec::Status::wrong,
           "it wrote outside the bounds of output '" +
               op_.outputs[static_cast<size_t>(outside)].name + "' (" + c.text() + ")");
}

// The outputs of one run on poisoned memory that lies at one end between the guard pages. An output
// that updates an input begins as a copy of it, and the kernel gets the copy for both.
std::vector<const void*> Prover::run(const Case& c, const Kernel& kernel, ViewKind view,
                                     Place place, Proof& proof) {
  devices::Call call = devices::make_call(op_, kernel.variant, t_, c.dims, kernel.knobs, c.scalars);
  std::vector<const void*> inputs = inputs_of(c);
  std::vector<std::vector<std::byte>> views;
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (!call.is_strided(i)) continue;
    call.inputs[i] = view_of(call.inputs[i], view);
    if (call.inputs[i].strides.empty()) continue;
    inputs[i] = views.emplace_back(laid_out(inputs[i], call.inputs[i])).data();
  }
  const auto& buffers = place == Place::low ? low_ : high_;
  const unsigned char pattern = place == Place::low ? kLowPoison : kHighPoison;
  std::vector<void*> outputs;
  for (size_t i = 0; i < buffers.size(); ++i) {
    const int64_t bytes = c.outputs[i].array.bytes();
    outputs.push_back(buffers[i]->poison(bytes, place, pattern));
    const int updated = call.updated_input(i);
    if (updated < 0) continue;
    std::memcpy(outputs[i], inputs[static_cast<size_t>(updated)], static_cast<size_t>(bytes));
    inputs[static_cast<size_t>(updated)] = outputs[i];
  }
  launch(c, inputs, outputs, kernel.program, call, proof);
  const std::string change = kernel.watch ? kernel.watch->change() : "";
  if (!change.empty()) refuse(proof, spec::Status::wrong, change + " (" + c.text() + ")");
  for (size_t i = 0; i < buffers.size(); ++i)
    if (!buffers[i]->intact())
      refuse(
          proof, spec::Status::wrong,
          "it wrote outside the bounds of output '" + op_.outputs[i].name + "' (" + c.text() + ")");
  return {outputs.begin(), outputs.end()};
}

void Prover::compare_runs(const Case& c, const std::vector<const void*>& low,
                          const std::vector<const void*>& high, Proof& proof) const {
  for (size_t i = 0; i < low.size(); ++i) {
    const int64_t bytes = c.outputs[i].array.bytes();
    const int64_t size = spec::size_of(c.outputs[i].array.type);
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

void Prover::check(const Case& c, const spec::Variant& variant,
                   const std::vector<const void*>& outputs, Proof& proof) const {
  const std::shared_ptr<const std::byte> references = references_();
  for (size_t i = 0; i < outputs.size(); ++i) {
    if (op_.outputs[i].judge == spec::Judge::bound)
      check_bound(c, i, variant, outputs[i], references.get(), proof);
    else if (op_.outputs[i].judge == spec::Judge::exact)
      check_exact(c, i, outputs[i], references.get(), proof);
  }
  if (judged_by(op_, spec::Judge::residuals)) check_residuals(c, outputs, proof);
}

void Prover::check_bound(const Case& c, size_t output, const spec::Variant& variant,
                         const void* made, const std::byte* references, Proof& proof) const {
  const OutputSpans& spans = c.outputs[output];
  const auto* bound = reinterpret_cast<const float*>(references + spans.bound.offset);
  std::vector<float> wider;
  if (!variant.approximate.empty()) {
    const auto* terms = reinterpret_cast<const float*>(references + spans.terms.offset);
    wider.assign(bound, bound + spans.array.elements());
    for (size_t k = 0; k < wider.size(); ++k)
      wider[k] += static_cast<float>(variant.approximate_terms) * terms[k];
    bound = wider.data();
  }
  const Compared what{made,
                      references + spans.expected.offset,
                      reinterpret_cast<const double*>(references + spans.y64.offset),
                      bound,
                      spans.array.elements(),
                      spans.array.type};
  const Comparison found = compare(what);
  Proof::Errors& errors = proof.sizes[c.size];
  errors.bound_used = std::max(errors.bound_used, found.bound_used);
  if (found.first_wrong >= 0)
    refuse(proof, spec::Status::wrong,
           "output '" + op_.outputs[output].name + "': " + explain(what, found.first_wrong) + " (" +
               c.text() + ")");
  if (c.distribution != spec::Distribution::normal) return;
  errors.max_abs_err = std::max(errors.max_abs_err, found.max_abs_err);
  errors.max_rel_err = std::max(errors.max_rel_err, found.max_rel_err);
  errors.bit_exact = errors.bit_exact && found.same_bits && op_.mlx;
}

void Prover::check_exact(const Case& c, size_t output, const void* made,
                         const std::byte* references, Proof& proof) const {
  const OutputSpans& spans = c.outputs[output];
  const std::byte* const expected = references + spans.expected.offset;
  const int64_t bytes = spans.array.bytes();
  if (std::memcmp(made, expected, static_cast<size_t>(bytes)) == 0) return;
  const int64_t at = first_difference(made, expected, bytes, spec::size_of(spans.array.type));
  refuse(proof, spec::Status::wrong,
         "output '" + op_.outputs[output].name +
             "': " + explain_exact(made, expected, at, spans.array.type) + " (" + c.text() + ")");
}

void Prover::check_residuals(const Case& c, const std::vector<const void*>& outputs,
                             Proof& proof) const {
  const auto residuals =
      op_.residuals({inputs_of(c), outputs, t_, c.dims, c.scalars, c.distribution});
  Proof::Errors& errors = proof.sizes[c.size];
  errors.bit_exact = false;
  for (const spec::Residual& one : residuals) {
    errors.bound_used = std::max(errors.bound_used, one.ratio / one.limit);
    if (!(one.ratio <= one.limit))
      refuse(proof, spec::Status::wrong,
             one.name + " is " + number_text(one.ratio) + ", and at most " +
                 number_text(one.limit) + " is accepted (" + c.text() + ")");
  }
}

}  // namespace mlx_kd::evaluate
