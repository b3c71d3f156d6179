"""How good the searches of a collection are, alone and beside other models and sizes of chunks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from embedfleet import arguments
from embedfleet.error_translation import translate_errors
from embedfleet.maintenance import Maintenance
from embedfleet_schema.errors import UsageError

if TYPE_CHECKING:
    from embedfleet.evaluation.comparison import Compared
    from embedfleet.evaluation.evaluate import Evaluation
    from embedfleet.evaluation.judgements import Judgements, Queries

MOST_RANKS = 1_000
MOST_DOCUMENTS = 1_000_000


@translate_errors
class Quality(Maintenance):
    """The part of `Collection` that measures how good its searches are."""

    def eval(
        self,
        queries: Queries | str | Path | None = None,
        qrels: Judgements | str | Path | None = None,
        *,
        k: int = 10,
        hybrid: bool = False,
        sample: int = 200,
        on_step: Callable[[str], None] | None = None,
    ) -> Evaluation:
        """nDCG@10, recall@k and the mean reciprocal rank of searches, as trec_eval defines them.

        Without judgements, sentences of stored documents are the queries, each for its document
        (`known_items`): such figures are higher than with people's questions.

        Args:
            queries: texts by the ids of queries, or a file of JSON Lines: {"_id": ..., "text": ...}
            qrels: grades by the keys of documents, by the ids of queries; or a file, of TREC's four
                columns or BEIR's three.
            hybrid: search for the words, too: `hybrid_search`.
            sample: how many documents are searched for where there are no judgements.

        Raises:
            UsageError: a file is not understood, no query is judged, or the collection has none of
                the relevant documents.
        """
        from embedfleet.evaluation.evaluate import evaluate

        texts, grades = _given("eval", queries, qrels)
        arguments.whole("eval", "k", k, most=MOST_RANKS)
        arguments.whole("eval", "sample", sample, most=MOST_DOCUMENTS)
        arguments.flag("eval", "hybrid", hybrid)
        arguments.function("eval", "on_step", on_step)
        return evaluate(
            self._connections,
            self.info,
            texts,
            grades,
            k=k,
            hybrid=hybrid,
            sample=sample,
            tell=on_step or _say_nothing,
        )

    def compare(
        self,
        models: Sequence[str] = (),
        sizes: Sequence[int] = (),
        queries: Queries | str | Path | None = None,
        qrels: Judgements | str | Path | None = None,
        *,
        sample: int = 1_000,
        k: int = 10,
        hybrid: bool = False,
        progress: bool = False,
        on_step: Callable[[str], None] | None = None,
    ) -> list[Compared]:
        """Each of these models with each of these sizes of chunks, over a sample of the documents.

        The workers embed the sample anew for each, in collections that are dropped at the end, also
        after Ctrl-C; what a killed process leaves, the next call drops.

        Args:
            models: names of models; `MODEL@DIMENSIONS` sets the dimensions. Default: the
                collection's own.
            sizes: tokens of a chunk. Default: the collection's own.
            queries, qrels: as for `eval`.
            sample: how many documents; those that are judged come first.
            progress: show the jobs on the terminal.

        Raises:
            UsageError: another comparison runs in this database, and what `eval` raises.
            NoWorker, JobPaused: the sample is not embedded.
        """
        from embedfleet.evaluation.comparison import candidates, compare

        texts, grades = _given("compare", queries, qrels)
        named = arguments.texts("compare", "models", models, '["all-MiniLM-L6-v2"]')
        for size in sizes:
            arguments.whole("compare", "sizes", size)
        arguments.whole("compare", "k", k, most=MOST_RANKS)
        arguments.whole("compare", "sample", sample, most=MOST_DOCUMENTS)
        arguments.flag("compare", "hybrid", hybrid)
        arguments.function("compare", "on_step", on_step)
        self._check_there()
        return compare(
            self._connections,
            self.info,
            candidates(self.info, named, sizes),
            texts,
            grades,
            sample=sample,
            k=k,
            hybrid=hybrid,
            wait=lambda job: job.wait(progress=progress),
            tell=on_step or _say_nothing,
        )


def _given(
    call: str, queries: Queries | str | Path | None, qrels: Judgements | str | Path | None
) -> tuple[Queries | None, Judgements | None]:
    """Both as they are, or as their files hold them.

    Raises:
        UsageError: only one of them is given, or a file is not understood.
    """
    from embedfleet.evaluation.judgements import read_judgements, read_queries

    if (queries is None) != (qrels is None):
        lacking = "qrels" if qrels is None else "queries"
        raise UsageError(reason=f"{call}: queries and judgements go together; give {lacking}, too")
    for name, value in (("queries", queries), ("qrels", qrels)):
        if value is not None and not isinstance(value, Mapping | str | Path):
            arguments.wrong_type(call, name, "a mapping or a file", value)
    return (
        read_queries(Path(queries)) if isinstance(queries, str | Path) else queries,
        read_judgements(Path(qrels)) if isinstance(qrels, str | Path) else qrels,
    )


def _say_nothing(_step: str) -> None:
    return
