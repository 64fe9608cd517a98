"""Identify the pigments at a painting's surface from its reflectance, measured reference spectra and XRF.

The stable interface consists of :class:`ReflectanceLibrary`, :func:`builtin`, :func:`read`,
``ReflectanceClassifier.members``, ``ReflectanceClassifier.identify`` and the fields of :class:`ReflectanceAnswer`.
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
