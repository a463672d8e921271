"""Configuration of ERNIE-M, with the field names of transformers 4.57 so that published folders load unchanged."""

from typing import Any, ClassVar

from transformers import PreTrainedConfig

from .errors import InputError

# Positions are shifted by 2, as in XLM-R: of 514 position rows 512 can be used.
POSITION_OFFSET = 2


class ErnieMConfig(PreTrainedConfig):
    """Sizes and rates of an ERNIE-M network; the defaults are those of ERNIE-M base.

    Args:
        vocab_size: Rows of the embedding matrix, one per line of `vocab.txt`.
        hidden_size: Width of the network; a multiple of `num_attention_heads`.
        num_hidden_layers: Encoder layers.
        num_attention_heads: Attention heads per layer.
        intermediate_size: Width of the feed-forward layers.
        hidden_act: Activation of the feed-forward layers; "gelu" is the exact (erf) form.
        hidden_dropout_prob: Dropout after the embeddings, attention and feed-forward blocks.
        attention_probs_dropout_prob: Dropout of the attention probabilities.
        act_dropout: Dropout after the feed-forward activation.
        max_position_embeddings: Position rows; inputs may have two tokens fewer.
        initializer_range: Standard deviation of the initial weights.
        pad_token_id: Id of `[PAD]`; 0 is `[CLS]` in this model.
        layer_norm_eps: Epsilon of every LayerNorm.
        classifier_dropout: Dropout before a classification head; `hidden_dropout_prob` where it is None.
        tie_word_embeddings: Whether the masked-language-model decoder shares the embedding matrix.

    Raises:
        InputError: If `hidden_size` is not a multiple of `num_attention_heads`.
    """

    model_type = "ernie_m"
    attribute_map: ClassVar[dict[str, str]] = {"dropout": "classifier_dropout", "num_classes": "num_labels"}

    vocab_size: int = 250002
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float | int = 0.1
    attention_probs_dropout_prob: float | int = 0.1
    act_dropout: float | int = 0.0
    max_position_embeddings: int = 514
    initializer_range: float = 0.02
    pad_token_id: int | None = 1
    layer_norm_eps: float = 1e-5
    classifier_dropout: float | int | None = None
    tie_word_embeddings: bool = True

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        if self.hidden_size % self.num_attention_heads:
            raise InputError(
                f"hidden_size {self.hidden_size} is not a multiple of num_attention_heads {self.num_attention_heads}; "
                "change one of the two in config.json"
            )

    @classmethod
    def base(cls, **overrides: Any) -> "ErnieMConfig":
        """Return the published size "base": 12 layers of width 768, 278,042,880 parameters."""
        return cls(**overrides)

    @classmethod
    def large(cls, **overrides: Any) -> "ErnieMConfig":
        """Return the published size "large": 24 layers of width 1,024, 559,889,408 parameters."""
        sizes = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
        return cls(**(sizes | overrides))
