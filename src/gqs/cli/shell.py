"""What the verbs share: options, configuration, progress bars, answers and refusals."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import typer

from gqs import __version__
from gqs.errors import GqsError, UsageError
from gqs.executors.processes import duration
from gqs.files import below

app = typer.Typer(
    name="gqs",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Tells galaxies, quasars and stars apart in survey images. In the order of the work:",
    epilog="Each option can also come from a variable GQS_VERB_OPTION or from a TOML file "
    "(--config); the option wins, then the variable, then the file.  "
    "Exit codes: 0 done, 2 usage, 3 done with items set aside, 4 network, 5 disk or memory, "
    "6 model refused, 7 integrity or leakage, 130 and 143 stopped by a signal.",
)

LINE_EVERY_S = 30.0
FITS_ENDINGS = (".fits", ".fits.bz2", ".fits.gz", ".fit")

Seed = Annotated[int, typer.Option(help="Seed of everything random: same seed, same result.")]
Processes = Annotated[
    int | None, typer.Option("--workers", min=1, help="Child processes; default: one a core.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON, for machines.")]
Bands = Annotated[str, typer.Option(help="Bands as one word, r among them, as in gri or ugriz.")]
Form = Annotated[
    Literal["flux", "paper"],
    typer.Option(help="Nanomaggies in each band, or the paper's 8-bit picture of i, r, g."),
]
Edge = Annotated[
    Literal["pad", "paper"],
    typer.Option(help="At a frame's edge: pad and mask, or the paper's shortened box resized."),
]
Store = Annotated[Path, typer.Argument(help="Folder of cutouts, as `gqs cutouts` writes it.")]
SplitFile = Annotated[
    Path | None, typer.Option("--split", help="Saved split.  \\[default: split.parquet in STORE]")
]


def run() -> None:
    """Run the command line: one sentence for a refusal, and the exit code that goes with it."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stopped)
    try:
        app()
    except GqsError as error:
        _refuse(str(error), error.exit_code)
    except OSError as error:
        _refuse(f"{error.filename or 'A file'}: {error.strerror or error}.", 5)
    except MemoryError:
        _refuse("Out of memory. Use fewer --workers or a smaller --batch.", 5)


def _stopped(number: int, frame: object) -> NoReturn:
    signal.signal(number, signal.SIG_IGN)  # once is enough: what follows only tidies up
    _refuse("Stopped. The same command goes on from here.", 128 + number)


def _refuse(sentence: str, code: int) -> NoReturn:
    print(f"gqs: {sentence}", file=sys.stderr)
    sys.exit(code)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"gqs {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    config: Annotated[
        Path | None, typer.Option(help="TOML file with a table for each verb.", dir_okay=False)
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_version)
    ] = False,
) -> None:
    verbs: dict[str, Any] = getattr(context.command, "commands", {})
    known = {verb: _options_of(command) for verb, command in verbs.items()}
    settings = {} if config is None else _read_config(config, known)
    for verb, options in known.items():
        for option, name in options.items():
            value = os.environ.get(f"GQS_{verb}_{option}".upper().replace("-", "_"))
            if value is not None:
                settings.setdefault(verb, {})[name] = value
    context.default_map = settings


def _options_of(command: Any) -> dict[str, str]:
    """Map a verb's long options, as they are typed but without dashes, to parameter names."""
    return {
        option.removeprefix("--"): str(parameter.name)
        for parameter in command.params
        for option in parameter.opts
        if option.startswith("--") and option != "--help"
    }


def _read_config(path: Path, known: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, Any]]:
    """Read defaults from TOML; a verb or option that does not exist is refused by name."""
    try:
        settings = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path}: cannot be read as TOML ({error}).") from error
    defaults: dict[str, dict[str, Any]] = {}
    for verb, options in settings.items():
        if verb not in known or not isinstance(options, dict):
            raise UsageError(f"{path}: [{verb}] is no verb. Verbs: {', '.join(known)}.")
        typed = {option.replace("_", "-"): value for option, value in options.items()}
        for option in sorted(typed.keys() - known[verb].keys()):
            valid = ", ".join(sorted(known[verb]))
            raise UsageError(f"{path}: [{verb}] has no {option!r}. It has {valid}.")
        defaults[verb] = {known[verb][option]: value for option, value in typed.items()}
    return defaults


@contextlib.contextmanager
def bar(what: str) -> Iterator[Callable[[int, int, str], None]]:
    """Show a progress bar with the time left, on standard error."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.table import Column

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=16),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[note]}", table_column=Column(no_wrap=True, overflow="ellipsis")),
    )
    console = Console(stderr=True)
    if not console.is_terminal:  # a log of a batch job wants a line now and then, not a bar
        yield _Lines(what)
        return
    with Progress(*columns, console=console) as shown:
        task = shown.add_task(f"{what:<21}", total=None, note="")

        def tell(done: int, total: int, note: str) -> None:
            shown.update(task, completed=done, total=total, note=note)

        yield tell


class _Lines:
    """Progress as lines on standard error: the first, the last, and one every half minute."""

    def __init__(self, what: str) -> None:
        self.what, self.told = what, float("-inf")
        # A rerun begins with what is done already, which is no measure of speed.
        self.first: tuple[float, int] | None = None

    def __call__(self, done: int, total: int, note: str) -> None:
        now = time.monotonic()
        begin, before = self.first = self.first or (now, done)
        if now - self.told < LINE_EVERY_S and done < total:
            return
        self.told = now
        if done == total:
            rest = "done"
        elif done == before:
            rest = "begun"
        else:
            rest = f"{duration((now - begin) * (total - done) / (done - before))} left"
        told = f"{rest}; {note}" if note else rest
        print(f"{self.what}: {done}/{total}, {told}", file=sys.stderr, flush=True)


def say(lines: Sequence[str], result: dict[str, Any], as_json: bool) -> None:
    """Print what a verb did: a few lines for people, or one JSON object for machines."""
    print(json.dumps(result, default=str) if as_json else "\n".join(lines))


def finish(set_aside: Sequence[str], code: int = 3, listed: Path | None = None) -> None:
    """Name what was left out, and end with a code of its own where anything was."""
    for sentence in set_aside[:10]:
        print(f"set aside: {sentence}", file=sys.stderr)
    if len(set_aside) > 10:
        where = f"; all are in {listed}" if listed else ""
        print(f"set aside: ... and {len(set_aside) - 10} more{where}", file=sys.stderr)
    if set_aside:
        sys.stdout.flush()
        raise typer.Exit(code)


def frame_files(paths: Sequence[Path]) -> list[Path]:
    """List frames: files as they are named, folders by what they hold, at any depth."""
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = [found for found in below(path) if found.name.endswith(FITS_ENDINGS)]
            if not inside:
                raise UsageError(f"{path}: holds no frames ({', '.join(FITS_ENDINGS)}).")
            files += inside
        elif path.exists():
            files.append(path)
        else:
            raise UsageError(f"{path}: there is no such file or folder.")
    return list(dict.fromkeys(files))
