"""Finding added tokens in a text, and lower-casing around them."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from transformers import AddedToken


class Part(NamedTuple):
    """A stretch of text: either an added token or what stands between two of them."""

    text: str
    begin: int
    added: int | None


class TextSplitter:
    """Splits texts at added tokens.

    Args:
        added: The added tokens by id.
        lower_case: Whether texts are lower-cased first, but for tokens that are matched as they stand.
        special: Whether special tokens count, or are plain text.
    """

    def __init__(self, added: Mapping[int, AddedToken], lower_case: bool, special: bool) -> None:
        matched = {index: token for index, token in added.items() if special or not token.special}
        self.contents = [token.content for token in matched.values()]
        alternatives = sorted(
            (-len(token.content), self._alternative(index, token)) for index, token in matched.items()
        )
        self._pattern = re.compile("|".join(body for _, body in alternatives)) if alternatives else None
        self._lower_case = lower_case
        kept = sorted((t.content for t in added.values() if t.special or not t.normalized), key=len, reverse=True)
        self._cased = re.compile("|".join(["(?P<kept>" + "|".join(map(re.escape, kept)) + ")", "."]), re.DOTALL)

    @staticmethod
    def _alternative(index: int, token: AddedToken) -> str:
        before, after = ("(?<![^ ])", "(?![^ ])") if token.single_word else ("", "")
        body = f"{before}(?P<_{index}>{re.escape(token.content)}){after}"
        # White space is matched from where it begins: from each of its characters would take the square of the time.
        return (r"(?:(?<!\s)\s+)?" if token.lstrip else "") + body + (r"\s*" if token.rstrip else "")

    def __call__(self, text: str) -> Iterator[Part]:
        """Yield the parts of a text that `lower` has seen, in order."""
        position = 0
        for match in self._pattern.finditer(text) if self._pattern else ():
            if match.start() > position:
                yield Part(text[position : match.start()], position, None)
            yield Part(match.group(), match.start(), int(str(match.lastgroup)[1:]))
            position = match.end()
        if position < len(text):
            yield Part(text[position:], position, None)

    def holding_tokens(self, texts: Sequence[str], chunk: int) -> Iterator[int]:
        """Yield the index of each text that holds an added token.

        Args:
            texts: The texts.
            chunk: How many to search at once.
        """
        for start in range(0, len(texts), chunk):
            some = texts[start : start + chunk]
            # One search over all of them first: almost no text holds such a token.
            joined = "\n".join(some)
            found = [content for content in self.contents if content in joined]
            if found:
                yield from (start + n for n, text in enumerate(some) if any(content in text for content in found))

    def lower(self, text: str) -> str:
        """Return the text in lower case, where that is asked for."""
        return "".join(part for part, _ in self._lowered(text)) if self._lower_case else text

    def places(self, text: str) -> list[int] | None:
        """Return the place in `text` of each character of `lower(text)` and of its end; None where they are equal."""
        if not self._lower_case:
            return None
        return [place for part, place in self._lowered(text) for _ in part] + [len(text)]

    def _lowered(self, text: str) -> Iterator[tuple[str, int]]:
        # Character by character, as transformers 4 did: "Σ" never becomes a final "ς".
        for match in self._cased.finditer(text):
            if match["kept"]:
                yield from ((character, match.start() + n) for n, character in enumerate(match["kept"]))
            else:
                yield match.group().lower(), match.start()
