"""Turns ERNIE-M of PaddleNLP, and XLM-R of transformers, into folders that `from_pretrained` loads.

From Python `convert(source, target)`; from a shell `python -m ernie_m.conversion SOURCE TARGET`.
"""

import argparse
import contextlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Literal

from .configuration import POSITION_OFFSET
from .conversion_sources import HEADS, Checkpoint, from_paddle, from_xlmr, read_json
from .errors import InputError
from .files import whole
from .hub import WEIGHTS, folder_of
from .stored_tensors import is_torchs, write_safetensors
from .tokenization import ErnieMTokenizer
from .vocabulary import read_sentencepiece, read_vocabulary

Segmentation = Literal["hf", "paddle", "raw"]
# Each source's own rule, so that the same text gives the ids that its weights were trained with.
_SEGMENTATIONS: dict[str, Segmentation] = {"paddle": "paddle", "xlm-roberta": "raw"}
_VOCABULARY_NAMES = ("vocab.txt", "ernie_m.vocab.txt")
_SENTENCEPIECE_NAMES = ("sentencepiece.bpe.model", "ernie_m.sentencepiece.bpe.model")
_SPECIAL_FIRST, _SPECIAL_LAST = ("[CLS]", "[PAD]", "[SEP]", "[UNK]"), "[MASK]"
_KINDS_OF_WEIGHTS = (*WEIGHTS, ("*.pdparams",))


@dataclass(frozen=True)
class ConversionReport:
    """What a conversion did.

    Args:
        source: The folder or Hub id it read.
        target: The folder it made.
        origin: "paddle" or "xlm-roberta".
        head: The head's name, as `--head` takes it.
        architecture: The class that loads the folder.
        tensors: How many tensors were written.
        parameters: How many numbers they hold.
        dropped: Keys of the source that this head has no place for.
        segmentation: The rule that the tokenizer got, or None if no tokenizer came along.
        notes: What the user should know, such as why there is no tokenizer.
    """

    source: str
    target: Path
    origin: str
    head: str
    architecture: str
    tensors: int
    parameters: int
    dropped: tuple[str, ...]
    segmentation: str | None
    notes: tuple[str, ...]

    def __str__(self) -> str:
        lines = [
            f"{self.source} ({self.origin}) -> {self.target}",
            f"  {self.architecture}: {self.tensors} tensors, {self.parameters:,} parameters",
        ]
        if self.dropped:
            lines.append(f"  dropped, this head has no place for them: {', '.join(self.dropped)}")
        if self.segmentation:
            lines.append(f"  tokenizer: segmentation {self.segmentation!r}")
        return "\n".join([*lines, *(f"  note: {note}" for note in self.notes)])


def convert(
    source: str | Path, target: str | Path, *, head: str | None = None, segmentation: Segmentation | None = None
) -> ConversionReport:
    """Make a folder for `from_pretrained` out of a PaddleNLP ERNIE-M or an XLM-R.

    Outputs stay those of the source with right padding and an explicit attention mask. (Without one PaddleNLP masks
    `[CLS]` instead of the padding; with left padding XLM-R counts positions from the first real token, ERNIE-M from the
    first column.)

    Args:
        source: A folder with `model_state.pdparams`, or PaddleNLP's `model.safetensors`, and its `config.json` or
            `model_config.json`; a folder with an XLM-R's `config.json` and weights; or the Hub id of either.
        target: The folder to make; it must not exist.
        head: A key of `HEADS`. Needed only where neither the configuration nor the weights tell it; "base" leaves a
            head behind.
        segmentation: The tokenizer's rule; by default the source's own: "paddle", or "raw" for XLM-R.

    Returns:
        What was written and what was dropped.

    Raises:
        InputError: If anything about the source or target is not as it should be; nothing is written then.
    """
    target = Path(target)
    _check_target(target)
    folder = folder_of(str(source), _KINDS_OF_WEIGHTS)
    checkpoint = _open(folder, head)
    with _staging(target) as staging:
        rule = segmentation or _SEGMENTATIONS[checkpoint.origin]
        note = _write_tokenizer(folder, checkpoint, staging, rule)
        checkpoint.config.save_pretrained(staging)
        write_safetensors(staging / "model.safetensors", checkpoint.tensors)
    return ConversionReport(
        source=str(source),
        target=target,
        origin=checkpoint.origin,
        head=checkpoint.head,
        architecture=HEADS[checkpoint.head].__name__,
        tensors=len(checkpoint.tensors),
        parameters=sum(prod(tensor.shape) for tensor in checkpoint.tensors.values()),
        dropped=checkpoint.dropped,
        segmentation=None if note else rule,
        notes=(note,) if note else (),
    )


def _check_target(target: Path) -> None:
    if target.exists() or target.is_symlink():
        raise InputError(f"{target}: exists already; name a new folder, or remove this one first")
    if not target.absolute().parent.is_dir():
        raise InputError(f"{target}: there is no folder {target.absolute().parent} to put it in; make it first")


