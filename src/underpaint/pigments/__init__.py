"""From spectra to pigments: trained networks, detectability, members of groups, explanation of a spectrum."""
