"""What sentence-transformers reads beside a network: how its states become a sentence's vector."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .documents import write_json

_MODULES = ("Transformer", "Pooling", "Normalize")


def write_sentence_files(folder: Path, config: Mapping[str, Any], width: int) -> None:
    """Make a folder one that `SentenceTransformer(folder)` loads, with the vectors that the run was scored by.

    Nothing is written for other tasks, nor where the vectors are of another layer than the last, which
    sentence-transformers cannot be told.

    Args:
        folder: An exported folder.
        config: The run's settings.
        width: The numbers of a vector.
    """
    model, data = config["model"], config["data"].get("init_args", {})
    arguments = model.get("init_args", {})
    if model["class_path"].rpartition(".")[2] != "SentenceRetrieval" or arguments.get("layer") is not None:
        return
    places = {name: f"{number}_{name}" if number else "" for number, name in enumerate(_MODULES)}
    modules = [
        {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{name}"}
        for number, (name, path) in enumerate(places.items())
    ]
    write_json(folder / "modules.json", modules)
    uses_first = arguments.get("pooling") == "cls"
    pooling = {
        "word_embedding_dimension": width,
        "pooling_mode_cls_token": uses_first,
        "pooling_mode_mean_tokens": not uses_first,
        "include_prompt": True,
    }
    for name, content in {"Pooling": pooling, "Normalize": {}}.items():
        (folder / places[name]).mkdir()
        write_json(folder / places[name] / "config.json", content)
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": data.get("max_length"), "do_lower_case": False})
    prefix = data.get("prefix") or ""
    prompts = {"prompts": {"text": prefix}, "default_prompt_name": "text"} if prefix else {}
    write_json(folder / "config_sentence_transformers.json", {**prompts, "similarity_fn_name": "cosine"})
