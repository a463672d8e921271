"""The `ernie-m` command.

`ls`, `cat` and `cp` answer without importing torch; everything else is imported when its command is called. Exit codes:
0 done, 2 the user's mistake (one message, no traceback), 130 interrupted.
"""

import argparse
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from . import __version__
from .lines import plain
from .registry import UnknownNameError, did_you_mean, entries, find

USAGE = """\
usage: ernie-m COMMAND ...

Recipes
  ls [PATTERN]                list recipes and fragments; --markdown: all recipes with their published figures
  cat NAME                    print one
  cp NAME [TARGET]            copy one, to edit it
  estimate NAME [--steps N] ...
                              say what memory and time one needs here, from a few measured steps
  check [NAME ...]            parse recipes with their fragments, test their rules; of those named, read the data

Runs
  fit --config NAME ...       train, test the checkpoint that counts, export it; `fit RUN` continues a run
  validate | test TARGET      score a run folder, a checkpoint or an exported folder
  predict TARGET --input FILE --output FILE
                              predict on a file of texts, words or questions
  report RUN ...              show runs beside the model card's figures, seeds of one experiment together

Checkpoints
  export TARGET FOLDER        write a run's or checkpoint's network as a folder for transformers
  trim SOURCE FOLDER --languages LANGUAGE ... | --text FILE ...
                              keep the vocabulary of some texts alone: a smaller folder, same outputs on such texts
  convert SOURCE FOLDER       turn PaddleNLP's or XLM-R's weights into a folder for transformers

This machine
  doctor                      say what a run finds here: versions, devices, memory, disk, caches, extras

A recipe's values are overridden by a second --config (a fragment or a file) and by options:
  ernie-m fit --config xnli/transfer_large --config trainer/fsdp --model.learning_rate 3.0e-5
A recipe may name classes of your own with --trust-classes MODULE; what a folder says is data (docs/security.md).
`ernie-m fit --help` lists the options of a run, --verbose shows what the libraries say too, `ernie-m --version` prints
the version.
"""


NAME_HELP = "its name as `ernie-m ls` lists it, such as xnli/transfer_large"


def list_entries(arguments: Sequence[str]) -> int:
    """Print the names and descriptions of recipes and fragments (`ernie-m ls`)."""
    parser = argparse.ArgumentParser("ernie-m ls", description="List recipes and fragments with what they are for.")
    parser.add_argument("pattern", nargs="?", default="", help="a part of the names to list; all by default")
    parser.add_argument("--markdown", action="store_true", help="all recipes as a table, with their published figures")
    options = parser.parse_args(arguments)
    if options.markdown:
        from .overview import markdown

        print(markdown(), end="")
        return 0
    found = [entry for entry in entries() if options.pattern in entry.name]
    if not found:
        known = [entry.name for entry in entries()]
        raise UnknownNameError(f"nothing is called like {options.pattern!r}{did_you_mean(options.pattern, known)}")
    width = max(len(entry.name) for entry in found)
    for kind, title in (("recipe", "Recipes"), ("fragment", "Fragments, laid over a recipe with a second --config")):
        of_kind = [entry for entry in found if entry.kind == kind]
        if of_kind:
            print(title)
            for entry in of_kind:
                print(f"  {entry.name:{width}}  {entry.description}")
    return 0


def print_entry(arguments: Sequence[str]) -> int:
    """Print a recipe or fragment (`ernie-m cat`)."""
    parser = argparse.ArgumentParser("ernie-m cat", description="Print a recipe or fragment.")
    parser.add_argument("name", help=NAME_HELP)
    sys.stdout.write(find(parser.parse_args(arguments).name).text)
    return 0


def copy_entry(arguments: Sequence[str]) -> int:
    """Copy a recipe or fragment to a file or folder that one may edit (`ernie-m cp`)."""
    parser = argparse.ArgumentParser("ernie-m cp", description="Copy a recipe or fragment, to edit it.")
    parser.add_argument("name", help=NAME_HELP)
    parser.add_argument("target", nargs="?", type=Path, help="the file to make, or the folder for it; here by default")
    options = parser.parse_args(arguments)
    entry = find(options.name)
    target: Path = options.target or Path(entry.path.name)
    if target.is_dir():
        target = target / entry.path.name
    if target.exists() or target.is_symlink():
        return usage_error(f"cp: {target} exists; name another target or remove it first")
    if not target.parent.is_dir():
        return usage_error(f"cp: there is no folder {target.parent}; make it first")
    # The copy's header has the copy's own command.
    text = entry.path.read_text(encoding="utf-8")
    command = re.compile(rf"^(# Run:.*--config ){re.escape(entry.name)}(?=\s|$)", re.MULTILINE)
    own = command.sub(lambda found: found[1] + shlex.quote(str(target)), text)
    with target.open("x", encoding="utf-8", newline="\n") as file:
        file.write(own)
    stage = "test" if any(line.startswith("Run:") and "ernie-m test" in line for line in entry.header) else "fit"
    how = stage if entry.kind == "recipe" else "fit --config RECIPE"
    print(f"{target}: edit it, then run `ernie-m {how} --config {target}`")
    return 0


def check(arguments: Sequence[str]) -> int:
    """Parse recipes with their fragments, test their rules and read their data (`ernie-m check`)."""
    description = "Parse recipes with their fragments, test their rules and read their data, without training."
    parser = argparse.ArgumentParser("ernie-m check", description=description)
    parser.add_argument("names", nargs="*", metavar="NAME", help="names or files of recipes; all of them by default")
    add_trust(parser)
    options = parser.parse_args(arguments)
    from .check import main as run

    return run(options.names, options.trust_classes)


