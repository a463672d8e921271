"""Teach a network with a smaller vocabulary to give the vectors of the one that it was made of.

Both cut a text into tokens of their own, whose ends meet here and there. What lies between two such places is a part of
the text, and its vector the mean of its tokens'. The smaller network learns to give the other's vectors, of parts and
of whole texts, from text without labels (knowledge distillation; Hinton et al., 2015; hidden layers as in Jiao et al.,
2020). Its matrices stay what blocks of 4 bits can hold at every step, each block with the factor that it begins with,
so that packing changes nothing of what was learnt (Bengio et al., 2013: gradients pass through the rounding).
"""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ernie_m import ErnieMModel, ErnieMTokenizer
from ernie_m.packed import BLOCK
from ernie_m.segmentation import SPACE

LAYERS = (4, 8, 12)
"""Whose vectors of parts are learnt; 12 is the last."""

LONGEST = 64
"""Tokens of a text, special ones apart; what is longer ends at the last place where both can end."""

TOKENS = 2_048
"""Of the smaller network in a step."""

MADE_UP = 0.5
"""Share of texts that are made of the vocabulary's pieces: the texts know too few words."""

PREFIXES = ("query: ", "query: ", "query: ", "")
"""What stands before a text; one of them at random."""


@dataclass(frozen=True)
class Example:
    """A text as both networks see it.

    Args:
        theirs: Ids of the whole vocabulary.
        ours: Ids of the smaller one.
        their_parts: Of each of these tokens the number of its part.
        our_parts: The same of ours.
        parts: How many parts there are.
    """

    theirs: Sequence[int]
    ours: Sequence[int]
    their_parts: NDArray[np.int64]
    our_parts: NDArray[np.int64]
    parts: int


def example(text: str, whole: ErnieMTokenizer, small: ErnieMTokenizer) -> Example | None:
    """Cut a text into the tokens of both, and find the parts that both share; None where there are none.

    Both read the text alike before they cut it, so that places are numbers of characters.
    """
    pieces, places = [], []
    for tokenizer in (whole, small):
        # No text here has more pieces worth reading: the places past LONGEST are not used.
        pieces.append(tokenizer.sp_model.Encode(text, out_type=str)[: 4 * LONGEST])
        places.append(np.cumsum([len(piece) for piece in pieces[-1]]))
    shared = np.intersect1d(places[0], places[1])
    shared = shared[shared <= min(ends[:LONGEST][-1] for ends in places)] if len(shared) else shared
    if not len(shared):
        return None
    ids, parts = [], []
    for tokenizer, cut, ends in zip((whole, small), pieces, places, strict=True):
        length = int(np.searchsorted(ends, shared[-1])) + 1
        ids.append([tokenizer.vocab.get(piece, tokenizer.unk_token_id) for piece in cut[:length]])
        parts.append(np.searchsorted(shared, ends[:length]))
    return Example(ids[0], ids[1], parts[0], parts[1], len(shared))


def made_up(
    pieces: Sequence[str], scores: NDArray[np.float64], scripts: Mapping[str, NDArray[np.intp]], shares: Sequence[float]
) -> Callable[[np.random.Generator], str]:
    """Return what makes up texts: pieces of one script in a row, rare ones oftener than text has them.

    Args:
        pieces: The whole vocabulary.
        scores: Logarithms of their probabilities.
        scripts: Name of each script to the numbers of its pieces.
        shares: How often each script is drawn, beside the others.
    """
    places = list(scripts.values())
    chances = [np.exp(scores[found] / 2) for found in places]
    chances = [chance / chance.sum() for chance in chances]
    of_script = np.asarray(shares) / np.sum(shares)

    def draw(generator: np.random.Generator) -> str:
        script = generator.choice(len(places), p=of_script)
        found = generator.choice(places[script], generator.integers(4, 24), p=chances[script])
        return "".join(pieces[piece] for piece in found).replace(SPACE, " ").strip()

    return draw


