"""Peak resident memory of a conversion, against the size of the file converted.

Writes PaddleNLP and XLM-R checkpoints of ERNIE-M base's size with random values, converts each in a process of its own
and reads that process's high-water mark from the kernel:

    python benchmarks/conversion_memory.py --output benchmarks/results/conversion_memory.json
"""

import argparse
import json
import os
import pickle
import platform
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np

LIMIT = 1.3
LAYERS, WIDTH, WORDS, POSITIONS = 12, 768, 250_002, 514


def paddle_state() -> dict[str, np.ndarray]:
    """Return a PaddleNLP ErnieMModel of base size: Linear weights are (inputs, outputs)."""
    draw = np.random.default_rng(0)
    shapes = {
        "embeddings.word_embeddings.weight": (WORDS, WIDTH),
        "embeddings.position_embeddings.weight": (POSITIONS, WIDTH),
    }
    linears = {"pooler.dense": (WIDTH, WIDTH)}
    norms = ["embeddings.layer_norm"]
    for layer in range(LAYERS):
        start = f"encoder.layers.{layer}."
        linears |= {f"{start}self_attn.{name}": (WIDTH, WIDTH) for name in ("q_proj", "k_proj", "v_proj", "out_proj")}
        linears |= {f"{start}linear1": (WIDTH, 4 * WIDTH), f"{start}linear2": (4 * WIDTH, WIDTH)}
        norms += [f"{start}norm1", f"{start}norm2"]
    shapes |= {f"{name}.weight": shape for name, shape in linears.items()}
    shapes |= {f"{name}.bias": shape[1:] for name, shape in linears.items()}
    shapes |= {f"{name}.{part}": (WIDTH,) for name in norms for part in ("weight", "bias")}
    return {name: draw.standard_normal(shape, dtype=np.float32) for name, shape in shapes.items()}


def write_paddle(folder: Path, protocol: int) -> Path:
    """Write the state as `paddle.save` does, with the given pickle protocol."""
    config = {"hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": 12, "vocab_size": WORDS}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    state: dict[str, object] = dict(paddle_state())
    state["StructuredToParameterName@@"] = {name: f"parameter_{number}" for number, name in enumerate(state)}
    path = folder / "model_state.pdparams"
    with path.open("wb") as file:
        pickle.dump(state, file, protocol=protocol)
    return path


def write_xlmr(folder: Path, safetensors: bool) -> Path:
    """Write an XLM-R base with transformers, or with torch.save."""
    import torch
    from transformers import XLMRobertaConfig, XLMRobertaModel

    model = XLMRobertaModel(XLMRobertaConfig(vocab_size=WORDS, max_position_embeddings=POSITIONS, type_vocab_size=1))
    model.save_pretrained(folder)
    path = folder / "model.safetensors"
    if not safetensors:
        path.unlink()
        path = folder / "pytorch_model.bin"
        torch.save(model.state_dict(), path)
    return path


def measure(command: list[str]) -> tuple[float, float]:
    """Run a command; return its peak resident bytes and its seconds."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} failed")
    return usage.ru_maxrss * 1024, time.perf_counter() - start


def make(kind: str, folder: Path) -> Path:
    """Write one of the checkpoints."""
    if kind.startswith("paddle"):
        return write_paddle(folder, protocol=int(kind[-1]))
    return write_xlmr(folder, safetensors=kind.endswith("safetensors"))


def main() -> None:
    """Convert each kind of checkpoint in a process of its own and print its peak memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, help="also write the figures here, as JSON")
    parser.add_argument("--make", nargs=2, metavar=("KIND", "FOLDER"), help="only write a checkpoint")
    options = parser.parse_args()
    if options.make:
        make(options.make[0], Path(options.make[1]))
        return
    rows = []
    importing, _ = measure([sys.executable, "-c", "import ernie_m.conversion"])
    for kind in ("paddle protocol 4", "paddle protocol 2", "xlm-r model.safetensors", "xlm-r pytorch_model.bin"):
        with tempfile.TemporaryDirectory() as name:
            source = Path(name) / "source"
            source.mkdir()
            subprocess.run([sys.executable, __file__, "--make", kind, str(source)], check=True)
            size = max(path.stat().st_size for path in source.iterdir())
            command = [sys.executable, "-m", "ernie_m.conversion", str(source), str(Path(name) / "target")]
            peak, seconds = measure(command)
        ratio = peak / size
        rows.append(
            {
                "source": kind,
                "file_bytes": size,
                "peak_bytes": peak,
                "ratio": round(ratio, 3),
                "seconds": round(seconds, 1),
            }
        )
        print(f"{kind:24}  file {size / 1e9:.2f} GB  peak {peak / 1e9:.2f} GB  ratio {ratio:.2f}  {seconds:.0f} s")
    report = {
        "command": "python benchmarks/conversion_memory.py",
        "limit": LIMIT,
        "imports_alone_bytes": importing,
        "conversions": rows,
        "versions": {name: version(name) for name in ("torch", "transformers", "safetensors", "numpy")},
        "python": platform.python_version(),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
    }
    if options.output:
        options.output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
