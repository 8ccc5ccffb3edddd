"""The narrowing of modes, held equal to vLLM's own: by running the installed one, and by the syntax tree of 0.23.0.

vLLM 0.23.0 cannot be installed beside 0.32.0. Its function was read once from the published wheel and recorded below as
the digest of its normalised syntax tree. Normalising takes out what does not decide the mode (texts, logging, arguments
of errors) and the differences between the two versions, by name. That the installed function has the same digest means:
apart from these differences, both decide alike.
"""

import ast
import hashlib
import inspect
import textwrap
from itertools import product

import pytest

from ascend_serve.errors import PlanError
from ascend_serve.graph.modes import GraphMode
from ascend_serve.graph.narrowing import BackendSituation, GraphSupport, narrow

compilation = pytest.importorskip("vllm.config.compilation", reason="vLLM is not installed")
from vllm.v1.attention.backend import AttentionCGSupport  # noqa: E402

RESOLVE = compilation.CompilationConfig.resolve_cudagraph_mode_and_sizes
KNOWS_PIECES = "piecewise_capture_available" in inspect.signature(RESOLVE).parameters
DIGEST_0_23_0 = "ee18dd9c74f1ce07db5670fa656e86d558419169291a817828b27ee49b48d823"


def upstream(situation: BackendSituation) -> str:
    pieces = {"piecewise_capture_available": situation.piecewise_capture} if KNOWS_PIECES else {}
    config = compilation.CompilationConfig(
        mode=compilation.CompilationMode.VLLM_COMPILE if situation.compiled else compilation.CompilationMode.NONE,
        cudagraph_mode=compilation.CUDAGraphMode[situation.mode],
        splitting_ops=list(compilation.CompilationConfig._attention_ops) if situation.split_at_attention else [],
    )
    try:
        return config.resolve_cudagraph_mode_and_sizes(
            AttentionCGSupport[situation.support.name],
            situation.backend,
            situation.decode_query_len,
            **pieces,
        ).name
    except ValueError:
        return "refused"


def ours(situation: BackendSituation) -> str:
    try:
        return narrow(situation)[0].value
    except PlanError:
        return "refused"


@pytest.mark.parametrize("support", list(GraphSupport), ids=lambda support: support.name)
@pytest.mark.parametrize("mode", list(GraphMode), ids=lambda mode: mode.value)
def test_every_combination_narrows_as_upstream(mode: GraphMode, support: GraphSupport) -> None:
    for length, compiled, split, pieces in product(
        (1, 2, 4), (False, True), (False, True), (False, True) if KNOWS_PIECES else (True,)
    ):
        situation = BackendSituation(mode, support, "backend", length, compiled, split, pieces)
        assert ours(situation) == upstream(situation), situation


def test_levels_of_support_are_upstreams() -> None:
    assert {level.name: level.value for level in AttentionCGSupport} == {
        level.name: level.value for level in GraphSupport
    }


def test_modes_are_upstreams() -> None:
    assert {mode.name for mode in compilation.CUDAGraphMode} == {mode.value for mode in GraphMode}
    for mode in GraphMode:
        theirs = compilation.CUDAGraphMode[mode]
        assert theirs.decode_mode().name == mode.decode_mode
        assert theirs.mixed_mode().name == mode.mixed_mode
        assert theirs.separate_routine() == mode.separate_routine


class Normalised(ast.NodeTransformer):
    """The function without texts and logging, and without what 0.32.0 has and 0.23.0 has not."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        self.generic_visit(node)
        node.args = ast.arguments(posonlyargs=[], args=[], kwonlyargs=[], kw_defaults=[], defaults=[])
        return node

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        return None if ast.unparse(node).startswith(("logger.", "'", '"')) else self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> ast.AST | None:
        return None if ast.unparse(node.targets[0]) == "msg" else self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.AST | None:
        return None if ast.unparse(node.target) == "msg" else self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        assert isinstance(node.exc, ast.Call)
        node.exc.args = []
        return node

    def visit_If(self, node: ast.If) -> ast.AST | None:
        # 0.32.0 only: the rule `no-pieces-to-capture`.
        if "piecewise_capture_available" in ast.unparse(node.test):
            return None
        self.generic_visit(node)
        return node if node.body else None

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.AST:
        # 0.32.0 only: Model Runner V2 sizes its graphs elsewhere. Decides sizes, not the mode.
        node.values = [value for value in node.values if ast.unparse(value) != "not use_v2_model_runner"]
        return self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        # 0.23.0 only: sizes become multiples of the tensor-parallel size here, too. Decides sizes, not the mode.
        if ast.unparse(node.func) == "self.adjust_cudagraph_sizes_for_spec_decode":
            node.args = node.args[:1]
        return node


def digest(source: str) -> str:
    """Digest of the normalised syntax tree of a function's source."""
    tree = Normalised().visit(ast.parse(textwrap.dedent(source)))
    return hashlib.sha256(ast.unparse(tree).encode()).hexdigest()


def test_the_installed_function_is_that_of_0_23_0_apart_from_named_differences() -> None:
    assert digest(inspect.getsource(RESOLVE)) == DIGEST_0_23_0


@pytest.mark.parametrize(
    "line",
    [
        pytest.param("cudagraph_mode = CUDAGraphMode.FULL_DECODE_ONLY", id="another mode"),
        pytest.param("and uniform_decode_query_len > 1", id="another condition"),
    ],
)
def test_the_digest_sees_a_change(line: str) -> None:
    source = inspect.getsource(RESOLVE)
    assert line in source
    changed = line.replace("FULL_DECODE_ONLY", "PIECEWISE").replace("> 1", "> 2")
    assert digest(source.replace(line, changed, 1)) != DIGEST_0_23_0