class _OnGrid(nn.Module):
    """Weights as blocks of 4 bits hold them, each block with the factor that it begins with.

    Args:
        weight: The matrix, as it was unpacked from such blocks.
    """

    factor: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        blocks = weight.detach().reshape(-1, BLOCK)
        peaks = blocks.gather(1, blocks.abs().argmax(1, keepdim=True))
        factor = (peaks / -8).half().float()
        self.register_buffer("factor", torch.where(factor == 0, 1, factor))

    def forward(self, weight: Tensor) -> Tensor:
        with torch.no_grad():
            numbers = (weight.reshape(-1, BLOCK) / self.factor).round_().clamp_(-8, 7)
            found = numbers.mul_(self.factor).reshape(weight.shape)
        return weight + (found - weight).detach()


def _put_on_grid(network: ErnieMModel) -> Sequence[nn.Module]:
    """Keep a network's matrices on their grid; return the modules that have them."""
    modules = [
        module
        for name, module in network.named_modules()
        if isinstance(module, (nn.Linear, nn.Embedding)) and "position" not in name
    ]
    for module in modules:
        parametrize.register_parametrization(module, "weight", _OnGrid(module.weight))
    return modules


class _Distance:
    """How far the smaller network's vectors are from the other's, as a share of how far those lie apart."""

    def __init__(self, whole: ErnieMModel, small: ErnieMModel, tokenizers: tuple[ErnieMTokenizer, ErnieMTokenizer]):
        self._networks = (whole, small)
        self._tokenizers = tokenizers
        self._spread: dict[str, Tensor] = {}

    def __call__(self, examples: Sequence[Example]) -> tuple[Tensor, Tensor]:
        """Return the distance of parts, mean of some layers, and that of whole texts."""
        count = sum(one.parts for one in examples)
        starts = np.cumsum([0, *(one.parts for one in examples[:-1])])
        sides = (
            ([one.theirs for one in examples], [one.their_parts for one in examples]),
            ([one.ours for one in examples], [one.our_parts for one in examples]),
        )
        layers, texts = [], []
        for network, tokenizer, (ids, parts) in zip(self._networks, self._tokenizers, sides, strict=True):
            tokens, part_of = self._padded(
                tokenizer, ids, [part + start for part, start in zip(parts, starts, strict=True)]
            )
            mask = tokens != tokenizer.pad_token_id
            with torch.autocast("cpu", torch.bfloat16):
                hidden = network(tokens, attention_mask=mask.long(), output_hidden_states=True).hidden_states
            layers.append([self._means(hidden[layer].float(), part_of, count) for layer in LAYERS])
            texts.append((hidden[-1].float() * mask[..., None]).sum(1) / mask.sum(1, keepdim=True))
        of_parts = [self._share(f"layer {layer}", *pair) for layer, *pair in zip(LAYERS, *layers, strict=True)]
        return torch.stack(of_parts).mean(), self._share("texts", *texts)

    def _share(self, name: str, wanted: Tensor, found: Tensor) -> Tensor:
        # Of the first texts that are measured, for all that follow.
        spread = self._spread.setdefault(name, (wanted - wanted.mean(0)).square().sum(1).mean())
        return (wanted - found).square().sum(1).mean() / spread

    @staticmethod
    def _padded(
        tokenizer: ErnieMTokenizer, ids: Sequence[Sequence[int]], parts: Sequence[NDArray[np.int64]]
    ) -> tuple[Tensor, Tensor]:
        """Tokens with the special ones, int64 (texts, length), and their parts, -1 where there is none."""
        longest = max(map(len, ids)) + 2
        tokens = torch.full((len(ids), longest), tokenizer.pad_token_id)
        part_of = torch.full((len(ids), longest), -1)
        for row, (one, part) in enumerate(zip(ids, parts, strict=True)):
            tokens[row, : len(one) + 2] = torch.tensor([tokenizer.cls_token_id, *one, tokenizer.sep_token_id])
            part_of[row, 1 : len(one) + 1] = torch.from_numpy(part)
        return tokens, part_of

    @staticmethod
    def _means(hidden: Tensor, part_of: Tensor, count: int) -> Tensor:
        """Mean vectors of parts, float32 (parts, width)."""
        is_part = part_of >= 0
        numbers = part_of[is_part]
        sums = torch.zeros(count, hidden.shape[-1]).index_add(0, numbers, hidden[is_part])
        return sums / torch.bincount(numbers, minlength=count)[:, None]


