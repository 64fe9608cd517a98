"""Where real Bruker files are: the repository holds none of them.

``.pdz``: the folder ``shared/data/formats`` beside the repository (pdz-tool, MIT). ``.spx`` and ``.bcf``: the files
that rosettasciio tests with. They travel in the wheel of hyperspy 1.7.6 (GPL, so never copied here):
``pip download --no-deps hyperspy==1.7.6``, then unzip ``hyperspy/tests/io/bruker_data`` to a folder and name it in
the environment variable ``UNDERPAINT_BRUKER_SAMPLES``; or leave it in ``.samples/bruker`` of the repository.
"""

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
FORMATS = REPOSITORY.parent / "shared" / "data" / "formats"


def sample(name: str) -> Path:
    """Return the path of a real file, or skip the test."""
    named = os.environ.get("UNDERPAINT_BRUKER_SAMPLES")
    for folder in (REPOSITORY / ".samples" / "bruker", FORMATS, *([Path(named)] if named else [])):
        if (folder / name).is_file():
            return folder / name
    pytest.skip(f"the Bruker file {name} is not there (see tests/io/bruker_samples.py)")
