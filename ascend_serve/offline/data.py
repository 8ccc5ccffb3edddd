"""Batches in Ray Data: an engine for each actor of ``Dataset.map_batches``.

import ray
import ascend_serve

answers = ray.data.read_parquet("prompts").map_batches(
    ascend_serve.DataEngine,
    fn_constructor_args=["configs/demo.yaml"],
    batch_format="pyarrow",
    concurrency=2,
    num_cpus=0,
)
answers.write_parquet("answers")
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ascend_serve.config.layers import Source
from ascend_serve.config.overrides import Overrides
from ascend_serve.offline.batch import answer_lines
from ascend_serve.offline.batch_lines import line_of
from ascend_serve.offline.generation import Engine
from ascend_serve.offline.parquet import ANSWER, answer_of, request_of

if TYPE_CHECKING:
    import pyarrow


class DataEngine:
    """Answers tables of requests: for ``Dataset.map_batches``, which makes one for each of its ``concurrency``.

    A row is a request by its columns, as in a file in Parquet of ``ascend-serve generate``. The columns of the answer
    are added, and replace those of the same names: ``text``, ``finish_reason``, ``error``, ``prompt_tokens``,
    ``completion_tokens``, and ``record``, the whole answer as JSON. A row without an answer says why in ``error``.

    Args:
        source: The configuration; see `ascend_serve.load`. A file has to be on every node.
        overrides: What wins over it.

    Raises:
        AscendServeError: The engine cannot start; see `Engine.start`.
    """

    def __init__(self, source: Source | Sequence[Source], overrides: Overrides = ()) -> None:
        self._engine = Engine.from_config(source, overrides).start()

    def __call__(self, batch: pyarrow.Table) -> pyarrow.Table:
        """Answer one batch.

        Args:
            batch: A table; Ray Data hands it over with ``batch_format="pyarrow"``.

        Raises:
            EngineError: The engine died.
            TypeError: Ray Data was not asked for tables.
        """
        import pyarrow

        if not isinstance(batch, pyarrow.Table):
            raise TypeError(f'DataEngine takes tables, not {type(batch).__name__}: set batch_format="pyarrow"')
        lines = [line_of(number, request_of(row)) for number, row in enumerate(batch.to_pylist(), start=1)]
        answers = [answer_of(record) for record in answer_lines(self._engine, lines)]
        kept = batch.drop_columns([name for name in batch.column_names if name in ANSWER])
        for name, kind in ANSWER.items():
            column: Any = pyarrow.array([answer[name] for answer in answers], type=kind)
            kept = kept.append_column(name, column)
        return kept
