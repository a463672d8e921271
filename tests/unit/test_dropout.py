"""The CPU's own dropout: what torch's promises, by its statistics and its gradient."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ernie_m.dropout import Dropout, dropout


@pytest.mark.parametrize("rate", [0.001, 0.1, 0.5, 0.9])
def test_zeros_are_as_many_as_asked_for_and_the_mean_stays(rate: float) -> None:
    torch.manual_seed(0)
    count = 1_000_003
    found = dropout(torch.ones(count), rate, training=True)
    deviation = (rate * (1 - rate) / count) ** 0.5
    assert float((found == 0).double().mean()) == pytest.approx(rate, abs=5 * deviation + 2**-17)
    assert float(found.double().mean()) == pytest.approx(1, abs=5 * deviation / (1 - rate))
    assert len(found.unique()) == 2


def test_the_mean_stays_in_bfloat16_too() -> None:
    torch.manual_seed(2)
    # 8 bits cannot hold 1 / 0.9: only what is rounded after the product is right in the mean.
    values = torch.rand(2_000_000, dtype=torch.float64).bfloat16()
    found = dropout(values, 0.1, training=True)
    assert float(found.double().mean() / values.double().mean()) == pytest.approx(1, abs=8e-4)


def test_little_is_kept_for_the_backward_pass() -> None:
    kept = 0

    def note(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal kept
        kept += tensor.nbytes
        return tensor

    values = torch.randn(1000, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        found = dropout(values, 0.1, training=True)
    assert kept == 1000
    found.sum().backward()
    assert torch.equal(values.grad != 0, found != 0)


def test_elements_are_dropped_independently() -> None:
    torch.manual_seed(1)
    zero = (dropout(torch.ones(4000, 256), 0.5, training=True) == 0).double() - 0.5
    for shift in range(1, 9):  # four neighbours share one draw
        assert abs(float((zero[:, shift:] * zero[:, :-shift]).mean())) < 0.002
    assert abs(float((zero[1:] * zero[:-1]).mean())) < 0.002


def test_the_gradient_passes_where_the_value_does() -> None:
    values = torch.randn(7, 5, requires_grad=True)
    found = dropout(values, 0.5, training=True)
    found.sum().backward()
    assert torch.equal(values.grad == 0, found == 0)
    torch.testing.assert_close(found, values * values.grad)


def test_a_seed_repeats_it() -> None:
    module = Dropout(0.3)
    found = []
    for _ in range(2):
        torch.manual_seed(7)
        found.append(module(torch.ones(50)))
    assert torch.equal(*found)
    assert not torch.equal(found[0], module(torch.ones(50)))
    module.eval()
    assert torch.equal(module(torch.ones(50)), torch.ones(50))


@pytest.mark.parametrize(("rate", "expected"), [(0.0, 1.0), (1.0, 0.0), (1e-9, 1.0)])
def test_the_ends_are_those_of_torch(rate: float, expected: float) -> None:
    assert torch.equal(dropout(torch.ones(9), rate, training=True), torch.full((9,), expected))


@settings(max_examples=30)
@given(st.lists(st.integers(0, 5), max_size=4), st.sampled_from([torch.float32, torch.bfloat16, torch.float16]))
def test_any_shape_and_type(shape: list[int], kind: torch.dtype) -> None:
    found = dropout(torch.ones(shape, dtype=kind), 0.5, training=True)
    assert (found.shape, found.dtype) == (torch.Size(shape), kind)
    assert set(found.flatten().tolist()) <= {0.0, 2.0}
