"""How the detectors of one scan differ."""

from collections.abc import Sequence

from underpaint.calibrate.calibration import Calibration


def line_ratios(found: Sequence[Calibration]) -> dict[str, tuple[float, ...]]:
    """Return the counts of each line that all detectors show over the first one's, softest lines first.

    Ratios that fall towards soft lines tell of more air, a thicker window or a collimator before a detector; their
    common size tells of its solid angle.

    Parameters
    ----------
    found : sequence of Calibration
        One per detector.

    Returns
    -------
    dict of str to tuple of float
        By line (``Ca-KL3``), one number per detector, 1 for the first.
    """
    first = found[0].line_counts
    common = [name for name in first if all(own.line_counts.get(name, 0.0) > 0 for own in found) and first[name] > 0]
    common.sort(key=lambda name: found[0].line_energy_kev[name])
    return {name: tuple(float(own.line_counts[name] / first[name]) for own in found) for name in common}
