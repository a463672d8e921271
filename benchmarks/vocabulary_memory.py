"""Memory of a step of masked language modelling with 250,002 pieces, by the number of tokens in the batch.

    python benchmarks/vocabulary_memory.py --output benchmarks/results/vocabulary_memory.json

A network of one layer and width 128, on a CPU in float32, a step forwards and backwards in a process of its own. Ways:
"all" has logits at every token, as transformers' loss; "masked" at the masked ones (15 %); "parts" as pre-training does
here, at the masked ones, a part of them at a time. Given is how far resident memory rose during the step.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

VOCABULARY, WIDTH, LENGTH, RATE = 250_002, 128, 256, 0.15
WAYS = ("all", "masked", "parts")


def resident(entry: str) -> int:
    """Return this process's resident bytes: now (`VmRSS`) or at most so far (`VmHWM`)."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(entry))


def step(way: str, rows: int) -> dict[str, Any]:
    """Take one step, and return what it took."""
    import torch

    from ernie_m import ErnieMConfig, ErnieMForMaskedLM
    from lightning_modules.token_losses import token_losses

    torch.manual_seed(0)
    network = ErnieMForMaskedLM(
        ErnieMConfig(vocab_size=VOCABULARY, hidden_size=WIDTH, num_hidden_layers=1, num_attention_heads=2)
    )
    ids = torch.randint(5, VOCABULARY - 1, (rows, LENGTH))
    chosen = torch.rand(rows, LENGTH) < RATE
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    # Sets the high-water mark back to what is resident now.
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    before, started = resident("VmRSS"), time.perf_counter()
    hidden = network.ernie_m(ids).last_hidden_state
    if way == "parts":
        loss = token_losses(network.lm_head, hidden[chosen], ids[chosen], VOCABULARY)[0].mean()
    else:
        logits = network.lm_head(hidden if way == "all" else hidden[chosen])
        labels = ids.masked_fill(~chosen, -100) if way == "all" else ids[chosen]
        loss = torch.nn.functional.cross_entropy(logits.view(-1, VOCABULARY), labels.view(-1))
    loss.backward()
    seconds = time.perf_counter() - started
    extra = resident("VmHWM") - before
    return {
        "way": way,
        "tokens": rows * LENGTH,
        "extra_bytes": extra,
        "seconds": round(seconds, 1),
        "loss": float(loss.detach()),
    }


def main() -> None:
    """Take a step of each kind and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, help="also write the figures here, as JSON")
    parser.add_argument("--step", nargs=2, metavar=("WAY", "ROWS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        print(json.dumps(step(options.step[0], int(options.step[1]))))
        return
    rows = []
    for number in (4, 16, 64):
        # All logits of 16,384 tokens are 16 GB, and their gradients as much.
        for way in (way for way in WAYS if way != "all" or number == 4):
            command = [sys.executable, __file__, "--step", way, str(number)]
            rows.append(json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout))
            row = rows[-1]
            print(
                f"{row['tokens']:6,} tokens  {way:6}  {row['extra_bytes'] / 1e9:5.2f} GB  {row['seconds']:5.1f} s  "
                f"loss {row['loss']:.5f}",
                flush=True,
            )
    if options.output:
        report = {"command": "python benchmarks/vocabulary_memory.py", "steps": rows}
        options.output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