def estimate(arguments: Sequence[str]) -> int:
    """Say what memory and time a recipe needs on the devices at hand (`ernie-m estimate`)."""
    from .estimate import main as run

    return run(arguments)


def export(arguments: Sequence[str]) -> int:
    """Write a run's network as a folder for transformers (`ernie-m export`)."""
    description = "Write the network of a run or checkpoint as a folder for transformers."
    parser = argparse.ArgumentParser("ernie-m export", description=description)
    parser.add_argument("source", type=Path, help="run folder (its checkpoint that counts), or a checkpoint in one")
    parser.add_argument("target", type=Path, help="the folder to make")
    add_trust(parser)
    parser.add_argument(
        "--trust-env", metavar="NAME", type=listed, default=[], help="variables that its settings may refer to"
    )
    parser.add_argument("--tokenizer", metavar="NAME", help="tokenizer to take along, where the run keeps none itself")
    options = parser.parse_args(arguments)
    from .export import export_target
    from .trust import Values, find_trusted

    find_trusted(options.trust_classes)
    values = partial(Values, trusted=options.trust_classes, variables=options.trust_env)
    target = export_target(options.source, options.target, values, options.tokenizer)
    print(f"exported to {target}")
    return 0


def listed(names: str) -> list[str]:
    """Return the names of an option that takes several, between commas."""
    return [name for name in names.split(",") if name]


def add_trust(parser: argparse.ArgumentParser) -> None:
    """Add the option that names classes of one's own."""
    parser.add_argument(
        "--trust-classes",
        metavar="NAME",
        type=listed,
        default=[],
        help="classes or modules of your own that settings may name, between commas; they are imported",
    )


def convert(arguments: Sequence[str]) -> int:
    """Turn PaddleNLP's or XLM-R's weights into a folder for transformers (`ernie-m convert`)."""
    from ernie_m.conversion import main as run

    return run(arguments, prog="ernie-m convert")


def trim(arguments: Sequence[str]) -> int:
    """Keep the vocabulary of some languages alone (`ernie-m trim`)."""
    from .trim import main as run

    return run(arguments)


def report(arguments: Sequence[str]) -> int:
    """Show runs beside the model card's figures (`ernie-m report`)."""
    from .report import main as run

    return run(arguments)


def doctor(arguments: Sequence[str]) -> int:
    """Say what a run finds here (`ernie-m doctor`)."""
    from .doctor import main as run

    return run(arguments)


def run_stage(stage: str) -> Callable[[Sequence[str]], int]:
    """Return the command that fits, validates, tests or predicts."""

    def command(arguments: Sequence[str]) -> int:
        from .stage_run import main as run

        return run(stage, arguments)

    return command


COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {
    "ls": list_entries,
    "cat": print_entry,
    "cp": copy_entry,
    "check": check,
    "estimate": estimate,
    "fit": run_stage("fit"),
    "validate": run_stage("validate"),
    "test": run_stage("test"),
    "predict": run_stage("predict"),
    "report": report,
    "export": export,
    "trim": trim,
    "convert": convert,
    "doctor": doctor,
}


def let_threads_sleep() -> None:
    """Make threads that wait sleep soon, so that other processes on the same processors get on (docs/speed.md).

    OpenMP reads it when torch is imported. Whoever has set how threads wait keeps that.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "3000")


def usage_error(message: str) -> int:
    """Print a message to stderr and return the exit code of a user's mistake."""
    # It quotes files, and a terminal obeys what some characters say.
    print(f"ernie-m: {plain(message)}", file=sys.stderr)
    return 2


@contextmanager
def apart_from_the_current_folder() -> Iterator[None]:
    """Let no process that is started, by whatever library, search the current folder for modules.

    Python's `-c` and `-m` search it, by which multiprocessing, DDP and torch's compiler start theirs; `-P` is not
    handed on to all of them, the variable is.
    """
    before = os.environ.get("PYTHONSAFEPATH")
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONSAFEPATH"]
        else:
            os.environ["PYTHONSAFEPATH"] = before


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code.

    Args:
        argv: The arguments without the program's name; those of the process by default.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(USAGE, end="")
        return 0 if arguments else 2
    if arguments[0] in ("--version", "-V"):
        print(f"ernie-m-recipes {__version__}")
        return 0
    name, rest = arguments[0], arguments[1:]
    if name not in COMMANDS:
        return usage_error(f"there is no command {name!r}{did_you_mean(name, COMMANDS)}. `ernie-m --help` lists them")
    let_threads_sleep()
    # Read where it is needed, after torch is imported.
    os.environ["ERNIE_M_VERBOSE"] = str(int("--verbose" in rest))
    rest = [word for word in rest if word != "--verbose"]
    if any("\0" in word for word in rest):
        return usage_error("a name on the command line holds a NUL byte, which no file's name can")
    try:
        with apart_from_the_current_folder():
            return COMMANDS[name](rest)
    except KeyboardInterrupt:
        return 130
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else 2
    except UnknownNameError as error:
        return usage_error(str(error))
    except BrokenPipeError:
        # The reader (`head`, say) has closed the pipe; Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        from .messages import explain

        message = explain(error)
        if message is None:
            raise
        return usage_error(message)


if __name__ == "__main__":
    sys.exit(main())
