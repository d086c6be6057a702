// rooms: runtime
// Packs of any content: every input ends in a table of pins that can be asked, or in a message.
// A fifth of the inputs are texts as they come; the others steer changes to a sound pack of each
// schema.
#include <cstdint>
#include <cstdlib>
#include <string>

#include "mlx/version.h"
#include "mlx_kd/base/error.h"
#include "mlx_kd/devices/device.h"
#include "mlx_kd/packs/pack.h"
#include "mlx_kd/runtime/pins/bundle.h"
#include "mlx_kd/runtime/pins/describe.h"
#include "mlx_kd/runtime/state/call_counts.h"
#include "tests/fuzz/mutations.h"

namespace {

using namespace mlx_kd;
using base::Json;
using fuzz::Choices;

Json sound_entry() {
  static const spec::DeviceId cpu = devices::open_device("cpu")->id();
  return {{"key",
           {{"op_name", "rmsnorm"},
            {"mlx_version", mlx::core::version()},
            {"device_arch", cpu.arch},
            {"device_name", cpu.name},
            {"dtype", "float32"},
            {"shape_signature", {{"rows", 2}, {"D", 64}}}}},
          {"candidate_id", "rmsnorm_0"},
          {"func_name", "mlx_kd_rmsnorm"},
          {"language", "cpp"},
          {"source", "int x;"},
          {"inputs_spec", {{{"name", "inp"}}, {{"name", "weight"}}}},
          {"outputs_spec", {{{"name", "out"}}}},
          {"knobs", {{"VEC", 16}, {"THREADS", 1}, {"GRAIN", 1}}},
          {"launch_params", {{"launch_kind", "cpu_rows"}, {"THREADS", 1}, {"GRAIN", 1}}},
          {"runtime_inputs", {{"eps", {1e-6}}}},
          {"target", {{"isa", Json::array()}, {"cores", 1}}},
          {"protocol", "28850ad635fe7233"},
          {"rows_range", {1, 8}},
          {"rows_sampled", {1, 2, 8}},
          {"object", {{"base64", "AAAA"}, {"sha256", "0"}, {"march", "native"}}},
          {"metrics", {{"kernel_us", 1.0}, {"latency_us", 2.0}}}};
}

// Two entries that have all but their size in common, as schema 4 writes them.
Json compact_pack() {
  Json common = sound_entry(), small = Json::object();
  for (const char* name : {"key", "metrics"}) {
    small[name] = common[name];
    common.erase(name);
  }
  common.erase("source");
  packs::Entry entry;
  entry.language = "cpp";
  entry.source = "int x;";
  small["source_hash"] = packs::source_hash_of(entry);
  small["common"] = 0;
  Json large = small;
  large["common"] = 1;
  large["key"]["shape_signature"]["rows"] = 4;
  large.update(Json({{"contract", 1},
                     {"claim_kind", "mlx_cannot"},
                     {"approximate", false},
                     {"ranges", {{"rows", {4, 64}}, {"D", {64, 128}}}},
                     {"sampled", {{"rows", {4, 64}}}}}));
  return {{"schema_version", "4"},
          {"runtime", Json::object()},
          {"common", {common, common}},
          {"entries", {small, large}},
          {"sources", {{small["source_hash"], "int x;"}}}};
}

Json sound_pack(size_t schema) {
  if (schema == 3) return compact_pack();
  Json entry = sound_entry();
  if (schema == 0) {
    entry.erase("key");
    entry["shape_signatures"] = {{{"rows", 2}, {"D", 64}}};
    entry["supported_dtypes"] = {"float32"};
    return {{"schema_version", "1"}, {"ops", {{"rmsnorm", entry}}}};
  }
  return {{"schema_version", std::to_string(schema + 1)},
          {"runtime", Json::object()},
          {"entries", {entry, sound_entry()}}};
}

std::string text_of(const uint8_t* data, size_t size) {
  Choices choices(data, size);
  const size_t kind = choices.below(10);
  if (kind >= 8) return {reinterpret_cast<const char*>(data), size};
  Json pack = sound_pack(kind % 4);
  for (int i = 0; i < 12 && choices.any_left(); ++i) fuzz::change(pack, choices);
  std::string text = pack.dump(-1, ' ', true, Json::error_handler_t::replace);
  if (kind == 7) text.resize(choices.below(256) * text.size() / 256);
  return text;
}

void ask(const runtime::Table& table) {
  for (const runtime::Pin& pin : table.pins()) {
    if (runtime::title_of(pin).empty()) std::abort();
    runtime::Query query = pin.key;
    query.params[0] = 1e-6;
    for (int64_t rows : {int64_t(1), pin.key.dims[0], int64_t(7)}) {
      query.dims[0] = rows;
      runtime::find_servable(table, query);
      if (const auto* nearest = table.nearest(query)) runtime::differences_text(*nearest, query);
    }
    // A pin is found at its own size, by itself or a better one.
    query = pin.key;
    query.params = pin.served ? pin.params : query.params;
    if (pin.fixed_params && !pin.any_size && !table.find(query)) std::abort();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    const packs::Pack pack = packs::parse_pack(text_of(data, size), "fuzz.json");
    const runtime::Table table({pack});
    ask(table);
    const std::string text = packs::write_text(pack);
    if (packs::write_text(packs::parse_pack(text, "written")) != text) std::abort();
  } catch (const base::Error&) {
  }
  return 0;
}
