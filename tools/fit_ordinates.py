"""Find the directions that represent isotropic light in flat layers (``underpaint.physics.forward.ordinates``).

    python tools/fit_ordinates.py

Least squares over optical depths from 0.0005 to 30: the transmission of isotropic light, E2, and the share that a
layer lit evenly from within keeps to itself, ``1 - (1 - 2 E3(d)) / (2 d)``.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares
from scipy.special import expn

COUNT = 6
DEPTH = np.logspace(np.log10(5e-4), np.log10(30.0), 400)
TRANSMITTED = 1.0 - (1.0 - 2.0 * expn(3, DEPTH)) / (2.0 * DEPTH)
Array = NDArray[np.float64]


def main() -> None:
    """Fit, and print the directions with their errors."""
    point, weight = np.polynomial.legendre.leggauss(COUNT)
    root = (point + 1.0) / 2.0
    start = np.concatenate([np.log(-3.0 * np.log(root)), np.log(1.5 * weight * root**2)])
    solution = least_squares(errors, start, x_scale="jac", max_nfev=5000)
    cosine, share = unpack(solution.x)
    print("cosines", np.array2string(cosine, separator=", ", precision=10))
    print("shares ", np.array2string(share, separator=", ", precision=10))
    report("fitted", cosine, share)
    report("Gauss-Legendre", root, weight / 2.0)


def report(name: str, cosine: Array, share: Array) -> None:
    """Print how well the directions represent all; thin means an optical depth under 0.01."""
    transmission, transmitted = averages(cosine, share)
    error = np.abs(transmitted / TRANSMITTED - 1.0)
    print(f"{name}: transmission within {np.abs(transmission - expn(2, DEPTH)).max():.5f}")
    print(f"{name}: kept within {error.max():.5f} of itself, {error[DEPTH > 0.01].max():.5f} but for thin layers")


def unpack(values: Array) -> tuple[Array, Array]:
    """Return cosines in (0, 1) and shares that sum to one."""
    share = np.exp(values[COUNT:])
    return np.exp(-np.exp(values[:COUNT])), share / share.sum()


def averages(cosine: Array, share: Array) -> tuple[Array, Array]:
    """Return transmission and the kept share at every depth, averaged over the directions."""
    path = DEPTH[:, None] / cosine
    return np.exp(-path) @ share, (1.0 + np.expm1(-path) / path) @ share


def errors(values: Array) -> Array:
    """Return what is to be made small."""
    transmission, transmitted = averages(*unpack(values))
    exact = expn(2, DEPTH)
    return np.concatenate([(transmission - exact) / (exact + 0.05), transmitted / TRANSMITTED - 1.0])


if __name__ == "__main__":
    main()
