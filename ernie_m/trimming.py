"""A smaller vocabulary for texts of some languages: fewer embedding rows, and a tokenizer that gives ids among them.

The word embeddings are most of ERNIE-M: 192 of 278 million parameters of the base model. A service for a few languages
needs a fraction of the rows. Texts like those that the vocabulary was chosen by keep their segmentation, and so their
outputs, exactly: sentencepiece's best path is still there. Other texts are cut into smaller pieces that were kept, down
to characters; only characters that were not kept become [UNK].
"""

import string
from collections.abc import Iterable
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import sentencepiece
import torch
from torch import nn

from .errors import InputError
from .modeling import ErnieMPreTrainedModel
from .segmentation import SPACE
from .tokenization import ErnieMTokenizer
from .vocabulary import VOCAB_FILES_NAMES, write_files

_CHUNK = 8192
_PIECES_FIELD, _SELF_TEST_FIELD = 1, 4
# https://protobuf.dev/programming-guides/encoding/
_VARINT, _MESSAGE = 0, 2
_FIXED_BYTES = {1: 8, 5: 4}
_LONGEST_VARINT = 10
_NO_MODEL = "the sentencepiece model is damaged; take sentencepiece.bpe.model of the checkpoint again"


class Selection(NamedTuple):
    """What of a tokenizer some texts need.

    Args:
        pieces: Ids of sentencepiece's pieces, ascending.
        ids: Ids of tokens, ascending; the place of an id is its id in the trimmed vocabulary.
        texts: How many texts there were.
        unknown: How many of their tokens are [UNK].
    """

    pieces: list[int]
    ids: list[int]
    texts: int
    unknown: int


def select(tokenizer: ErnieMTokenizer, texts: Iterable[str]) -> Selection:
    """Find the pieces and tokens that some texts need, with the single characters of all of them.

    Args:
        tokenizer: The whole tokenizer.
        texts: Texts in the languages that are to stay.

    Raises:
        InputError: There are no texts, or the tokenizer has added tokens beyond its vocabulary.
    """
    model, vocabulary = tokenizer.sp_model, tokenizer.vocab
    if len(tokenizer) != len(vocabulary):
        raise InputError(
            f"the tokenizer has {len(tokenizer) - len(vocabulary)} added tokens beyond vocab.txt; trim it without them "
            "and add them again"
        )
    pieces = np.zeros(model.GetPieceSize(), dtype=bool)
    ids = np.zeros(len(vocabulary), dtype=bool)
    count = unknown = 0
    rest = iter(texts)
    while chunk := list(islice(rest, _CHUNK)):
        count += len(chunk)
        seen = list(chain.from_iterable(map(tokenizer.sentencepiece_inputs, chunk)))
        pieces[list(chain.from_iterable(model.Encode(seen, out_type=int)))] = True
        found = list(chain.from_iterable(tokenizer(chunk, add_special_tokens=False)["input_ids"]))
        ids[found] = True
        unknown += found.count(vocabulary[str(tokenizer.unk_token)])
    if not count:
        raise InputError("there are no texts to choose a vocabulary by")
    ids[tokenizer.all_special_ids] = True
    surfaces: list[str] = model.IdToPiece(np.flatnonzero(pieces).tolist())
    unknown_piece = model.unk_id()
    for character in set(string.printable).union(*surfaces):
        for surface in (character, SPACE + character):
            piece = model.PieceToId(surface)
            pieces[piece] |= piece != unknown_piece
            if surface in vocabulary:
                ids[vocabulary[surface]] = True
    # Controls, and what stands for all unknown pieces.
    pieces[[i for i in range(len(pieces)) if model.IsControl(i) or model.IsUnknown(i)]] = True
    return Selection(np.flatnonzero(pieces).tolist(), np.flatnonzero(ids).tolist(), count, unknown)


