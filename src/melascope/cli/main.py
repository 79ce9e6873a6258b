"""`melascope`: the commands, loaded when they are called; the one place where errors become exit codes."""

from __future__ import annotations

import errno
import importlib
import io
import os
import sys
import warnings

import click

from melascope import __version__
from melascope.errors import MelascopeError, MissingExtraError

#: command -> (module below melascope.cli, one-line help). The module's `command` is the click command.
COMMANDS = {
    "assess": ("assess", "Assess images: probability of melanoma and a decision for each."),
    "predict": ("predict", "Score a folder or a case table into one CSV file."),
    "serve": ("serve", "Start the web application and its API."),
    "data": ("data", "Fetch, import, merge, audit and split datasets."),
    "train": ("train", "Train a network by a recipe."),
    "evaluate": ("evaluate", "Judge a model from its predictions: figures, intervals, plots."),
    "export": ("export", "Turn a training run into a bundle."),
    "bundle": ("bundle", "List, show, verify and choose bundles."),
    "doctor": ("doctor", "Tell what is installed, which bundle answers, and whether it verifies."),
}


_FULL = "Make room there, then run the command again."
_CLOSED = "Choose a place that you may read and write."
_OTHER_KIND = "A file stands where a folder is wanted, or the other way round: name another path."
#: errno -> what helps
_REMEDIES = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EACCES: _CLOSED,
    errno.EPERM: _CLOSED,
    errno.EROFS: _CLOSED,
    errno.EEXIST: _OTHER_KIND,
    errno.ENOTDIR: _OTHER_KIND,
    errno.EISDIR: _OTHER_KIND,
}


class _LazyGroup(click.Group):
    """Imports a command's module only when that command is asked for."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, _ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        try:
            module = importlib.import_module(f"melascope.cli.{COMMANDS[name][0]}")
        except ModuleNotFoundError as fault:
            raise _missing_extra(name, fault) from fault
        command: click.Command = module.command
        return command

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="melascope")
def main() -> None:
    """Find melanoma in dermoscopic photographs.

    Decision support for trained readers; not a medical device.
    """


def run() -> None:
    """Run the command line; a MelascopeError becomes its message and its exit status, never a traceback."""
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115 - None where it was closed; kept to the end
    if isinstance(sys.stdout, io.TextIOWrapper):  # a name that the terminal cannot show is no reason to stop
        sys.stdout.reconfigure(errors="backslashreplace")
    warnings.showwarning = _note
    try:
        status = main.main(standalone_mode=False)
        sys.stdout.flush()
    except MelascopeError as error:
        _fail(error)
    except ModuleNotFoundError as fault:
        _fail(_missing_extra(" ".join(sys.argv[1:2]), fault))
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("Interrupted.", err=True)
        sys.exit(130)
    except BrokenPipeError:  # the reader of our output (head, less) has gone: that is no fault
        _drop_output()
        sys.exit(0)
    except OSError as fault:
        try:
            sys.stdout.flush()
        except OSError:  # what is still to be printed cannot be, and must not fail once more at the end
            _drop_output()
        _fail(_system_fault(fault))
    sys.exit(status if isinstance(status, int) else 0)


def _drop_output() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _note(message: Warning | str, *_where: object, **_how: object) -> None:
    """A warning as a line for people, without the line of code that gave it."""
    click.echo(f"melascope: note: {message}", err=True)


def _fail(error: MelascopeError) -> None:
    click.echo(f"melascope: {error.message}", err=True)
    if error.remedy:
        click.echo(f"  {error.remedy}", err=True)
    sys.exit(error.exit_status)


def _system_fault(fault: OSError) -> MelascopeError:
    """What the system refused, in words; a file that is being written, unlike one to open, has no name in it."""
    from melascope.cli.image_files import printable

    path = fault.filename2 or fault.filename
    where = "What the command writes"
    if path is not None:
        where = printable(os.fsdecode(path) if isinstance(path, bytes) else path)
    return MelascopeError(
        f"{where}: {fault.strerror or fault}.",
        remedy=_REMEDIES.get(fault.errno or 0, "Check the path and its disk, then run the command again."),
    )


def _missing_extra(command: str, fault: ModuleNotFoundError) -> MelascopeError:
    package = (fault.name or "").split(".")[0]
    if package == "melascope":
        raise fault
    judging = {"sklearn", "matplotlib", "jinja2", "imagehash", "h5py", "httpx"}
    extra = "web" if command == "serve" else "evaluate" if package in judging else "train"
    return MissingExtraError(
        f"`melascope {command}` needs the package {package!r}, which is not installed.",
        remedy=f"Install it from a checkout of melascope: pip install '.[{extra}]'",
    )
