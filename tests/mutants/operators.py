"""Small changes to a module, each of which some test has to notice.

Of a module's syntax tree: comparisons, operands of `and` and `or`, negations, tests of `if` and `while`, numbers, truth
values, elements of collections, arithmetic, methods that clean up text, and statements that only have an effect. Left
alone are docstrings, annotations, decorators, and whatever is said in errors: texts are for people; and how much of a
file is read at once.
"""

from __future__ import annotations

import ast
import copy
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

_COMPARED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
}  # fmt: skip
_COMPUTED: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.FloorDiv: ast.Mult, ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
}  # fmt: skip
_CALLED = {"any": "all", "all": "any", "min": "max", "max": "min"}
_CLEANING = {"lower", "upper", "strip", "rstrip", "lstrip", "casefold", "removeprefix", "removesuffix"}
_LONGEST = 90
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_NAMES_LEFT_ALONE = {"__all__", "__slots__", "_CHUNK"}


@dataclass(frozen=True)
class Mutant:
    """A changed module. `name` is the same as long as the place is: it has no line numbers.

    `where` is the function or class that it is in, or "module", and `text` how that is without the change.
    """

    name: str
    line: int
    where: str
    text: str = field(repr=False)
    _tree: ast.Module = field(repr=False)
    _node: ast.AST = field(repr=False)
    _changed: ast.AST | None = field(repr=False)

    @property
    def lines(self) -> frozenset[int]:
        """The lines of the statement that is changed, with all that is in it; of a constant, those that use it."""
        for statement in self._tree.body:
            if isinstance(statement, ast.Assign | ast.AnnAssign) and _holds(statement, self._node):
                names = {one.id for one in ast.walk(statement) if isinstance(one, ast.Name)}
                used = (one for one in ast.walk(self._tree) if isinstance(one, ast.Name) and one.id in names)
                return frozenset(one.lineno for one in used)
        around = [one for one in ast.walk(self._tree) if isinstance(one, ast.stmt) and _holds(one, self._node)]
        # The innermost comes last.
        return frozenset(range(around[-1].lineno, (around[-1].end_lineno or 0) + 1)) if around else frozenset()

    def tree(self) -> ast.Module:
        """The whole module, changed."""
        changed = copy.deepcopy(self._changed) if self._changed is not None else ast.Pass()
        memo: dict[int, ast.AST] = {id(self._node): changed}
        result: ast.Module = copy.deepcopy(self._tree, memo)
        return ast.fix_missing_locations(result)


def mutants(source: str) -> list[Mutant]:
    """All of them, in the order of the source."""
    tree = ast.parse(source)
    found = []
    seen: Counter[str] = Counter()
    texts = _texts(tree)
    for node, where in _places(tree, "module"):
        for changed in _changes(node):
            name = f"{where}: {_text(node)} -> {_text(changed) if changed is not None else 'nothing'}"
            seen[name] += 1
            if seen[name] > 1:
                name += f" ({seen[name]})"
            found.append(Mutant(name, getattr(node, "lineno", 0), where, texts[where], tree, node, changed))
    return found


def _texts(tree: ast.Module) -> dict[str, str]:
    """The text of the module without its functions and classes, and of each of these, by where."""
    plain = [ast.unparse(one) for one in tree.body if not isinstance(one, _DEFINITIONS)]
    found = {"module": "\n".join(plain)}
    waiting: list[tuple[ast.AST, str]] = [(one, "") for one in tree.body]
    while waiting:
        node, outer = waiting.pop()
        if isinstance(node, _DEFINITIONS):
            where = f"{outer}{node.name}"
            # Of one name there may be several: overloads, setters.
            found[where] = found.get(where, "") + ast.unparse(node)
            waiting += [(one, f"{where}.") for one in node.body]
        else:
            waiting += [(one, outer) for one in ast.iter_child_nodes(node)]
    return found


def _holds(statement: ast.stmt, node: ast.AST) -> bool:
    return any(one is node for one in ast.walk(statement))


def _text(node: ast.AST) -> str:
    if isinstance(node, ast.If):
        text = f"if {ast.unparse(node.test)}"
    elif isinstance(node, ast.ExceptHandler):
        text = f"except {ast.unparse(node.type) if node.type else ''}: {ast.unparse(node.body[-1])}"
    else:
        text = ast.unparse(node)
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


def _places(node: ast.AST, where: str) -> Iterator[tuple[ast.AST, str]]:
    """The nodes that may be changed, and in which function or class each of them is."""
    for child in _children(node):
        inner = where
        if isinstance(child, _DEFINITIONS):
            inner = child.name if where == "module" else f"{where}.{child.name}"
        yield child, where
        yield from _places(child, inner)


