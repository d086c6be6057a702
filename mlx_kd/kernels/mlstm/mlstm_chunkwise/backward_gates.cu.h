// clang-format off
// di, df and dm0 of mlstm_chunkwise_vjp, from what its other kernels found of tokens and chunks.
#pragma once
static __device__ float through_chunk(const kd_arguments& a, const Sizes& z, long head, int chunk) {
  const float* const parts = through_of(a, z, head, chunk);
  float sum = 0.0f;
  for (int part = 0; part < parts_of(z); ++part) sum += parts[part];
  return sum;
}

// What m hands to the token before a chunk, unless more comes from behind it.
static __device__ void find_turn(const kd_arguments& a) {
  const Sizes z = sizes_of(a);
  long head;
  int chunk;
  if (!chunk_of_thread(z, head, chunk)) return;
  const Chunk c = chunk_of(z, head, chunk);
  Turn turn = {};
  for (int t = c.count - 1; t >= 0; --t) {
    turn.sum += numbers_of(a, z, c.token + t)->dm;
    if (gates_of(a, c.token + t)->turn == kTurnInput) turn.sum = 0.0f, turn.is_all = 1;
  }
  turns_of(a, z, head)[chunk] = turn;
}

// A thread takes a head: what comes to each chunk from behind it.
static __device__ void find_carry(const kd_arguments& a) {
  const Sizes z = sizes_of(a);
  const long head = (long)blockIdx.x * blockDim.x + threadIdx.x;
  if (head >= z.heads) return;
  Turn* const turns = turns_of(a, z, head);
  float carry = 0.0f;
  if (a.dims[KD_DIM_normalizer_grad] != 0 && !z.siging) {
    const Chunk c = chunk_of(z, head, z.chunks - 1);
    float written = 0.0f;
    for (int t = 0; t < c.count; ++t) written += numbers_of(a, z, c.token + t)->to_state;
    carry = ((const float*)a.inputs[11])[head] - (through_chunk(a, z, head, z.chunks - 1) + written);
  }
  constexpr int kAhead = 8;  // are loaded before the first of them is written
  for (int from = z.chunks - 1; from >= 0; from -= kAhead) {
    Turn ahead[kAhead];
#pragma unroll
    for (int e = 0; e < kAhead; ++e) ahead[e] = turns[max(from - e, 0)];
#pragma unroll
    for (int e = 0; e < kAhead; ++e) {
      if (from - e < 0) continue;
      turns[from - e].carry = carry;
      carry = ahead[e].is_all ? ahead[e].sum : carry + ahead[e].sum;
    }
  }
}

// sigmoid(-x)
static __device__ float falling(float x) {
  const float e = expf(-fabsf(x));
  return (x > 0.0f ? e : 1.0f) / (1.0f + e);
}

static __device__ void find_gradients(const kd_arguments& a) {
  const Sizes z = sizes_of(a);
  long head;
  int chunk;
  if (!chunk_of_thread(z, head, chunk)) return;
  const Chunk c = chunk_of(z, head, chunk);
  Number* const numbers = numbers_of(a, z, c.token);
  const Gate* const gates = gates_of(a, c.token);
  const float *const i = (const float*)a.inputs[3] + c.token, *const f = (const float*)a.inputs[4] + c.token;
  const float through = through_chunk(a, z, head, chunk);
  float written = 0.0f, read = 0.0f, carry = turns_of(a, z, head)[chunk].carry;
  for (int t = 0; t < c.count; ++t) {
    numbers[t].over += written + through;
    written += numbers[t].to_state;
  }
  for (int t = c.count - 1; t >= 0; --t) {
    const Number number = numbers[t];
    read += number.from_past;
    carry += number.dm;
    float of_i = number.column + number.to_state, of_f = number.over + read;
    if (gates[t].turn == kTurnInput) {
      of_i += carry;
      carry = 0.0f;
    } else if (gates[t].turn == kTurnPast) {
      of_f += carry;
    }
    ((float*)a.outputs[3])[c.token + t] = z.siging ? of_i * falling(i[t]) : of_i;
    ((float*)a.outputs[4])[c.token + t] = of_f * falling(f[t]);
  }
  if (chunk == 0 && z.has_state) ((float*)a.outputs[7])[head] = z.siging ? 0.0f : through + read + carry;
}
