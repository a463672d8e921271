"""Measure training steps and evaluations of ERNIE-M's encoder under each attention that works on the device at hand.

    python benchmarks/attention.py --rows 22 --length 46

Every attention is taken in turns, many times, on one batch whose last row is three quarters as long as the others; what
counts is the median. "auto" is what the recipes have: SDPA, but for training on a CPU, where the probabilities are
materialised; "torch's sdpa" is that function in any case. What does not work is listed with its error.
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from ernie_m import ErnieMConfig, ErnieMModel
from ernie_m_recipes.devices import keep_freed_memory

HERE = Path(__file__).resolve().parent
# Under another name, so that the model leaves it alone on a CPU.
PLAIN_SDPA = "plain_sdpa"
ATTENTIONS = {
    "auto": "sdpa",
    "torch's sdpa": PLAIN_SDPA,
    "eager": "eager",
    "flash_attention_2": "flash_attention_2",
    "flash_attention_3": "flash_attention_3",
    "flex_attention": "flex_attention",
}


def encoder(attention: str, size: str, device: torch.device, dtype: torch.dtype) -> ErnieMModel:
    """The encoder with few words: what attention costs does not depend on them."""
    published = ErnieMConfig.base() if size == "base" else ErnieMConfig.large()
    config = ErnieMConfig.from_dict(published.to_dict() | {"vocab_size": 1000}, attn_implementation=attention)
    torch.manual_seed(0)
    network: ErnieMModel = ErnieMModel._from_config(config, attn_implementation=attention)
    return network.to(device, dtype)


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """The time of one call, the device's work included."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    started = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def main() -> None:
    """Time every implementation in turns and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--length", type=int, default=46)
    parser.add_argument("--size", choices=["base", "large"], default="base")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--output", type=Path, default=HERE / "results" / "attention.json")
    args = parser.parse_args()
    keep_freed_memory()
    AttentionInterface.register(PLAIN_SDPA, sdpa_attention_forward)
    AttentionMaskInterface.register(PLAIN_SDPA, sdpa_mask)
    device, dtype = torch.device(args.device), getattr(torch, args.dtype)
    ids = torch.randint(5, 1000, (args.rows, args.length), device=device)
    mask = torch.ones_like(ids)
    mask[-1, 3 * args.length // 4 :] = 0

    weights = torch.randn(args.rows, args.length, 1, device=device)

    def train(network: ErnieMModel) -> None:
        (network.train()(ids, mask).last_hidden_state * weights).sum().backward()
        network.zero_grad()

    @torch.no_grad()
    def evaluate(network: ErnieMModel) -> None:
        network.eval()(ids, mask)

    works = {"train": train, "evaluate": evaluate}
    failures: dict[str, str] = {}
    networks: dict[str, ErnieMModel] = {}
    times: dict[tuple[str, str], list[float]] = {}
    for name, attention in ATTENTIONS.items():
        for work, run in works.items():
            try:
                network = networks.setdefault(name, encoder(attention, args.size, device, dtype))
                run(network)
                times[name, work] = []
            # Packages, kernels and devices that are missing: each has errors of its own.
            except Exception as error:
                failures[f"{name}, {work}"] = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    for _ in range(args.rounds):
        for (name, work), found in times.items():
            found.append(seconds(partial(works[work], networks[name]), device))
    result = {
        "command": f"python benchmarks/attention.py {' '.join(sys.argv[1:])}",
        "milliseconds": {
            f"{name}, {work}": round(1e3 * statistics.median(found), 1) for (name, work), found in times.items()
        },
        "do_not_work_here": failures,
        "rows": args.rows,
        "length": args.length,
        "size": args.size,
        "dtype": args.dtype,
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        "rounds": args.rounds,
        "torch": torch.__version__,
        "processors": os.cpu_count(),
    }
    args.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
