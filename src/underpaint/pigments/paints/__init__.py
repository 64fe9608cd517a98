"""Paints of a painting from its element maps: areas of similar pixels, and the contents of each."""

from underpaint.pigments.paints.areas import find_paints, split_by_depth, with_summed_spectra

__all__ = ["find_paints", "split_by_depth", "with_summed_spectra"]
