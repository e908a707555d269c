"""A plugin for mypy: literals that a config would refuse when it is checked are red in the editor already.

    [mypy]
    plugins = ssltyped.typing_plugin

    SimCLRLossConf(temperature=-1)                         temperature: -1 is not > 0
    MLPHeadConf(dims=[])                                   dims: has 0 items and needs >= 1
    launch(recipe, overrides=["data.train.batchsize=8"])   data.train.batchsize: TrainSplit has no such field; ...

The ranges are read from the source of the class (mypy does not keep what stands in `Annotated`), nothing is imported or
run. An override is followed as far as the declared types are classes that can be built: below `loss: Loss` all is open.
A range that was changed is seen when mypy next reads the file that calls.
"""

from __future__ import annotations

import ast
import difflib
import functools
import operator
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final, Optional, cast

from mypy.checker import TypeChecker
from mypy.errorcodes import ErrorCode
from mypy.nodes import Expression, FloatExpr, FuncDef, IntExpr, ListExpr, NameExpr, StrExpr, TupleExpr, UnaryExpr
from mypy.plugin import FunctionContext, Plugin
from mypy.types import CallableType, Instance, NoneType, Type, UnionType, get_proper_type

CODE: Final = ErrorCode("config-value", "A literal that a config cannot hold", "ssltyped")
COMPONENT = "ssltyped.config.component.Component"
OVERRIDING = {"ssltyped.launch.launch", "ssltyped.config.overrides.override"}
UNKNOWN: Final = object()
LIMITS = {"Gt": (operator.gt, ">"), "Ge": (operator.ge, ">="), "Lt": (operator.lt, "<"), "Le": (operator.le, "<=")}


class ConfigPlugin(Plugin):
    """Looks at calls of `...Conf`, and at those of the functions that take overrides."""

    def get_function_hook(self, fullname: str) -> Optional[Callable[[FunctionContext], Type]]:
        if fullname in OVERRIDING:
            return _check_overrides
        return _check_config if fullname.endswith("Conf") else None


def plugin(version: str) -> type[Plugin]:
    """What mypy asks for."""
    return ConfigPlugin


def _check_config(call: FunctionContext) -> Type:
    built = get_proper_type(call.default_return_type)
    if isinstance(built, Instance) and (part := _Part.of(built, call)):
        for name, given in zip(call.callee_arg_names, call.args, strict=True):
            for fault in part.faults(name, _literal(given[0])) if name and given else ():
                call.api.fail(f"{name}: {fault}", given[0], code=CODE)
    return call.default_return_type


def _check_overrides(call: FunctionContext) -> Type:
    given = dict(zip(call.callee_arg_names, zip(call.args, call.arg_types, strict=True), strict=True))
    (_, types), (overrides, _) = given["recipe"], given["overrides"]
    for item in overrides[0].items if overrides and isinstance(overrides[0], ListExpr | TupleExpr) else []:
        if isinstance(item, StrExpr) and types and (fault := _fault_of(item.value, types[0], call)):
            call.api.fail(fault, item, code=CODE)
    return call.default_return_type


def _fault_of(override: str, recipe: Type, call: FunctionContext) -> Optional[str]:
    """What is wrong with `path=value`, as far as the declared types say."""
    found = re.fullmatch(r"[+~]{0,2}([\w.]+)(?:=(.*))?", override, re.DOTALL)
    *way, last = (found[1] if found else "").split(".")
    part = _Part.of(recipe, call)
    for step in way:
        if part and step not in part.fields:
            return f"{found and found[1]}: {part.unknown(step)}"
        part = part and _Part.of(part.fields[step], call)
    if part is None or found is None:
        return None
    if last not in part.fields:
        return f"{found[1]}: {part.unknown(last)}"
    value = UNKNOWN if found[2] is None or override.startswith("+") else _written(found[2].strip())
    if not _fits(value, part.fields[last]):
        return f"{found[1]}: {found[2]} is not {str(part.fields[last]).replace('builtins.', '')}"
    return next((f"{found[1]}: {fault}" for fault in part.faults(last, value)), None)


class _Part:
    """The constructor of a component: its fields, their types, and their ranges as they stand in the source."""

    def __init__(self, built: Instance, init: FuncDef, call: FunctionContext) -> None:
        signature, module = cast(CallableType, init.type), init.info.module_name
        self.name = built.type.name
        self.fields = {n: t for n, t in zip(signature.arg_names, signature.arg_types, strict=True) if n and n != "self"}
        path = cast(TypeChecker, call.api).modules[module].path
        self._hints, self._names = _read(path, init.info.name)

    @classmethod
    def of(cls, kind: Type, call: FunctionContext) -> Optional[_Part]:
        """The part that a type stands for; None for what is no part, and for one of which only the base is known."""
        proper = get_proper_type(kind)
        if isinstance(proper, UnionType):
            options = [one for one in map(get_proper_type, proper.items) if not isinstance(one, NoneType)]
            return cls.of(options[0], call) if len(options) == 1 else None
        if not isinstance(proper, Instance) or proper.type.is_abstract:
            return None
        init = symbol.node if (symbol := proper.type.get("__init__")) else None
        ours = isinstance(init, FuncDef) and isinstance(init.type, CallableType) and init.info.has_base(COMPONENT)
        return cls(proper, cast(FuncDef, init), call) if ours else None

    def unknown(self, field: str) -> str:
        near = difflib.get_close_matches(field, self.fields, n=1)
        return f"{self.name} has no such field" + (f"; did you mean {near[0]!r}?" if near else "")

    def faults(self, field: str, value: object) -> Iterator[str]:
        return _faults(value, self._hints.get(field), self._names)


