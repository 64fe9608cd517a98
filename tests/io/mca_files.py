"""Text of .mca files, written by hand."""

import numpy as np
from numpy.typing import NDArray

HEAD = (
    "<<PMCA SPECTRUM>>\r\nTAG - live_data_2\r\nDESCRIPTION - \r\n"
    "LIVE_TIME - {live}\r\nREAL_TIME - 3.004000\r\n"
    "SERIAL_NUMBER - 77\r\n<<CALIBRATION>>\r\nLABEL - Channel\r\n{points}\r\n<<DATA>>\r\n"
)


def mca_text(counts: NDArray[np.int64], live: str = "0", points: str = "2 1.0\r\n6 3.0", end: str = "<<END>>") -> str:
    return HEAD.format(live=live, points=points) + "".join(f"{count}\r\n" for count in counts) + end
