import pytest

from underpaint.pigments.weights import load_card, model_path, shipped_models


@pytest.mark.parametrize("name", shipped_models())
def test_a_shipped_network_holds_no_trace_of_the_machine_that_made_it(name: str) -> None:
    content = model_path(name).read_bytes()
    assert b"stack_trace" not in content
    assert b".py" not in content


def test_both_networks_ship_with_a_card_that_says_what_they_cannot_do() -> None:
    assert set(shipped_models()) == {"default", "xu2022"}
    assert all(load_card(name).limits and load_card(name).figures for name in shipped_models())
