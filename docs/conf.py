"""Settings of the site that `make docs` builds (decision 0050)."""

import os
import sys
from pathlib import Path

from underpaint import __version__

os.environ.pop("MPLBACKEND", None)  # a backend without pictures would leave the notebooks without them

# Cells of notebooks call `underpaint` as a reader would.
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])

project = "underpaint"
author = "The underpaint authors"
copyright = author  # noqa: A001 (the name that Sphinx reads)
version = release = __version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "numpydoc", "sphinx_gallery.gen_gallery"]
# The gallery's sources become pages in docs/generated, beside notebooks that are for download alone.
exclude_patterns = ["_build", "gallery", "generated/**/*.ipynb"]

myst_heading_anchors = 4
nb_execution_mode = "force"
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_execution_timeout = 240
nb_merge_streams = True

autodoc_member_order = "bysource"
numpydoc_show_class_members = False

sphinx_gallery_conf = {
    "examples_dirs": "gallery",
    "gallery_dirs": "generated/gallery",
    "filename_pattern": r"\.py$",
    "abort_on_example_error": True,
    "download_all_examples": False,
    "show_signature": False,
    "within_subsection_order": "FileNameSortKey",
    "write_computation_times": False,
}

html_theme = "furo"
html_title = f"underpaint {release}"
html_copy_source = False
