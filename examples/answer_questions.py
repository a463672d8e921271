"""Load an exported question-answering network with transformers and let it answer a question from a text.

    python examples/answer_questions.py EXPORT "Where does the river rise?" TEXT_FILE

transformers 5 has no pipeline for question answering any more. This is what it did, with the code that
`ernie-m predict` runs: windows over a text of any length, the best spans of all windows, answers cut from the text.
For many questions use the command: `ernie-m predict EXPORT --input questions.json --output answers.json`.
"""

import sys
from pathlib import Path
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForQuestionAnswering, AutoTokenizer

import ernie_m  # noqa: F401 -- registers ERNIE-M with transformers
from datamodules.windows import NO_TEXT, Windows
from lightning_modules.answer_spans import best_spans, merge_windows


def answers(model: Any, tokenizer: Any, question: str, text: str, count: int = 3) -> list[tuple[str, int, int, float]]:
    """Return the best answers: their text, first character, the one behind the last, and score.

    Of a network that was trained on questions without an answer, the first is "" (and -1) where none is to be given.
    """
    windows = list(Windows(tokenizer, max_length=384, max_query_length=64, doc_stride=128).cut([question], [text]))
    ids = padded([window.input_ids for window in windows], tokenizer.pad_token_id)
    begins = padded([window.begins for window in windows], NO_TEXT)
    ends = padded([window.ends for window in windows], NO_TEXT)
    mask = padded([[1] * len(window.input_ids) for window in windows], 0)
    batch = {"input_ids": ids, "attention_mask": mask}
    if "token_type_ids" in tokenizer.model_input_names:
        batch["token_type_ids"] = padded([window.token_type_ids for window in windows], 0)
    with torch.inference_mode():
        output = model(**batch)
    spans = best_spans(output.start_logits, output.end_logits, begins, ends, count, max_tokens=100)
    found = merge_windows(torch.zeros(len(windows), dtype=torch.int64), spans, count)[0]
    given = [(text[begin:end], begin, end, score) for begin, end, score in found]
    threshold = getattr(model.config, "null_threshold", None)
    of_none = float((output.start_logits[:, 0] + output.end_logits[:, 0]).min())
    if threshold is not None and given and of_none - given[0][3] > threshold:
        return [("", -1, -1, of_none), *given]
    return given


def padded(rows: list[list[int]], value: int) -> torch.Tensor:
    """Return rows as one tensor, filled on the right. (rows, longest)."""
    return pad_sequence([torch.tensor(row) for row in rows], batch_first=True, padding_value=value)


def main() -> None:
    """Print the three best answers."""
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    export, question, file = sys.argv[1:]
    model = AutoModelForQuestionAnswering.from_pretrained(export).eval()
    tokenizer = AutoTokenizer.from_pretrained(export)
    for answer, begin, end, score in answers(model, tokenizer, question, Path(file).read_text(encoding="utf-8")):
        print(f"{score:8.3f}  {begin}-{end}  {answer}")


if __name__ == "__main__":
    main()
