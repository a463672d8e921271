"""Exact search for the nearest vector by cosine, block by block or through faiss: retrieval as pure functions."""

import math
from dataclasses import dataclass
from importlib.util import find_spec

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ernie_m.errors import InputError

DIRECTIONS = {"source_to_target": ("source", "target"), "target_to_source": ("target", "source")}
"""Directions of a retrieval: which side searches, and in which."""

# Products of a search from which on an index is worth building.
_WORTH_AN_INDEX = 2**24


@dataclass(frozen=True)
class Neighbours:
    """The nearest candidate of every query.

    Attributes:
        index: Row of the nearest candidate; of equally near ones the first. (queries,) int64.
        similarity: Its cosine similarity. (queries,) float32.
        tied: Whether another candidate is equally near. (queries,) bool.
    """

    index: Tensor
    similarity: Tensor
    tied: Tensor


def nearest_neighbours(queries: Tensor, candidates: Tensor, block_size: int = 4096) -> Neighbours:
    """Search exactly for the candidate with the highest cosine similarity, block by block.

    Equal candidates are one candidate: a matrix product can round the same row differently at different places, which
    would make the choice between duplicates depend on the block size. Large searches on a CPU go through faiss where it
    is installed, exactly too.

    Args:
        queries: Vectors to search for. (queries, width)
        candidates: Vectors to search in. (candidates, width)
        block_size: Rows of either side in one matrix product; bounds the extra memory.

    Raises:
        InputError: If there are no candidates, the widths differ or a vector is not finite.
    """
    if not len(candidates) or queries.shape[1:] != candidates.shape[1:]:
        raise InputError(
            f"cannot search {tuple(queries.shape)} queries in {tuple(candidates.shape)} candidates: there must be at "
            "least one, of the same width"
        )
    for name, vectors in (("query", queries), ("candidate", candidates)):
        for start, block in zip(range(0, len(vectors), block_size), torch.split(vectors, block_size), strict=True):
            if not bool(torch.isfinite(block).all()):
                row = start + int((~torch.isfinite(block)).any(dim=1).nonzero()[0])
                message = f"{name} vector {row} is not finite; lower precision or a diverged training can cause it"
                raise InputError(message)
    candidates = normalize(candidates.float())
    first, size = _duplicates(candidates, block_size)
    if candidates.device.type == "cpu" and len(queries) * len(candidates) >= _WORTH_AN_INDEX and find_spec("faiss"):
        return _search_index(queries, candidates, first, size, block_size)
    return _search_blocks(queries, candidates, first, size, block_size)


def _search_blocks(queries: Tensor, candidates: Tensor, first: Tensor, size: Tensor, block_size: int) -> Neighbours:
    """Search by matrix products of blocks."""
    index = torch.empty(len(queries), dtype=torch.int64, device=queries.device)
    similarity = torch.full((len(queries),), -math.inf, device=queries.device)
    tied = torch.zeros(len(queries), dtype=torch.bool, device=queries.device)
    for start in range(0, len(queries), block_size):
        rows = slice(start, start + block_size)
        block = normalize(queries[rows].float())
        best, best_index, best_tied = similarity[rows], index[rows], tied[rows]
        for offset in range(0, len(candidates), block_size):
            products = block @ candidates[offset : offset + block_size].T
            top, where = products.max(dim=1)
            inside = first[where + offset]
            several = (products == top[:, None]).sum(dim=1) > 1
            equal = (top == best) & (inside != best_index)
            better = top > best
            best_tied.copy_(torch.where(better, several | (size[inside] > 1), best_tied | equal))
            best_index.copy_(torch.where(better, inside, torch.where(equal, inside.minimum(best_index), best_index)))
            best.copy_(torch.maximum(top, best))
    return Neighbours(index, similarity, tied)


def _search_index(queries: Tensor, candidates: Tensor, first: Tensor, size: Tensor, block_size: int) -> Neighbours:
    """Search by faiss's exact index, and again by blocks where it can hardly tell the two nearest apart."""
    import faiss

    distinct = torch.unique(first)
    index = faiss.IndexFlatIP(candidates.shape[1])
    for block in torch.split(distinct, block_size):
        index.add(candidates[block].numpy())
    found, where = [], []
    for block in torch.split(queries, block_size):
        similarity, rows = index.search(normalize(block.float()).numpy(), min(2, len(distinct)))
        found.append(torch.from_numpy(similarity))
        where.append(torch.from_numpy(rows))
    similarities, nearest = torch.cat(found), distinct[torch.cat(where)[:, 0]]
    result = Neighbours(nearest, similarities[:, 0].clone(), size[nearest] > 1)
    # Two ways to add up a product of unit vectors differ by less than this.
    rounding = candidates.shape[1] * torch.finfo(torch.float32).eps
    close = ((similarities[:, 0] - similarities[:, -1]) <= rounding).nonzero()[:, 0]
    if len(distinct) > 1 and len(close):
        again = _search_blocks(queries[close], candidates, first, size, block_size)
        result.index[close], result.similarity[close], result.tied[close] = again.index, again.similarity, again.tied
    return result


def _duplicates(vectors: Tensor, block_size: int) -> tuple[Tensor, Tensor]:
    """Return, per row, the first row equal to it and how many rows are equal to it. Both (rows,) int64."""
    generator = torch.Generator().manual_seed(0)
    bounds = torch.iinfo(torch.int64)
    factors = torch.randint(bounds.min, bounds.max, (vectors.shape[1],), generator=generator).to(vectors.device)
    # Adding zero turns -0.0 into 0.0, which compares equal and must hash equal. Sums wrap around.
    digests = torch.cat(
        [((block + 0.0).view(torch.int32).long() * factors).sum(dim=1) for block in torch.split(vectors, block_size)]
    )
    _, group, counts = torch.unique(digests, return_inverse=True, return_counts=True)
    rows = torch.arange(len(vectors), device=vectors.device)
    first_of_group = torch.full_like(counts, len(vectors)).scatter_reduce(0, group, rows, "amin")
    return first_of_group[group], counts[group]


def duplicates(digests: Tensor) -> int:
    """Return how many sentences stand more than once among others.

    Args:
        digests: A number for each, the same for the same sentences. (sentences,) int64
    """
    _, counts = torch.unique(digests, return_counts=True)
    return int(counts[counts > 1].sum())


def retrieve(ids: Tensor, queries: Tensor, candidates: Tensor) -> tuple[dict[int, int], Neighbours]:
    """Search the partner of every sentence; row i of both sides belongs to example `ids[i]`.

    Args:
        ids: Example ids, ascending, so that the first of equally near candidates has the lowest. (examples,) int64
        queries: (examples, width)
        candidates: (examples, width)

    Returns:
        Example id to the example id of the nearest candidate, for `accuracy` with every id's own as reference; and the
        search's result, whose `tied` counts the answers that another candidate could have given.
    """
    found = nearest_neighbours(queries, candidates)
    nearest = ids[found.index.cpu()].tolist()
    return dict(zip(ids.tolist(), nearest, strict=True)), found
