// clang-format off
// Matrices of 16 bits multiplied by the tensor cores of a warp. For KD_DTYPE 1 and 2.
#pragma once
#if KD_DTYPE == 1
#define KD_MMA "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32"
#elif KD_DTYPE == 2
#define KD_MMA "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32"
#endif

#if KD_DTYPE != 0
// c += A B, (16, 16) by (16, 8). A lane (g, quad) has pairs of neighbouring elements: of A those of columns 2 quad
// in rows g (a0) and g + 8 (a1), and 8 columns on (a2, a3); of B those of rows 2 quad in column g (b0), and 8 rows
// on (b1); of c columns 2 quad and 2 quad + 1 of row g, then of row g + 8.
static __device__ void multiply_add(float (&c)[4], unsigned a0, unsigned a1, unsigned a2, unsigned a3, unsigned b0,
                                    unsigned b1) {
  asm(KD_MMA " {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}
#endif
