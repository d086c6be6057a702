#include "mlx_kd/archive/exchange/gzip.h"

#ifdef MLX_KD_ZLIB
#include <zlib.h>
#endif

#include <vector>

#include "mlx_kd/base/error.h"

namespace mlx_kd::archive {

bool is_gzip(std::string_view bytes) {
  return bytes.size() >= 2 && bytes[0] == '\x1f' && bytes[1] == '\x8b';
}

#ifdef MLX_KD_ZLIB
namespace {

constexpr size_t kChunk = 1 << 18;
constexpr int kGzipOnly = 15 + 16;  // the largest window; see inflateInit2

struct Inflater {
  z_stream stream{};
  Inflater() { inflateInit2(&stream, kGzipOnly); }
  ~Inflater() { inflateEnd(&stream); }
  Inflater(const Inflater&) = delete;
};

}  // namespace

std::string gzip(std::string_view text) {
  z_stream z{};
  if (deflateInit2(&z, Z_BEST_COMPRESSION, Z_DEFLATED, kGzipOnly, 8, Z_DEFAULT_STRATEGY) != Z_OK)
    base::fail("archive", "no memory to compress with: close other programs");
  std::vector<Bytef> input(text.begin(), text.end());
  std::string bytes(deflateBound(&z, static_cast<uLong>(text.size())), '\0');
  z.next_in = input.data();
  z.avail_in = static_cast<uInt>(input.size());
  z.next_out = reinterpret_cast<Bytef*>(bytes.data());
  z.avail_out = static_cast<uInt>(bytes.size());
  deflate(&z, Z_FINISH);  // fits: the bound holds for one call
  bytes.resize(z.total_out);
  deflateEnd(&z);
  return bytes;
}

std::string gunzip(std::string_view bytes, const std::string& origin, size_t max_bytes) {
  Inflater inflater;
  z_stream& z = inflater.stream;
  std::vector<Bytef> input(bytes.begin(), bytes.end());
  z.next_in = input.data();
  z.avail_in = static_cast<uInt>(input.size());
  std::string text, chunk(kChunk, '\0');
  for (;;) {
    z.next_out = reinterpret_cast<Bytef*>(chunk.data());
    z.avail_out = kChunk;
    const int status = inflate(&z, Z_NO_FLUSH);
    text.append(chunk, 0, kChunk - z.avail_out);
    if (text.size() > max_bytes)
      base::misuse("archive", origin + " holds more than " + std::to_string(max_bytes) +
                                  " bytes: give a smaller file");
    if (status == Z_STREAM_END && z.avail_in == 0) return text;
    if (status == Z_STREAM_END && inflateReset(&z) == Z_OK) continue;
    if (status != Z_OK)
      base::misuse("archive", origin + " is damaged or cut short after " +
                                  std::to_string(text.size()) + " bytes: fetch it again");
  }
}
#else
std::string gzip(std::string_view) {
  base::misuse("archive", "this kd was built without zlib: give the output a name without .gz");
}

std::string gunzip(std::string_view, const std::string& origin, size_t) {
  base::misuse("archive", origin + " is compressed and this kd was built without zlib: gunzip it");
}
#endif

}  // namespace mlx_kd::archive
