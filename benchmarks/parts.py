"""Measure parts of a training step that are too short for `speed.py` to tell from the noise of a shared machine.

    python benchmarks/parts.py

A batch of 32 XNLI pairs has 1,472 tokens: dropout of ERNIE-M base over them, forward and backward, and a step of Adam
over its parameters with the 14,138 embedding rows that XNLI English uses, and with all of them. The products of a
training step with the layers' weights, forward and backward, are set against as many operations of the one product
again and again that `speed.py` takes for the limit: the layers' are of other shapes and orders in memory, and do not
stay in the caches. Both ways of each are taken in turns, many times; what counts is the median of each and of their
ratio.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import dropout as torch_dropout

from ernie_m import ErnieMConfig, ErnieMModel
from ernie_m.dropout import dropout
from ernie_m_recipes.devices import keep_freed_memory

HERE = Path(__file__).resolve().parent
ROWS, LENGTH, LAYERS = 32, 46, 12


def in_turns(ways: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Milliseconds of two ways, the second first: medians, and the median of first over second."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 2):
        for name, way in ways.items():
            started = time.perf_counter()
            way()
            if number > 1:
                times[name].append(1e3 * (time.perf_counter() - started))
    first, second = times.values()
    ratio = statistics.median(a / b for a, b in zip(first, second, strict=True))
    return {name: round(statistics.median(found), 1) for name, found in times.items()} | {"ratio": round(ratio, 2)}


def dropouts(drop: Callable[[torch.Tensor, float, bool], torch.Tensor]) -> Callable[[], None]:
    """All dropouts of a step: in every layer the attention's probabilities and two hidden states."""
    attention = torch.randn(ROWS, LAYERS, LENGTH, LENGTH, requires_grad=True)
    hidden = torch.randn(ROWS * LENGTH, 768, requires_grad=True)

    def step() -> None:
        for _ in range(LAYERS):
            for values in (attention, hidden, hidden):
                drop(values, 0.1, True).backward(values.detach())

    return step


def adam(rows: int, fused: bool) -> Callable[[], None]:
    network = ErnieMModel(ErnieMConfig(vocab_size=rows))
    for parameter in network.parameters():
        parameter.grad = torch.full_like(parameter, 1e-4)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-6, fused=fused)
    return lambda: optimizer.step()


def layers_products() -> Callable[[], None]:
    """The products of a step with the weights of all layers: forward, for the input's and for the weight's gradient."""
    shapes = [(768, 768)] * 4 + [(3072, 768), (768, 3072)]
    tokens = ROWS * LENGTH
    weights = [torch.randn(shape) for _ in range(LAYERS) for shape in shapes]
    inputs = [torch.randn(tokens, weight.shape[1]) for weight in weights]
    gradients = [torch.randn(tokens, weight.shape[0]) for weight in weights]

    def step() -> None:
        for weight, given, gradient in zip(weights, inputs, gradients, strict=True):
            torch.mm(given, weight.t())
            torch.mm(gradient, weight)
            torch.mm(gradient.t(), given)

    return step


def one_product_again() -> Callable[[], None]:
    """As many operations by one product."""
    left, right = torch.randn(ROWS * LENGTH, 768), torch.randn(768, 3072)
    out = torch.mm(left, right)

    def step() -> None:
        # A layer's six weights have the elements of three of the largest.
        for _ in range(3 * 3 * LAYERS):
            torch.mm(left, right, out=out)

    return step


def main() -> None:
    """Time each part in rounds and write the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--output", type=Path, default=HERE / "results" / "parts.json")
    args = parser.parse_args()
    keep_freed_memory()
    parts = {
        "dropout": {"torch": dropouts(torch_dropout), "ours": dropouts(dropout)},
        "adam": {"not fused": adam(14_138, False), "fused": adam(14_138, True)},
        "products": {"of the layers": layers_products(), "one again and again": one_product_again()},
        "adam_rows": {"250,002 rows": adam(250_002, True), "14,138 rows": adam(14_138, True)},
    }
    result = {
        "milliseconds_of_a_step": {name: in_turns(ways, args.rounds) for name, ways in parts.items()},
        "rounds": args.rounds,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "processors": os.cpu_count(),
    }
    args.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
