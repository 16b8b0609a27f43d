"""Calls with arguments that a function of the SDK does not take: told, and made with those that it does take."""

from __future__ import annotations

import functools
from typing import Any, Callable, TypeVar, cast

from driftline_sdk.faults import strict, swallow

Function = TypeVar("Function", bound=Callable[..., Any])


def forgiving(function: Function) -> Function:
    """The function as the application calls it: it raises nothing.

    An argument that is unknown or too many is left out, one that is missing is None; anything else that goes wrong is
    swallowed and answered with None. In strict mode all of it is raised.
    """

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except Exception as error:
            if strict():
                raise
            problem = error
        where = function.__name__
        began = problem.__traceback__ is None or problem.__traceback__.tb_next is not None
        if began or not isinstance(problem, TypeError):
            swallow(problem, where)
            return None
        try:
            taken, fitting, named = _fitted(function, args, kwargs)
            swallow(TypeError(f"{problem} (it takes {', '.join(taken) or 'none'}); the rest is done"), where)
            return function(*fitting, **named)
        except Exception as error:  # noqa: BLE001 - the application must not notice
            swallow(error, where)
            return None

    return cast("Function", call)


def _fitted(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[list[str], list[Any], dict[str, Any]]:
    """The names that the function takes, and of the arguments those; None for those that it lacks."""
    import inspect  # 10 ms, for those who make such a mistake

    parameters = inspect.signature(function).parameters
    open_ended = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    placed = []
    named = {name: value for name, value in kwargs.items() if open_ended and name not in parameters}
    rest = list(args)
    for name, parameter in parameters.items():
        if rest and parameter.kind is parameter.POSITIONAL_OR_KEYWORD:
            placed.append(rest.pop(0))
        elif name in kwargs:
            named[name] = kwargs[name]
        elif parameter.default is parameter.empty and parameter.kind is parameter.POSITIONAL_OR_KEYWORD:
            named[name] = None
    return [name for name in parameters if name != "self"], placed, named
