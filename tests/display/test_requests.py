"""Requests that no page sends are answered in words, and tell nothing that they should not."""

import pytest

from viewer_requests import leaks_of, send_requests


@pytest.mark.robust
@pytest.mark.parametrize("seed", range(3))
def test_hostile_requests_at_hostile_results_leak_nothing(seed: int) -> None:
    requests, leaks = leaks_of(400, seed)
    assert leaks == []
    assert requests == 400


def test_the_requests_are_counted() -> None:
    assert send_requests(40, 99) == (40, 0)
