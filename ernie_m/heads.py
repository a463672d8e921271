"""ERNIE-M's heads: what each computes is what transformers 4.57 computed; differences are said where they are made."""

from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import initialization as init
from transformers.modeling_outputs import (
    MaskedLMOutput,
    MultipleChoiceModelOutput,
    QuestionAnsweringModelOutput,
    SequenceClassifierOutput,
    TokenClassifierOutput,
)
from transformers.utils.generic import can_return_tuple

from .configuration import ErnieMConfig
from .dropout import Dropout
from .errors import InputError
from .modeling import ErnieMModel, ErnieMPreTrainedModel


class ErnieMLMHead(nn.Module):
    """Masked-language-model head: dense, GELU, LayerNorm, decoder tied to the word embeddings, bias.

    No ERNIE-M head was published; this is XLM-R's, whose weights can therefore initialise it.
    """

    def __init__(self, config: ErnieMConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.decoder = nn.Linear(config.hidden_size, config.vocab_size)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Map `(..., hidden)` to logits `(..., vocab)`."""
        return cast(Tensor, self.decoder(self.layer_norm(nn.functional.gelu(self.dense(hidden_states)))))


def _classifier_dropout(config: ErnieMConfig) -> Dropout:
    rate = config.classifier_dropout if config.classifier_dropout is not None else config.hidden_dropout_prob
    return Dropout(rate)


class ErnieMForSequenceClassification(ErnieMPreTrainedModel):
    """A label, several labels or a number for each text or pair, from the pooled vector."""

    def __init__(self, config: ErnieMConfig) -> None:
        super().__init__(config)
        self.num_labels = cast(int, config.num_labels)
        self.ernie_m = ErnieMModel(config)
        self.dropout = _classifier_dropout(config)
        self.classifier = nn.Linear(config.hidden_size, self.num_labels)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        **kwargs: Any,
    ) -> SequenceClassifierOutput:
        """Return logits `(batch, num_labels)`, and the loss where `labels` are given.

        Integer labels `(batch,)` give cross entropy, floating-point ones `(batch, num_labels)` binary cross entropy,
        and `num_labels` 1 the squared error, unless `config.problem_type` says otherwise. Other arguments are those of
        `ErnieMModel.forward`; `first_token_only` is true here, since the pooler reads no other token.
        """
        kwargs.setdefault("first_token_only", True)
        outputs = self.ernie_m(input_ids, attention_mask, position_ids, inputs_embeds, return_dict=True, **kwargs)
        logits = self.classifier(self.dropout(outputs.pooler_output))
        loss = None if labels is None else self._loss(logits, labels)
        return SequenceClassifierOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )

    def _loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        problem = self.config.problem_type
        if problem is None:
            if self.num_labels == 1:
                problem = "regression"
            else:
                problem = "multi_label_classification" if labels.is_floating_point() else "single_label_classification"
        if problem == "regression":
            return nn.functional.mse_loss(logits.reshape(labels.shape), labels.to(logits.dtype))
        if problem == "single_label_classification":
            return nn.functional.cross_entropy(logits.view(-1, self.num_labels), labels.view(-1))
        return nn.functional.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype))


class ErnieMForMultipleChoice(ErnieMPreTrainedModel):
    """Scores the choices of a question, each read as a text of its own."""

    def __init__(self, config: ErnieMConfig) -> None:
        super().__init__(config)
        self.ernie_m = ErnieMModel(config)
        self.dropout = _classifier_dropout(config)
        self.classifier = nn.Linear(config.hidden_size, 1)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        **kwargs: Any,
    ) -> MultipleChoiceModelOutput:
        """Return logits `(batch, choices)`, and the cross entropy with `labels` `(batch,)` where they are given.

        Inputs are those of `ErnieMModel.forward` with an axis of choices after the batch; `first_token_only` is true.
        """
        given = input_ids if input_ids is not None else inputs_embeds
        if given is None:
            raise InputError("give exactly one of input_ids and inputs_embeds")
        choices = given.shape[1]
        kwargs.setdefault("first_token_only", True)
        outputs = self.ernie_m(
            *(None if tensor is None else tensor.flatten(0, 1) for tensor in (input_ids, attention_mask, position_ids)),
            None if inputs_embeds is None else inputs_embeds.flatten(0, 1),
            return_dict=True,
            **kwargs,
        )
        logits = self.classifier(self.dropout(outputs.pooler_output)).view(-1, choices)
        loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
        return MultipleChoiceModelOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )


class ErnieMForTokenClassification(ErnieMPreTrainedModel):
    """A label for each token."""

    # Pre-trained checkpoints carry the pooler, which this head does not have.
    _keys_to_ignore_on_load_unexpected = [r"pooler\."]  # noqa: RUF012

    def __init__(self, config: ErnieMConfig) -> None:
        super().__init__(config)
        self.num_labels = cast(int, config.num_labels)
        self.ernie_m = ErnieMModel(config, add_pooling_layer=False)
        self.dropout = _classifier_dropout(config)
        self.classifier = nn.Linear(config.hidden_size, self.num_labels)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        **kwargs: Any,
    ) -> TokenClassifierOutput:
        """Return logits `(batch, length, num_labels)`, and the cross entropy with `labels` `(batch, length)`.

        Labels of -100 do not count. Other arguments are those of `ErnieMModel.forward`.
        """
        outputs = self.ernie_m(input_ids, attention_mask, position_ids, inputs_embeds, return_dict=True, **kwargs)
        logits = self.classifier(self.dropout(outputs.last_hidden_state))
        loss = None
        if labels is not None:
            loss = nn.functional.cross_entropy(logits.view(-1, self.num_labels), labels.view(-1))
        return TokenClassifierOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )


class ErnieMForQuestionAnswering(ErnieMPreTrainedModel):
    """Start and end of an answer in a context."""

    _keys_to_ignore_on_load_unexpected = [r"pooler\."]  # noqa: RUF012

    def __init__(self, config: ErnieMConfig) -> None:
        super().__init__(config)
        if config.num_labels != 2:
            raise InputError(
                f"question answering needs num_labels 2 (start and end), config.json says {config.num_labels}; "
                "set num_labels to 2"
            )
        self.ernie_m = ErnieMModel(config, add_pooling_layer=False)
        self.qa_outputs = nn.Linear(config.hidden_size, 2)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        start_positions: Tensor | None = None,
        end_positions: Tensor | None = None,
        **kwargs: Any,
    ) -> QuestionAnsweringModelOutput:
        """Return start and end logits `(batch, length)`, and the mean of their cross entropies with the positions.

        Positions `(batch,)` outside the input do not count. Other arguments are those of `ErnieMModel.forward`.
        """
        outputs = self.ernie_m(input_ids, attention_mask, position_ids, inputs_embeds, return_dict=True, **kwargs)
        start_logits, end_logits = self.qa_outputs(outputs.last_hidden_state).unbind(-1)
        loss = None
        if start_positions is not None and end_positions is not None:
            length = start_logits.shape[1]
            start_loss, end_loss = (
                nn.functional.cross_entropy(logits, positions.view(-1).clamp(0, length), ignore_index=length)
                for logits, positions in ((start_logits, start_positions), (end_logits, end_positions))
            )
            loss = (start_loss + end_loss) / 2
        return QuestionAnsweringModelOutput(
            loss=loss,
            start_logits=start_logits.contiguous(),
            end_logits=end_logits.contiguous(),
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )


class ErnieMForInformationExtraction(ErnieMPreTrainedModel):
    """UIE-M: for each token, whether a span asked for by the prompt starts or ends there."""

    _keys_to_ignore_on_load_unexpected = [r"pooler\."]  # noqa: RUF012

    def __init__(self, config: ErnieMConfig) -> None:
        super().__init__(config)
        self.ernie_m = ErnieMModel(config, add_pooling_layer=False)
        self.linear_start = nn.Linear(config.hidden_size, 1)
        self.linear_end = nn.Linear(config.hidden_size, 1)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        start_positions: Tensor | None = None,
        end_positions: Tensor | None = None,
        **kwargs: Any,
    ) -> QuestionAnsweringModelOutput:
        """Return start and end logits `(batch, length)`; PaddleNLP's UIEM returns their sigmoid.

        `start_positions` and `end_positions` `(batch, length)`, 0 or 1 of any dtype, give the mean binary cross
        entropy. Other arguments are those of `ErnieMModel.forward`.
        """
        outputs = self.ernie_m(input_ids, attention_mask, position_ids, inputs_embeds, return_dict=True, **kwargs)
        start_logits = self.linear_start(outputs.last_hidden_state).squeeze(-1)
        end_logits = self.linear_end(outputs.last_hidden_state).squeeze(-1)
        loss = None
        if start_positions is not None and end_positions is not None:
            start_loss, end_loss = (
                nn.functional.binary_cross_entropy_with_logits(logits, positions.to(logits.dtype))
                for logits, positions in ((start_logits, start_positions), (end_logits, end_positions))
            )
            loss = (start_loss + end_loss) / 2
        return QuestionAnsweringModelOutput(
            loss=loss,
            start_logits=start_logits,
            end_logits=end_logits,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )


class ErnieMForMaskedLM(ErnieMPreTrainedModel):
    """Predicts masked tokens; the decoder shares the word embeddings."""

    _keys_to_ignore_on_load_unexpected = [r"pooler\."]  # noqa: RUF012
    _tied_weights_keys = {  # noqa: RUF012
        "lm_head.decoder.weight": "ernie_m.embeddings.word_embeddings.weight",
        "lm_head.decoder.bias": "lm_head.bias",
    }

    def __init__(self, config: ErnieMConfig) -> None:
        super().__init__(config)
        self.ernie_m = ErnieMModel(config, add_pooling_layer=False)
        self.lm_head = ErnieMLMHead(config)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, ErnieMLMHead):
            init.zeros_(module.bias)

    def get_output_embeddings(self) -> nn.Module:
        """Return the decoder."""
        return cast(nn.Module, self.lm_head.decoder)

    def set_output_embeddings(self, new_embeddings: nn.Linear) -> None:
        """Replace the decoder, and the bias tied to it."""
        self.lm_head.decoder = new_embeddings
        self.lm_head.bias = new_embeddings.bias

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        predicted_positions: Tensor | None = None,
        **kwargs: Any,
    ) -> MaskedLMOutput:
        """Return logits `(batch, length, vocab)`, and the cross entropy with `labels` `(batch, length)`.

        Labels of -100 do not count. With `predicted_positions` `(count,)`, the places of the masked tokens in the
        flattened batch (`row * length + column`), logits are computed there alone, as `(count, vocab)`: with a seventh
        of the tokens masked, a seventh of the work and memory of the largest layer. Other arguments are those of
        `ErnieMModel.forward`.
        """
        outputs = self.ernie_m(input_ids, attention_mask, position_ids, inputs_embeds, return_dict=True, **kwargs)
        hidden_states = outputs.last_hidden_state
        if predicted_positions is not None:
            hidden_states = hidden_states.flatten(0, 1)[predicted_positions]
            labels = None if labels is None else labels.flatten()[predicted_positions]
        logits = self.lm_head(hidden_states)
        loss = None
        if labels is not None:
            loss = nn.functional.cross_entropy(logits.view(-1, logits.shape[-1]), labels.view(-1))
        return MaskedLMOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )
