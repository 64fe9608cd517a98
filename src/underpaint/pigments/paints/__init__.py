"""Paints of a painting, found as areas of similar pixels in its element maps."""

from underpaint.pigments.paints.areas import find_paints, split_by_depth, with_summed_spectra

__all__ = ["find_paints", "split_by_depth", "with_summed_spectra"]
