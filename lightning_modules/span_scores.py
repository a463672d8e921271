"""F1 of labelled spans, such as named entities, as a pure function of tags keyed by sentence."""

from collections.abc import Mapping, Sequence

from ernie_m.errors import InputError


def span_scores(predictions: Mapping[int, Sequence[str]], references: Mapping[int, Sequence[str]]) -> dict[str, float]:
    """Return precision, recall and F1 over the spans of all sentences together, between 0 and 1.

    A span is right where begin, end and type are. Tags are read as the conlleval script of CoNLL-2000 reads them: an I-
    that follows no tag of its type begins a span too. A sentence without a prediction has no predicted spans.

    Args:
        predictions: Sentence number to the tag of each word, "O", "B-..." or "I-...".
        references: The same for the true tags.

    Returns:
        `f1`, `precision` and `recall`; 0 where nothing was predicted, or there is nothing to find.

    Raises:
        InputError: There are no references, or a prediction has none, or another number of words.
    """
    if not references:
        raise InputError("there are no references to score against: the data have no labels or no sentences")
    # Here, since it imports scikit-learn, which takes a second that no other task should wait for.
    from seqeval.metrics.sequence_labeling import precision_recall_fscore_support

    for key, tags in predictions.items():
        if len(tags) != len(references.get(key, ())):
            raise InputError(
                f"sentence {key} has {len(references.get(key, ()))} words but {len(tags)} predictions; score "
                "predictions against the data they were made for"
            )
    true = [list(tags) for tags in references.values()]
    predicted = [list(predictions.get(key, ["O"] * len(tags))) for key, tags in references.items()]
    precision, recall, f1, _ = precision_recall_fscore_support(true, predicted, average="micro", zero_division=0)
    return {"f1": float(f1), "precision": float(precision), "recall": float(recall)}
