"""Reflectance beside X-ray fluorescence: measured spectra of pigments, and what a pixel's reflectance says of them.

Stable for callers: :class:`ReflectanceLibrary` with :func:`builtin` and :func:`read`, :class:`ReflectanceClassifier`
with ``members`` and ``identify``, and the fields of :class:`ReflectanceAnswer`.
"""

from underpaint.reflectance.library import ReferenceSpectrum, ReflectanceLibrary, builtin, read
from underpaint.reflectance.posterior import NONE, ReflectanceAnswer, ReflectanceClassifier

__all__ = [
    "NONE",
    "ReferenceSpectrum",
    "ReflectanceAnswer",
    "ReflectanceClassifier",
    "ReflectanceLibrary",
    "builtin",
    "read",
]
