"""Commands that are imported when they are run.

Some bring a compiler with them, some a framework for streams: seconds, which nobody should wait for to read which commands there
are, or to run another.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, NamedTuple

import typer
import typer.main
from typer.core import TyperCommand, TyperGroup


class Where(NamedTuple):
    """Where a command is: the function `function` of a module, and what it does, in its own words."""

    module: str
    function: str
    help: str


class OnDemand(TyperCommand):
    """Stands for a command in the list of all. Whatever is done with it, its help included, is done by the command itself."""

    def __init__(self, name: str, where: Where) -> None:
        super().__init__(name, help=where.help)
        self.where = where

    def load(self) -> Any:
        """The command itself."""
        alone = typer.Typer(add_completion=False)
        alone.command(self.name)(getattr(import_module(self.where.module), self.where.function))
        return typer.main.get_command(alone)

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        return self.load().make_context(info_name, args, parent=parent, **extra)


def group(later: dict[str, Where]) -> type[TyperGroup]:
    """The class of a group that has these commands behind those it is given."""

    class Group(TyperGroup):
        def __init__(self, **attributes: Any) -> None:
            super().__init__(**attributes)
            for name, where in later.items():
                self.add_command(OnDemand(name, where))

    return Group
