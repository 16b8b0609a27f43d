"""What people type of a variant's steps, read: METHOD, METHOD:JSON, `--key value`, `@NAME` for another variant."""

from collections.abc import Callable, Sequence
from typing import Any

from typer.core import TyperCommand

from driftline.errors import BadInput

Named = Callable[[str], dict[str, Any]]  # the spec of the variant of a name


SETTINGS = "driftline.settings_of_a_step"  # where a context keeps options that the command itself does not know


class WithSettings(TyperCommand):
    """A command that hands options it does not know, each with its value, to a step of the recipe."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As usual, with the unknown options set aside in the context."""
        known = {name: not getattr(one, "is_flag", False) for one in self.params for name in one.opts} | {
            "--help": False
        }
        own: list[str] = []
        settings: list[str] = []
        at = 0
        while at < len(args):
            name, equals, _ = args[at].partition("=")
            mine = not name.startswith("--") or name in known
            takes = not equals and (known.get(name, False) if mine else True)
            (own if mine else settings).extend(args[at : at + 1 + takes])
            at += 1 + takes
        ctx.meta[SETTINGS] = settings
        return super().parse_args(ctx, own)


def steps_of(methods: Sequence[str], extra: Sequence[str], named: Named) -> list[tuple[str, dict[str, Any]]]:
    """The steps with their configs; `extra` (`--key value …`) belongs to the last of them.

    Raises:
        BadInput: A config that is no JSON object, or an option without value or method.
    """
    found = []
    for text in methods:
        method, _, config = text.partition(":")
        found.append((method, object_of(config or "{}", f"--method {method}")))
    options = _options(extra)
    if options and not found:
        raise BadInput(f"--{next(iter(options))} belongs to a method; name one with --method.")
    if options:
        found[-1][1].update(options)
    return [(method, _resolved(config, named)) for method, config in found]


def _options(extra: Sequence[str]) -> dict[str, Any]:
    import json

    options: dict[str, Any] = {}
    place = 0
    while place < len(extra):
        key, equals, value = extra[place].partition("=")
        if not key.startswith("--"):
            raise BadInput(f"{extra[place]!r} is no option; a method's settings are given as --key value.")
        if not equals:
            place += 1
            if place == len(extra):
                raise BadInput(f"{key} needs a value.")
            value = extra[place]
        try:
            options[key[2:].replace("-", "_")] = json.loads(value)
        except ValueError:
            options[key[2:].replace("-", "_")] = value
        place += 1
    return options


def _resolved(value: Any, named: Named) -> Any:
    if isinstance(value, str) and value.startswith("@"):
        return named(value[1:])
    if isinstance(value, dict):
        return {key: _resolved(one, named) for key, one in value.items()}
    return value


def object_of(text: str, option: str) -> dict[str, Any]:
    """The JSON object in an option.

    Raises:
        BadInput: There is none.
    """
    import json

    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise BadInput(f"{option} takes a JSON object; {text!r} is none ({error.msg}).") from None
    if not isinstance(value, dict):
        raise BadInput(f"{option} takes a JSON object, not {text!r}.")
    return value
