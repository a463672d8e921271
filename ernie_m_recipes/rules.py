"""Rules between the values of a recipe, which no type can express."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from .class_paths import class_at

LONGEST = 512
PRECISIONS = ("32-true", "32", "bf16-mixed", "16-mixed", "bf16-true", "16-true", "64-true")
Settings = Mapping[str, Any]
Rule = Callable[[Settings], Iterator[str]]
"""Takes a run's settings and yields what is wrong with them."""


def arguments(settings: Settings, part: str) -> Mapping[str, Any]:
    """Return the arguments of the model's, data's or a strategy's class; none where no class is named."""
    content = settings.get(part)
    found = content.get("init_args") if isinstance(content, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def scores_of(settings: Settings) -> Sequence[str]:
    """Return the names of the scores that the model's class gives; none where it is a class that does not say."""
    return tuple(getattr(class_at(settings["model"]["class_path"]), "score_names", ()))


def trains(settings: Settings) -> bool:
    """Say whether a recipe names training data; one that does not is there to be tested alone."""
    data = arguments(settings, "data")
    if "train_languages" in data:
        return bool(data["train_languages"])
    named = [data[key] for key in ("train_files", "train_pairs") if key in data]
    return not named or any(named)


def training_data(settings: Settings) -> Iterator[str]:
    """There is something to train on."""
    if not trains(settings):
        yield "this recipe has no training data: it scores a network as it is, with `ernie-m test` in place of `fit`"


def one_seed(settings: Settings) -> Iterator[str]:
    """The order of the data follows the run's seed."""
    seed = arguments(settings, "data").get("seed", settings["seed_everything"])
    if seed != settings["seed_everything"]:
        yield f"data.seed is {seed} and seed_everything {settings['seed_everything']}; write seed: ${{seed_everything}}"


def one_backbone(settings: Settings) -> Iterator[str]:
    """The data are tokenised as the backbone expects."""
    tokenizer = arguments(settings, "data").get("tokenizer")
    backbone = arguments(settings, "model").get("backbone")
    if tokenizer != backbone and None not in (tokenizer, backbone):
        yield (
            f"data.tokenizer is {tokenizer!r} and model.backbone {backbone!r}; write "
            "tokenizer: ${model.init_args.backbone}"
        )


def one_kind_of_questions(settings: Settings) -> Iterator[str]:
    """Questions without an answer are predicted as such where they are trained on, and only there."""
    data = arguments(settings, "data").get("version_2_with_negative")
    model = arguments(settings, "model").get("version_2_with_negative")
    if data != model and None not in (data, model):
        yield (
            f"data.version_2_with_negative is {data} and model.version_2_with_negative {model}; write "
            "version_2_with_negative: ${model.init_args.version_2_with_negative}"
        )


def sizes(settings: Settings) -> Iterator[str]:
    """Lengths and batches are possible."""
    data = arguments(settings, "data")
    if (length := data.get("max_length")) is not None and not 2 < length <= LONGEST:
        yield f"data.max_length is {length}; ERNIE-M reads 3 to {LONGEST} tokens"
    batch, micro = data.get("global_batch_size"), data.get("micro_batch_size")
    if batch is not None and micro is not None and micro > batch:
        yield f"data.micro_batch_size is {micro}, more than global_batch_size {batch}"
    if settings["trainer"]["accumulate_grad_batches"] != 1:
        count = settings["trainer"]["accumulate_grad_batches"]
        yield f"trainer.accumulate_grad_batches is {count}; leave it at 1: data.micro_batch_size splits a step exactly"


def optimisation(settings: Settings) -> Iterator[str]:
    """Rates and shares are in their ranges, and the training ends."""
    model, trainer = arguments(settings, "model"), settings["trainer"]
    if (rate := model.get("learning_rate")) is not None and not rate > 0:
        yield f"model.learning_rate is {rate}; it must be above 0"
    if (decay := model.get("layer_decay")) is not None and not 0 < decay <= 1:
        yield f"model.layer_decay is {decay}; it must be above 0 and at most 1"
    if (warmup := model.get("warmup_ratio")) is not None and not 0 <= warmup < 1:
        yield f"model.warmup_ratio is {warmup}; it must be at least 0 and below 1"
    if trains(settings) and trainer["max_epochs"] in (None, -1) and trainer["max_steps"] == -1:
        yield "the schedule has no end; set trainer.max_epochs or trainer.max_steps"
    if (precision := str(trainer["precision"])) not in PRECISIONS:
        yield f"trainer.precision is {precision}; known are {', '.join(PRECISIONS)}"


def length(settings: Settings) -> Iterator[str]:
    """Something is trained, and kept."""
    trainer = settings["trainer"]
    for key in ("max_epochs", "max_steps", "limit_train_batches"):
        if trains(settings) and trainer[key] == 0:
            yield f"trainer.{key} is 0, which trains nothing; to score a network as it is there is `ernie-m test`"
    if trainer["barebones"]:
        yield "trainer.barebones is true, which keeps no checkpoint and no scores; set it to false"


def known_names(settings: Settings) -> Iterator[str]:
    """Devices and strategies that are called by a name have one that Lightning knows."""
    from lightning.pytorch.accelerators import AcceleratorRegistry
    from lightning.pytorch.strategies import StrategyRegistry

    known = {
        "accelerator": ["auto", "gpu", *AcceleratorRegistry.available_accelerators()],
        "strategy": ["auto", *StrategyRegistry.available_strategies()],
    }
    for key, names in known.items():
        name = settings["trainer"][key]
        if isinstance(name, str) and name not in names:
            yield f"trainer.{key} is {name!r}; known are {', '.join(names)}"


def validation(settings: Settings) -> Iterator[str]:
    """What chooses the checkpoint, or stops early, is a score that the validation gives."""
    if not trains(settings):
        return
    data, trainer = arguments(settings, "data"), settings["trainer"]
    languages = list(data.get("validation_languages") or data.get("validation_files") or [])
    named = [data[key] for key in ("validation_languages", "validation_files", "validation_pairs") if key in data]
    has_none = bool(named) and not any(named) and not (data.get("held_out") or data.get("validation_share"))
    callbacks = trainer["callbacks"] if isinstance(trainer["callbacks"], list) else [trainer["callbacks"]]
    monitors = {"checkpoint.monitor": settings["checkpoint"]["monitor"]}
    for callback in callbacks:
        if isinstance(callback, Mapping) and "monitor" in (callback.get("init_args") or {}):
            monitors[f"monitor of {callback['class_path']}"] = callback["init_args"]["monitor"]
    for key, monitor in monitors.items():
        parts = str(monitor).split("/")
        if monitor is None:
            if key != "checkpoint.monitor":
                yield f"{key} is null; name a score such as val/accuracy"
        elif has_none:
            yield f"{key} is {monitor!r}, but there are no validation data; name some, or set it to null"
        elif parts[0] != "val" or len(parts) not in (2, 3):
            yield f"{key} is {monitor!r}; scores are called val/accuracy or val/en/accuracy"
        elif (known := scores_of(settings)) and parts[-1] not in known and not parts[-1].startswith("layer_"):
            yield f"{key} is {monitor!r}; this task's scores are {', '.join('/'.join([*parts[:-1], x]) for x in known)}"
        elif len(parts) == 3 and languages and parts[1] not in languages:
            yield f"{key} is {monitor!r}, but validation is on {', '.join(languages)}"
    if isinstance(trainer["val_check_interval"], int) and (trainer["check_val_every_n_epoch"] or 1) > 1:
        yield (
            f"trainer.val_check_interval is {trainer['val_check_interval']} steps and check_val_every_n_epoch "
            f"{trainer['check_val_every_n_epoch']}; give one of them"
        )


def something_kept(settings: Settings) -> Iterator[str]:
    """A run leaves a network."""
    run = settings["run"]
    if trains(settings) and not run["keep_checkpoints"] and not run["export"]:
        yield "run.keep_checkpoints and run.export are false: nothing would be left of the training; set one to true"


def strategy(settings: Settings) -> Iterator[str]:
    """The strategy suits networks whose parameters are all in use, and files that the rest of the command reads."""
    trainer = settings["trainer"]
    if trainer["use_distributed_sampler"]:
        yield "trainer.use_distributed_sampler must stay false: the data modules plan batches per process themselves"
    chosen = arguments(trainer, "strategy")
    if chosen.get("find_unused_parameters"):
        yield "trainer.strategy.find_unused_parameters is true; every parameter is in use, so it only costs time"
    if chosen.get("static_graph"):
        yield "trainer.strategy.static_graph is true; a step may have several micro-batches, which it does not admit"
    if "tensor_parallel_size" in chosen and arguments(settings, "model").get("active_vocabulary"):
        yield "model.active_vocabulary is true; ModelParallelStrategy shards all embedding rows, set it to false"


def one_file(settings: Settings) -> Iterator[str]:
    """A checkpoint is one file: the index of a sharded one is a pickle, which nothing here reads."""
    if arguments(settings["trainer"], "strategy").get("save_distributed_checkpoint"):
        yield (
            "trainer.strategy.save_distributed_checkpoint is true; the run could be neither continued nor exported. Set"
            " it to false"
        )


NECESSARY: tuple[Rule, ...] = (
    one_kind_of_questions, sizes, optimisation, length, known_names, validation, something_kept, one_file,
)  # fmt: skip
"""What every run must keep; it would fail or mislead otherwise, often late."""

TO_TRAIN: tuple[Rule, ...] = (training_data, *NECESSARY)
"""What `fit` asks of a recipe."""

CUSTOMARY: tuple[Rule, ...] = (one_seed, one_backbone, strategy)
"""What recipes keep; a run may deviate on purpose."""
