"""What a part of the model holds, by name: what snapshots save and put back, and what tests compare.

    class Pairs(Kept):
        kept = ("pool", "overflowed", "totals")   # state: what was learned, in whatever way
        scratch = ("_cells",)                     # everything else that changes: written anew before it is read

A part names its own attributes; those of its base classes are added, and parts of parts are walked into. A test walks through
everything that a `Recommender` reaches and fails for an array, collection or changing number that no class has named. What
does not fit `Value` overrides `save` and `restore` (see `ratings.Factors`).

Restored means: equal in every array, so that whatever comes next does the same to both.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

Value = npt.NDArray[Any] | None | bool | int | float | str | list[Any] | dict[Any, Any]
"""An array of numbers or of structs of numbers; a number or text; a list of integers or of texts (None among them); a dictionary
whose keys and values make two such lists, in its order."""
Saved = dict[str, Value]
"""Path -> value, e.g. `history.windows.rows`. Arrays are the live ones: copy what has to outlast the next change."""


class Misfit(ValueError):  # noqa: N818  named by what has happened
    """What was saved does not fit this model: another version of the code, or other parameters."""


class Kept:
    """See the module."""

    kept: ClassVar[tuple[str, ...]] = ()
    """Attributes that are state."""
    scratch: ClassVar[tuple[str, ...]] = ()
    """Attributes that are not, although they change; and constants made from the parameters."""
    gradient: ClassVar[bool] = False
    """Whether it was learned by gradient steps, which depend on the order of arrival: no part of the exact state."""
    shared: ClassVar[bool] = False
    """Whether one model may learn it for others of the same layout, which take it over (`common`, `adopt`)."""

    @classmethod
    def named(cls, which: str) -> tuple[str, ...]:
        """All names in `kept` or `scratch`, those of base classes first."""
        return tuple(dict.fromkeys(name for kind in reversed(cls.__mro__) for name in kind.__dict__.get(which, ())))

    def parts(self) -> dict[str, Kept]:
        """The kept attributes that are parts themselves; those in a list by their `name`."""
        found: dict[str, Kept] = {}
        for name in self.named("kept"):
            value = getattr(self, name)
            if isinstance(value, Kept):
                found[name] = value
            elif isinstance(value, list) and value and isinstance(value[0], Kept):
                found |= {f"{name}.{part.name}": part for part in value}
        return found

    def save(self) -> Saved:
        """All state by path."""
        parts = self.parts()
        saved = {f"{path}.{name}": value for path, part in parts.items() for name, value in part.save().items()}
        return saved | {name: getattr(self, name) for name in self._values(parts)}

    def restore(self, saved: Mapping[str, Value]) -> None:
        """Become what was saved by an object made with the same parameters; takes the arrays over.

        Raises:
            Misfit: something is missing, or an array is of another kind. The object is of no use then.
        """
        parts = self.parts()
        for path, part in parts.items():
            part.restore(under(saved, path))
        for name in self._values(parts):
            setattr(self, name, fitting(name, saved, getattr(self, name)))

    def check(self, saved: Mapping[str, Value]) -> None:
        """Whether `restore` could take this, without changing anything. Raises `Misfit`."""
        mine = self.save()
        for path, value in mine.items():
            fitting(path, saved, value)
        if unknown := sorted(saved.keys() - mine.keys()):
            raise Misfit(f"{unknown[0]} was saved and is not known here")

    def learned(self) -> Saved:
        """What gradient steps have learned, by path."""
        if self.gradient:
            return self.save()
        return {f"{path}.{name}": value for path, part in self.parts().items() for name, value in part.learned().items()}

    # -- what one model learns for all ----------------------------------------------------------------------------------
    def lessons(self) -> dict[str, Kept]:
        """The parts that are `shared`, by path; "" is this one."""
        if self.shared:
            return {"": self}
        return {
            f"{path}.{inner}" if inner else path: lesson
            for path, part in self.parts().items()
            for inner, lesson in part.lessons().items()
        }

    def common(self) -> Saved:
        """What one model learns for all, by path. Arrays are the live ones."""
        return {
            f"{path}.{name}" if path else name: value
            for path, part in self.lessons().items()
            for name, value in part.save().items()
        }

    def adopt(self, saved: Mapping[str, Value]) -> None:
        """Know in place of one's own what another has learned (its `common`), all of it or, raising `Misfit`, nothing. Takes the
        arrays over."""
        if different := sorted(saved.keys() ^ self.common().keys()):
            raise Misfit(f"{different[0]} is known on one side only")
        lessons = {part: under(saved, path) if path else saved for path, part in self.lessons().items()}
        for part, lesson in lessons.items():
            part.accept(lesson)
        for part, lesson in lessons.items():
            part.restore(lesson)

    def accept(self, saved: Mapping[str, Value]) -> None:
        """Whether another's state can stand in for this one's without harm: of the same kinds and shapes, and finite. Raises
        `Misfit`."""
        for name, mine in self.save().items():
            value = fitting(name, saved, mine)
            if isinstance(mine, np.ndarray):
                if value.shape != mine.shape or not np.isfinite(value).all():
                    raise Misfit(f"{name} has the shape {value.shape}, not {mine.shape}, or is not finite")
            elif not isinstance(value, int | float) or type(value) is not type(mine) or not math.isfinite(value):
                raise Misfit(f"{name} is {value!r}")

    def _values(self, parts: Mapping[str, Kept]) -> list[str]:
        """Kept attributes that are no parts."""
        walked = {path.split(".", 1)[0] for path in parts}
        return [name for name in self.named("kept") if name not in walked]


def under(saved: Mapping[str, Value], path: str) -> Saved:
    """What was saved of the part at a path."""
    prefix = f"{path}."
    return {name[len(prefix) :]: value for name, value in saved.items() if name.startswith(prefix)}


def fitting(name: str, saved: Mapping[str, Value], current: Any) -> Any:
    """The saved value, if it can stand where the current one does. Raises `Misfit`."""
    if name not in saved:
        raise Misfit(f"{name} was not saved")
    value = saved[name]
    if isinstance(current, np.ndarray) != isinstance(value, np.ndarray):
        raise Misfit(f"{name} was saved as another kind of thing")
    if isinstance(current, np.ndarray) and isinstance(value, np.ndarray):
        if current.dtype != value.dtype:
            raise Misfit(f"{name} was saved as {value.dtype}, not {current.dtype}")
        return value.view(current.dtype)  # equal, yet kernels are compiled anew for a struct that differs in its alignment flag
    return value
