"""ERNIE-M's tokenizer for transformers 5."""

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizer
from transformers.tokenization_utils_base import BatchEncoding, TruncationStrategy
from transformers.utils import logging
from transformers.utils.generic import PaddingStrategy

from .added_tokens import TextSplitter
from .encoding import Encodings, Layout, Padding
from .errors import InputError
from .rows import Returns, Samples, TokenRows, arrange, is_ids, padded_width
from .segmentation import CHUNK, NO_WORD, RULES, SPACE, Segmenter, Span, check_text
from .truncation import Truncation
from .vocabulary import (
    VOCAB_FILES_NAMES,
    check_embedding,
    check_together,
    existing_file,
    read_sentencepiece,
    read_vocabulary,
    write_files,
)

logger = logging.get_logger(__name__)

# The position table of the published models has 514 rows, of which the first two are never used.
_POSITIONS = 512
_MOST_THREADS = 1024


@contextmanager
def _collector_off() -> Iterator[None]:
    """Hold the garbage collector while many lists are made: all of them live on, and it would scan them often."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _processors() -> int:
    """Return the number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class ErnieMTokenizer(PreTrainedTokenizer):
    """ERNIE-M's tokenizer: sentencepiece, its pieces cut again by one of three rules, ids from vocab.txt.

    Ids equal those of transformers 4.57's `ErnieMTokenizer` (`segmentation="hf"`), of PaddleNLP's (`"paddle"`), or of
    the plain pieces as in Baidu's own fine-tuning code (`"raw"`). Differing versions of sentencepiece break ties
    between segmentations differently, in about one text of 2,500.

    It answers as a fast tokenizer does (`is_fast`): offsets, word ids, and windows that overflow as rows of their own.
    Special tokens written in a text are recognised under `hf` and plain text otherwise; `split_special_tokens` changes
    that.

    Args:
        sentencepiece_model_ckpt: Path of sentencepiece.bpe.model.
        vocab_file: Path of vocab.txt.
        segmentation: `"hf"`, `"paddle"` or `"raw"`. Checkpoints on the Hub were fine-tuned with `hf`.
        pair_separators: How many [SEP] stand between two texts: 2, or 1 as in Baidu's reading-comprehension code.
        do_lower_case: Lower-case texts first.
        unk_token: Stands for tokens without an id.
        sep_token: Closes a text.
        pad_token: Fills rows up.
        cls_token: Opens a row.
        mask_token: Stands for a token to predict.
        split_special_tokens: Whether special tokens written in a text are plain text; None follows `segmentation`.
        model_max_length: Longest row in tokens. 514, as published files say, is read as 512: two positions are never
            used.
        num_threads: Threads for batches; None takes all processors that this process may use. It is not saved.
        **kwargs: What transformers' tokenizers take besides: `padding_side`, `truncation_side`, ...

    Raises:
        InputError: A file is missing or is not what it should be, or an argument has no such value.
    """

    vocab_files_names = VOCAB_FILES_NAMES
    model_input_names = ["input_ids", "attention_mask"]  # noqa: RUF012 -- transformers' own attribute

    def __init__(
        self,
        sentencepiece_model_ckpt: str | os.PathLike[str] | None = None,
        vocab_file: str | os.PathLike[str] | None = None,
        segmentation: str = "hf",
        pair_separators: int = 2,
        do_lower_case: bool = False,
        unk_token: str = "[UNK]",
        sep_token: str = "[SEP]",
        pad_token: str = "[PAD]",
        cls_token: str = "[CLS]",
        mask_token: str = "[MASK]",
        split_special_tokens: bool | None = None,
        model_max_length: int | None = None,
        num_threads: int | None = None,
        **kwargs: Any,
    ) -> None:
        # They may come from the tokenizer_config.json of anybody.
        if not isinstance(segmentation, str) or segmentation not in RULES:
            raise InputError(f"segmentation={segmentation!r} is none of {', '.join(map(repr, RULES))}.")
        if type(pair_separators) is not int or pair_separators not in (1, 2):
            raise InputError(f"pair_separators={pair_separators!r} is neither 1 nor 2.")
        for name, value in {"do_lower_case": do_lower_case, "split_special_tokens": split_special_tokens}.items():
            if not isinstance(value, bool | None):
                raise InputError(f"{name}={value!r} is neither true nor false.")
        if num_threads is not None and (type(num_threads) is not int or not 1 <= num_threads <= _MOST_THREADS):
            raise InputError(f"num_threads={num_threads!r} is no number from 1 to {_MOST_THREADS}.")
        if (kwargs.get("sp_model_kwargs") or {}).get("enable_sampling"):
            raise InputError(
                "sp_model_kwargs={'enable_sampling': True}: sampled segmentations are not supported. Leave it out."
            )
        folder = str(kwargs.get("name_or_path", ""))
        special = dict(
            unk_token=unk_token, sep_token=sep_token, pad_token=pad_token, cls_token=cls_token, mask_token=mask_token
        )
        model_path = existing_file(sentencepiece_model_ckpt, "sentencepiece_model_ckpt", folder)
        vocab_path = existing_file(vocab_file, "vocab_file", folder)
        if os.path.isdir(folder):
            # transformers takes arguments from special_tokens_map.json too: a file elsewhere would be saved along.
            for path in map(Path, (model_path, vocab_path)):
                if not path.parent.resolve().is_relative_to(Path(folder).resolve()):
                    raise InputError(f"{folder} names {path} as a file of its tokenizer, which lies elsewhere.")
        self.sp_model = read_sentencepiece(model_path)
        self.vocab = read_vocabulary(vocab_path, [str(token) for token in special.values()])
        check_together(self.sp_model, self.vocab, f"{model_path} and {vocab_path}")
        self._tokens = list(self.vocab)
        self._segmentation = segmentation
        self.pair_separators = pair_separators
        self.do_lower_case = do_lower_case
        self.num_threads = num_threads
        self._unknown_id = self.vocab[str(unk_token)]
        self._segmenter = Segmenter(self.sp_model, self.vocab, self._unknown_id, segmentation, str(model_path))
        self._splitters: dict[bool, TextSplitter] = {}
        if split_special_tokens is not None:
            kwargs["split_special_tokens"] = split_special_tokens
        super().__init__(
            segmentation=segmentation,
            pair_separators=pair_separators,
            do_lower_case=do_lower_case,
            model_max_length=_POSITIONS if model_max_length in (None, _POSITIONS + 2) else model_max_length,
            **special,
            **kwargs,
        )
        if split_special_tokens is None:
            self.split_special_tokens = segmentation != "hf"
        if strange := [index for index in self._added_tokens_decoder if not 0 <= index < len(self)]:
            raise InputError(
                f"added_tokens_decoder has the id {strange[0]}; with {len(self)} tokens, {len(self) - 1} is the last."
            )
        check_embedding(vocab_path, len(self))

    # What it is

    @property
    def is_fast(self) -> bool:
        """True: encodings with offsets and word ids are there, which is what transformers asks this for."""
        return True

    @property
    def segmentation(self) -> str:
        """The rule by which pieces are cut: load the tokenizer again to change it."""
        return self._segmentation

    @property
    def vocab_size(self) -> int:
        """Number of tokens in vocab.txt."""
        return len(self.vocab)

    def get_vocab(self) -> dict[str, int]:
        """Return token to id, with added tokens."""
        return self.vocab | self._added_tokens_encoder

    def save_vocabulary(self, save_directory: str, filename_prefix: str | None = None) -> tuple[str, ...]:
        """Write sentencepiece.bpe.model and vocab.txt into an existing folder.

        Args:
            save_directory: The folder.
            filename_prefix: Put before both names with a hyphen.

        Returns:
            The paths of both files.
        """
        if not os.path.isdir(save_directory):
            raise InputError(f"{save_directory!r} is not a folder. Make it first, or call save_pretrained.")
        return write_files(str(save_directory), filename_prefix, self.sp_model, self.vocab)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_splitters": {}}

    def _update_total_vocab_size(self) -> None:
        # transformers calls this whenever tokens were added.
        self._splitters = {}
        super()._update_total_vocab_size()

    # Format of a row

    def _layout(self, special: bool = True) -> Layout:
        return Layout(self.cls_token_id, self.sep_token_id, self.pair_separators, special)

    def num_special_tokens_to_add(self, pair: bool = False) -> int:
        """Return how many special tokens a row gets."""
        return self._layout().count(pair)

    def build_inputs_with_special_tokens(
        self, token_ids_0: list[int], token_ids_1: list[int] | None = None
    ) -> list[int]:
        """Return `[CLS] A [SEP]`, or `[CLS] A [SEP] [SEP] B [SEP]` for a pair."""
        return self._layout().ids(token_ids_0, token_ids_1)

    def get_special_tokens_mask(
        self, token_ids_0: list[int], token_ids_1: list[int] | None = None, already_has_special_tokens: bool = False
    ) -> list[int]:
        """Return 1 for special tokens, 0 for others.

        Args:
            token_ids_0: Ids of the first text, or of a whole row.
            token_ids_1: Ids of the second text.
            already_has_special_tokens: Whether `token_ids_0` is a whole row.
        """
        if already_has_special_tokens:
            mask: list[int] = super().get_special_tokens_mask(token_ids_0, token_ids_1, True)
            return mask
        second = None if token_ids_1 is None else [0] * len(token_ids_1)
        return self._layout().join([1], [1], [0] * len(token_ids_0), second)

    def create_token_type_ids_from_sequences(
        self, token_ids_0: list[int], token_ids_1: list[int] | None = None
    ) -> list[int]:
        """Return token types: 0 up to the end of the first text, 1 from its separator on. The model takes none."""
        return self._layout().type_ids(len(token_ids_0), None if token_ids_1 is None else len(token_ids_1))

    # Text to tokens

    def _splitter(self, split_special_tokens: bool) -> TextSplitter:
        if split_special_tokens not in self._splitters:
            splitter = TextSplitter(self._added_tokens_decoder, self.do_lower_case, not split_special_tokens)
            self._splitters[split_special_tokens] = splitter
        return self._splitters[split_special_tokens]

    def tokenize(
        self, text: str, pair: str | None = None, add_special_tokens: bool = False, **kwargs: Any
    ) -> list[str]:
        """Return the tokens of a text, as cut: tokens without an id stand as they are.

        Args:
            text: The text.
            pair: A second text.
            add_special_tokens: Put special tokens around them.
            **kwargs: `split_special_tokens` for this call.
        """
        splitter = self._splitter(kwargs.get("split_special_tokens", self.split_special_tokens))
        first, second = (None if t is None else self._text_tokens(t, splitter) for t in (text, pair))
        return self._layout(add_special_tokens).join([self.cls_token], [self.sep_token], first or [], second)

    def sentencepiece_inputs(self, text: str) -> list[str]:
        """Return the stretches of a text that sentencepiece segments: between added tokens, lower-cased if asked for.

        Args:
            text: Any text.
        """
        splitter = self._splitter(self.split_special_tokens)
        return [part for part, _, added in splitter(splitter.lower(text)) if added is None]

    def _text_tokens(self, text: str, splitter: TextSplitter) -> list[str]:
        check_text(text, "text")
        tokens: list[str] = []
        for part, _, added in splitter(splitter.lower(text)):
            tokens += self._segmenter.tokens(part) if added is None else [self._added_tokens_decoder[added].content]
        return tokens

    def _tokenize(self, text: str, **kwargs: Any) -> list[str]:
        return self._segmenter.tokens(text)

    def _convert_token_to_id(self, token: str) -> int:
        return self.vocab.get(token, self._unknown_id)

    def _convert_id_to_token(self, index: int) -> str:
        return self._tokens[index] if 0 <= index < len(self._tokens) else str(self.unk_token)

    def _text_spans(self, text: str, splitter: TextSplitter) -> list[Span]:
        """Return the tokens of a text with their characters and words."""
        spans: list[Span] = []
        words = 0
        for part, begin, added in splitter(splitter.lower(text)):
            if added is None:
                found = self._segmenter.spans(part)
                spans += [Span(s.id, s.begin + begin, s.end + begin, s.word + words) for s in found]
            else:
                spans.append(Span(added, begin, begin + len(part), words))
            words = spans[-1].word + 1 if spans else 0
        places = splitter.places(text)
        if places is not None:
            spans = [
                Span(
                    s.id,
                    places[s.begin],
                    max(places[s.end], places[max(s.end - 1, s.begin)] + (s.end > s.begin)),
                    s.word,
                )
                for s in spans
            ]
        return spans

    def _texts_ids(self, texts: list[str], splitter: TextSplitter) -> list[list[int]]:
        """Return the ids of many texts, without special tokens. Equal texts share one list."""
        # A premise has several hypotheses, a passage several questions: no text is segmented twice.
        distinct = dict.fromkeys(texts)
        if len(distinct) < len(texts):
            known = dict(zip(distinct, self._texts_ids(list(distinct), splitter), strict=True))
            return [known[text] for text in texts]
        texts = [splitter.lower(text) for text in texts] if self.do_lower_case else texts
        rows = self._segmenter.ids(texts, self.num_threads or _processors())
        for index in splitter.holding_tokens(texts, CHUNK):
            rows[index] = []
            for part, _, added in splitter(texts[index]):
                rows[index] += self._segmenter.ids([part], 1)[0] if added is None else [added]
        return rows

    def _items_ids(self, items: list[Any], splitter: TextSplitter, words: bool) -> list[Any]:
        """Return the ids of texts, of texts given as words, of ids given as they are, and None for None."""
        if not words and set(map(type, items)) <= {str}:
            return self._texts_ids(items, splitter)
        nested = [item if item is None or is_ids(item) else list(item) if words else [item] for item in items]
        texts = [text for item in nested if item is not None and not is_ids(item) for text in item]
        for number, text in enumerate(texts):
            check_text(text, f"{'word' if words else 'text'} {number} of {len(texts)}")
        ids = iter(self._texts_ids(list(map(str, texts)), splitter))
        rows: list[Any] = []
        for item in nested:
            if item is None or is_ids(item):
                rows.append(item if item is None else list(map(int, item)))
            else:
                rows.append([identifier for _ in item for identifier in next(ids)])
        return rows

    def _sample_spans(
        self, batch: Samples, splitter: TextSplitter, words: bool, sample: int
    ) -> tuple[list[Span], list[Span] | None]:
        second = None if batch.second is None else batch.second[sample]
        return (
            self._item_spans(batch.first[sample], splitter, words),
            None if second is None else self._item_spans(second, splitter, words),
        )

    def _item_spans(self, item: Any, splitter: TextSplitter, words: bool) -> list[Span]:
        if is_ids(item):
            return [Span(int(identifier), 0, 0, NO_WORD) for identifier in item]
        if words:
            found = ((number, span) for number, word in enumerate(item) for span in self._text_spans(word, splitter))
            return [span._replace(word=number) for number, span in found]
        return self._text_spans(item, splitter)

    # Ids to text

    def convert_tokens_to_string(self, tokens: list[str]) -> str:
        """Join tokens: "▁" becomes a space. The rules `hf` and `paddle` dropped the "▁" of numbers, CJK and such."""
        return "".join(tokens).replace(SPACE, " ").strip()

    def _decode(
        self,
        token_ids: int | list[int],
        skip_special_tokens: bool = False,
        clean_up_tokenization_spaces: bool | None = None,
        **kwargs: Any,
    ) -> str:
        # A text starts anew behind an added token: a space stands there, also where that token is skipped. Not so
        # [UNK], which stands for a part of a text.
        parts: list[list[str]] = [[]]
        skipped = set(self.all_special_ids) if skip_special_tokens else set()
        for index in [token_ids] if isinstance(token_ids, int) else map(int, token_ids):
            if index in self._added_tokens_decoder and index != self._unknown_id:
                parts += [[], []] if index in skipped else [[self._added_tokens_decoder[index].content], []]
            elif index not in skipped:
                parts[-1].append(self._convert_id_to_token(index))
        text = " ".join(filter(None, map(self.convert_tokens_to_string, parts)))
        clean = (
            self.clean_up_tokenization_spaces if clean_up_tokenization_spaces is None else clean_up_tokenization_spaces
        )
        return str(self.clean_up_tokenization(text)) if clean else text

    # The call

    def _pad(self, encoded_inputs: Any, *arguments: Any, **options: Any) -> dict[str, Any]:
        # transformers pads what models take; collators hand offsets on as well.
        length = len(encoded_inputs["input_ids"])
        padded: dict[str, Any] = super()._pad(encoded_inputs, *arguments, **options)
        missing = len(padded["input_ids"]) - length
        if missing and "offset_mapping" in padded:
            offsets, fill = list(padded["offset_mapping"]), [(0, 0)] * missing
            left = (options.get("padding_side") or self.padding_side) == "left"
            padded["offset_mapping"] = fill + offsets if left else offsets + fill
        return padded

    def _encode_plus(  # type: ignore[override]
        self,
        text: Any,
        text_pair: Any = None,
        add_special_tokens: bool = True,
        padding_strategy: PaddingStrategy = PaddingStrategy.DO_NOT_PAD,
        truncation_strategy: TruncationStrategy = TruncationStrategy.DO_NOT_TRUNCATE,
        max_length: int | None = None,
        stride: int = 0,
        is_split_into_words: bool = False,
        pad_to_multiple_of: int | None = None,
        padding_side: str | None = None,
        return_tensors: Any = None,
        return_overflowing_tokens: bool = False,
        split_special_tokens: bool | None = None,
        verbose: bool = True,
        **kwargs: Any,
    ) -> BatchEncoding:
        """Encode one text, one pair, or a batch; the arguments are those of `__call__`."""
        returns = Returns.take(kwargs, self.model_input_names)
        if kwargs:
            logger.warning_once(f"{type(self).__name__} ignores the arguments {', '.join(sorted(kwargs))}.")
        splitter = self._splitter(self.split_special_tokens if split_special_tokens is None else split_special_tokens)
        batch = arrange(text, text_pair, is_split_into_words)
        cutting = Truncation(
            truncation_strategy, max_length, stride, return_overflowing_tokens, self.truncation_side == "left"
        )
        layout = self._layout(add_special_tokens)

        def build() -> tuple[dict[str, Any], Encodings]:
            """Return what was asked for, and what answers questions about it afterwards."""
            first = self._items_ids(batch.first + (batch.second or []), splitter, is_split_into_words)
            second = None if batch.second is None else first[len(batch.first) :]
            first = first[: len(batch.first)]
            samples, windows = cutting.plan(first, second, (layout.count(pair=False), layout.count(pair=True)))
            rows = TokenRows(first, second, samples, windows, layout)
            input_ids = rows.ids()
            longest = max(map(len, input_ids), default=0)
            if max_length is None and longest > self.model_max_length:
                self._eventual_warn_about_too_long_sequence(range(longest), None, verbose)  # type: ignore[arg-type]
            width = padded_width(padding_strategy, longest, max_length, pad_to_multiple_of)
            padding = Padding(width, (padding_side or self.padding_side) == "left")
            spans = partial(self._sample_spans, batch, splitter, is_split_into_words)
            encodings = Encodings(
                len(input_ids),
                spans,
                self.convert_ids_to_tokens,
                layout,
                padding,
                (self.pad_token_id, self.pad_token_type_id),
                samples,
                windows,
            )
            return returns.collect(input_ids, rows, encodings), encodings

        with _collector_off():
            data, encodings = build()
        if not batch.batched and return_tensors is None and not return_overflowing_tokens:
            data = {key: value[0] if isinstance(value[0], list) else value for key, value in data.items()}
        pairs = 1 if batch.second is None else 2
        return BatchEncoding(
            data,
            encoding=encodings,  # type: ignore[arg-type]
            tensor_type=return_tensors,
            n_sequences=pairs,
        )
