#include "mlx_kd/msl/text/source.h"

#include "mlx_kd/base/error.h"

namespace mlx_kd::msl {
namespace {

// Length of the UTF-8 sequence that starts at i, 0 if there is none.
size_t sequence_length(std::string_view text, size_t i) {
  const auto byte = [&](size_t k) { return static_cast<unsigned char>(text[k]); };
  const unsigned char lead = byte(i);
  if (lead < 0x80) return lead == 0 ? 0 : 1;
  const size_t length = lead >= 0xf0 && lead < 0xf8 ? 4 : lead >= 0xe0 ? 3 : lead >= 0xc2 ? 2 : 0;
  if (lead >= 0xf8 || length == 0 || i + length > text.size()) return 0;
  for (size_t k = i + 1; k < i + length; ++k)
    if ((byte(k) & 0xc0) != 0x80) return 0;
  return length;
}

}  // namespace

uint32_t SourceSet::add(std::string name, std::string text) {
  bytes_ += text.size();
  if (bytes_ > kMaxSourceBytes)
    base::misuse("msl", name + ":1:1: with it the source has " + std::to_string(bytes_) +
                            " bytes: at most " + std::to_string(kMaxSourceBytes) + " are read");
  size_t line = 1, start = 0;
  for (size_t i = 0; i < text.size();) {
    const size_t length = sequence_length(text, i);
    if (length == 0)
      base::misuse("msl", name + ":" + std::to_string(line) + ":" + std::to_string(i - start + 1) +
                              ": this byte is not UTF-8 text: give a Metal source, not a library");
    if (text[i] == '\n') ++line, start = i + 1;
    i += length;
  }
  files_.push_back({std::move(name), std::move(text)});
  return static_cast<uint32_t>(files_.size() - 1);
}

std::string_view SourceSet::keep(std::string text) {
  kept_.push_back(std::move(text));
  return kept_.back();
}

std::string SourceSet::describe(Position at) const {
  return files_[at.file].name + ":" + std::to_string(at.line) + ":" + std::to_string(at.column);
}

std::string describe(const SourceSet& sources, const Diagnostic& diagnostic) {
  std::string text = sources.describe(diagnostic.at) + ": " + diagnostic.message;
  if (!diagnostic.section.empty()) text += " (Metal specification " + diagnostic.section + ")";
  return text;
}

void refuse(const SourceSet& sources, Position at, const std::string& message,
            const std::string& section) {
  base::misuse("msl", describe(sources, {at, message, section}));
}

}  // namespace mlx_kd::msl
