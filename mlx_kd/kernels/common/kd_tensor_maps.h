/* The second parameter of a CUDA kernel whose stage has tensor maps: by value, as
   `const __grid_constant__ kd_tensor_maps maps`. A bulk copy takes the address of maps.of[i]: the
   map that the stage named as its i-th, encoded for each call. */
#ifndef KD_TENSOR_MAPS_H
#define KD_TENSOR_MAPS_H

struct kd_tensor_maps {
  struct alignas(64) {
    unsigned char bytes[128];
  } of[4];
};

#endif
