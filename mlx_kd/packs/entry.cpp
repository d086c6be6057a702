#include "mlx_kd/packs/entry.h"

namespace mlx_kd::packs {
namespace {}  // namespace

spec::Candidate candidate_as_stored(const Entry& entry) {
  spec::Candidate result;
  result.op_name = entry.key.op_name;
  result.language = entry.language;
  result.source = entry.source;
  result.func_name = entry.func_name;
  result.inputs_spec = entry.inputs_spec;
  result.outputs_spec = entry.outputs_spec;
  result.template_params = entry.knobs;
  result.launch_params = entry.launch_params;
  return result;
}

Entry make_entry(const spec::Candidate& candidate, const Measured& measured,
                 const spec::DeviceId& device, const std::string& mlx_version) {
  Entry result;
  result.key = {
      candidate.op_name, mlx_version, device.arch, device.name, spec::name_of(candidate.dtype),
      measured.dims};
  result.candidate_id = candidate.id();
  result.func_name = candidate.func_name;
  result.language = candidate.language;
  result.source = candidate.source;
  result.inputs_spec = candidate.inputs_spec;
  result.outputs_spec = candidate.outputs_spec;
  result.knobs = candidate.template_params;
  result.launch_params = candidate.launch_params;
  result.runtime_inputs = measured.runtime_inputs;
  result.target = device.target;
  result.proof = measured.proof;
  result.source_hash = candidate.source_hash();
  result.protocol = measured.protocol;
  result.metrics = measured.metrics;
  return result;
}

std::string candidate_id_of(const Entry& entry) {
  return candidate_as_stored(entry).id();
}

std::string source_hash_of(const Entry& entry) {
  return candidate_as_stored(entry).source_hash();
}

bool same_pin(const Entry& a, const Entry& b) {
  return a.key == b.key && base::canonical_json(a.target) == base::canonical_json(b.target) &&
         a.contract == b.contract && a.approximate == b.approximate;
}

PinOrder order_of(const Entry& e) {
  const auto& sizes = e.key.shape_signature.items();
  return {e.key.op_name,     e.key.dtype,       {sizes.begin(), sizes.end()},   e.key.device_arch,
          e.key.device_name, e.key.mlx_version, base::canonical_json(e.target), e.contract,
          e.approximate};
}

bool key_before(const Entry& a, const Entry& b) {
  return order_of(a) < order_of(b);
}

std::string title(const Entry& entry) {
  const spec::PinKey& key = entry.key;
  const std::string shape = key.shape_signature.empty() ? "any shape" : key.shape_signature.text();
  return key.op_name + " " + key.dtype + " " + shape + " on " + key.device_name + " (" +
         key.device_arch + ")" +
         (entry.contract == 1 ? "" : ", contract " + std::to_string(entry.contract)) +
         (entry.approximate ? ", approximate" : "");
}

std::map<std::string, DimRange> ranges_of(const Entry& entry, const std::string& batch_dim) {
  std::map<std::string, DimRange> result = entry.ranges;
  if (entry.rows_range) result.try_emplace(batch_dim, *entry.rows_range);
  return result;
}

void set_ranges(Entry& entry, const std::map<std::string, DimRange>& ranges,
                const std::string& batch_dim) {
  entry.ranges = ranges;
  const auto rows = entry.ranges.find(batch_dim);
  entry.rows_range.reset();
  if (rows == entry.ranges.end()) return;
  entry.rows_range = rows->second;
  entry.ranges.erase(rows);
}

std::string ranges_text(const Entry& entry) {
  std::string text;
  for (const auto& [dim, range] : ranges_of(entry, "rows"))
    text += (text.empty() ? "" : ", ") + std::to_string(range.lo) + " to " +
            std::to_string(range.hi) + " " + dim;
  return text;
}

bool is_null(const Entry& entry) {
  return entry.protocol == kNull || entry.key.device_arch == kNull ||
         entry.key.device_name == kNull;
}

}  // namespace mlx_kd::packs
