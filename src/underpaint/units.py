"""Table of the units used in the package, and constants that several packages use.

Inside the package, all numbers have the units of this table. Values are converted when they are read or written.

===================================  ==========
quantity                             unit
===================================  ==========
photon energy                        keV
mass attenuation, cross section      cm2/g
density                              g/cm3
thickness of a layer, window, filter um
areal density                        g/cm2
path in air or helium                cm
angle, from the sample's surface     degree
time                                 s
counts                               counts
===================================  ==========

Lines have IUPAC names (``Fe-KL3``). Line families have names such as ``Fe_K``, ``Pb_L`` and ``Hg_M``.
"""

from typing import Final

CM_PER_UM: Final = 1e-4
FWHM_PER_SIGMA: Final = 2.354820045
MN_K_ALPHA_KEV: Final = 5.895
"""Energy of the Mn K-alpha line in keV. The resolution of a detector is stated at this energy."""
ELECTRON_REST_KEV: Final = 510.99895
EPSILON_SI_KEV: Final = 3.85e-3
"""Mean energy per electron-hole pair in silicon at the temperature of a cooled drift detector, in keV."""
