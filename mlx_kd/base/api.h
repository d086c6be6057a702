// Marks what a shared library of this project shows; everything else stays hidden.
#pragma once

#if defined(__GNUC__)
#define MLX_KD_API __attribute__((visibility("default")))
#else
#define MLX_KD_API
#endif
