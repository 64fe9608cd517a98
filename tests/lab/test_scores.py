import numpy as np
import pytest

from underpaint.data.maps import cohen_kappa
from underpaint.lab.evaluation import auroc, average_precision, expected_calibration_error, score


def test_scores_of_a_small_case_by_hand() -> None:
    probability = np.array([0.9, 0.8, 0.3, 0.6, 0.1])
    label = np.array([True, True, True, False, False])
    result = score(probability, label, is_visible=label)
    assert result.sensitivity == pytest.approx(2 / 3)
    assert result.precision == pytest.approx(2 / 3)
    assert result.f1 == pytest.approx(2 / 3)
    assert result.accuracy == pytest.approx(3 / 5)
    # "always yes": precision 3/5, sensitivity 1
    assert result.always_yes_f1 == pytest.approx(2 * 0.6 / 1.6)
    assert result.majority_accuracy == pytest.approx(3 / 5)


def test_an_invisible_label_counts_neither_for_nor_against() -> None:
    probability = np.array([0.9, 0.0, 0.2])
    label = np.array([True, True, False])
    result = score(probability, label, is_visible=np.array([True, False, False]))
    assert (result.n_positive, result.n_negative, result.n_invisible) == (1, 1, 1)
    assert result.f1 == 1.0


def test_no_answer_counts_as_no() -> None:
    result = score(np.array([np.nan, 0.9]), np.array([True, True]), np.array([True, True]))
    assert result.sensitivity == 0.5


def test_auroc_counts_ties_half_and_is_one_for_a_perfect_order() -> None:
    truth = np.array([False, False, True, True])
    assert auroc(np.array([0.1, 0.2, 0.3, 0.4]), truth) == 1.0
    assert auroc(np.array([0.5, 0.5, 0.5, 0.5]), truth) == 0.5
    assert np.isnan(auroc(np.array([0.1, 0.2]), np.array([True, True])))


def test_average_precision_matches_its_definition() -> None:
    # ranked: hit, miss, hit -> 1/2 * 1 + 1/2 * 2/3
    assert average_precision(np.array([0.9, 0.8, 0.7]), np.array([True, False, True])) == pytest.approx(5 / 6)


def test_calibration_error_is_the_gap_between_saying_and_being() -> None:
    assert expected_calibration_error(np.full(10, 0.75), np.arange(10) < 5) == pytest.approx(0.25)


def test_kappa_is_zero_for_chance_and_one_for_agreement() -> None:
    first = np.array([True, True, False, False])
    assert cohen_kappa(first, first) == 1.0
    assert cohen_kappa(first, np.array([True, False, True, False])) == pytest.approx(0.0)
