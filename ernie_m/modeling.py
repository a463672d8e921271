"""ERNIE-M's encoder for transformers 5: that of XLM-R without token types.

State-dict names are those of transformers 4.57, so that published checkpoints load as they are.
"""

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.attention.flex_attention import BlockMask
from transformers import PreTrainedModel
from transformers.activations import ACT2FN
from transformers.masking_utils import create_bidirectional_mask
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from .configuration import POSITION_OFFSET, ErnieMConfig
from .dropout import Dropout
from .dropout import dropout as apply_dropout
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
        self.dropout = Dropout(config.hidden_dropout_prob)

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
    scores = torch.matmul(query * scaling, key.transpose(2, 3))
    if attention_mask is not None:
        if attention_mask.dtype == torch.bool:
            scores = scores.masked_fill(~attention_mask, torch.finfo(scores.dtype).min)
        else:
            scores = scores + attention_mask
    probabilities = nn.functional.softmax(scores, dim=-1)
    probabilities = apply_dropout(probabilities, dropout, module.training)
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
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | BlockMask | None,
        query_length: int | None = None,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor | None]:
        """Attend over `(batch, length, hidden)`, from the first `query_length` tokens or from all.

        The probabilities are None unless the implementation is eager.
        """
        asking = hidden_states[:, :query_length]
        query, key, value = (
            projection(states).view(*states.shape[:-1], -1, self.head_size).transpose(1, 2)
            for projection, states in (
                (self.q_proj, asking),
                (self.k_proj, hidden_states),
                (self.v_proj, hidden_states),
            )
        )
        rate = self.dropout_rate if self.training else 0.0
        name = self.config._attn_implementation
        # On a CPU, SDPA with dropout materialises the probabilities too, and draws torch's slow Bernoulli numbers.
        is_slow = name == "sdpa" and rate > 0 and query.device.type == "cpu" and not torch.compiler.is_compiling()
        attend: Callable[..., tuple[Tensor, Tensor | None]] = (
            eager_attention_forward if is_slow else ALL_ATTENTION_FUNCTIONS.get_interface(name, eager_attention_forward)
        )
        output, probabilities = attend(
            self, query, key, value, attention_mask, dropout=rate, scaling=self.scaling, **kwargs
        )
        return output.reshape(asking.shape).contiguous(), probabilities


class ErnieMAttention(nn.Module):
    """Self-attention and its output projection; the nesting is that of the published state dicts."""

    def __init__(self, config: ErnieMConfig) -> None:
        super().__init__()
        self.self_attn = ErnieMSelfAttention(config)
        self.out_proj = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, hidden_states: Tensor, attention_mask: Tensor | BlockMask | None, **kwargs: Any) -> Tensor:
        """Map `(batch, length, hidden)` to the same shape, or to `(batch, query_length, hidden)`: the first tokens."""
        output, _ = self.self_attn(hidden_states, attention_mask, **kwargs)
        return cast(Tensor, self.out_proj(output))


class ErnieMEncoderLayer(GradientCheckpointingLayer):
    """One post-norm transformer layer."""

    def __init__(self, config: ErnieMConfig) -> None:
        super().__init__()
        self.self_attn = ErnieMAttention(config)
        self.linear1 = nn.Linear(config.hidden_size, config.intermediate_size)
        self.dropout = Dropout(config.act_dropout)
        self.linear2 = nn.Linear(config.intermediate_size, config.hidden_size)
        self.norm1 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.norm2 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout1 = Dropout(config.hidden_dropout_prob)
        self.dropout2 = Dropout(config.hidden_dropout_prob)
        self.activation = ACT2FN[config.hidden_act]

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | BlockMask | None,
        query_length: int | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """Map `(batch, length, hidden)` to the same shape, or to `(batch, query_length, hidden)`: the first tokens."""
        attended = self.self_attn(hidden_states, attention_mask, query_length=query_length, **kwargs)
        hidden_states = self.norm1(hidden_states[:, :query_length] + self.dropout1(attended))
        expanded = self.dropout(self.activation(self.linear1(hidden_states)))
        return cast(Tensor, self.norm2(hidden_states + self.dropout2(self.linear2(expanded))))


class ErnieMEncoder(nn.Module):
    """The stack of layers."""

    def __init__(self, config: ErnieMConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(ErnieMEncoderLayer(config) for _ in range(config.num_hidden_layers))

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | BlockMask | None,
        query_length: int | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """Map `(batch, length, hidden)` to the same shape, or to `(batch, query_length, hidden)`: the first tokens."""
        for number, layer in enumerate(self.layers, start=1):
            if query_length is None or number < len(self.layers):
                hidden_states = layer(hidden_states, attention_mask, **kwargs)
            else:
                mask = attention_mask[:, :, :query_length] if isinstance(attention_mask, Tensor) else attention_mask
                hidden_states = layer(hidden_states, mask, query_length, **kwargs)
        return hidden_states


class ErnieMPooler(nn.Module):
    """tanh of a dense layer over the first token's vector."""

    def __init__(self, config: ErnieMConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Map `(batch, length, hidden)` to `(batch, hidden)`."""
        return torch.tanh(self.dense(hidden_states[:, 0]))


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

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the word embeddings."""
        self.embeddings.word_embeddings = cast(nn.Embedding, value)

    @merge_with_config_defaults
    @capture_outputs
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | BlockMask | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        first_token_only: bool = False,
        **kwargs: Any,
    ) -> BaseModelOutputWithPooling:
        """Encode a batch.

        Args:
            input_ids: `(batch, length)`; give these or `inputs_embeds`.
            attention_mask: `(batch, length)`, 1 for real tokens; or `(batch, 1 or heads, length, length)`, boolean or
                integer (True attends), or floating point (added to the scores), which eager attention and SDPA take;
                or a `BlockMask`, which FlexAttention takes.
                Where it is None, padding is told by the pad id; with `inputs_embeds` every position attends.
            position_ids: `(batch, length)`, counted from 0; running numbers by default, also over padding.
            inputs_embeds: `(batch, length, hidden)`.
            first_token_only: Whether the first token's vector is all that is needed, as for the pooler: the last layer
                then computes no other, and `last_hidden_state` is `(batch, 1, hidden)`. Its numbers are the same but
                for rounding. With eager attention and SDPA alone, and without effect where hidden states or attentions
                are asked for, or the kernel is given arguments that are about all tokens.
            **kwargs: `output_hidden_states`, `output_attentions`, `return_dict` and arguments of the attention kernel.

        Raises:
            InputError: If there are more tokens than positions, ids outside the vocabulary, or a mask whose rank the
                attention implementation cannot use.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise InputError("give exactly one of input_ids and inputs_embeds")
        self._check_input(input_ids, inputs_embeds)
        if attention_mask is None and input_ids is not None:
            attention_mask = torch.ne(input_ids, cast(int, self.config.pad_token_id))
        embedded = self.embeddings(input_ids, position_ids, inputs_embeds)
        mask = self._attention_mask(attention_mask, embedded)
        query_length = 1 if first_token_only and self._may_ask_from_one(kwargs) else None
        hidden_states = self.encoder(embedded, mask, query_length, **kwargs)
        pooled = self.pooler(hidden_states) if self.pooler is not None else None
        return BaseModelOutputWithPooling(last_hidden_state=hidden_states, pooler_output=pooled)

    def _may_ask_from_one(self, options: dict[str, Any]) -> bool:
        # Hidden states and attentions are wanted whole; the others are given to the kernel for all tokens.
        recorded = ("output_hidden_states", "output_attentions")
        is_whole = any(options.get(name, getattr(self.config, name, False)) for name in (*recorded, "is_causal"))
        is_whole |= options.get("position_bias") is not None
        return self.config._attn_implementation in ("eager", "sdpa") and not is_whole

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

    def _attention_mask(self, attention_mask: Tensor | BlockMask | None, embedded: Tensor) -> Tensor | BlockMask | None:
        if isinstance(attention_mask, BlockMask):
            return attention_mask
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
        # Leaving the mask out where nothing is padding is faster, but to know it a GPU would have to be waited for.
        return create_bidirectional_mask(
            config=self.config,
            inputs_embeds=embedded,
            attention_mask=attention_mask,
            allow_is_bidirectional_skip=embedded.device.type == "cpu",
        )
