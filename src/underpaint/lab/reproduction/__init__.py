"""Reproduction of Xu et al. 2022, with its simulation set, virtual mock-ups, training, tables and figures."""
