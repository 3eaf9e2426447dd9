"""The `gqs` command: registration of verbs, configuration, output, errors and exit codes."""

from __future__ import annotations

import dataclasses
import inspect
import json
import os
import signal
import sys
import tomllib
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar, get_type_hints

import typer

from gqs import __version__
from gqs.errors import GqsError, UsageError

Options = TypeVar("Options")

# Names of the groups of verbs in `gqs --help`.
DATA = "Data"
TRAINING = "Training and evaluation"
CLASSIFICATION = "Classification"

MOST_LISTED = 10  # items set aside that are printed

_context: ContextVar[typer.Context] = ContextVar("context of the running verb")

app = typer.Typer(
    name="gqs",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Classify galaxies, quasars and stars in survey images. Verbs in the order of a project:",
    epilog="Every option can also be set by an environment variable GQS_VERB_OPTION or in a TOML "
    "file (--config). The command line takes precedence over the variable, the variable over the "
    "file.  Exit codes: 0 done, 2 usage, 3 done with items set aside, 4 network, 5 disk or "
    "memory, 6 model refused, 7 integrity or leakage, 130 and 143 stopped by a signal.",
)


def verb(
    panel: str, name: str | None = None
) -> Callable[[Callable[[Options], None]], Callable[[Options], None]]:
    """Register a function of one options dataclass as a verb; the fields are its options.

    The verb has the function's name, or another one where that is a keyword of Python.
    """

    def register(function: Callable[[Options], None]) -> Callable[[Options], None]:
        (parameter,) = inspect.signature(function).parameters
        options = get_type_hints(function)[parameter]
        types = get_type_hints(options, include_extras=True)

        def command(context: typer.Context, **values: Any) -> None:
            _context.set(context)
            function(options(**values))

        command.__name__, command.__doc__ = function.__name__, function.__doc__
        command.__annotations__ = {"context": typer.Context, **types}
        # typer builds the command line from the signature.
        command.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [_parameter("context", typer.Context)]
            + [
                _parameter(field.name, types[field.name], _default(field))
                for field in dataclasses.fields(options)
            ]
        )
        app.command(name, rich_help_panel=panel)(command)
        return function

    return register


def _parameter(name: str, annotation: Any, default: Any = inspect.Parameter.empty) -> Any:
    kind = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, kind, default=default, annotation=annotation)


def _default(field: dataclasses.Field[Any]) -> Any:
    return inspect.Parameter.empty if field.default is dataclasses.MISSING else field.default


def run() -> None:
    """Run the command line; an error is printed as one sentence and sets the exit code."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stopped)
    os.environ["MPLBACKEND"] = "agg"  # pictures are files; a Jupyter kernel's backend is inherited
    try:
        app()
    except GqsError as error:
        _exit(str(error), error.exit_code)
    except OSError as error:
        _exit(f"{error.filename or 'A file'}: {error.strerror or error}.", 5)
    except MemoryError:
        _exit("Out of memory. Use fewer --workers or a smaller --batch.", 5)


def _stopped(number: int, frame: object) -> NoReturn:
    signal.signal(number, signal.SIG_IGN)  # a second signal must not interrupt the cleaning up
    _exit("Stopped. Run the same command again to continue.", 128 + number)


def _exit(sentence: str, code: int) -> NoReturn:
    print(f"gqs: {sentence}", file=sys.stderr)
    sys.exit(code)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"gqs {__version__}")
        raise typer.Exit


@app.callback()
def _configure(
    context: typer.Context,
    config: Annotated[
        Path | None,
        typer.Option(help="TOML file with a table of options for each verb.", dir_okay=False),
    ] = None,
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", is_eager=True, callback=_print_version
        ),
    ] = False,
) -> None:
    verbs: dict[str, Any] = getattr(context.command, "commands", {})
    known = {name: _parameter_names(command) for name, command in verbs.items()}
    settings = {} if config is None else _read_config(config, known)
    for name, options in known.items():
        for option, parameter in options.items():
            value = os.environ.get(f"GQS_{name}_{option}".upper().replace("-", "_"))
            if value is not None:
                settings.setdefault(name, {})[parameter] = value
    context.default_map = settings


def _parameter_names(command: Any) -> dict[str, str]:
    """Parameter name of each long option of a verb; options without their dashes."""
    return {
        option.removeprefix("--"): str(parameter.name)
        for parameter in command.params
        for option in parameter.opts
        if option.startswith("--") and option != "--help"
    }


def _read_config(path: Path, known: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, Any]]:
    """Read default options from TOML; an unknown verb or option is an error that names it."""
    try:
        settings = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path}: cannot be read as TOML ({error}).") from error
    defaults: dict[str, dict[str, Any]] = {}
    for name, options in settings.items():
        if name not in known or not isinstance(options, dict):
            raise UsageError(f"{path}: [{name}] is not a verb. The verbs are {', '.join(known)}.")
        typed = {option.replace("_", "-"): value for option, value in options.items()}
        for option in sorted(typed.keys() - known[name].keys()):
            valid = ", ".join(sorted(known[name]))
            raise UsageError(f"{path}: [{name}] has no option {option!r}. Its options are {valid}.")
        defaults[name] = {known[name][option]: value for option, value in typed.items()}
    return defaults


def given_on_command_line(parameter: str) -> bool:
    """Whether the user typed this option of the running verb."""
    origin = _context.get().get_parameter_source(parameter)
    return origin is not None and origin.name == "COMMANDLINE"


def print_result(lines: Sequence[str], result: Mapping[str, Any], as_json: bool) -> None:
    """Print the result of a verb: a few lines of text, or one JSON object."""
    print(json.dumps(dict(result), default=str) if as_json else "\n".join(lines))


def print_note(sentence: str) -> None:
    """Print a remark on standard error at once."""
    print(sentence, file=sys.stderr, flush=True)


def finish(set_aside: Sequence[str], code: int = 3, listed_in: Path | None = None) -> None:
    """List what was set aside on standard error, and exit with `code` if there is anything."""
    for sentence in set_aside[:MOST_LISTED]:
        print(f"set aside: {sentence}", file=sys.stderr)
    if len(set_aside) > MOST_LISTED:
        where = f"; all are in {listed_in}" if listed_in else ""
        print(f"set aside: ... and {len(set_aside) - MOST_LISTED} more{where}", file=sys.stderr)
    if set_aside:
        sys.stdout.flush()
        raise typer.Exit(code)