def _batches(draw: Callable[[], Example], generator: np.random.Generator) -> Iterator[list[Example]]:
    """Batches of texts of about one length, without end."""
    while True:
        drawn: list[Example] = []
        while sum(len(one.ours) + 2 for one in drawn) < 16 * TOKENS:
            drawn += [draw() for _ in range(32)]
        drawn.sort(key=lambda one: len(one.ours))
        batches: list[list[Example]] = [[]]
        for one in drawn:
            if (len(batches[-1]) + 1) * (len(one.ours) + 2) > TOKENS:
                batches.append([])
            batches[-1].append(one)
        generator.shuffle(batches)
        yield from batches


def distil(
    whole: ErnieMModel,
    small: ErnieMModel,
    tokenizers: tuple[ErnieMTokenizer, ErnieMTokenizer],
    texts: Mapping[str, Sequence[str]],
    invent: Callable[[np.random.Generator], str],
    steps: int,
    learning_rate: float,
) -> None:
    """Teach the smaller network, in place; its matrices have been on the grid of 4 bits and are so again afterwards.

    Up to 60 texts of each language are held out; how far they are is printed before and after.

    Args:
        whole: The network to learn from.
        small: The one that learns, without a pooler.
        tokenizers: Of both.
        texts: Language to texts; drawn in proportion to the square root of their number.
        invent: Makes up a text.
        steps: Of `TOKENS` tokens.
        learning_rate: The highest, of Adam, after a twentieth of the steps; it falls to 0 in a line.
    """
    torch.manual_seed(0)
    generator = np.random.default_rng(0)
    held_out: dict[str, list[Example]] = {}
    learnt: dict[str, list[str]] = {}
    for language, found in texts.items():
        mixed = sorted(set(found))
        random.Random(0).shuffle(mixed)
        number = min(60, len(mixed) // 5)
        examples = [example(PREFIXES[0] + text, *tokenizers) for text in mixed[:number]]
        held_out[language] = [one for one in examples if one]
        learnt[language] = mixed[number:]
    languages = list(learnt)
    shares = np.sqrt([len(learnt[language]) for language in languages])
    shares /= shares.sum()

    def draw() -> Example:
        while True:
            if generator.random() < MADE_UP:
                text = invent(generator)
            else:
                found = learnt[languages[generator.choice(len(languages), p=shares)]]
                text = found[generator.integers(len(found))]
            one = example(PREFIXES[generator.integers(len(PREFIXES))] + text, *tokenizers)
            if one and len(one.ours) > 3:
                return one

    # Without dropout, as the other network's vectors are.
    whole.eval().requires_grad_(False)
    small.eval()
    on_grid = _put_on_grid(small)
    distance = _Distance(whole, small, tokenizers)

    @torch.no_grad()
    def show(when: str) -> None:
        found = {language: [float(part) for part in distance(rows)] for language, rows in held_out.items()}
        words, vectors = np.mean(list(found.values()), axis=0)
        print(f"{when}: held-out parts {words:.3f}, texts {vectors:.3f}", end="; texts ", flush=True)
        print(*(f"{language} {two[1]:.3f}" for language, two in found.items()), flush=True)

    # How far texts lie apart is measured on all languages.
    with torch.no_grad():
        distance([one for rows in held_out.values() for one in rows[:6]])
    show("before")
    optimizer = torch.optim.AdamW(small.parameters(), learning_rate, betas=(0.9, 0.98), weight_decay=0.0, fused=True)
    warm_up = max(1, steps // 20)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warm_up, 1) * (1 - step / steps)
    )
    batches = _batches(draw, generator)
    recent: list[list[float]] = []
    for step in range(1, steps + 1):
        of_parts, of_texts = distance(next(batches))
        optimizer.zero_grad()
        (of_parts + of_texts).backward()
        nn.utils.clip_grad_norm_(small.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        recent.append([of_parts.item(), of_texts.item()])
        if step % 100 == 0:
            print(f"step {step}: parts {np.mean(recent, 0)[0]:.3f}, texts {np.mean(recent, 0)[1]:.3f}", flush=True)
            recent.clear()
    show("after")
    for module in on_grid:
        parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)
