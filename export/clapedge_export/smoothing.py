"""How much of an outlier goes from an activation into the weights that read it: SmoothQuant's formula.

Export takes what an activation may reach from the weights alone, calibration from recordings. Nothing here needs
PyTorch, so that both can.
"""

import numpy as np
import numpy.typing as npt

from clapedge.arrays import Float32Array


def smoothing_logarithms(
    activation: Float32Array, weight: Float32Array, *, alpha: float, least: float
) -> npt.NDArray[np.float64]:
    """Return the logarithm (base 2) of the divisor of each channel, (channels,), up to a constant.

    A channel whose activation is a multiple, and whose weights are that fraction, gets that multiple of the divisor
    whatever `alpha` is: outliers that a checkpoint makes and takes back vanish.

    Args:
        activation: largest magnitude of each channel, (channels,).
        weight: largest magnitude of the weights that read it, (channels,).
        alpha: how much goes into the weights, from 0 (none) to 1 (all); Xiao et al. 2023.
        least: magnitude below which a channel counts as this, so that a silent one is not blown up.
    """
    pair = (np.log2(np.maximum(each.astype(np.float64), least)) for each in (activation, weight))
    of_activation, of_weight = pair
    return np.asarray(alpha * of_activation - (1 - alpha) * of_weight)
