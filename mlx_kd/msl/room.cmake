mlx_kd_embed(msl prelude.h prelude msl/prelude TEXTS *.h *.metal)
