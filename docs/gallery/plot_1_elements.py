"""
Maps of elements
================

Net counts of three line families on the virtual panel of Figure 7 in the paper (Xu et al., 2022). Vermilion lies in one
row, and lead and iron paints lie above and below the others. Each map has a separate colour scale.
"""

import underpaint as up
from underpaint.simulate import PanelSettings

panel = up.make_panel(PanelSettings(recipe="fig7", cell_pixels=3, gap_pixels=1))
elements = up.fit_elements(panel.scan, families=["Hg_L", "Pb_L", "Fe_K"])
for family in elements.lines:
    print(family, f"{float(elements.area.sel(line=family).mean()):.0f} counts a pixel")

# %%
# Results are arrays of xarray, which draws them.

grid = elements.area.plot.imshow(col="line", origin="upper", robust=True, cmap="magma", aspect=1.3)