def trim_tokenizer(tokenizer: ErnieMTokenizer, selection: Selection, folder: Path) -> ErnieMTokenizer:
    """Return a tokenizer with the selected pieces and tokens alone; its two files are written into a folder.

    Args:
        tokenizer: The whole tokenizer.
        selection: What `select` found with it.
        folder: An existing folder.
    """
    model = sentencepiece.SentencePieceProcessor()
    model.LoadFromSerializedProto(keep_pieces(tokenizer.sp_model.serialized_model_proto(), set(selection.pieces)))
    tokens = tokenizer.convert_ids_to_tokens(selection.ids)
    write_files(str(folder), None, model, {token: index for index, token in enumerate(tokens)})
    return ErnieMTokenizer(
        str(folder / VOCAB_FILES_NAMES["sentencepiece_model_ckpt"]),
        str(folder / VOCAB_FILES_NAMES["vocab_file"]),
        segmentation=tokenizer.segmentation,
        pair_separators=tokenizer.pair_separators,
        do_lower_case=tokenizer.do_lower_case,
        unk_token=str(tokenizer.unk_token),
        sep_token=str(tokenizer.sep_token),
        pad_token=str(tokenizer.pad_token),
        cls_token=str(tokenizer.cls_token),
        mask_token=str(tokenizer.mask_token),
        split_special_tokens=tokenizer.split_special_tokens,
        model_max_length=tokenizer.model_max_length,
        padding_side=tokenizer.padding_side,
        truncation_side=tokenizer.truncation_side,
    )


def keep_pieces(model: bytes, kept: set[int]) -> bytes:
    """Return a sentencepiece model with some of its pieces.

    The pieces are the messages of field 1 of sentencepiece_model.proto, in the order of their ids. Self-test samples
    (field 4) are left out, since their pieces may be gone.

    Args:
        model: The serialised model.
        kept: Ids of the pieces to keep.

    Raises:
        InputError: It is no whole message of protobuf.
    """
    parts: list[bytes] = []
    position = piece = 0
    while position < len(model):
        start = position
        tag, position = _varint(model, position)
        position = _end_of_field(model, tag & 7, position)
        if tag >> 3 == _PIECES_FIELD:
            if piece in kept:
                parts.append(model[start:position])
            piece += 1
        elif tag >> 3 != _SELF_TEST_FIELD:
            parts.append(model[start:position])
    return b"".join(parts)


def _end_of_field(content: bytes, wire_type: int, position: int) -> int:
    """Where the value of a field ends that begins at a position; unknown fields may be of any type."""
    if wire_type == _VARINT:
        return _varint(content, position)[1]
    if wire_type == _MESSAGE:
        size, position = _varint(content, position)
    elif wire_type in _FIXED_BYTES:
        size = _FIXED_BYTES[wire_type]
    else:
        raise InputError(f"{_NO_MODEL} (a field of type {wire_type} at byte {position})")
    if position + size > len(content):
        raise InputError(f"{_NO_MODEL} (it ends {position + size - len(content)} bytes early)")
    return position + size


def _varint(content: bytes, position: int) -> tuple[int, int]:
    """The number in protobuf's base-128 form at a position, and where it ends."""
    value = 0
    for number, byte in enumerate(content[position : position + _LONGEST_VARINT]):
        value |= (byte & 0x7F) << 7 * number
        if byte < 0x80:
            return value, position + number + 1
    raise InputError(f"{_NO_MODEL} (no number at byte {position})")


def trim_network(network: ErnieMPreTrainedModel, selection: Selection) -> None:
    """Keep the selected rows of a network's word embeddings, and of a decoder tied to them, in place.

    Args:
        network: Any ERNIE-M.
        selection: What `select` found with its tokenizer.

    Raises:
        InputError: The network has fewer rows than the tokenizer has tokens, or pads with another token.
    """
    embeddings = cast(nn.Embedding, network.get_input_embeddings()).weight
    if selection.ids[-1] >= len(embeddings):
        raise InputError(
            f"the tokenizer has the id {selection.ids[-1]}, the network {len(embeddings)} embedding rows; they do not "
            "belong together"
        )
    pad = network.config.pad_token_id
    if pad not in selection.ids:
        raise InputError(f"config.json says pad_token_id {pad}, which is no special token of the tokenizer; correct it")
    rows = torch.tensor(selection.ids)
    decoder: Any = network.get_output_embeddings()
    with torch.no_grad():
        # Resizing keeps the first rows, of the decoder and its bias too.
        embeddings[: len(rows)] = embeddings[rows]
        if decoder is not None and decoder.bias is not None:
            decoder.bias[: len(rows)] = decoder.bias[rows]
    network.resize_token_embeddings(len(rows))
    network.config.pad_token_id = selection.ids.index(pad)
