// rooms: archive
// Run directories of any content: every one ends in a run that can be reported and exported, or in
// a message.
#include <cstdlib>
#include <sstream>

#include "mlx_kd/archive/evidence/evidence.h"
#include "mlx_kd/archive/exchange/tuning_run.h"
#include "mlx_kd/archive/report/report.h"
#include "mlx_kd/archive/run/brief.h"
#include "mlx_kd/archive/run/record_json.h"
#include "mlx_kd/archive/run/run_reader.h"
#include "mlx_kd/base/error.h"
#include "tests/fuzz/mutations.h"

namespace {

using namespace mlx_kd;
using base::Json;

Json meta() {
  return {
      {"schema_version", "3"},
      {"created_at", "2026-03-01T09:30:00+01:00"},
      {"op_name", "rmsnorm"},
      {"seed", 0},
      {"budget", 2},
      {"dtype", "float16"},
      {"shape_suite", "custom"},
      {"sizes", {"rows=1,D=64"}},
      {"device", "cpu"},
      {"runtime", {{"mlx_version", "0.32.4"}, {"device_arch", "x86_64"}, {"device_name", "CPU"}}},
      {"target", {{"isa", Json::array()}, {"cores", 2}}},
      {"protocol", "2"},
      {"protocol_settings", {{"proof", {{"version", 2}}}}},
      {"options", {{"batch", 8}, {"strategy", "tours"}}}};
}

Json record(bool with_source) {
  Json result = {{"event", "evaluation"},
                 {"ts", "2026-03-01T09:30:00+01:00"},
                 {"step", 0},
                 {"seed", 0},
                 {"op_name", "rmsnorm"},
                 {"candidate_id", "rmsnorm_1"},
                 {"parent_id", nullptr},
                 {"status", "benchmarked"},
                 {"variant", "rows"},
                 {"language", "cpp"},
                 {"dtype", "float16"},
                 {"func_name", "mlx_kd_rmsnorm"},
                 {"source_hash", "c0ffee"},
                 {"inputs_spec", {{{"name", "inp"}, {"shape", {1, 64}}}}},
                 {"outputs_spec", {{{"name", "out"}}}},
                 {"template_params", {{"VEC", 16}}},
                 {"launch_params", {{"launch_kind", "cpu_rows"}}},
                 {"features", {0.5, 0.25}},
                 {"seconds", {{"compile", 0.1}}},
                 {"metrics",
                  {{"kernel_us", 1.5},
                   {"objective", -0.25},
                   {"per_shape", {{{"shape", {{"rows", 1}, {"D", 64}}}, {"kernel_us", 1.5}}}}}}};
  if (with_source) result["source"] = "int x;";
  return result;
}

Json finish() {
  return {{"event", "finish"},
          {"ts", "2026-03-01T09:30:00+01:00"},
          {"winners", {{{"shape", {{"rows", 1}, {"D", 64}}}, {"candidate_id", "rmsnorm_1"}}}},
          {"claims",
           {{{"shape", {{"rows", 1}, {"D", 64}}},
             {"candidate_id", "rmsnorm_1"},
             {"claimed", true},
             {"metrics", {{"speedup_lo", 1.5}}}}}},
          {"aa", {{{"shape", {{"rows", 1}, {"D", 64}}}, {"ratio", 1.0}}}},
          {"tours", {{0, 1}}}};
}

std::string line(Json sound, fuzz::Choices& choices) {
  if (choices.below(3) == 0) fuzz::change(sound, choices);
  return sound.dump(-1, ' ', true, Json::error_handler_t::replace) + "\n";
}

// A look at a line that is a record says what the record says.
void compare_brief(const std::string& text, archive::Sources& sources) {
  archive::Record record;
  try {
    const Json value = base::parse_json(text, "fuzz", "a line");
    value.at("event").get_ref<const std::string&>();
    record = archive::record_from_json(value, {}, sources);
  } catch (const std::exception&) {
    archive::Brief brief;
    try {
      archive::read_brief(text, brief);
    } catch (const base::Error&) {
    } catch (const Json::exception&) {
    }
    return;
  }
  archive::Brief brief;
  const bool measured = record.verdict.status == spec::Status::benchmarked;
  if (archive::read_brief(text, brief) &&
      (brief.candidate_id != record.candidate_id || brief.benchmarked != measured ||
       brief.knobs != record.candidate.knobs ||
       brief.log_ratios.size() != record.verdict.sizes.size()))
    std::abort();
}

// A folder of evidence: a row and its capsule.
void read_evidence(fuzz::Choices& choices) {
  Json row = {{"id", "a"},          {"op_name", "rmsnorm"},
              {"shape_suite", "s"}, {"dtype", "float16"},
              {"device", "cpu"},    {"created_at", "2026-03-01T09:30:00+01:00"},
              {"evaluated", 8},     {"capsule", "capsules/a.json"}};
  Json capsule = {{"command", "./kd run --op rmsnorm"}, {"run_meta", meta()}, {"winners", {}}};
  std::filesystem::create_directories(fuzz::folder() / "capsules");
  fuzz::write("capsules/a.json", line(capsule, choices));
  fuzz::write("matrix.jsonl", line(row, choices) + line(row, choices));
  try {
    for (const archive::Evidence& one : archive::read_evidence(fuzz::folder()))
      archive::command_of(fuzz::folder(), one);
  } catch (const base::Error&) {
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fuzz::Choices choices(data, size);
  if (choices.below(8) == 0) {
    read_evidence(choices);
    return 0;
  }
  Json head = meta();
  if (choices.below(3) == 0) fuzz::change(head, choices);
  fuzz::write("run_meta.json", head.dump(-1, ' ', true, Json::error_handler_t::replace));
  std::string log = line(record(true), choices) + line(record(false), choices);
  if (choices.below(2)) log += line(finish(), choices);
  if (choices.below(4) == 0) log += std::string(reinterpret_cast<const char*>(data), size);
  if (choices.below(4) == 0) log.resize(choices.below(256) * log.size() / 256);
  fuzz::write("run.ndjson", log);
  archive::Sources sources;
  std::istringstream lines(log);
  for (std::string text; std::getline(lines, text);) compare_brief(text, sources);
  try {
    const archive::RunData run = archive::read_run(fuzz::folder());
    archive::t4_results(run);
    archive::report_table(run);
    archive::report_json(run);
    archive::report_markdown(run);
    if (choices.below(8) == 0) archive::report_html(run);
    archive::measured_space(run, "fuzz");
    archive::report_markdown(archive::read_run_digest(fuzz::folder(), 1));
  } catch (const base::Error&) {
  }
  return 0;
}
