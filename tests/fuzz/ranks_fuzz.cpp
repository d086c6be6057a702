// rooms: discover
// What ranks of a cluster run read of each other and of their launcher, with any content: frames of
// the hub, introductions, records, reports, and the file of hosts. Each ends in values or in a
// message.
#include <cstdlib>

#include "mlx_kd/base/error.h"
#include "mlx_kd/discover/cluster/introduction.h"
#include "mlx_kd/discover/cluster/rounds.h"
#include "mlx_kd/discover/cluster/shared_records.h"
#include "mlx_kd/discover/ranks/frames.h"
#include "mlx_kd/discover/ranks/launch.h"
#include "tests/fuzz/mutations.h"

namespace {

using namespace mlx_kd;
using base::Json;

Json process() {
  return {{"host", "node3"}, {"machine", "c0ffee"}, {"space", "1"}, {"pid", 12}, {"started", "5"}};
}

Json hello() {
  return {{"kind", "hello"},      {"rank", 1},       {"nonce", "00ff"}, {"proof", "abcd"},
          {"process", process()}, {"why", "because"}};
}

Json introduction() {
  return {{"alike", {{"seed", "7"}, {"budget", "400"}, {"--resume", "not given"}}},
          {"device", {{"device_kind", "cpu"}, {"target", {{"isa", {"avx2"}}, {"cores", 2}}}}},
          {"device_alike", {{"space of kernels", "c0ffee"}}},
          {"budget", 400},
          {"points", 1000}};
}

Json record() {
  return {{"event", "evaluation"},
          {"step", 3},
          {"op_name", "rmsnorm"},
          {"candidate_id", "rmsnorm_1"},
          {"status", "benchmarked"},
          {"language", "cpp"},
          {"source", "int x;"},
          {"source_hash", "c0ffee"},
          {"template_params", {{"VEC", 16}}},
          {"notes", {{"incumbent", true}, {"rank", 2}}},
          {"metrics",
           {{"objective", -0.25},
            {"per_shape", {{{"shape", {{"rows", 1}, {"D", 64}}}, {"kernel_us", 1.5}}}}}}};
}

// Two frames, the second as it comes, in pieces.
void read_frames(const uint8_t* data, size_t size) {
  fuzz::Choices choices(data, size);
  Json first = hello();
  for (int i = 0; i < 4 && choices.any_left(); ++i) fuzz::change(first, choices);
  std::string bytes = discover::frame_bytes(first);
  if (choices.below(4) == 0) bytes[choices.below(bytes.size())] ^= 0x40;
  bytes.append(reinterpret_cast<const char*>(data), size);
  discover::FrameReader reader;
  const size_t piece = 1 + choices.below(200);
  for (size_t at = 0; at < bytes.size(); at += piece) {
    reader.take(std::string_view(bytes).substr(at, piece));
    while (const auto frame = reader.next()) {
      if (!frame->at("kind").is_string()) std::abort();
      fuzz::try_to([&] { discover::process_from_json(frame->value("process", Json())); });
    }
  }
}

void read_introduction(const std::string& text) {
  const discover::Introduction one = discover::introduction_from(text);
  const discover::Introduction sound = discover::introduction_from(introduction().dump());
  const discover::ProcessName name = discover::process_from_json(process());
  for (const discover::Kind& kind : discover::kinds_of({sound, one, sound}, {name, name, name}))
    if (kind.ranks.empty()) std::abort();
}

void read_records(const std::string& line) {
  discover::SharedRecords shared(7, {{{"rows", 1}, {"D", 64}}});
  const auto records = shared.read(Json::array({record().dump(), line}));
  discover::SharedRecords sender(7, {{{"rows", 1}, {"D", 64}}}), receiver = sender;
  if (receiver.read(sender.lines_of(records, true)).size() != records.size()) std::abort();
}

void read_report(const std::string& text) {
  const Json report = base::parse_json(text, "fuzz", "a report");
  discover::Rounds rounds(400, 8, 2);
  rounds.start(0, true);
  rounds.take({discover::report_from_json(report), discover::RoundReport{8, true, false}});
  if (rounds.share_of(0) > 8) std::abort();
}

void read_hosts(const std::string& text) {
  const std::string path = fuzz::write("hosts.json", text);
  discover::find_launch([&](const char* name) -> const char* {
    const std::string_view asked = name;
    return asked == "MLX_RANK" ? "1" : asked == "MLX_HOSTFILE" ? path.c_str() : nullptr;
  });
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const Json hosts = {{"10.0.0.1:32323"}, {"10.0.0.2:32324", "node2:5"}};
  const Json report = {{"evaluated", 8}, {"benchmarked", true}, {"enough", false}, {"records", {}}};
  switch (size > 0 ? data[size - 1] % 5 : 0) {
    case 0:
      fuzz::try_to([&] { read_frames(data, size); });
      break;
    case 1:
      fuzz::try_to([&] { read_introduction(fuzz::changed(introduction(), data, size)); });
      break;
    case 2:
      fuzz::try_to([&] { read_records(fuzz::changed(record(), data, size)); });
      break;
    case 3:
      fuzz::try_to([&] { read_report(fuzz::changed(report, data, size)); });
      break;
    default:
      fuzz::try_to([&] { read_hosts(fuzz::changed(hosts, data, size)); });
  }
  return 0;
}
