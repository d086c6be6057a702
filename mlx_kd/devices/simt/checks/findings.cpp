#include "mlx_kd/devices/simt/checks/findings.h"

#include <sstream>

#include "mlx_kd/msl/parse/statements.h"

namespace mlx_kd::devices::simt {
namespace {

// The places of an instruction that lie in Metal text: addr2line names inlined frames inside out.
std::string metal_line(const std::string& frames, const msl::SourceSet& sources) {
  std::istringstream stream(frames);
  std::string line;
  while (std::getline(stream, line)) {
    line = line.substr(0, line.find(" ("));
    const size_t colon = line.rfind(':');
    if (colon == std::string::npos) continue;
    for (uint32_t i = 0; i < sources.size(); ++i) {
      const std::string& name = sources.name(i);
      const std::string file = line.substr(0, colon);
      if (file == name ||
          (file.size() > name.size() &&
           file.compare(file.size() - name.size() - 1, std::string::npos, "/" + name) == 0))
        return name + line.substr(colon);
    }
  }
  return "a place without line information";
}

std::string thread_text(uint64_t group, uint32_t thread) {
  return "thread " + std::to_string(thread) + " of threadgroup " + std::to_string(group);
}

}  // namespace

std::string describe(const Finding& finding, const TranslatedText& text, const Module& module) {
  const msl::SourceSet& sources = *text.unit.sources;
  const auto line = [&](const void* code) { return metal_line(module.line_of(code), sources); };
  const auto site = [&] {
    return finding.site >= 0 && static_cast<size_t>(finding.site) < text.made.sites.size()
               ? sources.describe(text.made.sites[static_cast<size_t>(finding.site)])
               : std::string("<library>");
  };
  std::string memory = "'" + finding.memory + "'";
  if (finding.memory.compare(0, 5, "slot ") == 0) {
    const auto variables = msl::group_variables(text.unit);
    const auto slot = static_cast<size_t>(std::stoul(finding.memory.substr(5)));
    if (slot < variables.size()) memory = "threadgroup '" + variables[slot].name + "'";
  }
  const std::string byte = "byte " + std::to_string(finding.byte) + " of " + memory;
  const std::string who = thread_text(finding.group, finding.thread);
  switch (finding.kind) {
    case Finding::Kind::race:
      return line(finding.code) + ": data race: " + who +
             (finding.writes ? " writes " : " reads ") + byte + " and " +
             thread_text(finding.other_group, finding.other_thread) +
             (finding.other_writes ? " wrote it at " : " read it at ") + line(finding.other_code) +
             " with no barrier between";
    case Finding::Kind::beyond:
      return line(finding.code) + ": " + who + (finding.writes ? " writes " : " reads ") + byte +
             ", which lies outside";
    case Finding::Kind::uninitialised:
      return line(finding.code) + ": " + who + " reads " + byte + " before any thread wrote it";
    case Finding::Kind::divergent_barrier:
      return site() + ": divergent barrier: not all threads of threadgroup " +
             std::to_string(finding.group) + " reach it";
    case Finding::Kind::divergent_simd:
      break;
  }
  return site() + ": simd function under divergence: " + who + " does not reach it with its lanes";
}

}  // namespace mlx_kd::devices::simt
