"""Modules for models written with mlx.nn: change the import, keep the weights."""
import mlx.core as mx
from mlx.nn.layers import normalization

from mlx_kd._operators import rmsnorm, rope_concat_qk_decode_pos, swiglu, swiglu2


class RMSNorm(normalization.RMSNorm):
    """As ``mlx.nn.RMSNorm``, running the pinned kernel where there is one.

    Parameters
    ----------
    dims : int
        Size of the last axis.
    eps : float
        Positive.

    Notes
    -----
    Its parameter is ``weight`` of shape ``(dims,)``, so weights of ``mlx.nn.RMSNorm`` load as they are.
    """

    def __call__(self, x: mx.array) -> mx.array:
        """The norm of `x` of shape ``(..., dims)`` over its last axis, times the weight."""
        return rmsnorm(x, self["weight"], self.eps)


__all__ = ["RMSNorm", "rope_concat_qk_decode_pos", "swiglu", "swiglu2"]
