"""Pre-training with ERNIE-M's objectives (arXiv 2012.15674), and those that it is held against."""

from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import torch
from torch import Tensor, nn
from transformers import AutoModelForMaskedLM, PreTrainedConfig, PreTrainedModel

from ernie_m.errors import InputError

from . import networks, pair_rows, processes
from .checkpoint_file import read_checkpoint
from .contrast import Pooling, digest, pair_losses, pooled
from .cross_attention import check_attention, check_dropout, cross_attention, for_attention
from .masking import BERT, ONLY_MASKS, Masker, draws, one_of, uniform
from .module import TaskModule
from .networks import Batch
from .objectives import check_data, check_room, check_shares, is_target, languages_of, shared_out, stored_languages
from .pretraining_scores import language_scores, sums_by_row
from .token_losses import likeliest, token_losses

_RULED = ("camlm", "btmlm")
_FAMILIES = ("ernie_m", "xlm-roberta")
# What is drawn for a row beside its masks.
_OBJECTIVE, _LANGUAGE = range(2)


class Pretraining(TaskModule):
    """Trains a network to predict hidden tokens of texts and of pairs of translations.

    A batch has `input_ids`, `attention_mask` (batch, length) int64; `target_start` (batch,) int64, the place of the
    first token that belongs to a row's second sentence, the row's length where it has one text; `example_ids` and
    `language` (batch,) int64, where a language called "en-de" is a pair; `weights` (batch,) float32, 0 for a filler; in
    training `normaliser` (), the ordinary tokens of the global batch over the number of processes.

    The objectives, of which each row is given one:

    - "mmlm", masked language modelling on a text;
    - "tlm", the same on a pair, where tokens see both sentences (Conneau and Lample, 2019);
    - "camlm", cross-attention masked language modelling: a masked token is predicted from the other sentence and the
      masks of its own (`cross_attention` has the rule);
    - "btmlm", back-translation masked language modelling: the network first makes pseudo tokens of another language
      behind a text, by camlm's rule and without gradient, and then predicts masked tokens of the text from the rest of
      it and from the pseudo tokens;
    - "xlco", InfoXLM's contrast of the vectors of a pair's sentences with those of the other pairs of the global batch
      (Chi et al., 2021; without its momentum encoder and its mixing of pairs). It needs the whole batch at once.

    The loss of a text, and of either sentence of a pair, is the mean over its hidden tokens times the number of its
    ordinary ones: so each objective counts by the tokens of its rows. What is hidden is drawn anew at every step, by
    seed, step and row alone.

    An evaluation hides the same tokens every time, with masks, whatever the seed. Scores of a text: `accuracy` (the
    share of hidden tokens that are found) and `loss` (nats a token). Of a pair also `camlm_accuracy` and `camlm_loss`,
    where `accuracy` and `loss` are tlm's, and `retrieval`: how often a sentence's translation is the nearest among all
    of them, the mean of both directions.

    `tables` have the columns `example_id`, `hidden` and `found`, numbers of tokens.

    Args:
        shares: Objective to its share of the rows of its kind: "mmlm" and "btmlm" of the texts, "tlm", "camlm" and
            "xlco" of the pairs. The shares of a kind sum to 1.
        loss_weights: Objective to what its loss is multiplied with; 1 where it is not named.
        mask_rate: Share of the ordinary tokens of a text, and of either sentence of a pair, that is hidden.
        whole_words: Whether all tokens of a word are hidden together.
        language_embeddings: Add a vector for its language to each token: zero at the start, and no part of what is
            exported. Without it nothing says which language pseudo tokens are of.
        pseudo_tokens: How many pseudo tokens are made for a token of a text.
        pseudo_languages: Languages that they are made in; all of the data where null. Never a text's own.
        pooling: "mean" or "cls": the vector of a sentence, for xlco and `retrieval`.
        temperature: Divides the cosines in xlco.
        mask_seed: Seed of all draws.
        args: What `TaskModule` takes, as `kwargs`.
        kwargs: See `args`.
    """

    score_names: ClassVar[tuple[str, ...]] = ("accuracy", "loss", "camlm_accuracy", "camlm_loss", "retrieval")
    language_embeddings: nn.Embedding | None
    masker: Masker
    _languages_of: Tensor

    def __init__(
        self,
        *args: Any,
        shares: dict[str, float],
        loss_weights: dict[str, float] | None = None,
        mask_rate: float = 0.15,
        whole_words: bool = False,
        language_embeddings: bool = False,
        pseudo_tokens: float = 1.0,
        pseudo_languages: list[str] | None = None,
        pooling: Pooling = "mean",
        temperature: float = 0.05,
        mask_seed: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        check_shares(shares, loss_weights or {})
        if not 0 < mask_rate < 1:
            raise InputError(f"mask_rate is {mask_rate}; it must lie between 0 and 1: 0.15 hides every seventh token")
        if pseudo_tokens <= 0 or temperature <= 0:
            raise InputError(f"pseudo_tokens is {pseudo_tokens} and temperature {temperature}; both must be above 0")
        if self.active_vocabulary:
            raise InputError(
                "active_vocabulary goes with tasks that predict no tokens: here it would change the result. Set it to "
                "false, and trim the backbone with `ernie-m trim` for a smaller vocabulary"
            )
        self.shares = {name: share for name, share in shares.items() if share > 0}
        self.loss_weights = loss_weights or {}
        self.mask_rate = mask_rate
        self.whole_words = whole_words
        self.has_language_embeddings = language_embeddings
        self.pseudo_tokens = pseudo_tokens
        self.pseudo_languages = pseudo_languages
        self.pooling: Pooling = pooling
        self.temperature = temperature
        self.mask_seed = mask_seed
        self.language_embeddings = None
        self._sums: dict[str, list[Tensor]] = {}
        self._initial_languages: dict[str, Tensor] = {}
        if "xlco" in self.shares:
            self.need_whole_batch()

    # Building

    def setup(self, stage: str) -> None:
        """Read of the data module what tokens and languages there are, and whether they fit the objectives."""
        super().setup(stage)
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        self.read_vocabulary(data)
        if stage == "fit":
            check_data(self.shares, data.train_languages, self.token_languages, self.pseudo_languages)

    def read_vocabulary(self, data: Any) -> None:
        """Take over what the data say of their tokens, and of the languages of texts and pairs.

        Args:
            data: A data module, or what has its `token_kinds()`, `mask_token_id` and `pair_separators`.
        """
        self.separators = int(data.pair_separators)
        self.masker = Masker(torch.from_numpy(data.token_kinds()), data.mask_token_id, self.mask_rate, self.whole_words)
        own = [languages_of(name) for name in self.languages]
        self.token_languages = self._embedded_languages() or list(dict.fromkeys(chain.from_iterable(own)))
        if unknown := [name for name in chain.from_iterable(own) if name not in self.token_languages]:
            raise InputError(
                f"the checkpoint has embeddings of {', '.join(self.token_languages)}, none of {unknown[0]}; leave it "
                "out of the data, or begin anew with init_from, which takes over those that are there"
            )
        sides = [[self.token_languages.index(languages[side]) for languages in own] for side in (0, -1)]
        self.register_buffer("_languages_of", torch.tensor(sides).T, persistent=False)

    def _embedded_languages(self) -> list[str]:
        """Return the languages of embeddings that are there, or that come with the checkpoint."""
        if self.language_embeddings is not None:
            return self.token_languages
        if not self.has_language_embeddings or self.restore_from is None:
            return []
        return stored_languages(read_checkpoint(Path(self.restore_from)))

    def build_network(self, restored: PreTrainedConfig | None) -> tuple[PreTrainedModel, list[str]]:
        """Return the network with its head for masked tokens, and the names of its parameters that are random."""
        return networks.build(AutoModelForMaskedLM, self.source, restored)

    def finish_network(self, network: PreTrainedModel) -> None:
        """Check the network's kind and attention, and add the embeddings of languages.

        Raises:
            InputError: The objectives cannot be trained on such a network.
        """
        config = network.config
        if config.model_type not in _FAMILIES:
            raise InputError(
                f"{self.backbone!r} is of type {config.model_type!r}; pre-training goes on from ERNIE-M and XLM-R"
            )
        for name in _RULED:
            if name in self.shares:
                check_attention(config, name)
        if self.has_language_embeddings:
            self.language_embeddings = nn.Embedding(len(self.token_languages), config.hidden_size)
            nn.init.zeros_(self.language_embeddings.weight)
            for language, vector in self._initial_languages.items():
                if language in self.token_languages:
                    self.language_embeddings.weight.data[self.token_languages.index(language)] = vector
        if set(self.shares) == {"xlco"}:
            # DDP would wait for their gradients.
            for name, parameter in network.named_parameters():
                if name.startswith("lm_head."):
                    parameter.requires_grad_(False)
        if processes.is_sharded(self):
            raise InputError("pre-training does not go with ModelParallelStrategy; set trainer.strategy to ddp")

    def copy_initial_weights(
        self, network: PreTrainedModel, state: dict[str, Tensor], config: PreTrainedConfig | None
    ) -> list[str]:
        """Copy the weights of `init_from`, and keep the vectors of languages that a checkpoint has beside them."""
        if Path(str(self.init_from)).is_file():
            checkpoint = read_checkpoint(Path(str(self.init_from)))
            found = checkpoint.get("state_dict", {}).get("language_embeddings.weight", ())
            self._initial_languages = dict(zip(stored_languages(checkpoint), found, strict=False))
        return super().copy_initial_weights(network, state, config)

    def on_fit_start(self) -> None:
        """Check that pseudo tokens have room behind the longest text, and that the attention can be trained."""
        super().on_fit_start()
        config = self.network.config
        check_dropout(config)
        if "btmlm" not in self.shares:
            return
        longest = self.trainer.datamodule.max_length  # type: ignore[attr-defined]
        check_room(longest, self.separators, self.pseudo_tokens, networks.longest_input(config))

    # Training

    def loss(self, batch: Batch) -> Tensor:
        """Return a micro-batch's share of the global batch's loss. ()."""
        trainer = processes.trainer_of(self)
        rows = self._draws_of(batch, trainer.global_step if trainer else 0)
        place = uniform(draws(rows, _OBJECTIVE))
        total = batch["weights"].new_zeros(())
        several = trainer is not None and trainer.world_size > 1
        for objective, part, own in shared_out(batch, rows, place, self.shares, everywhere=several):
            loss = self._losses[objective](self, part, own)
            total = total + self.loss_weights.get(objective, 1.0) * loss / part["normaliser"]
            tokens = (self.masker.is_ordinary(part).sum(dim=1) * part["weights"]).sum()
            self._sums.setdefault(objective, []).append(torch.stack([loss.detach(), tokens]))
        return total

    def on_train_batch_end(self, outputs: Any, batch: list[Batch], batch_idx: int) -> None:
        """Log what each objective lost in the step, in nats a token, of the first process."""
        super().on_train_batch_end(outputs, batch, batch_idx)
        for objective, sums in self._sums.items():
            loss, tokens = torch.stack(sums).sum(dim=0)
            self.log(f"train/{objective}_loss", loss / tokens.clamp(min=1), batch_size=1, rank_zero_only=True)
        self._sums = {}

    def _draws_of(self, batch: Batch, step: int) -> Tensor:
        """Return what all of a row is drawn by in training. (batch,) int64."""
        return draws(batch["example_ids"], batch["language"], step, self.mask_seed)

    def _masked(self, batch: Batch, rows: Tensor) -> Tensor:
        return self._token_loss(batch, *self.masker(batch, rows, BERT))

    def _cross_attention_masked(self, batch: Batch, rows: Tensor) -> Tensor:
        chosen, ids = self.masker(batch, rows, ONLY_MASKS)
        return self._token_loss(batch, chosen, ids, self._rule(batch, chosen))

    def _back_translation_masked(self, batch: Batch, rows: Tensor) -> Tensor:
        longer = self._with_pseudo_tokens(batch, rows)
        chosen, ids = self.masker(longer, rows, BERT, targets=False)
        return self._token_loss(longer, chosen, ids)

    def _sentence_contrast(self, batch: Batch, rows: Tensor) -> Tensor:
        sides = pair_rows.sides(batch, self.separators, self._pad_id)
        vectors = {side: self._sentence_vectors(batch, side, *tokens) for side, tokens in sides.items()}
        digests = {side: digest(*tokens) for side, tokens in sides.items()}
        losses = pair_losses(vectors["source"], vectors["target"], digests, batch["weights"], 1.0 / self.temperature)
        # By tokens, as the other objectives count.
        return (losses * batch["weights"] * self.masker.is_ordinary(batch).sum(dim=1)).sum()

    _losses: ClassVar[Mapping[str, Any]] = {
        "mmlm": _masked,
        "tlm": _masked,
        "camlm": _cross_attention_masked,
        "btmlm": _back_translation_masked,
        "xlco": _sentence_contrast,
    }

    @property
    def _pad_id(self) -> int:
        return self.network.config.pad_token_id or 0

    def _rule(self, batch: Batch, chosen: Tensor) -> Any:
        allowed = cross_attention(chosen, is_target(batch), batch["attention_mask"].bool())
        return for_attention(allowed, self.network.config._attn_implementation)

    def _token_loss(self, batch: Batch, chosen: Tensor, ids: Tensor, attention: Any = None) -> Tensor:
        losses, right, row = self._predicted(batch, chosen, ids, attention)
        if self.training:
            self.train_accuracy.update(right, batch["weights"][row] > 0)
        # Each hidden token stands for as many as there are for it on its side.
        second, ordinary = is_target(batch), self.masker.is_ordinary(batch)
        stands_for = torch.zeros(chosen.shape, device=chosen.device)
        for side in (~second, second):
            tokens, hidden = ((kind & side).sum(dim=1, keepdim=True) for kind in (ordinary, chosen))
            stands_for = stands_for + side * tokens / hidden.clamp(min=1)
        return (losses * (stands_for * batch["weights"][:, None])[chosen]).sum()

    def _predicted(
        self, batch: Batch, chosen: Tensor, ids: Tensor, attention: Any = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the loss at each chosen token, whether it was found, and the row that it is in. (tokens,) each."""
        hidden = self._encoded(batch, ids, attention)
        labels = batch["input_ids"][chosen]
        losses, right = token_losses(self.network.lm_head, hidden[chosen], labels, self.network.config.vocab_size)
        return losses, right, chosen.nonzero()[:, 0]

    def _encoded(self, batch: Batch, ids: Tensor, attention: Any = None) -> Tensor:
        """Return the last layer's vectors. (batch, length, width).

        Args:
            batch: The rows.
            ids: What is given for their ids. (batch, length) int64
            attention: Which tokens each sees; None for all that are no padding.
        """
        encoder: Any = self.network.base_model
        inputs: dict[str, Any] = {"attention_mask": batch["attention_mask"] if attention is None else attention}
        if self.language_embeddings is None:
            inputs["input_ids"] = ids
        else:
            languages = batch["token_languages"] if "token_languages" in batch else self._language_of_tokens(batch)
            inputs["inputs_embeds"] = encoder.get_input_embeddings()(ids) + self.language_embeddings(languages)
        hidden: Tensor = encoder(**inputs).last_hidden_state
        return hidden

    def _language_of_tokens(self, batch: Batch) -> Tensor:
        """Return each token's place in `token_languages`. (batch, length) int64."""
        return self._languages_of[batch["language"]].gather(1, is_target(batch).long())

    def _with_pseudo_tokens(self, batch: Batch, rows: Tensor) -> Batch:
        """Return texts with pseudo tokens behind them, as pairs: btmlm's first step."""
        tokens = self.masker.is_ordinary(batch).sum(dim=1)
        counts = (tokens * self.pseudo_tokens).round().long().clamp(min=1)
        longer = pair_rows.with_placeholders(batch, counts, self.masker.mask_id, self.separators, self._pad_id)
        placeholders = longer.pop("placeholders").bool()
        if self.language_embeddings is not None:
            longer["token_languages"] = torch.where(
                is_target(longer), self._pseudo_languages(batch, rows)[:, None], self._language_of_tokens(longer)
            )
        was_training = self.network.training
        self.network.train(False)
        try:
            with torch.no_grad():
                hidden = self._encoded(longer, longer["input_ids"], self._rule(longer, placeholders))
                made = likeliest(self.network.lm_head, hidden[placeholders], self.masker.ordinary)
        finally:
            self.network.train(was_training)
        longer["input_ids"] = longer["input_ids"].masked_scatter(placeholders, made)
        return longer

    def _pseudo_languages(self, batch: Batch, rows: Tensor) -> Tensor:
        """Draw the language of each row's pseudo tokens among those that are not its own. (batch,) int64."""
        names = self.pseudo_languages or self.token_languages
        admitted = torch.tensor([self.token_languages.index(name) for name in names], device=rows.device)
        own = self._languages_of[batch["language"]][:, :1]
        return one_of(draws(rows, _LANGUAGE), admitted, but=own)

    # Evaluation

    def _sentence_vectors(self, batch: Batch, side: str, ids: Tensor, mask: Tensor) -> Tensor:
        own = {"attention_mask": mask, "input_ids": ids}
        languages = self._languages_of[batch["language"]][:, int(side == "target")]
        own["token_languages"] = languages[:, None].expand_as(ids)
        return pooled(self._encoded(own, ids), mask, self.pooling)

    def predict_rows(self, batch: Batch) -> Batch:
        """Return how many tokens were hidden and found in each row, their losses, and vectors of sentences."""
        rows = {key: batch[key] for key in ("language", "example_ids", "weights")}
        # By the row alone: the same tokens for every seed, whatever other languages there are.
        chosen, ids = self.masker(batch, draws(batch["example_ids"]), ONLY_MASKS)
        attentions: dict[str, Any] = {"": None}
        is_pair = len(languages_of(self.language_of(batch))) == 2
        if is_pair:
            attentions["camlm_"] = self._rule(batch, chosen)
        rows["hidden"] = chosen.sum(dim=1)
        for name in ("", "camlm_"):
            # Columns are the same for every language.
            found = self._predicted(batch, chosen, ids, attentions[name]) if name in attentions else None
            rows |= {f"{name}{key}": values for key, values in sums_by_row(len(ids), found, ids.device).items()}
        width = self.network.config.hidden_size
        sides = pair_rows.sides(batch, self.separators, self._pad_id) if is_pair else {}
        for side in ("source", "target"):
            empty = torch.zeros(len(ids), width, dtype=torch.float32, device=ids.device)
            rows[side] = self._sentence_vectors(batch, side, *sides[side]) if is_pair else empty
        return rows

    def score(self, rows: Batch, missing: int) -> tuple[pa.Table, dict[str, float]]:
        """Make one language's table and scores."""
        return language_scores(rows, len(languages_of(self.language_of(rows))) == 2, missing)

    # Checkpoints

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the languages with their embeddings."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["languages"] = list(self.token_languages)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Check that the languages are those of the checkpoint, where they have embeddings.

        Raises:
            InputError: They are others.
        """
        super().on_load_checkpoint(checkpoint)
        found = stored_languages(checkpoint)
        if self.language_embeddings is not None and self.token_languages != found:
            raise InputError(f"the checkpoint has embeddings of {found}, the network those of {self.token_languages}")
        self.token_languages = found
