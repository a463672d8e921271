"""ERNIE-M for transformers 5: the encoder of XLM-R without token types, and its heads.

State-dict names are those of transformers 4.57, so that published checkpoints load as they are. What each head computes
follows that release too; deliberate differences are said where they are made.
"""

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.activations import ACT2FN
from transformers.masking_utils import create_bidirectional_mask
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import (
    BaseModelOutputWithPooling,
    MaskedLMOutput,
    MultipleChoiceModelOutput,
    QuestionAnsweringModelOutput,
    SequenceClassifierOutput,
    TokenClassifierOutput,
)
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.utils.generic import can_return_tuple, merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from .configuration import POSITION_OFFSET, ErnieMConfig
from .errors import InputError


class ErnieMEmbeddings(nn.Module):
    """Word plus position embeddings, normalised; there are no token types."""

    def __init__(self, config: ErnieMConfig) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size, padding_idx=config.pad_token_id)
        self.position_embeddings = nn.Embedding(
            config.max_position_embeddings, config.hidden_size, padding_idx=config.pad_token_id
        )
        self.layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, input_ids: Tensor | None, position_ids: Tensor | None, inputs_embeds: Tensor | None) -> Tensor:
        """Embed tokens, `(batch, length)` ids or `(batch, length, hidden)` vectors, as `(batch, length, hidden)`."""
        if inputs_embeds is None:
            inputs_embeds = self.word_embeddings(input_ids)
        length = inputs_embeds.shape[1]
        if position_ids is None:
            position_ids = torch.arange(length, device=inputs_embeds.device).unsqueeze(0)
        # Out of place: 4.57 added the offset to the caller's tensor.
        positions = self.position_embeddings(position_ids + POSITION_OFFSET)
        return cast(Tensor, self.dropout(self.layer_norm(inputs_embeds + positions)))


def eager_attention_forward(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[Tensor, Tensor]:
    """Attention with materialised probabilities.

    Args:
        module: The attention module; its `training` flag switches dropout.
        query: `(batch, heads, length, head_size)`, as `key` and `value`.
        key: See `query`.
        value: See `query`.
        attention_mask: Additive or boolean (True attends), broadcastable to `(batch, heads, length, length)`.
        scaling: Factor of the scores.
        dropout: Rate for the probabilities.
        **kwargs: Arguments of other attention implementations, unused here.

    Returns:
        The output `(batch, length, heads, head_size)` and the probabilities `(batch, heads, length, length)`.
    """
    scores = torch.matmul(query, key.transpose(2, 3)) * scaling
    if attention_mask is not None:
        if attention_mask.dtype == torch.bool:
            scores = scores.masked_fill(~attention_mask, torch.finfo(scores.dtype).min)
        else:
            scores = scores + attention_mask
    probabilities = nn.functional.softmax(scores, dim=-1)
    probabilities = nn.functional.dropout(probabilities, p=dropout, training=module.training)
    return torch.matmul(probabilities, value).transpose(1, 2).contiguous(), probabilities


class ErnieMSelfAttention(nn.Module):
    """The query, key and value projections, and attention through transformers' interface."""

    is_causal = False

    def __init__(self, config: ErnieMConfig) -> None:
        super().__init__()
        self.config = config
        self.head_size = config.hidden_size // config.num_attention_heads
        self.scaling = self.head_size**-0.5
        self.dropout_rate = config.attention_probs_dropout_prob
        self.q_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.k_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.v_proj = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(
        self, hidden_states: Tensor, attention_mask: Tensor | None, **kwargs: Any
    ) -> tuple[Tensor, Tensor | None]:
        """Attend over `(batch, length, hidden)`; the probabilities are None unless the implementation is eager."""
        shape = (*hidden_states.shape[:-1], -1, self.head_size)
        query = self.q_proj(hidden_states).view(shape).transpose(1, 2)
        key = self.k_proj(hidden_states).view(shape).transpose(1, 2)
        value = self.v_proj(hidden_states).view(shape).transpose(1, 2)
        attend: Callable[..., tuple[Tensor, Tensor | None]] = ALL_ATTENTION_FUNCTIONS.get_interface(
            self.config._attn_implementation, eager_attention_forward
        )
        output, probabilities = attend(
            self,
            query,
            key,
            value,
            attention_mask,
            dropout=self.dropout_rate if self.training else 0.0,
            scaling=self.scaling,
            **kwargs,
        )
        return output.reshape(hidden_states.shape).contiguous(), probabilities


class ErnieMAttention(nn.Module):
    """Self-attention and its output projection; the nesting is that of the published state dicts."""

    def __init__(self, config: ErnieMConfig) -> None:
        super().__init__()
        self.self_attn = ErnieMSelfAttention(config)
        self.out_proj = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, hidden_states: Tensor, attention_mask: Tensor | None, **kwargs: Any) -> Tensor:
        """Map `(batch, length, hidden)` to the same shape."""
        output, _ = self.self_attn(hidden_states, attention_mask, **kwargs)
        return cast(Tensor, self.out_proj(output))


