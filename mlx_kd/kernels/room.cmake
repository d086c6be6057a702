mlx_kd_table(kernels op_table.h MakeOp op_makers "*/op.cpp" make_@folder@)
mlx_kd_embed(kernels op_table.h kernel_sources . TEXTS */*.cpu.cpp */*.metal */*.cu)
