"""The real vocabulary cut down to two languages of XNLI."""

import pyarrow.parquet as pq
import pytest

from ernie_m import ErnieMTokenizer
from ernie_m.trimming import select, trim_tokenizer

pytestmark = pytest.mark.real_data


def test_two_languages_keep_their_tokens_and_others_are_cut_into_characters(shared, tmp_path):
    files = shared / "tokenizer"
    whole = ErnieMTokenizer(files / "sentencepiece.bpe.model", files / "vocab.txt")
    texts = {}
    for language in ("de", "en", "sw", "zh"):
        folder = shared / "data" / "hub" / "facebook" / "xnli" / language
        table = pq.read_table(next(folder.glob("validation-*")), columns=["premise", "hypothesis"])
        texts[language] = [text for column in table.columns for text in column.to_pylist()]
    chosen = [*texts["de"], *texts["zh"]]
    selection = select(whole, chosen)
    trimmed = trim_tokenizer(whole, selection, tmp_path)
    assert len(trimmed) < 25_000
    new_id = {old: new for new, old in enumerate(selection.ids)}
    expected = [[new_id[i] for i in row] for row in whole(chosen)["input_ids"]]
    assert trimmed(chosen)["input_ids"] == expected
    # Another language in letters that were kept: smaller pieces, next to nothing unknown.
    for language in ("en", "sw"):
        found = [i for row in trimmed(texts[language], add_special_tokens=False)["input_ids"] for i in row]
        assert found.count(trimmed.unk_token_id) < len(found) / 1000