@functools.cache
def _read(path: str, name: str) -> tuple[Mapping[str, Optional[ast.expr]], Mapping[str, ast.expr]]:
    """The annotations of a class's constructor, and what the module calls by a name of its own."""
    body = ast.parse(Path(path).read_text(encoding="utf-8")).body
    names = {n.targets[0].id: n.value for n in body if isinstance(n, ast.Assign) and isinstance(n.targets[0], ast.Name)}
    methods = [m for n in body if isinstance(n, ast.ClassDef) and n.name == name for m in n.body]
    inits = [m.args.kwonlyargs for m in methods if isinstance(m, ast.FunctionDef) and m.name == "__init__"]
    return {one.arg: one.annotation for arguments in inits for one in arguments}, names


def _faults(value: object, hint: Optional[ast.expr], names: Mapping[str, ast.expr]) -> Iterator[str]:
    """Where a value is outside the ranges of a type that is written so; what is not understood is open."""
    if isinstance(hint, ast.Constant) and isinstance(hint.value, str):
        hint = ast.parse(hint.value, mode="eval").body
    if isinstance(hint, ast.Name) and hint.id in names:
        hint = names[hint.id]
    if value in (None, UNKNOWN) or not isinstance(hint, ast.Subscript) or not isinstance(hint.value, ast.Name):
        return
    inner, *metas = hint.slice.elts if isinstance(hint.slice, ast.Tuple) else [hint.slice]
    if hint.value.id in ("Optional", "Annotated"):
        yield from _faults(value, inner, names)
        yield from (fault for meta in metas if isinstance(meta, ast.Call) for fault in _outside(value, meta, names))
    elif isinstance(value, list | tuple) and hint.value.id in ("list", "tuple", "Sequence"):
        each = [inner, *(meta for meta in metas if not isinstance(meta, ast.Constant))]  # tuple[int, ...]
        for index, item in enumerate(value):
            yield from (f"item {index}: {fault}" for fault in _faults(item, each[min(index, len(each) - 1)], names))


def _outside(value: object, meta: ast.Call, names: Mapping[str, ast.expr]) -> Iterator[str]:
    kind = meta.func.id if isinstance(meta.func, ast.Name) else ""
    try:
        limits = [ast.literal_eval(names.get(a.id, a) if isinstance(a, ast.Name) else a) for a in meta.args]
    except ValueError:
        return
    if kind in LIMITS and isinstance(value, int | float) and not LIMITS[kind][0](value, limits[0]):
        yield f"{value} is not {LIMITS[kind][1]} {limits[0]}"
    if kind in ("Len", "MinLen") and isinstance(value, list | tuple | str) and len(value) < limits[0]:
        yield f"has {len(value)} items and needs >= {limits[0]}"
    if (kind == "MaxLen" or len(limits) > 1) and isinstance(value, list | tuple | str) and len(value) > limits[-1]:
        yield f"has {len(value)} items and takes <= {limits[-1]}"


def _literal(written: Expression) -> object:
    """The value of an expression that is a literal; items of a list may be unknown."""
    if isinstance(written, IntExpr | FloatExpr | StrExpr):
        return written.value
    if isinstance(written, UnaryExpr) and written.op == "-" and isinstance(written.expr, IntExpr | FloatExpr):
        return -written.expr.value
    if isinstance(written, ListExpr | TupleExpr):
        return [_literal(item) for item in written.items]
    return None if isinstance(written, NameExpr) and written.name == "None" else UNKNOWN


def _written(text: str) -> object:
    """The value of an override: a number, a word, a list of numbers; the rest of Hydra's grammar is open."""
    words = {"null": None, "true": True, "false": False, "inf": float("inf"), "nan": UNKNOWN}
    if text.lower() in words or re.fullmatch(r"[A-Za-z_]\w*", text):
        return words.get(text.lower(), text)
    try:
        return cast(object, ast.literal_eval(text)) if re.match(r"[-\d.\[]", text) else UNKNOWN
    except (ValueError, SyntaxError):
        return UNKNOWN


def _fits(value: object, kind: Type) -> bool:
    """Whether a value may stand in a field of this type; True for every type but numbers and truth values."""
    proper = get_proper_type(kind)
    if value is UNKNOWN or isinstance(proper, UnionType):
        return value is UNKNOWN or any(_fits(value, one) for one in cast(UnionType, proper).items)
    if isinstance(proper, NoneType):
        return value is None
    name = proper.type.fullname if isinstance(proper, Instance) else ""
    kinds = {"builtins.int": (int, float), "builtins.float": (int, float), "builtins.bool": (bool,)}.get(name)
    return kinds is None or (isinstance(value, kinds) and (name != "builtins.int" or value % 1 == 0))
