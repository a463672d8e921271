"""Configuration of ERNIE-M, with the field names of transformers 4.57 so that published folders load unchanged."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

from transformers import PreTrainedConfig

from .errors import InputError

# Positions are shifted by 2, as in XLM-R: of 514 position rows 512 can be used.
POSITION_OFFSET = 2


_SIZES = (
    "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size",
    "max_position_embeddings",
)  # fmt: skip
_OPTIONAL = ("classifier_dropout",)
_RATES = (
    "hidden_dropout_prob", "attention_probs_dropout_prob", "act_dropout", "initializer_range", "layer_norm_eps",
    *_OPTIONAL,
)  # fmt: skip
# What a configuration may ask for of parts that are made one by one, by words in the names of its fields.
_MOST = {"layers": 1000, "labels": 100_000, "classes": 100_000, "position": 1_000_000}
# What names another network, which transformers asks the Hub for while a configuration is made, other weights, and
# files that are read in place of config.json.
_LEADING_ELSEWHERE = ("backbone", "transformers_weights", "configuration_files")

# What belongs to the class of configurations, its methods among it, and is no field: transformers would set it as one.
_FIELDS = (
    "model_type", "name_or_path", "num_labels", "output_attentions", "torch_dtype", "use_return_dict", "rope_scaling",
    "default_theta", "_attn_implementation", *(field.name for field in dataclasses.fields(PreTrainedConfig)),
)  # fmt: skip
_NO_FIELDS = frozenset(dir(PreTrainedConfig)) - frozenset(_FIELDS)


FAMILIES = (
    "albert", "bert", "camembert", "deberta", "deberta-v2", "distilbert", "electra", "ernie_m", "eurobert",
    "modernbert", "mpnet", "rembert", "roberta", "xlm", "xlm-roberta", "xlm-roberta-xl",
)  # fmt: skip
"""Encoders of texts whose configurations are known to end: transformers has many others, with loops of their own."""

_LARGEST = 10**9


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def check_fields(fields: Mapping[str, Any], place: str) -> None:
    """Refuses fields of a configuration, of whatever family, by which building its network would not end.

    Args:
        fields: The fields, of parts too.
        place: Where they stand, for the message.

    Raises:
        InputError: A field asks for more layers, labels or positions than any encoder has, for files elsewhere, or for
            weights of few bits.
    """
    for name, value in fields.items():
        if isinstance(value, Mapping) and not name.endswith(("2label", "2id")):
            check_fields(value, place)
        if name in _LEADING_ELSEWHERE and value and not isinstance(value, Mapping):
            raise InputError(f"{place}: {name} is {str(value)[:40]!r}, by which other files would be read; remove it")
        if name in _NO_FIELDS or name.startswith("__"):
            raise InputError(
                f"{place}: {name[:40]!r} is no field of a configuration, but a part of the class; remove it"
            )
        if name == "quantization_config" and value:
            raise InputError(
                f"{place} has a quantization_config; weights of few bits are not fine-tuned, and reading them imports"
                " other packages. Name the checkpoint that they were made from"
            )
        if any(_is_number(one) and abs(one) > _LARGEST for one in (value if isinstance(value, list) else [value])):
            raise InputError(f"{place}: {name} is {str(value)[:40]}; {_LARGEST:,} is the most of any number")
        for word, most in _MOST.items():
            if word in name and _is_number(value) and value > most:
                raise InputError(f"{place}: {name} is {str(value)[:40]}; {most:,} are the most that can be built")


def check_family(family: Any, place: str) -> None:
    """Refuses networks of a family that is not known to end when it is built, or to read no files of its own.

    Args:
        family: What a configuration has for `model_type`.
        place: Where it stands, for the message.

    Raises:
        InputError: It is none of `FAMILIES`.
    """
    if family not in FAMILIES:
        raise InputError(
            f"{place}: the family {str(family)[:40]!r} is none of {', '.join(FAMILIES)}. Where you trust it, set"
            " trust_remote_code to true"
        )


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
        InputError: If `hidden_size` is not a multiple of `num_attention_heads`, a size is below 1, or a rate is none.
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
        # Before labels are given names, one by one.
        check_fields(kwargs, "config.json")
        super().__post_init__(**kwargs)
        for name in _SIZES:
            if type(size := getattr(self, name)) is not int or size < 1:
                raise InputError(f"{name} is {size!r}; config.json needs a number from 1 there")
        for name in _RATES:
            rate = getattr(self, name)
            if (rate is not None or name not in _OPTIONAL) and not (_is_number(rate) and 0 <= rate <= 1):
                raise InputError(f"{name} is {rate!r}; config.json needs a number from 0 to 1 there")
        check_fields(vars(self), "config.json")
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
