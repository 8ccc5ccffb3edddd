"""A small decoder of Qwen3's shape in torch_npu's operators, tensor-parallel over HCCL."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.distributed as dist
import torch_npu

LAYERS, HIDDEN, HEADS, KV_HEADS, HEAD, INNER, VOCABULARY = 2, 64, 4, 2, 16, 128, 96
MAX_REQUESTS, MAX_LENGTH = 16, 32
EPSILON = 1e-6


@dataclass
class Layer:
    """One rank's weights, and its part of the KV cache: requests x length x heads x head size."""

    qkv: torch.Tensor
    out: torch.Tensor
    gate_up: torch.Tensor
    down: torch.Tensor
    keys: torch.Tensor
    values: torch.Tensor


class Decoder:
    """One rank of the model. Weights are those of ``seed``, the same however many ranks share them.

    Its inputs, ``tokens`` and ``positions``, stay at their addresses, for graphs to read.
    """

    def __init__(self, rank: int, ranks: int, seed: int = 0) -> None:
        self._generator = torch.Generator().manual_seed(seed)
        self.rank, self.ranks = rank, ranks
        self.heads, self.kv_heads = HEADS // ranks, KV_HEADS // ranks
        self.embedding = self._weight(VOCABULARY, HIDDEN).npu()
        self.head = self._part(self._weight(VOCABULARY, HIDDEN))
        self.layers = [self._layer() for _ in range(LAYERS)]
        self.norm, self.head_norm = torch.ones(HIDDEN).bfloat16().npu(), torch.ones(HEAD).bfloat16().npu()
        angles = torch.outer(torch.arange(MAX_LENGTH), 10000.0 ** (-torch.arange(0, HEAD, 2) / HEAD)).repeat(1, 2)
        self.cos, self.sin = angles.cos().bfloat16().npu(), angles.sin().bfloat16().npu()
        self.tokens = torch.zeros(MAX_REQUESTS, dtype=torch.int64).npu()
        self.positions = torch.zeros(MAX_REQUESTS, dtype=torch.int64).npu()
        self.requests = torch.arange(MAX_REQUESTS).npu()
        self.reach = torch.arange(MAX_LENGTH).npu()

    def forward(self, batch: int) -> torch.Tensor:
        """The logits of the first ``batch`` requests, which are also written to the KV cache."""
        positions = self.positions[:batch]
        x = torch.nn.functional.embedding(self.tokens[:batch], self.embedding)
        for layer in self.layers:
            x = x + self._attention(layer, self._normed(x, self.norm), positions)
            x = x + self._feed_forward(layer, self._normed(x, self.norm))
        part = torch.nn.functional.linear(self._normed(x, self.norm), self.head)
        whole = torch.empty(self.ranks * batch, part.shape[1], dtype=part.dtype, device=part.device)
        dist.all_gather_into_tensor(whole, part)
        return torch.cat([whole[rank * batch : (rank + 1) * batch] for rank in range(self.ranks)], dim=-1)

    def clear(self) -> None:
        """Forget all requests."""
        for layer in self.layers:
            layer.keys.zero_()
            layer.values.zero_()

    def _attention(self, layer: Layer, x: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        batch = x.shape[0]
        qkv = torch.nn.functional.linear(x, layer.qkv).view(batch, -1, HEAD)
        q = self._rotated(self._normed(qkv[:, : self.heads].contiguous(), self.head_norm), positions)
        k = self._rotated(
            self._normed(qkv[:, self.heads : self.heads + self.kv_heads].contiguous(), self.head_norm), positions
        )
        requests = self.requests[:batch]
        layer.keys.index_put_((requests, positions), k)
        layer.values.index_put_((requests, positions), qkv[:, self.heads + self.kv_heads :].contiguous())
        group = self.heads // self.kv_heads
        shape = (batch * self.kv_heads, -1, HEAD)
        keys = layer.keys[:batch].transpose(1, 2).contiguous().view(shape)
        values = layer.values[:batch].transpose(1, 2).contiguous().view(shape)
        scores = torch.bmm(q.reshape(batch * self.kv_heads, group, HEAD), keys.transpose(1, 2)) * HEAD**-0.5
        hidden = (self.reach.view(1, 1, -1) > positions.view(-1, 1, 1)).expand(batch, self.kv_heads, -1)
        scores.masked_fill_(hidden.reshape(batch * self.kv_heads, 1, -1), -1e9)
        mixed = torch.bmm(scores.softmax(-1), values).view(batch, self.heads * HEAD)
        return self._reduced(torch.nn.functional.linear(mixed, layer.out))

    def _feed_forward(self, layer: Layer, x: torch.Tensor) -> torch.Tensor:
        inner = torch_npu.npu_swiglu(torch.nn.functional.linear(x, layer.gate_up))
        return self._reduced(torch.nn.functional.linear(inner, layer.down))

    @staticmethod
    def _reduced(x: torch.Tensor) -> torch.Tensor:
        dist.all_reduce(x)
        return x

    @staticmethod
    def _normed(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        normed: torch.Tensor = torch_npu.npu_rms_norm(x, weight, EPSILON)[0]
        return normed

    def _rotated(self, x: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        cos, sin = (table.index_select(0, positions).view(1, -1, 1, HEAD) for table in (self.cos, self.sin))
        rotated: torch.Tensor = torch_npu.npu_rotary_mul(x.unsqueeze(0), cos, sin)[0]
        return rotated

    def _layer(self) -> Layer:
        cache = torch.zeros(MAX_REQUESTS, MAX_LENGTH, self.kv_heads, HEAD).bfloat16()
        heads = [self._part(self._weight(count * HEAD, HIDDEN)) for count in (HEADS, KV_HEADS, KV_HEADS)]
        gate_up = [self._part(self._weight(INNER, HIDDEN)) for _ in range(2)]
        return Layer(
            qkv=torch.cat(heads),
            out=self._part(self._weight(HIDDEN, HEADS * HEAD), dim=1),
            gate_up=torch.cat(gate_up),
            down=self._part(self._weight(HIDDEN, INNER), dim=1),
            keys=cache.npu(),
            values=cache.npu(),
        )

    def _weight(self, *shape: int) -> torch.Tensor:
        return (torch.randn(*shape, generator=self._generator) * shape[1] ** -0.5).bfloat16()

    def _part(self, weight: torch.Tensor, dim: int = 0) -> torch.Tensor:
        return weight.chunk(self.ranks, dim)[self.rank].contiguous().npu()
