"""Reading and writing the two files of an ERNIE-M tokenizer, with every fault named."""

import json
import os
from pathlib import Path

import sentencepiece

from .errors import InputError
from .files import whole
from .segmentation import cut

VOCAB_FILES_NAMES = {"sentencepiece_model_ckpt": "sentencepiece.bpe.model", "vocab_file": "vocab.txt"}


def existing_file(path: str | os.PathLike[str] | None, role: str, folder: str) -> Path:
    """Return `path` if a file is there.

    Args:
        path: Where the file should be; None where transformers found none in the folder.
        role: Key of `VOCAB_FILES_NAMES`.
        folder: The folder or Hub id that was asked for, for the message; may be empty.

    Raises:
        InputError: There is no such file.
    """
    name = VOCAB_FILES_NAMES[role]
    if path is None:
        place = f"in {folder!r}" if folder else f"was given ({role}=None)"
        raise InputError(
            f"No {name} {place}: an ERNIE-M tokenizer needs both {' and '.join(VOCAB_FILES_NAMES.values())}. "
            "Take them from a published checkpoint such as susnato/ernie-m-base_pytorch."
        )
    if not Path(path).is_file():
        raise InputError(f"{role}={str(path)!r} is not a file. Give the path of {name}.")
    return Path(path)


def read_vocabulary(path: Path, special_tokens: list[str]) -> dict[str, int]:
    """Read a vocab.txt: one token a line, the id is the line's number counted from 0.

    Args:
        path: The file, UTF-8.
        special_tokens: Tokens that must be in it.

    Returns:
        Token to id.

    Raises:
        InputError: Not UTF-8, a token on two lines, or a special token that is missing.
    """
    try:
        with open(path, encoding="utf-8") as lines:
            tokens = [line.rstrip("\n") for line in lines]
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path} is not UTF-8 text (byte {error.start}: {error.object[error.start]:#04x}). "
            "Give ERNIE-M's vocab.txt: one token a line."
        ) from error
    vocabulary = {token: index for index, token in enumerate(tokens)}
    if len(vocabulary) != len(tokens):
        seen: dict[str, int] = {}
        for number, token in enumerate(tokens, start=1):
            if token in seen:
                raise InputError(
                    f"{path}, line {number}: {token!r} is on line {seen[token]} already. A token has one id, its line "
                    "number; take vocab.txt again from where the weights came from."
                )
            seen[token] = number
    missing = [token for token in special_tokens if token not in vocabulary]
    if missing:
        raise InputError(
            f"{path} lacks the special tokens {', '.join(missing)} ({len(tokens)} lines read). Give the vocab.txt of "
            "the checkpoint, or name its special tokens by argument (cls_token=..., sep_token=...)."
        )
    return vocabulary


def read_sentencepiece(path: Path) -> sentencepiece.SentencePieceProcessor:
    """Load a sentencepiece model.

    Raises:
        InputError: The file is not a sentencepiece model, or one that falls back to bytes.
    """
    # Parsed from memory: sentencepiece takes paths in UTF-8 alone, and its error names no file.
    content = path.read_bytes()
    try:
        if not content:
            raise RuntimeError("the file is empty")
        model = sentencepiece.SentencePieceProcessor()
        model.LoadFromSerializedProto(content)
    except RuntimeError as error:
        hint = (
            " It is a Git LFS pointer: fetch the file itself." if content.startswith(b"version https://git-lfs") else ""
        )
        raise InputError(
            f"{path} is not a sentencepiece model ({len(content)} bytes; {error}).{hint} "
            "Give the sentencepiece.bpe.model of the checkpoint."
        ) from error
    if any(model.IsByte(index) for index in range(min(300, model.GetPieceSize()))):
        raise InputError(
            f"{path} falls back to bytes (pieces such as <0x41>), which ERNIE-M's rules would cut into "
            "characters. Train the model with byte_fallback=false."
        )
    return model


def check_together(model: sentencepiece.SentencePieceProcessor, vocabulary: dict[str, int], places: str) -> None:
    """Refuse a vocabulary that belongs to another sentencepiece model.

    Raises:
        InputError: Fewer than half of the pieces have an id, nor their parts where a rule cuts them.
    """
    pieces = model.IdToPiece(list(range(model.GetPieceSize())))
    known = sum(
        piece in vocabulary or all(piece[begin:end] in vocabulary for begin, end in cut(piece)) for piece in pieces
    )
    if 2 * known < len(pieces):
        raise InputError(
            f"{places} do not belong together: {known} of {len(pieces)} sentencepiece pieces are in the vocabulary, "
            "the rest would be unknown. Take both files from the same checkpoint."
        )


def check_embedding(vocab_path: Path, tokens: int) -> None:
    """Refuse a vocabulary of another length than the embedding of the weights that lie beside it.

    Args:
        vocab_path: Path of vocab.txt; the folder's config.json, where there is one, says how long the embedding is.
        tokens: Lines of vocab.txt, and added tokens.

    Raises:
        InputError: The two differ. An embedding filled up to a multiple of 8 with rows that no token uses is fine.
    """
    config_path = vocab_path.with_name("config.json")
    if not config_path.is_file():
        return
    try:
        config = json.loads(config_path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{config_path} is not JSON: {error}. Take it from the checkpoint again.") from error
    rows = config.get("vocab_size") if isinstance(config, dict) and config.get("model_type") == "ernie_m" else None
    if rows is None or rows == tokens or (rows % 8 == 0 and 0 < rows - tokens < 128):
        return
    raise InputError(
        f"{vocab_path} has {tokens} tokens, added ones included, but config.json beside it says vocab_size {rows}: ids "
        "and embedding would not fit. Take vocab.txt and weights from the same checkpoint."
    )


def write_files(
    folder: str, prefix: str | None, model: sentencepiece.SentencePieceProcessor, vocabulary: dict[str, int]
) -> tuple[str, ...]:
    """Write sentencepiece.bpe.model and vocab.txt, each complete or not at all.

    Args:
        folder: An existing folder.
        prefix: Put before both names with a hyphen.
        model: The sentencepiece model.
        vocabulary: Token to id; ids are 0 to the number of tokens.

    Returns:
        The two paths.
    """
    lines = "".join(f"{token}\n" for token in sorted(vocabulary, key=vocabulary.__getitem__))
    contents = {"sentencepiece_model_ckpt": model.serialized_model_proto(), "vocab_file": lines.encode()}
    written = []
    for role, content in contents.items():
        target = Path(folder) / (f"{prefix}-{VOCAB_FILES_NAMES[role]}" if prefix else VOCAB_FILES_NAMES[role])
        with whole(target) as partial:
            partial.write_bytes(content)
        written.append(str(target))
    return tuple(written)
