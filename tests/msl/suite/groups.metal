// Algorithms whose threads share threadgroup memory.
#include <metal_stdlib>
using namespace metal;

// 32 x 32 tiles by 32 x 8 threads.
kernel void transpose_tile(device const float* x, device float* y, constant uint2& size,
                           uint2 tile [[threadgroup_position_in_grid]],
                           uint2 t [[thread_position_in_threadgroup]]) {
  threadgroup float s[32][33];
  for (uint k = 0; k < 32; k += 8)
    s[t.y + k][t.x] = x[(tile.y * 32 + t.y + k) * size.x + tile.x * 32 + t.x];
  threadgroup_barrier(mem_flags::mem_threadgroup);
  for (uint k = 0; k < 32; k += 8)
    y[(tile.x * 32 + t.y + k) * size.y + tile.y * 32 + t.x] = s[t.x][t.y + k];
}

kernel void two_groups(device const float* x [[buffer(0)]], device float* y [[buffer(3)]],
                       threadgroup uint* keys [[threadgroup(1)]],
                       threadgroup float* values [[threadgroup(0)]],
                       uint t [[thread_position_in_threadgroup]],
                       uint i [[thread_position_in_grid]],
                       uint size [[threads_per_threadgroup]]) {
  keys[t] = (7 * t + 3) % size;
  values[t] = x[i];
  threadgroup_barrier(mem_flags::mem_threadgroup);
  y[i] = values[keys[keys[t]]];
}

kernel void reverse_vectors(device const float4* x, device float4* y,
                            uint t [[thread_position_in_threadgroup]],
                            uint i [[thread_position_in_grid]]) {
  threadgroup float4 s[64];
  s[t] = x[i];
  threadgroup_barrier(mem_flags::mem_threadgroup);
  y[i] = s[63 - t].wzyx;
}

