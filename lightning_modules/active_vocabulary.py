"""Training with only those rows of the word embeddings that the data use: less memory, and less work for Adam.

The gradient of a row that no example uses is 0, so Adam leaves it as it is but for weight decay, which is the same
factor for every such row. Those rows therefore wait on the CPU, outside the optimiser, and the factor is kept. What
comes out is what training the whole matrix gives: exactly without weight decay and gradient clipping, which sums the
same squares in another order.
"""

from typing import Any, Self, cast

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor, nn
from torch.nn.functional import embedding
from torch.optim import Optimizer
from transformers import PreTrainedModel

from ernie_m.errors import InputError


class ActiveEmbedding(nn.Module):
    """Stands for an embedding of which only some rows are in use; it takes the same ids.

    Its state dict holds the whole matrix and it loads a whole matrix, so that checkpoints do not depend on it.

    Args:
        whole: The embedding that it replaces. Its matrix is used and changed.
        ids: The ids in use, in any order, shape (active,).

    Attributes:
        weight: The rows in use, by ascending id, shape (active, hidden).
    """

    def __init__(self, whole: nn.Embedding, ids: Tensor) -> None:
        super().__init__()
        self.num_embeddings = whole.num_embeddings
        self.embedding_dim = whole.embedding_dim
        if len(ids) == 0 or int(ids.min()) < 0 or int(ids.max()) >= whole.num_embeddings:
            raise InputError(
                f"the data hold token ids up to {int(ids.max()) if len(ids) else 'none'}, the word embeddings have "
                f"{whole.num_embeddings} rows; the tokenizer and the weights do not belong together"
            )
        padding = [] if whole.padding_idx is None else [whole.padding_idx]
        # On the CPU by name: Lightning builds networks where the device of new tensors is the GPU.
        self._ids = torch.unique(torch.cat([ids.cpu(), torch.tensor(padding, dtype=torch.int64, device="cpu")]))
        self._whole = whole.weight.detach().cpu()
        self._row_of = torch.full((whole.num_embeddings,), -1, dtype=torch.int64, device="cpu")
        self._row_of[self._ids] = torch.arange(len(self._ids), device="cpu")
        self.padding_idx = whole.padding_idx
        self._padding_row = None if whole.padding_idx is None else int(self._row_of[whole.padding_idx])
        weight = self._whole[self._ids].to(whole.weight.device)
        self.weight = nn.Parameter(weight, requires_grad=whole.weight.requires_grad)
        self._owed_decay = 1.0
        self.register_state_dict_post_hook(_give_whole)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_pre_hook(_take_whole)  # type: ignore[no-untyped-call]

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        # Moved along here and no buffer, which DDP would send to all processes in every step.
        self._row_of = fn(self._row_of)
        moved: Self = super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return moved

    def forward(self, input_ids: Tensor) -> Tensor:
        """Look vectors up. (...) to (..., hidden).

        Args:
            input_ids: Ids of the whole vocabulary.

        Raises:
            InputError: On the CPU, if an id is not among those in use.
        """
        rows = self._row_of[input_ids]
        if rows.device.type == "cpu" and not torch.compiler.is_compiling() and rows.numel() and int(rows.min()) < 0:
            raise InputError(
                f"token id {int(input_ids[rows < 0][0])} is not among the {len(self._ids)} in use; set "
                "active_vocabulary to false"
            )
        return embedding(rows, self.weight, padding_idx=self._padding_row)

    def decay(self, factor: float) -> None:
        """Note what weight decay makes of the rows that are not in use.

        Args:
            factor: What one optimiser step multiplies a row by.
        """
        self._owed_decay *= factor

    def whole(self) -> Tensor:
        """Return the whole matrix as it is now, on the CPU; it is changed by the next call. (vocabulary, hidden)."""
        if self._owed_decay != 1.0:
            self._whole.mul_(self._owed_decay)
            self._owed_decay = 1.0
        self._whole[self._ids] = self.weight.detach().to(self._whole)
        return self._whole

    def take(self, whole: Tensor) -> Tensor:
        """Take over a whole matrix, and return the rows in use. (active, hidden).

        Args:
            whole: The matrix, shape (vocabulary, hidden).
        """
        self._whole.copy_(whole)
        self._owed_decay = 1.0
        return self._whole[self._ids]

    def spread(self, rows: Tensor) -> Tensor:
        """Return a whole matrix with `rows` for the ids in use and 0 elsewhere, as Adam's moments are there.

        Args:
            rows: Shape (active, hidden).
        """
        whole = torch.zeros(self.num_embeddings, self.embedding_dim, dtype=rows.dtype, device="cpu")
        whole[self._ids] = rows.detach().cpu()
        return whole

    def select(self, whole: Tensor) -> Tensor:
        """Return the rows in use of what `spread` returned.

        Args:
            whole: Shape (vocabulary, hidden).
        """
        return whole[self._ids.to(whole.device)]

    def restored(self) -> nn.Embedding:
        """Return the whole as the embedding that this one replaced, on the CPU."""
        whole = nn.Embedding(
            self.num_embeddings, self.embedding_dim, padding_idx=self.padding_idx, _weight=self.whole()
        )
        whole.weight.requires_grad_(self.weight.requires_grad)
        return whole


