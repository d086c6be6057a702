# The walk must be the same on every machine: no fused multiply-adds that the source does not write.
target_compile_options(mlx_kd_search PRIVATE -ffp-contract=off)
