"""mlx_kd.xlstm: mLSTM of xLSTM models with kernels forward and backward, and the models themselves.

>>> import mlx.core as mx
>>> from mlx_kd import xlstm
>>> q, k, v = (mx.random.normal((1, 4, 100, width)) for width in (16, 16, 32))
>>> i, f = (mx.random.normal((1, 4, 100)) for _ in range(2))
>>> h, (c, n, m) = xlstm.mlstm_chunkwise(q, k, v, i, f, return_last_states=True)
>>> h.shape, c.shape
((1, 4, 100, 32), (1, 4, 16, 32))
>>> h, state = xlstm.mlstm_step(q[:, :, 0], k[:, :, 0], v[:, :, 0], i[:, :, 0], f[:, :, 0], (c, n, m))

:mod:`mlx_kd.xlstm.nxai` and :mod:`mlx_kd.xlstm.metal_port` have the functions of other packages under their names,
:mod:`mlx_kd.xlstm.nn` the layers and the model.
"""
from mlx_kd.xlstm.operators import mlstm_chunkwise, mlstm_step
from mlx_kd.xlstm.plain import mlstm_parallel

__all__ = ["mlstm_chunkwise", "mlstm_parallel", "mlstm_step"]
