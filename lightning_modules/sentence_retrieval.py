"""Finding the translation of a sentence among others by the cosine of sentence vectors: Tatoeba's task."""

import math
import re
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import pyarrow as pa
import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from transformers import AutoModel, PreTrainedConfig, PreTrainedModel

from ernie_m.errors import InputError

from . import neighbours, networks, processes, scores
from .contrast import Contrast, Pooling, digest, pair_losses, pooled
from .layer_sweep import LayerSweep
from .module import TaskModule
from .networks import Batch
from .optimization import FAMILIES

Counted = Literal["both", "source_to_target", "target_to_source"]
_SIDES = ("source", "target")


class SentenceRetrieval(TaskModule):
    """Embeds sentences so that a translation is the nearest of all candidates, scored by accuracy@1.

    A batch has `source_input_ids`, `source_attention_mask`, `target_input_ids`, `target_attention_mask`
    (batch, length) int64, row i of both a pair; `example_ids` and `language` (batch,) int64; `weights` (batch,)
    float32, 0 for a filler; in training `normaliser` (), the pairs of the global batch over the number of processes.

    Trained on the global batch, each sentence against the sentences of the other side, of all processes, but those that
    are duplicates of its own pair's. It needs the whole batch at once and refuses more than one micro-batch. With the
    cosines s of sentence i and candidate j, the temperature t, and the mean over both directions,

    - "softmax" is InfoNCE: the cross entropy of softmax_j(s_ij / t) against j = i;
    - "hardest_negative" is binary cross-entropy: -log sigmoid(s_ii / t) - log(1 - sigmoid(max_{j != i} s_ij / t)); a
      sentence without counter-examples has the first term alone.

    Scores of a language: `source_to_target` (the source sentences search the target sentences), `target_to_source`,
    and `accuracy`, one of them or their mean. Where the source is English and the target another language,
    `source_to_target` is what XTREME's code computes for Tatoeba. Right is a sentence's own pair alone: where its
    duplicate stands first among equally near ones, the answer is wrong, as in that code. `ties` counts the answers that
    another candidate could have given, `duplicates` the sentences that stand more than once on their side, by their
    token ids; both over both directions. With `sweep_layers`, `layer_0` (the embeddings), `layer_1` and so on are what
    `accuracy` would be at those layers; an evaluation then must have all batches of a language one after the other.

    `tables` have the columns `example_id`, and for either direction
    `prediction_<direction>` (the example id of the nearest) and `similarity_<direction>` (its cosine).

    Args:
        pooling: "mean" of all tokens that are not padding, or the vector of the first ("cls").
        layer: Encoder layers below the vectors: 0 for the embeddings, all where null. XTREME's "layer 7" is 8 here.
        objective: What is trained, "softmax" or "hardest_negative".
        temperature: Divides the cosine similarities in the loss.
        learn_temperature: Train the temperature too, from that value on.
        counted: The direction whose score is called `accuracy`, "source_to_target" or "target_to_source"; "both" for
            their mean.
        sweep_layers: Score every layer in evaluations, from the same pass through the network.
        args: What `TaskModule` takes, as `kwargs`.
        kwargs: See `args`.
    """

    score_names: ClassVar[tuple[str, ...]] = ("accuracy", "source_to_target", "target_to_source")

    def __init__(
        self,
        *args: Any,
        pooling: Pooling = "mean",
        layer: int | None = None,
        objective: Contrast = "softmax",
        temperature: float = 0.05,
        learn_temperature: bool = False,
        counted: Counted = "both",
        sweep_layers: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.need_whole_batch()
        if temperature <= 0:
            raise InputError(f"temperature is {temperature}; it must be above 0")
        self.pooling: Pooling = pooling
        self.layer = layer
        self.objective: Contrast = objective
        self.counted: Counted = counted
        self.sweep_layers = sweep_layers
        self._sweep = LayerSweep()
        self.temperature = temperature
        self.log_temperature = nn.Parameter(torch.tensor(math.log(temperature))) if learn_temperature else None

    # Building

    def build_network(self, restored: PreTrainedConfig | None) -> tuple[PreTrainedModel, list[str]]:
        """Return the encoder and the names of its parameters that are random."""
        return networks.build(AutoModel, self.source, restored)

    def finish_network(self, network: PreTrainedModel) -> None:
        """Check layer and languages, and freeze what the vectors do not depend on: DDP would wait for its gradients."""
        config = network.config
        if config.model_type == "xlm" and config.use_lang_emb and config.n_langs > 1:
            raise InputError(
                f"{self.backbone!r} wants the language of each sentence, which pairs of sentences do not say; use a "
                "backbone without language embeddings"
            )
        if self.layer is not None and not 0 <= self.layer <= config.num_hidden_layers:
            raise InputError(f"layer is {self.layer}; {self.backbone!r} has the layers 0 to {config.num_hidden_layers}")
        if processes.is_sharded(self):
            if self.log_temperature is not None:
                raise InputError(
                    "learn_temperature does not go with ModelParallelStrategy; set it to false, or use ddp"
                )
            if self.layer is not None or self.sweep_layers:
                # transformers finds what to record by the network's class, which sharding replaces.
                raise InputError(
                    "layer and sweep_layers do not go with ModelParallelStrategy: a sharded network gives its last "
                    "layer alone. Set layer to null and sweep_layers to false, or use ddp"
                )
        family = FAMILIES.get(config.model_type)
        for name, parameter in network.named_parameters():
            match = re.search(family.layer, name) if family and self.layer is not None else None
            is_above = match is not None and self.layer is not None and int(match.group(1)) >= self.layer
            if is_above or "pooler." in name:
                parameter.requires_grad_(False)

    # Training and evaluation

    def embed(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return unit vectors of sentences in float32. (batch, width).

        Args:
            input_ids: (batch, length) int64
            attention_mask: 1 for a token, 0 for padding. (batch, length) int64
        """
        outputs = self.network(
            input_ids=input_ids, attention_mask=attention_mask, output_hidden_states=self.layer is not None
        )
        hidden = outputs.last_hidden_state if self.layer is None else outputs.hidden_states[self.layer]
        return pooled(hidden, attention_mask, self.pooling)

    def embed_layers(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return unit vectors of sentences at every layer, the embeddings first. (batch, layers, width) float32.

        Args:
            input_ids: (batch, length) int64
            attention_mask: 1 for a token, 0 for padding. (batch, length) int64
        """
        outputs = self.network(input_ids=input_ids, attention_mask=attention_mask, output_hidden_states=True)
        return torch.stack([pooled(hidden, attention_mask, self.pooling) for hidden in outputs.hidden_states], dim=1)

    def embed_pairs(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the unit vectors of the sources and of the targets, from one pass through the network.

        Args:
            batch: A batch as the class describes it.
        """
        vectors = self.embed(*self._both_sides(batch))
        return vectors[: len(batch["weights"])], vectors[len(batch["weights"]) :]

    def _both_sides(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the ids and the mask of the sources and, below them, of the targets. Both (2 batch, length) int64."""
        source, target = batch["source_input_ids"], batch["target_input_ids"]
        length = max(source.shape[1], target.shape[1])
        filling = self.network.config.pad_token_id or 0
        ids = [pad(part, (0, length - part.shape[1]), value=filling) for part in (source, target)]
        masks = [
            pad(part, (0, length - part.shape[1]))
            for part in (batch["source_attention_mask"], batch["target_attention_mask"])
        ]
        return torch.cat(ids), torch.cat(masks)

    def loss(self, batch: Batch) -> Tensor:
        """Return this process's share of the loss over the global batch. ()."""
        source, target = self.embed_pairs(batch)
        scale = 1.0 / self.temperature if self.log_temperature is None else torch.exp(-self.log_temperature)
        losses = pair_losses(source, target, _digests(batch), batch["weights"], scale, self.objective)
        return (losses * batch["weights"]).sum() / batch["normaliser"]

    def on_validation_epoch_start(self) -> None:
        """Forget the rows of the evaluation before."""
        super().on_validation_epoch_start()
        self._sweep = LayerSweep()

    on_test_epoch_start = on_validation_epoch_start
    on_predict_epoch_start = on_validation_epoch_start

    @property
    def prediction_columns(self) -> list[str]:
        """The nearest sentence in either direction, and its cosine."""
        return [
            f"{column}_{direction}" for direction in neighbours.DIRECTIONS for column in ("prediction", "similarity")
        ]

    def predict_rows(self, batch: Batch) -> Batch:
        """Return the vectors of one batch, and a number for every sentence that its duplicates share."""
        rows = {key: batch[key] for key in ("language", "example_ids", "weights")}
        count = len(batch["weights"])
        if self.sweep_layers:
            layers = self.embed_layers(*self._both_sides(batch))
            self._sweep.add(rows | {"source": layers[:count], "target": layers[count:]})
            # A copy: a view would keep all layers of all languages.
            vectors = layers[:, -1 if self.layer is None else self.layer].clone()
            source, target = vectors[:count], vectors[count:]
        else:
            source, target = self.embed_pairs(batch)
        rows |= {"source": source, "target": target}
        return rows | {f"{side}_digest": values for side, values in _digests(batch).items()}

    def score(self, rows: Batch, missing: int) -> tuple[pa.Table, dict[str, float]]:
        """Make one language's table and its accuracy@1 in both directions."""
        ids = rows["example_ids"]
        references = {key: key for key in ids.tolist()} | {-1 - number: -1 for number in range(missing)}
        columns = {"example_id": pa.array(ids.tolist(), pa.int64())}
        result = {"examples": float(len(references)), "chance": 1.0 / len(references), "ties": 0.0, "duplicates": 0.0}
        if missing:
            result["missing"] = float(missing)
        for direction, (queries, candidates) in neighbours.DIRECTIONS.items():
            nearest, found = neighbours.retrieve(ids, rows[queries], rows[candidates])
            columns[f"prediction_{direction}"] = pa.array(list(nearest.values()), pa.int64())
            columns[f"similarity_{direction}"] = pa.array(found.similarity.numpy(), pa.float32())
            result[direction] = scores.accuracy(nearest, references)
            result["ties"] += float(found.tied.sum())
            result["duplicates"] += float(neighbours.duplicates(rows[f"{candidates}_digest"]))
        result = {"accuracy": self._counted(result), **result}
        if self.sweep_layers:
            for number, right in enumerate(self._sweep.right(int(rows["language"][0]))):
                shares = {direction: count / len(references) for direction, count in right.items()}
                result[f"layer_{number}"] = self._counted(shares)
        return pa.table(columns), result

    def _counted(self, shares: Mapping[str, float]) -> float:
        """Return what counts of the shares of right answers in both directions."""
        if self.counted != "both":
            return shares[self.counted]
        return (shares["source_to_target"] + shares["target_to_source"]) / 2


def _digests(batch: Batch) -> dict[str, Tensor]:
    """Return a number for every sentence of either side that its duplicates share. (batch,) int64 each."""
    return {side: digest(batch[f"{side}_input_ids"], batch[f"{side}_attention_mask"]) for side in _SIDES}
