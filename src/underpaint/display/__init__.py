"""Plots, the report and the viewer."""