// 3 x 3 mean, edges repeated.
kernel void blur(device const float* x, device float* y, constant int2& size,
                 uint2 at [[thread_position_in_grid]], uint2 t [[thread_position_in_threadgroup]],
                 uint2 tile [[threadgroup_position_in_grid]],
                 uint index [[thread_index_in_threadgroup]]) {
  threadgroup float s[18][18];
  for (uint k = index; k < 18 * 18; k += 256) {
    int2 from = int2(tile * 16) + int2(k % 18, k / 18) - 1;
    from = clamp(from, int2(0), size - 1);
    s[k / 18][k % 18] = x[from.y * size.x + from.x];
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  float sum = 0;
  for (uint dy = 0; dy < 3; ++dy)
    for (uint dx = 0; dx < 3; ++dx) sum += s[t.y + dy][t.x + dx];
  if (int(at.x) < size.x && int(at.y) < size.y) y[at.y * size.x + at.x] = sum / 9;
}

// Six steps of diffusion on a ring of 64.
kernel void heat(device const float* x, device float* y, uint t [[thread_position_in_threadgroup]]) {
  threadgroup float s[2][64];
  s[0][t] = x[t];
  for (uint step = 0; step < 6; ++step) {
    threadgroup_barrier(mem_flags::mem_threadgroup);
    threadgroup const float* now = s[step % 2];
    s[1 - step % 2][t] = 0.25f * now[(t + 63) % 64] + 0.5f * now[t] + 0.25f * now[(t + 1) % 64];
  }
  y[t] = s[0][t];
}

kernel void odd_even_sort(device const int* x, device int* y,
                          uint t [[thread_position_in_threadgroup]]) {
  threadgroup int s[64];
  s[2 * t] = x[2 * t];
  s[2 * t + 1] = x[2 * t + 1];
  for (uint round = 0; round < 64; ++round) {
    threadgroup_barrier(mem_flags::mem_threadgroup);
    uint a = 2 * t + (round & 1), b = a + 1;
    if (b < 64 && s[a] > s[b]) {
      int kept = s[a];
      s[a] = s[b];
      s[b] = kept;
    }
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  y[t] = s[t];
  y[t + 32] = s[t + 32];
}

struct Pair {
  float key;
  uint value;
  bool above(threadgroup const Pair& other) const threadgroup {
    return key > other.key || (key == other.key && value > other.value);
  }
};

kernel void bitonic_pairs(device const float* x, device uint* order,
                          uint t [[thread_position_in_threadgroup]]) {
  threadgroup Pair s[128];
  s[t].key = x[t];
  s[t].value = t;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  for (uint k = 2; k <= 128; k *= 2)
    for (uint j = k / 2; j > 0; j /= 2) {
      uint other = t ^ j;
      if (other > t && s[t].above(s[other]) == ((t & k) == 0)) {
        Pair kept = s[t];
        s[t] = s[other];
        s[other] = kept;
      }
      threadgroup_barrier(mem_flags::mem_threadgroup);
    }
  order[t] = s[t].value;
}

// One bit a pass, lowest first; the zeros keep their order in front of the ones.
kernel void radix_sort(device const uint* x, device uint* y, uint t [[thread_position_in_threadgroup]],
                       uint lane [[thread_index_in_simdgroup]],
                       uint sg [[simdgroup_index_in_threadgroup]]) {
  threadgroup uint keys[256];
  threadgroup uint ones[8];
  keys[t] = x[t];
  for (uint bit = 0; bit < 8; ++bit) {
    threadgroup_barrier(mem_flags::mem_threadgroup);
    uint key = keys[t], one = key >> bit & 1;
    uint before = simd_prefix_exclusive_sum(one);
    if (lane == 31) ones[sg] = before + one;
    threadgroup_barrier(mem_flags::mem_threadgroup);
    uint all = 0;
    for (uint k = 0; k < 8; ++k) {
      if (k == sg) before += all;
      all += ones[k];
    }
    keys[one ? 256 - all + before : t - before] = key;
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  y[t] = keys[t];
}

// Three generations of Conway's game on a torus of 32 x 8.
kernel void life(device const uchar* x, device uchar* y, uint2 t [[thread_position_in_threadgroup]]) {
  threadgroup uchar board[8][32];
  board[t.y][t.x] = x[t.y * 32 + t.x];
  for (int generation = 0; generation < 3; ++generation) {
    threadgroup_barrier(mem_flags::mem_threadgroup);
    int around = 0;
    for (uint dy = 7; dy < 10; ++dy)
      for (uint dx = 31; dx < 34; ++dx)
        if (dy != 8 || dx != 32) around += board[(t.y + dy) % 8][(t.x + dx) % 32];
    bool lives = around == 3 || (around == 2 && board[t.y][t.x]);
    threadgroup_barrier(mem_flags::mem_threadgroup);
    board[t.y][t.x] = lives;
  }
  y[t.y * 32 + t.x] = board[t.y][t.x];
}

// L with L L^T = A, one thread a row.
kernel void cholesky(device const float* a, device float* l, uint row [[thread_position_in_threadgroup]]) {
  threadgroup float s[16][16];
  for (uint c = 0; c < 16; ++c) s[row][c] = a[row * 16 + c];
  threadgroup_barrier(mem_flags::mem_threadgroup);
  for (uint k = 0; k < 16; ++k) {
    if (row == k) s[k][k] = sqrt(s[k][k]);
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if (row > k) s[row][k] /= s[k][k];
    threadgroup_barrier(mem_flags::mem_threadgroup);
    for (uint c = k + 1; c <= row; ++c) s[row][c] -= s[row][k] * s[c][k];
    threadgroup_barrier(mem_flags::mem_threadgroup);
  }
  for (uint c = 0; c < 16; ++c) l[row * 16 + c] = c <= row ? s[row][c] : 0.0f;
}

// Radix 2, in place, bits of the index reversed on the way in.
kernel void fft64(device const float2* x, device float2* y, uint t [[thread_position_in_threadgroup]]) {
  threadgroup float2 s[64];
  for (uint k = t; k < 64; k += 32) s[reverse_bits(k) >> 26] = x[k];
  for (uint half_size = 1; half_size < 64; half_size *= 2) {
    threadgroup_barrier(mem_flags::mem_threadgroup);
    uint k = t % half_size, a = 2 * half_size * (t / half_size) + k, b = a + half_size;
    float angle = -M_PI_F * float(k) / float(half_size);
    float2 w = float2(cos(angle), sin(angle)), v = s[b];
    float2 turned = float2(v.x * w.x - v.y * w.y, v.x * w.y + v.y * w.x);
    s[b] = s[a] - turned;
    s[a] += turned;
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  y[t] = s[t];
  y[t + 32] = s[t + 32];
}

// Shortest paths between 16 nodes.
kernel void floyd(device const float* x, device float* y, uint2 t [[thread_position_in_threadgroup]]) {
  threadgroup float d[16][16];
  d[t.y][t.x] = x[t.y * 16 + t.x];
  threadgroup_barrier(mem_flags::mem_threadgroup);
  for (uint k = 0; k < 16; ++k) {
    float through = d[t.y][k] + d[k][t.x];
    threadgroup_barrier(mem_flags::mem_threadgroup);
    d[t.y][t.x] = min(d[t.y][t.x], through);
    threadgroup_barrier(mem_flags::mem_threadgroup);
  }
  y[t.y * 16 + t.x] = d[t.y][t.x];
}

// Hillis and Steele, between two halves of one array.
kernel void scan_max(device const float* x, device float* y, uint t [[thread_position_in_threadgroup]],
                     uint i [[thread_position_in_grid]]) {
  threadgroup float s[2 * 128];
  uint now = 0;
  s[t] = x[i];
  for (uint d = 1; d < 128; d *= 2) {
    threadgroup_barrier(mem_flags::mem_threadgroup);
    float v = s[now + t];
    if (t >= d) v = max(v, s[now + t - d]);
    now = 128 - now;
    s[now + t] = v;
  }
  y[i] = s[now + t];
}

// Blelloch: up the tree, then down.
kernel void exclusive_scan(device const float* x, device float* y,
                           uint t [[thread_position_in_threadgroup]],
                           uint g [[threadgroup_position_in_grid]]) {
  threadgroup float s[256];
  s[2 * t] = x[g * 256 + 2 * t];
  s[2 * t + 1] = x[g * 256 + 2 * t + 1];
  uint step = 1;
  for (uint active = 128; active > 0; active /= 2, step *= 2) {
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if (t < active) s[step * (2 * t + 2) - 1] += s[step * (2 * t + 1) - 1];
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (t == 0) s[255] = 0;
  for (uint active = 1; active < 256; active *= 2) {
    step /= 2;
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if (t < active) {
      uint a = step * (2 * t + 1) - 1, b = step * (2 * t + 2) - 1;
      float left = s[a];
      s[a] = s[b];
      s[b] += left;
    }
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  y[g * 256 + 2 * t] = s[2 * t];
  y[g * 256 + 2 * t + 1] = s[2 * t + 1];
}

// Each element finds its place among those of the other list.
kernel void merge_ranks(device const float* a, device const float* b, device float* y,
                        uint t [[thread_position_in_threadgroup]]) {
  threadgroup float left[100], right[100];
  left[t] = a[t];
  right[t] = b[t];
  threadgroup_barrier(mem_flags::mem_threadgroup);
  uint low = 0, high = 100;
  while (low < high) {
    uint middle = (low + high) / 2;
    if (right[middle] < left[t])
      low = middle + 1;
    else
      high = middle;
  }
  y[t + low] = left[t];
  low = 0, high = 100;
  while (low < high) {
    uint middle = (low + high) / 2;
    if (left[middle] <= right[t])
      low = middle + 1;
    else
      high = middle;
  }
  y[t + low] = right[t];
}

// The longest common subsequence of two texts of 32, along the diagonals.
kernel void lcs(device const uchar* a, device const uchar* b, device uint* y,
                uint t [[thread_position_in_threadgroup]]) {
  threadgroup ushort best[33][33];
  best[0][t] = 0;
  best[t + 1][0] = 0;
  if (t == 0) best[0][32] = 0;
  for (uint diagonal = 0; diagonal < 63; ++diagonal) {
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if (diagonal >= t && diagonal - t < 32) {
      uint c = diagonal - t;
      best[t + 1][c + 1] = a[t] == b[c] ? ushort(best[t][c] + 1) : max(best[t][c + 1], best[t + 1][c]);
    }
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  y[t] = best[t + 1][32];
}