@contextlib.contextmanager
def _staging(target: Path) -> Iterator[Path]:
    """Give a folder beside the target that becomes the target if all goes well, as the user is to hear of it."""
    try:
        with whole(target.absolute()) as folder:
            folder.mkdir()
            yield folder
    except OSError as error:
        raise InputError(f"{target}: could not be written ({error}); free space or name another place") from error


def _open(folder: Path, head: str | None) -> Checkpoint:
    paddle = folder / "model_state.pdparams"
    if not paddle.is_file():
        others = sorted(folder.glob("*.pdparams"))
        paddle = others[0] if len(others) == 1 else paddle
    if paddle.is_file():
        return from_paddle(folder, paddle, head)
    settings = folder / "config.json"
    if not settings.is_file():
        seen = ", ".join(sorted(path.name for path in folder.iterdir())[:8]) or "nothing"
        raise InputError(f"{folder}: no model_state.pdparams and no config.json, so no checkpoint; it has {seen}")
    if read_json(settings).get("model_type") == "ernie_m":
        if (weights := folder / "model.safetensors").is_file() and not is_torchs(weights):
            return from_paddle(folder, weights, head)
        raise InputError(f"{folder}: is ERNIE-M in the published format already; from_pretrained loads it as it is")
    return from_xlmr(folder, head)


def _write_tokenizer(folder: Path, checkpoint: Checkpoint, staging: Path, segmentation: Segmentation) -> str | None:
    """Bring the tokenizer along; returns why not, where there is none."""
    model, vocabulary = (
        next((folder / name for name in names if (folder / name).is_file()), None)
        for names in (_SENTENCEPIECE_NAMES, _VOCABULARY_NAMES)
    )
    if model is None:
        if (folder / "tokenizer.json").is_file():
            return (
                "no tokenizer came along: ERNIE-M's needs sentencepiece.bpe.model, the source has only tokenizer.json; "
                "put the model's sentencepiece.bpe.model beside it and convert again"
            )
        return "no tokenizer came along: the source has no sentencepiece.bpe.model"
    if checkpoint.origin == "xlm-roberta":
        vocabulary = _write_xlmr_vocabulary(model, staging)
        described = f"{model} with ERNIE-M's special tokens"
    elif vocabulary is None:
        return f"no tokenizer came along: the source has {model.name}, but no vocab.txt"
    else:
        described = str(vocabulary)
    tokens, rows = len(read_vocabulary(vocabulary, [])), checkpoint.config.vocab_size
    if tokens != rows:
        raise InputError(
            f"{described}: {tokens} tokens, the embedding in {checkpoint.weights.name} has {rows} rows; put the "
            "tokenizer files that belong to the weights there, or take them away to convert the weights alone"
        )
    tokenizer = ErnieMTokenizer(
        sentencepiece_model_ckpt=model,
        vocab_file=vocabulary,
        segmentation=segmentation,
        model_max_length=checkpoint.config.max_position_embeddings - POSITION_OFFSET,
    )
    tokenizer.save_pretrained(staging)
    return None


def _write_xlmr_vocabulary(model: Path, staging: Path) -> Path:
    """Write XLM-R's tokens by id under ERNIE-M's names: fairseq's four, the pieces after the first three, the mask."""
    pieces = read_sentencepiece(model)
    names = [str(pieces.id_to_piece(number)) for number in range(len(pieces))]
    if names[:3] != ["<unk>", "<s>", "</s>"]:
        raise InputError(f"{model}: begins with {names[:3]}, XLM-R's with <unk>, <s>, </s>; take XLM-R's own file")
    path = staging / "vocab.txt"
    path.write_text("".join(f"{name}\n" for name in (*_SPECIAL_FIRST, *names[3:], _SPECIAL_LAST)), encoding="utf-8")
    return path


def main(arguments: Sequence[str] | None = None, prog: str = "python -m ernie_m.conversion") -> int:
    """Run the command; returns its exit status: 0, 2 for a mistake in the input, 130 if interrupted.

    Args:
        arguments: The words after the command; those of the process by default.
        prog: What the command is called.
    """
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Turn PaddleNLP's ERNIE-M, or an XLM-R, into a folder that from_pretrained loads.",
    )
    parser.add_argument("source", metavar="SOURCE", help="a folder or Hub id with model_state.pdparams, or an XLM-R")
    parser.add_argument("target", metavar="TARGET", help="the folder to make")
    parser.add_argument("--head", choices=list(HEADS), help="needed only where the source does not tell it")
    parser.add_argument(
        "--segmentation", choices=["hf", "paddle", "raw"], help="the tokenizer's rule (default: the source's own)"
    )
    options = parser.parse_args(arguments)
    try:
        print(convert(options.source, options.target, head=options.head, segmentation=options.segmentation))
    except (InputError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; nothing was written", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
