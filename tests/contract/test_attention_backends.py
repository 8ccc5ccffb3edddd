"""What our attention backends declare is what the builders of vllm-ascend and vLLM declare in their sources."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from ascend_serve.graph.architecture import AttentionBackend
from tests.contract import vendors

OF_VLLM_ASCEND = {
    AttentionBackend.ATTENTION_V1: "vllm_ascend.attention.attention_v1",
    AttentionBackend.MLA_V1: "vllm_ascend.attention.mla_v1",
    AttentionBackend.SFA_V1: "vllm_ascend.attention.sfa_v1",
    AttentionBackend.DSA_V1: "vllm_ascend.attention.dsa_v1",
    AttentionBackend.GDN_ATTN: "vllm_ascend.ops.gdn_attn_builder",
}
OF_VLLM = {
    AttentionBackend.MAMBA_ATTN: "vllm.v1.attention.backends.mamba_attn",
    AttentionBackend.LINEAR_ATTN: "vllm.v1.attention.backends.linear_attn",
}
INHERITS = {AttentionBackend.SHORT_CONV_ATTN: AttentionBackend.MAMBA_ATTN}
"""Builders that declare what their base class does."""


def test_every_backend_is_here() -> None:
    assert {*OF_VLLM_ASCEND, *OF_VLLM, *INHERITS} == set(AttentionBackend)


@pytest.mark.parametrize("backend", OF_VLLM_ASCEND, ids=str)
def test_vllm_ascend_declares_it(backend: AttentionBackend) -> None:
    sources = vendors.VLLM_ASCEND.sources()
    assert backend.support.name in _declared(sources.folder, OF_VLLM_ASCEND[backend])


@pytest.mark.parametrize("backend", OF_VLLM, ids=str)
def test_vllm_declares_it(backend: AttentionBackend) -> None:
    sources = vendors.installed_vllm()
    assert backend.support.name in _declared(sources.folder, OF_VLLM[backend])


@pytest.mark.parametrize("backend", INHERITS, ids=str)
def test_a_backend_that_inherits_declares_what_its_base_does(backend: AttentionBackend) -> None:
    assert backend.support is INHERITS[backend].support


def _declared(folder: Path, module: str) -> set[str]:
    """Names of ``AttentionCGSupport`` that a builder of ``module`` returns or has for its support."""
    text = folder.joinpath(*module.split(".")).with_suffix(".py").read_text(encoding="utf-8")
    return {name for node in ast.walk(ast.parse(text)) for name in _of(node)}


def _of(node: ast.AST) -> Iterator[str]:
    is_getter = isinstance(node, ast.FunctionDef) and node.name == "get_cudagraph_support"
    targets = [node.target] if isinstance(node, ast.AnnAssign) else getattr(node, "targets", [])
    is_attribute = any(isinstance(target, ast.Name) and target.id == "_cudagraph_support" for target in targets)
    for below in ast.walk(node) if is_getter or is_attribute else ():
        if isinstance(below, ast.Attribute) and getattr(below.value, "id", "") == "AttentionCGSupport":
            yield below.attr