def _children(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.Raise | ast.JoinedStr | ast.Import | ast.ImportFrom | ast.Assert):
        return
    for name, value in ast.iter_fields(node):
        if name in {"annotation", "returns", "decorator_list", "bases", "keywords", "type_params", "ctx"} and not (
            name == "keywords" and isinstance(node, ast.Call) and not _speaks(node)
        ):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and not _left_alone(child):
                yield child


def _left_alone(node: ast.AST) -> bool:
    if isinstance(node, ast.Assign):
        return any(isinstance(one, ast.Name) and one.id in _NAMES_LEFT_ALONE for one in node.targets)
    if isinstance(node, ast.AnnAssign):
        return isinstance(node.annotation, ast.Name) and node.annotation.id == "TypeAlias"
    if isinstance(node, ast.If):
        return isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
    return isinstance(node, ast.Call) and _speaks(node)


def _speaks(call: ast.Call) -> bool:
    """Whether it makes an error, or something else that only people read."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    return name.endswith(("Error", "Exception")) or name in {"field", "wrong", "quoted", "TypeVar"}


def _changes(node: ast.AST) -> Iterator[ast.AST | None]:
    match node:
        case ast.Compare(ops=[operator]):
            yield ast.Compare(node.left, [_COMPARED[type(operator)]()], node.comparators)
        case ast.Compare(ops=operators):
            for number, operator in enumerate(operators):
                others = [*operators[:number], _COMPARED[type(operator)](), *operators[number + 1 :]]
                yield ast.Compare(node.left, others, node.comparators)
        case ast.BoolOp(operator, values):
            for number in range(len(values)):
                rest = [*values[:number], *values[number + 1 :]]
                yield rest[0] if len(rest) == 1 else ast.BoolOp(operator, rest)
        case ast.UnaryOp(ast.Not(), operand):
            yield operand
        case ast.UnaryOp(ast.USub() | ast.Invert(), operand):
            yield operand
        case ast.If(test, body, orelse):
            if not isinstance(test, ast.Compare | ast.UnaryOp):
                yield ast.If(ast.UnaryOp(ast.Not(), test), body, orelse)
            yield ast.If(ast.Constant(False), body, orelse)
        case ast.IfExp(_, body, orelse):
            yield body
            yield orelse
        case ast.comprehension(target, iterated, tests, is_async) if tests:
            for number in range(len(tests)):
                yield ast.comprehension(target, iterated, [*tests[:number], *tests[number + 1 :]], is_async)
        case ast.BinOp(left, ast.BitAnd() | ast.BitOr(), right):
            yield left
            yield right
        case ast.BinOp(left, ast.Mod(), _) if not isinstance(left, ast.Constant):
            yield left
        case ast.BinOp(left, operator, right) if type(operator) in _COMPUTED:
            yield ast.BinOp(left, _COMPUTED[type(operator)](), right)
        case ast.AugAssign(target, operator, value) if type(operator) in _COMPUTED:
            yield ast.AugAssign(target, _COMPUTED[type(operator)](), value)
        case ast.Constant(value=bool(value)):
            yield ast.Constant(not value)
        case ast.Constant(value=int(value)):
            yield ast.Constant(value + 1)
            if value > 1:
                yield ast.Constant(value - 1)
        case ast.Constant(value=bytes(value)) if value:
            yield ast.Constant(value[:-1] + bytes([value[-1] ^ 1]))
        case ast.Tuple(elements, ast.Load()) | ast.Set(elements) if len(elements) > 1:
            for number in range(len(elements)):
                rest = [*elements[:number], *elements[number + 1 :]]
                yield ast.Set(rest) if isinstance(node, ast.Set) else ast.Tuple(rest, ast.Load())
        case ast.Dict(keys, values) if len(keys) > 1:
            for number in range(len(keys)):
                yield ast.Dict([*keys[:number], *keys[number + 1 :]], [*values[:number], *values[number + 1 :]])
        case ast.Call(ast.Name(name), _, _) if name in _CALLED:
            yield ast.Call(ast.Name(_CALLED[name], ast.Load()), node.args, node.keywords)
        case ast.Call(ast.Name("sorted"), [first, *_], _):
            yield ast.Call(ast.Name("list", ast.Load()), [first], [])
        case ast.Call(ast.Attribute(value, name), _, _) if name in _CLEANING:
            yield value
        case ast.Expr(ast.Call()) | ast.Continue() | ast.Break():
            yield None
        case ast.ExceptHandler(kind, name, [*_, ast.Raise()]):
            yield ast.ExceptHandler(kind, name, [ast.Pass()])
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript()]):
            yield None
