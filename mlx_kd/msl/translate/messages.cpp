#include "mlx_kd/msl/translate/messages.h"

#include <algorithm>
#include <cstdlib>
#include <optional>
#include <sstream>

namespace mlx_kd::msl {
namespace {

struct Line {
  std::optional<Position> at;  // if it names a Metal file
  std::string text;            // behind the place
};

std::optional<uint32_t> file_named(const SourceSet& sources, const std::string& name) {
  for (uint32_t i = 0; i < sources.size(); ++i)
    if (sources.name(i) == name) return i;
  return std::nullopt;
}

// "NAME:12:7: text", "NAME:12: text".
Line read_line(const std::string& line, const SourceSet& sources) {
  for (size_t colon = line.find(':'); colon != std::string::npos;
       colon = line.find(':', colon + 1)) {
    if (colon + 1 >= line.size() || line[colon + 1] < '0' || line[colon + 1] > '9') continue;
    const auto file = file_named(sources, line.substr(0, colon));
    if (!file) continue;
    char* end = nullptr;
    Position at{*file, static_cast<uint32_t>(std::strtoul(line.c_str() + colon + 1, &end, 10)), 1};
    if (*end == ':' && end[1] >= '0' && end[1] <= '9')
      at.column = static_cast<uint32_t>(std::strtoul(end + 1, &end, 10));
    return {at, *end ? std::string(end + 1) : std::string()};
  }
  return {std::nullopt, line};
}

Position in_metal(Position at, const Translation& translation) {
  uint32_t best = 0, column = 1;
  for (const ColumnMark& one : translation.columns)
    if (one.file == at.file && one.line == at.line && one.written <= at.column &&
        one.written >= best)
      best = one.written, column = one.metal;
  return {at.file, at.line, column};
}

// Words of the translation that no Metal source holds.
std::string cleaned(std::string text) {
  for (const char* word : {"metal::", "kd_given<", "{anonymous}::", "static assertion failed: "})
    for (size_t i = text.find(word); i != std::string::npos; i = text.find(word, i))
      text.erase(i, std::string(word).size());
  return text;
}

// 'texture2d' was not declared in this scope, or does not name a type.
bool lacks_textures(const std::string& text) {
  const bool unknown = text.find("was not declared") != std::string::npos ||
                       text.find("does not name a type") != std::string::npos;
  for (const char* kind : {"'texture", "'depth2d", "'depthcube", "'sampler'"})
    if (unknown && text.rfind(kind, 0) == 0) return true;
  return false;
}

Diagnostic diagnostic_of(Position at, const std::string& text) {
  if (lacks_textures(text)) return {at, "textures are not supported", "2.9"};
  return {at, cleaned(text), ""};
}

}  // namespace

std::vector<Diagnostic> read_messages(const std::string& output, const SourceSet& sources,
                                      const Translation& translation) {
  std::vector<Diagnostic> found;
  std::istringstream stream(output);
  std::string line;
  std::string waiting;                   // an error outside Metal that has no place yet
  std::optional<Position> instantiated;  // "required from": printed before the error by gcc
  while (std::getline(stream, line)) {
    const Line one = read_line(line, sources);
    const size_t error = line.find("error: ");
    const bool note = line.find("required from") != std::string::npos ||
                      line.find("requested here") != std::string::npos ||
                      line.find("in instantiation of") != std::string::npos;
    if (note && one.at) {
      instantiated = in_metal(*one.at, translation);
      if (!waiting.empty()) found.push_back(diagnostic_of(*instantiated, waiting)), waiting.clear();
    } else if (error != std::string::npos) {
      const std::string text = line.substr(error + 7);
      if (one.at)
        found.push_back(diagnostic_of(in_metal(*one.at, translation), text));
      else if (instantiated)
        found.push_back(diagnostic_of(*instantiated, text));
      else
        waiting = text;
      instantiated.reset();
    }
  }
  if (found.empty() && !waiting.empty()) found.push_back({{0, 1, 1}, cleaned(waiting), ""});
  return found;
}

}  // namespace mlx_kd::msl
