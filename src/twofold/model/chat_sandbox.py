"""Jinja that runs somebody else's template: no way out, and a bounded amount of work.

The way out is closed by Jinja's immutable sandbox and by lists of what may be called (`chat_filters`). The
work is bounded by rewriting the parsed template, so that the code Jinja makes of it pays the rendering's
meter:

    {% for x in xs %} BODY      ->   {% for x in xs %} tick(cost of BODY) BODY      macros, call blocks too
    a ~ b                       ->   concatenated(a, b)
    a | filter, [a, b], a[1:]   ->   weighed(...)
    a == b                      ->   weighed(a) == weighed(b)
    a * b, f(a), {{ a }}        ->   already pass through the environment, which pays

Constants are not folded while compiling, for that would run before there is a meter.
"""

from typing import Any, ClassVar

from jinja2 import Template, nodes, pass_context
from jinja2.exceptions import SecurityError, TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context, LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

from twofold.model.chat_filters import ALLOWED_METHODS, FILTERS, TESTS, meter_of, pay_for_method
from twofold.model.chat_meter import ITEM, Meter

SOURCE_LIMIT = 256 * 1024  # characters of a template; the longest published ones have some 30,000
_INTEGER_BITS = 4096
_REFUSED_STATEMENTS = {
    nodes.Block: "block", nodes.Extends: "extends", nodes.Include: "include", nodes.Import: "import",
    nodes.FromImport: "from", nodes.FilterBlock: "filter", nodes.EvalContextModifier: "autoescape",
}  # fmt: skip


class MessagesRefused(TemplateError):  # noqa: N818
    """The template called `raise_exception`: it does not take these messages."""


class MeteredContext(Context):
    """The state of one rendering, with its account."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.meter = Meter()


class _Namespace(Namespace):
    """Jinja's namespace, except that printing it does not print what it holds (which is not weighed)."""

    def __repr__(self) -> str:
        return "<namespace>"


class _Generation(Extension):
    """`{% generation %}`, which marks an assistant's words for training and means nothing here."""

    tags: ClassVar[set[str]] = {"generation"}  # type: ignore[misc]

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=line)


class ChatSandbox(ImmutableSandboxedEnvironment):
    """The environment that chat templates are compiled and run in; whitespace as in Transformers."""

    context_class = MeteredContext
    intercepted_binops = frozenset(("+", "-", "*", "/", "//", "%", "**"))

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[loopcontrols, _Generation],
            optimized=False,
            finalize=_printed,
            cache_size=0,
        )
        self.filters = FILTERS
        self.tests = TESTS
        self.globals = {
            "range": self.globals["range"],
            "dict": dict,
            "namespace": _Namespace,
            "raise_exception": _raise_exception,
        }

    def compiled(self, source: str) -> Template:
        """The metered form of `source`. Raises jinja2.TemplateError and what Python's compiler raises."""
        if len(source) > SOURCE_LIMIT:
            raise TemplateError(f"it has {len(source)} characters, more than {SOURCE_LIMIT}")
        tree = _Metering().visit(self.parse(source))
        tree.set_environment(self)
        return Template.from_code(self, self.compile(tree), self.make_globals(None))

    def wrap_str_format(self, value: Any) -> None:
        """None: `str.format` has no form of its own here, and `is_safe_attribute` refuses it."""

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Whether a template may read this attribute of a Python object."""
        for kind, methods in ALLOWED_METHODS.items():
            if isinstance(obj, kind):
                return attr in methods
        return isinstance(obj, LoopContext | Namespace) and not attr.startswith("_")

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805
        """Call what the template calls, and pay for it."""
        meter = meter_of(__context)
        owner = getattr(__obj, "__self__", None)
        if owner is __self:
            return __obj(meter, *args)
        meter.spend(ITEM)
        if isinstance(owner, str):
            pay_for_method(meter, owner, __obj.__name__, args)
        elif owner is not None:
            meter.weigh(owner)
        result = super().call(__context, __obj, *args, **kwargs)
        meter.weigh(result)
        return result

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Calculate, paying first for what can become long."""
        meter = meter_of(context)
        sizes = meter.weigh(left), meter.weigh(right)
        numbers = isinstance(left, int | float) and isinstance(right, int | float)
        if operator == "%" and not numbers:
            raise SecurityError("formatting with % is not available; use ~ to join text")
        if operator == "*" and not numbers:
            times, size = (left, sizes[1]) if isinstance(left, int) else (right, sizes[0])
            meter.claim((size - ITEM) * max(times, 0) if isinstance(times, int) else 0)
        if operator in ("*", "**") and isinstance(left, int) and isinstance(right, int):
            more = right.bit_length() if operator == "*" else left.bit_length() * max(right - 1, 0)
            if left.bit_length() + more > _INTEGER_BITS:
                raise SecurityError(f"it makes an integer of more than {_INTEGER_BITS} bits")
        result = super().call_binop(context, operator, left, right)
        meter.weigh(result)
        return result

    # What the rewritten template calls; `call` puts the meter first.

    def weighed(self, meter: Meter, value: Any) -> Any:
        """`value`, paid for."""
        meter.weigh(value)
        return value

    def concatenated(self, meter: Meter, *values: Any) -> str:
        """The texts of `values` joined."""
        meter.claim(sum(map(meter.weigh, values)))
        return "".join(map(str, values))

    def tick(self, meter: Meter, cost: int, value: Any = None) -> Any:
        """`value`, after paying for one more turn."""
        meter.spend(cost)
        return value


