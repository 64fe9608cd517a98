"""The paper's transform."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from underpaint.data.transform import log_log_root, normalised_log_log_root


def test_known_values() -> None:
    root = np.e - 1
    np.testing.assert_allclose(log_log_root(np.array([0.0, root**2])), [0.0, np.log(2.0)])


@given(arrays(np.float64, (2, 7), elements=st.floats(0, 1e7)))
def test_normalised_lies_between_zero_and_one_and_keeps_the_order(counts: np.ndarray) -> None:
    values = normalised_log_log_root(counts)
    assert np.all((values >= 0) & (values <= 1))
    ordered_counts, ordered_values = np.sort(counts, axis=1), np.sort(values, axis=1)
    np.testing.assert_allclose(normalised_log_log_root(ordered_counts), ordered_values)


def test_negative_counts_are_zero() -> None:
    assert log_log_root(np.array([-4.0]))[0] == 0.0
