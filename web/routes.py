"""All routes: what each declares, and who may ask it. One that lacks either can't be described, and a test finds it."""

from collections.abc import Iterator
from inspect import cleandoc
from typing import Any, NamedTuple

from web.access import Need, need_of
from web.contract import Body, Contract


class Route(NamedTuple):
    """A method of a path. `says`: what it is for, by its docstring or its view's."""

    method: str
    pattern: str
    need: Need
    contract: Contract
    body: Body | None
    says: str


def routes(app: Any) -> Iterator[Route]:
    """Those of an app, by path. Raises `LookupError` for one that is not declared."""
    for pattern, view in sorted(app.web.views.items()):
        for method in sorted(view.get_methods() - {"HEAD"}):
            yield _route(method, pattern, type(view))


def _route(method: str, pattern: str, view: Any) -> Route:
    function = getattr(view, method.lower())
    contract, need = getattr(function, "contract", None), need_of(method, pattern)
    if contract is None:
        raise LookupError(
            f"{method} {pattern} says not what it takes and answers: put `asks` or `declares` of web/contract.py on "
            f"{view.__name__}.{method.lower()} (docs/decisions/028-declared-routes.md)"
        )
    if need is None:
        raise LookupError(f"{method} {pattern} has no line in ROUTES of web/access.py")
    body = contract.body(view) if callable(contract.body) else contract.body
    says = cleandoc(function.__doc__) if function.__doc__ else _says(view, method)
    return Route(method, pattern, need, contract, body, says)


def _says(view: Any, method: str) -> str:
    """The docstring of the class that a method is for: the base of one that only adds another method to it."""
    others = {name for name in ("get", "post", "put", "patch", "delete") if name in vars(view)} - {method.lower()}
    described = view if method.lower() in vars(view) or not others else view.__base__
    return cleandoc(described.__doc__ or "")
