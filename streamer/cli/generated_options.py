"""Generates command line options from a configuration model, one option per key.

The model validates the values, so that a file and the command line accept the same values with the
same error messages. It is imported only when the command runs or shows its help.
"""

import inspect
from collections.abc import Callable
from fractions import Fraction
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TypeVar, get_args, get_origin

import typer

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic.fields import FieldInfo

Function = TypeVar("Function", bound=Callable[..., Any])

_ATTRIBUTE: Final = "options_model"
_METAVARS: Final = {int: "INTEGER", float: "NUMBER", Fraction: "NUMBER"}


def options_of(load: "Callable[[], type[BaseModel]]") -> Callable[[Function], Function]:
    """Declare that `**options` of a command stands for the keys of the model that *load* imports.

    The command receives the options that were given, as text, numbers by name.
    """

    def declare(function: Function) -> Function:
        setattr(function, _ATTRIBUTE, load)
        return function

    return declare


def expanded_parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    """Return the parameters of a command, with `**options` replaced by one per key of its model."""
    parameters = list(inspect.signature(function, eval_str=True).parameters.values())
    load = getattr(function, _ATTRIBUTE, None)
    if load is None:
        return parameters
    explicit = [one for one in parameters if one.kind is not inspect.Parameter.VAR_KEYWORD]
    fields = load().model_fields
    return [*explicit, *(_parameter(name, info) for name, info in fields.items())]


def _parameter(name: str, info: "FieldInfo") -> inspect.Parameter:
    type_ = _value_type(info.annotation)
    # An omitted option is what null is in a file.
    text = " ".join((info.description or "").replace("`", "").replace("null:", "Default:").split())
    option, is_list = f"--{name.replace('_', '-')}", get_origin(type_) is tuple
    value: Any = bool if type_ is bool else str
    if type_ is bool:
        declaration = typer.Option(f"{option}/--no-{option[2:]}", help=text)
    elif get_origin(type_) is Literal:
        choices = "|".join(map(str, get_args(type_)))
        declaration = typer.Option(option, help=text, metavar=f"[{choices}]")
    else:
        scalar = _value_type(get_args(type_)[0]) if is_list else type_
        declaration = typer.Option(option, help=text, metavar=_METAVARS.get(scalar, "TEXT"))
    annotation = list[value] if is_list else value
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[annotation | None, declaration],
    )


def _value_type(annotation: Any) -> Any:
    """Return the type that a key holds, without `None` and metadata."""
    if get_origin(annotation) is Annotated:
        return _value_type(get_args(annotation)[0])
    alternatives = [one for one in get_args(annotation) if one is not type(None)]
    if get_origin(annotation) not in (tuple, Literal) and len(alternatives) == 1:
        return _value_type(alternatives[0])
    return annotation
