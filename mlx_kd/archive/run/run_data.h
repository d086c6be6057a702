// What a run directory holds, as values.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "mlx_kd/base/json.h"
#include "mlx_kd/spec/claim.h"
#include "mlx_kd/spec/op/candidate.h"
#include "mlx_kd/spec/verdict.h"

namespace mlx_kd::archive {

// What was asked for, and on what: run_meta.json.
struct RunMeta {
  std::string op_name;
  uint64_t seed = 0;
  uint64_t budget = 0;
  std::string dtype;                          // "float16"
  std::string shape_suite;                    // "glm_flash_small"; "custom" for sizes given by hand
  std::vector<spec::Dims> sizes;              // complete, in the suite's order
  std::string device;                         // kind: "cpu", "null"
  base::Json runtime = base::Json::object();  // {mlx_version, device_name, device_arch, ...}
  base::Json target = base::Json::object();   // as a pin's entry: {isa, cores} | {sm}
  std::string protocol;                       // as spec/protocol_name.h lists: "2"; "null"
  base::Json protocol_settings = base::Json::object();
  base::Json options = base::Json::object();  // what shapes the walk: {strategy, batch, tours, ...}
  std::string created_at;      // local ISO time with offset; written by the writer if empty
  std::string mlx_kd_version;  // filled in by the writer if empty
  base::Json extra = base::Json::object();  // unknown keys of the file, kept when it is rewritten
};

// One evaluation step: one line of run.ndjson.
struct Record {
  uint64_t step = 0;         // from 0
  std::string candidate_id;  // the writer fills it in if empty: candidate.id()
  std::string parent_id;     // the candidate that led here; empty: none
  // As proposed. Read back, knobs come in alphabetical order and sources are whole.
  spec::Candidate candidate;
  std::vector<double> features;  // the point in feature space, each in [0, 1]
  spec::Verdict verdict;         // reads back exactly: every finite number, and NaN as NaN
  std::string ts;                // local ISO time; the writer fills it in if empty
  base::Json notes = base::Json::object();
};

using spec::AaPair;
using spec::Claim;

struct Winner {
  spec::Dims dims;
  std::string candidate_id;
};

// How a run ended. Written once the winners are chosen; a run that was broken off has none.
struct Finish {
  std::vector<Winner> winners;  // at most one per size
  std::vector<Claim> claims;
  std::vector<AaPair> aa;
  // Wall time in s: {compile, prove, time, reference, claims, wall}; own share = wall - the rest.
  base::Json seconds = base::Json::object();
  // A list a tour: the steps of the evaluated candidates in the order in which the tour passes
  // them. Empty where the strategy has no tours.
  std::vector<std::vector<uint64_t>> tours;
  base::Json notes = base::Json::object();  // whatever else is worth keeping
  std::string ts;
};

// What a digest (run_reader.h) says of the records that are not in it.
struct LeftOut {
  uint64_t records = 0;
  std::map<spec::Status, uint64_t> statuses;
  std::map<std::string, double> seconds;  // of their stages
};

struct RunData {
  RunMeta meta;
  uint64_t older = 0;            // records before these, handed over and not kept (brief.h)
  LeftOut left_out;              // records among these that are not kept
  std::vector<Record> records;   // in the order of the file
  std::optional<Finish> finish;  // none while the run is not finished, or went on after it was
  bool cut = false;              // the last line was not whole and has been left out
};

}  // namespace mlx_kd::archive