@pass_context
def _printed(context: Context, value: Any) -> Any:
    meter_of(context).weigh(value)
    return value


def _raise_exception(message: object) -> None:
    raise MessagesRefused(str(message))


def _paid(function: str, *values: Any, lineno: int) -> nodes.Call:
    return nodes.Call(nodes.EnvironmentAttribute(function), list(values), [], None, None, lineno=lineno)


class _Metering(NodeTransformer):
    """Rewrites a parsed template as the page above says."""

    def visit(self, node: nodes.Node, *args: Any, **kwargs: Any) -> Any:
        for kind, tag in _REFUSED_STATEMENTS.items():
            if isinstance(node, kind):
                raise SecurityError(f"line {node.lineno} uses {{% {tag} %}}, which is not available")
        return super().visit(node, *args, **kwargs)

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802
        cost = _cost(node)
        self.generic_visit(node)
        if node.test is not None:
            node.test = _paid("tick", nodes.Const(cost), node.test, lineno=node.lineno)
        return _ticking(node, cost)

    def visit_Macro(self, node: nodes.Macro) -> nodes.Node:  # noqa: N802
        cost = _cost(node)
        self.generic_visit(node)
        return _ticking(node, cost)

    def visit_CallBlock(self, node: nodes.CallBlock) -> nodes.Node:  # noqa: N802
        return self.visit_Macro(node)  # type: ignore[arg-type]

    def visit_AssignBlock(self, node: nodes.AssignBlock) -> nodes.Node:  # noqa: N802
        if node.filter is not None:
            raise SecurityError(f"line {node.lineno} filters a {{% set %}} block, which is not available")
        self.generic_visit(node)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return _paid("concatenated", *node.nodes, lineno=node.lineno)

    def visit_Filter(self, node: nodes.Filter) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        if node.node is not None:
            node.node = _paid("weighed", node.node, lineno=node.lineno)
        return _paid("weighed", node, lineno=node.lineno)

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        sides: list[Any] = [node, *node.ops]
        for side in sides:
            if not isinstance(side.expr, nodes.Const):
                side.expr = _paid("weighed", side.expr, lineno=node.lineno)
        return node

    def visit_Test(self, node: nodes.Test) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        if node.args:
            node.node = _paid("weighed", node.node, lineno=node.lineno)
        return node

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return _paid("weighed", node, lineno=node.lineno) if isinstance(node.arg, nodes.Slice) else node

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return _paid("weighed", node, lineno=node.lineno) if node.ctx == "load" else node

    def visit_List(self, node: nodes.List | nodes.Dict) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return _paid("weighed", node, lineno=node.lineno)

    visit_Dict = visit_List  # noqa: N815


def _cost(node: nodes.Node) -> int:
    """Units of one turn of a loop or macro: its steps and the text it prints as it stands."""
    texts = sum(len(text.data) for text in node.find_all(nodes.TemplateData))
    return texts + ITEM * sum(1 for _ in node.find_all(nodes.Node))


def _ticking(node: Any, cost: int) -> nodes.Node:
    turn = _paid("tick", nodes.Const(cost), lineno=node.lineno)
    node.body.insert(0, nodes.ExprStmt(turn, lineno=node.lineno))
    statement: nodes.Node = node
    return statement
