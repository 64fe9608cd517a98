"""Names and places of line labels; Siegbahn's names, since these are what people read on a spectrum."""

from collections.abc import Iterable, Mapping

import numpy as np

from underpaint.errors import UnderpaintError
from underpaint.physics.atomic.lines import family_lines

_GREEK = {"K": "Kα", "L": "Lα", "M": "M"}
_SECOND = {"K": "Kβ", "L": "Lβ"}
_SECOND_SHARE = 0.1
_APART_KEV = 0.25


def siegbahn(family: str) -> str:
    """Write ``Hg_L`` as "Hg L" for people."""
    return family.replace("_", " ")


def line_labels(families: Iterable[str], excitation_kev: float = 40.0) -> Mapping[str, float]:
    """Return labels with their energies (keV), the strongest line of every family before any second line.

    Parameters
    ----------
    families : iterable of str
        ``Fe_K``, ``Pb_L``; names that are no line family are left out.
    excitation_kev : float
        Energy that excites, keV.

    Returns
    -------
    mapping of str to float
        For instance ``{"Fe Kα": 6.40, "Fe Kβ": 7.06}``.
    """
    first: dict[str, float] = {}
    second: dict[str, float] = {}
    for family in families:
        element, _, shell = family.partition("_")
        found = _strongest(element, shell, excitation_kev)
        if not found or shell not in _GREEK:
            continue
        first[f"{element} {_GREEK[shell]}"] = found[0]
        if len(found) > 1 and shell in _SECOND:
            second[f"{element} {_SECOND[shell]}"] = found[1]
    return {**first, **second}


def _strongest(element: str, shell: str, excitation_kev: float) -> list[float]:
    """Energy of the strongest line, and of the strongest one clearly above it."""
    try:
        energy, share = family_lines(element, shell, excitation_kev)
    except (UnderpaintError, ValueError, KeyError):
        return []
    if energy.size == 0 or not share.max() > 0:
        return []
    top = int(np.argmax(share))
    above = (energy > energy[top] + _APART_KEV) & (share > _SECOND_SHARE * share[top])
    if not above.any():
        return [float(energy[top])]
    other = int(np.argmax(np.where(above, share, 0.0)))
    return [float(energy[top]), float(energy[other])]
