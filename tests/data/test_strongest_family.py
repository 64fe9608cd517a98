"""How strongly an element stands out, whichever of its line families shows it."""

import numpy as np

from underpaint.data.maps import Results


def test_the_strongest_of_some_families_counts_and_none_is_zero() -> None:
    area = np.array([[[30.0, 4.0], [-3.0, np.nan]]], dtype=np.float32)
    maps = Results.of_lines(("Sn_L", "Sn_K"), area, np.array([[[10.0, 0.5], [1.0, 1.0]]], dtype=np.float32))
    np.testing.assert_allclose(maps.max_significance(("Sn_K", "Sn_L", "Sb_K")), [[8.0, 0.0]])
    np.testing.assert_allclose(maps.max_significance(("Sn_L",)), [[3.0, -3.0]])
    assert not maps.max_significance(("Sb_K",)).any()
