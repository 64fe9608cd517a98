"""Identification of pigments: trained networks, detectability, members of groups, explanation of a spectrum."""
