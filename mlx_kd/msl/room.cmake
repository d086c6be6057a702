mlx_kd_embed(msl prelude.h prelude prelude TEXTS *.h *.metal)
