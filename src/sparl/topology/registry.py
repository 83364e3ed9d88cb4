"""Registries of the functions that a configuration can name.

This module does not load the native module.
"""

from __future__ import annotations

import difflib
import hashlib
import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, ClassVar, Self

from sparl.errors import SparlError, UsageError
from sparl.wording import name_and_text


def is_rule_name(name: str) -> bool:
    """Return whether a name is valid: an ASCII identifier of at most 64 characters."""
    return re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,63}", name) is not None


@dataclass(frozen=True)
class Rule:
    """A function and the name under which it is registered; each subclass has its own registry.

    Attributes:
        choose: the function.
        name: the name of the rule; "" if the function is not registered.
        kind: what messages call a rule of this class.
        registry: the registered rules of this class, by name.
    """

    choose: Callable[..., Any]
    name: str = ""
    kind: ClassVar[str] = "rule"
    registry: ClassVar[dict[str, Any]]

    def __init_subclass__(cls) -> None:
        cls.registry = {}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function.

        Raises:
            UsageError: if the function raises an exception. FloatingPointError, which means that
                the training has diverged, MemoryError and sparl's own errors are raised unchanged.
        """
        try:
            return self.choose(*args, **kwargs)
        except (FloatingPointError, MemoryError, SparlError):
            raise
        except Exception as error:
            raise self.fault(
                f"raised {name_and_text(error)} (sparl --debug shows the traceback)"
            ) from error

    def fault(self, problem: str) -> UsageError:
        """Return an error that names this rule.

        Args:
            problem: what the rule did, for example "returned 1 position, but ...".
        """
        name = f" '{self.name}'" if self.name else ""
        return UsageError(f"{self.kind}{name} {problem}")

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle a registered rule by its name.

        The function itself cannot be pickled, because its name in the module refers to the rule.
        """
        if self.registry.get(self.name) is self:
            return self.named, (self.name,)
        return type(self), tuple(getattr(self, field.name) for field in fields(self))

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the function's source; "" for sparl's own rules, and if it is unavailable."""
        if str(self.choose.__module__).startswith("sparl."):
            return ""  # sparl's version and commit identify it
        try:
            source = inspect.getsource(self.choose)
        except Exception:  # inspect and its tokenizer raise exceptions of several types
            return ""
        return hashlib.sha256(source.encode()).hexdigest()

    @classmethod
    def named(cls, name: str) -> Self:
        """Return the rule that is registered under a name.

        Raises:
            KeyError: if no rule is registered under this name.
        """
        rule: Self = cls.registry[name]
        return rule

    def registered(self) -> Self:
        """Register this rule and return it.

        A rule whose function has the same module and qualified name is replaced.

        Raises:
            UsageError: if another function has the name, or the name is not valid.
        """
        if not is_rule_name(self.name):
            raise UsageError(
                f"{self.kind} name {self.name!r} is not valid; use at most 64 ASCII letters, "
                "digits and underscores, without a digit at the start"
            )
        known = self.registry.get(self.name)
        if known is not None and not _same_source(known.choose, self.choose):
            raise UsageError(
                f"{self.kind} '{self.name}' is already registered by {known.choose.__module__}; "
                "choose another name"
            )
        self.registry[self.name] = self
        _ = self.digest  # read now, because the file may be edited later
        return self

    @classmethod
    def unregistered(cls, kind: str, name: str) -> str:
        """Return a message that lists the registered rules; "" if the name is registered.

        Args:
            kind: the configuration field that names the rule.
            name: name of the rule.
        """
        if name in cls.registry:
            return ""
        near = difflib.get_close_matches(name, cls.registry, n=1)
        hint = f" (did you mean '{near[0]}'?)" if near else ""
        known = ", ".join(f"'{known}'" for known in sorted(cls.registry))
        return (
            f"{kind} is '{name}' but must be one of {known}{hint}; to register a custom rule, "
            "import its module: sparl --import MODULE ..., or import MODULE in Python"
        )


def _same_source(a: Callable[..., object], b: Callable[..., object]) -> bool:
    """Return whether two functions have the same module and qualified name.

    This is the case if a notebook cell that defines a function is run again.
    """
    return (a.__module__, a.__qualname__) == (b.__module__, b.__qualname__)