def _give_whole(module: nn.Module, state: dict[str, Any], prefix: str, metadata: Any) -> None:
    assert isinstance(module, ActiveEmbedding)
    state[f"{prefix}weight"] = module.whole()


def _take_whole(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    assert isinstance(module, ActiveEmbedding)
    given = state.get(f"{prefix}weight")
    if given is not None and given.shape == (module.num_embeddings, module.embedding_dim):
        state[f"{prefix}weight"] = module.take(given)


def token_ids_in_use(trainer: Trainer) -> Tensor:
    """Return the token ids that a trainer's data module says its data use. (ids,).

    Args:
        trainer: A trainer about to fit, its data module set up.

    Raises:
        InputError: The data module does not say, or the strategy shards the embeddings.
    """
    data: Any = getattr(trainer, "datamodule", None)
    if isinstance(trainer.strategy, ModelParallelStrategy) or not hasattr(data, "token_ids"):
        raise InputError(
            "active_vocabulary needs a data module that says its token_ids, and a strategy that keeps the embeddings "
            "whole, as ModelParallelStrategy does not; set it to false"
        )
    return torch.from_numpy(data.token_ids())


def shrink_to_active(network: PreTrainedModel, ids: Tensor) -> None:
    """Keep only the rows of a network's word embeddings that some data use.

    Args:
        network: Its embeddings are replaced.
        ids: The token ids of the data, shape (active,).

    Raises:
        InputError: The network predicts tokens, or the ids are not its vocabulary's.
    """
    whole = network.get_input_embeddings()
    if isinstance(whole, ActiveEmbedding):
        return
    if network.get_output_embeddings() is not None:  # type: ignore[no-untyped-call]
        raise InputError(
            f"active_vocabulary does not go with {type(network).__name__}: its softmax needs the whole vocabulary; set "
            "active_vocabulary to false"
        )
    network.set_input_embeddings(ActiveEmbedding(cast(nn.Embedding, whole), ids))


def put_back(network: PreTrainedModel) -> None:
    """Give a network that `shrink_to_active` changed its whole embeddings back.

    Args:
        network: Any network.
    """
    active = network.get_input_embeddings()
    if isinstance(active, ActiveEmbedding):
        network.set_input_embeddings(active.restored())


def follow(optimizer: Optimizer, active: ActiveEmbedding) -> None:
    """Make an optimiser note the decay of the rows that it does not have, and save and load moments as if it had them.

    Args:
        optimizer: AdamW over parameters with `active.weight` among them.
        active: The embedding.
    """
    parameters = [(number, one) for number, group in enumerate(optimizer.param_groups) for one in group["params"]]
    index = next((index for index, (_, one) in enumerate(parameters) if one is active.weight), None)
    if index is None:
        return

    def note_decay(*_: Any) -> None:
        # Looked up at every step, since loading a state replaces the groups.
        group = optimizer.param_groups[parameters[index][0]]
        active.decay(1.0 - group["lr"] * group["weight_decay"])

    def give_whole(_: Optimizer, state: dict[str, Any]) -> None:
        if (moments := state["state"].get(index)) is not None:
            wide = {key: active.spread(value) if _is_moment(value) else value for key, value in moments.items()}
            state["state"][index] = wide

    def take_whole(_: Optimizer, state: dict[str, Any]) -> dict[str, Any]:
        moments = state["state"].get(index, {})
        narrow = {key: active.select(value) if _is_moment(value) else value for key, value in moments.items()}
        return state | {"state": state["state"] | ({index: narrow} if moments else {})}

    optimizer.register_step_post_hook(note_decay)
    optimizer.register_state_dict_post_hook(give_whole)
    optimizer.register_load_state_dict_pre_hook(take_whole)


def _is_moment(value: Any) -> bool:
    return isinstance(value, Tensor) and value.ndim == 2
