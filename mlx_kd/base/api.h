// Marks what a shared library of this project shows; everything else stays hidden.
#pragma once

#if defined(__GNUC__)
#define MLX_KD_API __attribute__((visibility("default")))
#define MLX_KD_HIDDEN __attribute__((visibility("hidden")))  // in a class that is shown
#else
#define MLX_KD_API
#define MLX_KD_HIDDEN
#endif
