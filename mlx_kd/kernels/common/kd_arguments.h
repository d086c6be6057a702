/* The one parameter of every kernel that takes its arguments as a list: CUDA C++ (by value, as
   `const __grid_constant__ kd_arguments a`) and C++ on a CPU (by pointer).

   Arrays are in the order of the operator's ports, sizes in the order of its complete dims, numbers
   in the order of its scalars; what an operator does not use is 0. The compiler defines the indices:
   KD_DIM_<name>, KD_SCALAR_<name>, and KD_TYPE_<port>: 0 float32, 1 float16, 2 bfloat16, 3 int32,
   4 uint32, 5 int64, 6 uint8, 7 bool; KD_DTYPE is that number of the candidate's own type.

   Strides are in elements, inputs first and outputs after them (strides[number of inputs + i] is
   output i), right-aligned: strides[port][3] belongs to the last axis. An output that updates an
   input has the same pointer as that input. */
#ifndef KD_ARGUMENTS_H
#define KD_ARGUMENTS_H

struct kd_arguments {
  const void* inputs[16];
  void* outputs[8];
  void* scratch[4]; /* uninitialised; the stages of one call share them */
  long dims[16];
  double scalars[8];
  long strides[24][4];
  long stage; /* the index that the stage was given */
};

#endif
