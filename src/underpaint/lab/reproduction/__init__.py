"""Xu et al. 2022, run again: simulation set, virtual mock-ups, training, tables and figures."""