class ErnieMEncoderLayer(GradientCheckpointingLayer):
    """One post-norm transformer layer."""

    def __init__(self, config: ErnieMConfig) -> None:
        super().__init__()
        self.self_attn = ErnieMAttention(config)
        self.linear1 = nn.Linear(config.hidden_size, config.intermediate_size)
        self.dropout = nn.Dropout(config.act_dropout)
        self.linear2 = nn.Linear(config.intermediate_size, config.hidden_size)
        self.norm1 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.norm2 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout1 = nn.Dropout(config.hidden_dropout_prob)
        self.dropout2 = nn.Dropout(config.hidden_dropout_prob)
        self.activation = ACT2FN[config.hidden_act]

    def forward(self, hidden_states: Tensor, attention_mask: Tensor | None, **kwargs: Any) -> Tensor:
        """Map `(batch, length, hidden)` to the same shape."""
        attended = self.self_attn(hidden_states, attention_mask, **kwargs)
        hidden_states = self.norm1(hidden_states + self.dropout1(attended))
        expanded = self.dropout(self.activation(self.linear1(hidden_states)))
        return cast(Tensor, self.norm2(hidden_states + self.dropout2(self.linear2(expanded))))


class ErnieMEncoder(nn.Module):
    """The stack of layers."""

    def __init__(self, config: ErnieMConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(ErnieMEncoderLayer(config) for _ in range(config.num_hidden_layers))

    def forward(self, hidden_states: Tensor, attention_mask: Tensor | None, **kwargs: Any) -> Tensor:
        """Map `(batch, length, hidden)` to the same shape."""
        for layer in self.layers:
            hidden_states = layer(hidden_states, attention_mask, **kwargs)
        return hidden_states


class ErnieMPooler(nn.Module):
    """tanh of a dense layer over the first token's vector."""

    def __init__(self, config: ErnieMConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Map `(batch, length, hidden)` to `(batch, hidden)`."""
        return torch.tanh(self.dense(hidden_states[:, 0]))


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


class ErnieMPreTrainedModel(PreTrainedModel):
    """Loading, saving and initialisation common to all heads."""

    config_class = ErnieMConfig
    config: ErnieMConfig
    base_model_prefix = "ernie_m"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _no_split_modules = ["ErnieMEmbeddings", "ErnieMEncoderLayer"]  # noqa: RUF012 (transformers reads a plain list)
    _can_record_outputs = {"hidden_states": ErnieMEncoderLayer, "attentions": ErnieMSelfAttention}  # noqa: RUF012

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, ErnieMLMHead):
            init.zeros_(module.bias)


class ErnieMModel(ErnieMPreTrainedModel):
    """The encoder, with the pooler over `[CLS]` unless `add_pooling_layer` is False."""

    def __init__(self, config: ErnieMConfig, add_pooling_layer: bool = True) -> None:
        super().__init__(config)
        self.embeddings = ErnieMEmbeddings(config)
        self.encoder = ErnieMEncoder(config)
        self.pooler = ErnieMPooler(config) if add_pooling_layer else None
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """Return the word embeddings."""
        return self.embeddings.word_embeddings

    def set_input_embeddings(self, value: nn.Embedding) -> None:
        """Replace the word embeddings."""
        self.embeddings.word_embeddings = value

    @merge_with_config_defaults
    @capture_outputs
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPooling:
        """Encode a batch.

        Args:
            input_ids: `(batch, length)`; give these or `inputs_embeds`.
            attention_mask: `(batch, length)`, 1 for real tokens; or `(batch, 1 or heads, length, length)`, boolean or
                integer (True attends), or floating point (added to the scores), which eager attention and SDPA take.
                Where it is None, padding is told by the pad id; with `inputs_embeds` every position attends.
            position_ids: `(batch, length)`, counted from 0; running numbers by default, also over padding.
            inputs_embeds: `(batch, length, hidden)`.
            **kwargs: `output_hidden_states`, `output_attentions`, `return_dict` and arguments of the attention kernel.

        Raises:
            InputError: If there are more tokens than positions, ids outside the vocabulary, or a mask whose rank the
                attention implementation cannot use.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise InputError("give exactly one of input_ids and inputs_embeds")
        self._check_input(input_ids, inputs_embeds)
        if attention_mask is None and input_ids is not None:
            attention_mask = input_ids != self.config.pad_token_id
        embedded = self.embeddings(input_ids, position_ids, inputs_embeds)
        mask = self._attention_mask(attention_mask, embedded)
        hidden_states = self.encoder(embedded, mask, **kwargs)
        pooled = self.pooler(hidden_states) if self.pooler is not None else None
        return BaseModelOutputWithPooling(last_hidden_state=hidden_states, pooler_output=pooled)

    def _check_input(self, input_ids: Tensor | None, inputs_embeds: Tensor | None) -> None:
        tokens = cast(Tensor, input_ids if input_ids is not None else inputs_embeds)
        longest = self.config.max_position_embeddings - POSITION_OFFSET
        if tokens.shape[1] > longest:
            raise InputError(
                f"the input has {tokens.shape[1]} tokens, this model takes {longest} at most; "
                f"tokenise with truncation=True, max_length={longest}, or split the text"
            )
        # Elsewhere than on the CPU the look would wait for the device, and inside a compiled graph it would break it.
        if input_ids is None or input_ids.device.type != "cpu" or torch.compiler.is_compiling():
            return
        rows = self.embeddings.word_embeddings.num_embeddings
        if input_ids.numel() and (int(input_ids.min()) < 0 or int(input_ids.max()) >= rows):
            worst = int(input_ids.max()) if int(input_ids.max()) >= rows else int(input_ids.min())
            raise InputError(
                f"input_ids holds {worst}, outside the vocabulary of {rows}; "
                "the tokenizer and the weights do not belong together, load both from the same folder"
            )

    def _attention_mask(self, attention_mask: Tensor | None, embedded: Tensor) -> Tensor | None:
        if attention_mask is not None and attention_mask.ndim not in (2, 4):
            raise InputError(
                f"attention_mask has shape {tuple(attention_mask.shape)}; "
                "give (batch, length) or (batch, 1, length, length)"
            )
        if attention_mask is not None and attention_mask.ndim == 4:
            if self.config._attn_implementation not in ("eager", "sdpa"):
                raise InputError(
                    f"{self.config._attn_implementation} takes no 4-D attention_mask; "
                    'load the model with attn_implementation="sdpa"'
                )
            if attention_mask.is_floating_point():
                return attention_mask.to(embedded.dtype)
            return attention_mask.bool()
        mask: Tensor | None = create_bidirectional_mask(
            config=self.config, inputs_embeds=embedded, attention_mask=attention_mask
        )
        return mask


def _classifier_dropout(config: ErnieMConfig) -> nn.Dropout:
    rate = config.classifier_dropout if config.classifier_dropout is not None else config.hidden_dropout_prob
    return nn.Dropout(rate)


class ErnieMForSequenceClassification(ErnieMPreTrainedModel):
    """A label, several labels or a number for each text or pair, from the pooled vector."""

    def __init__(self, config: ErnieMConfig) -> None:
        super().__init__(config)
        self.num_labels = config.num_labels
        self.ernie_m = ErnieMModel(config)
        self.dropout = _classifier_dropout(config)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
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
        `ErnieMModel.forward`.
        """
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

        Inputs are those of `ErnieMModel.forward` with an axis of choices after the batch.
        """
        given = input_ids if input_ids is not None else inputs_embeds
        if given is None:
            raise InputError("give exactly one of input_ids and inputs_embeds")
        choices = given.shape[1]
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
        self.num_labels = config.num_labels
        self.ernie_m = ErnieMModel(config, add_pooling_layer=False)
        self.dropout = _classifier_dropout(config)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
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
        self.qa_outputs = nn.Linear(config.hidden_size, config.num_labels)
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

    def get_output_embeddings(self) -> nn.Module:
        """Return the decoder."""
        return self.lm_head.decoder

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
        **kwargs: Any,
    ) -> MaskedLMOutput:
        """Return logits `(batch, length, vocab)`, and the cross entropy with `labels` `(batch, length)`.

        Labels of -100 do not count. Other arguments are those of `ErnieMModel.forward`.
        """
        outputs = self.ernie_m(input_ids, attention_mask, position_ids, inputs_embeds, return_dict=True, **kwargs)
        logits = self.lm_head(outputs.last_hidden_state)
        loss = None
        if labels is not None:
            loss = nn.functional.cross_entropy(logits.view(-1, logits.shape[-1]), labels.view(-1))
        return MaskedLMOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )
