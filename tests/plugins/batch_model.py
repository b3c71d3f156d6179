"""What the rows should be: the life of batches over plain values, without a database."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import count

OPEN = ("pending", "held", "leased")
CRASHES_TO_SUSPECT = 2
LATER = float("inf")


@dataclass
class Document:
    """`newest` are the texts of the newest version, `live` those that readers see."""

    newest: tuple[str, ...]
    live: tuple[str, ...] = ()
    waiting: bool = True
    # The job that brought its newest version; 0 is the one that is just being made.
    job: int = 0


@dataclass
class Job:
    paused: bool = False
    cancelled: bool = False
    # Texts that batches of other jobs had as it was made.
    awaited: int = 0


@dataclass
class Batch:
    job: int
    texts: list[str]
    state: str
    # Its turn, and from when on: of two with the same turn, the one that was put off last waits.
    tag: int
    ready: float
    attempt: int = 0
    errors: int = 0
    crashes: int = 0
    chunks: int = 0
    stored: int = 0
    # How often one of its texts got a vector: it may be lost and come again.
    got: int = 0
    # When its lease ran out; 0 while it stands.
    expired: int = 0
    # Those of its texts whose last chunk is gone: should they come again, they are others.
    gone: set[str] = field(default_factory=set)
    # Whether it is a part of another one.
    halved: bool = False

    @property
    def suspect(self) -> bool:
        return bool(self.errors or self.crashes or self.halved)

    def stand(self, state: str) -> None:
        """Of a batch that is cancelled, nobody wants the texts any more."""
        self.state = state
        if state == "cancelled":
            self.texts = []

    @property
    def known(self) -> set[str]:
        return set(self.texts) - self.gone


@dataclass(frozen=True)
class Claim:
    """What a worker was given: a batch, the attempt that fences it, the texts to be embedded."""

    batch: int
    attempt: int
    texts: frozenset[str]


@dataclass
class Model:
    """One collection. Ids are those of the database; how texts are packed is taken from it too."""

    documents: dict[str, Document] = field(default_factory=dict)
    jobs: dict[int, Job] = field(default_factory=dict)
    batches: dict[int, Batch] = field(default_factory=dict)
    # Each vector's batch and attempt: whose write it is.
    vectors: dict[str, tuple[int, int]] = field(default_factory=dict)
    failures: dict[str, tuple[str, int]] = field(default_factory=dict)
    # Which job tries a failed text anew; 0 is the one that is just being made.
    retried: dict[str, int] = field(default_factory=dict)
    # Texts whose vector a person removed.
    lost: set[str] = field(default_factory=set)
    clock: count = field(default_factory=lambda: count(1))
    # Where the batches that were queued end: what comes next has its turn there.
    finish: int = 0
    # Whether the space of the collection is paused.
    space_paused: bool = False
    # By a batch and a job, of which it is not, that waits for it: for how many of its texts.
    waits: dict[tuple[int, int], int] = field(default_factory=dict)
    # What the job that is just being made waits for: batches by text.
    awaited: dict[str, int] = field(default_factory=dict)

    @property
    def used(self) -> set[str]:
        return {text for each in self.documents.values() for text in (*each.newest, *each.live)}

    def enqueue(self, given: Mapping[str, tuple[str, ...]]) -> set[str]:
        """Take documents; returns the texts that have to be in the batches of the new job."""
        known = {key: self.documents[key].newest for key in given.keys() & self.documents.keys()}
        changed = {key: texts for key, texts in given.items() if known.get(key) != texts}
        for key, texts in changed.items():
            document = self.documents.setdefault(key, Document(texts))
            document.newest, document.waiting, document.job = texts, True, 0
        waiting = [texts for key, texts in given.items() if self.documents[key].waiting]
        missing = {text for texts in waiting for text in texts if text not in self.vectors}
        holders = self._holders
        self.awaited = {text: holders[text] for text in missing & holders.keys()}
        queued = missing - holders.keys()
        self.retried |= dict.fromkeys(queued & self.failures.keys(), 0)
        self._take_live(self.documents[key] for key in changed)
        return queued

    def delete(self, keys: Iterable[str]) -> list[str]:
        gone = sorted(key for key in keys if self.documents.pop(key, None))
        self._tidy()
        return gone

    def put(self, job: int, batches: Mapping[int, list[str]]) -> None:
        """The batches of a new job, as the database packed them."""
        self.jobs[job] = Job(awaited=len(self.awaited))
        self.waits |= {(each, job): n for each, n in Counter(self.awaited.values()).items()}
        self.awaited = {}
        self.retried = {text: by or job for text, by in self.retried.items()}
        for document in self.documents.values():
            document.job = document.job or job
        self._align()
        ready = next(self.clock)
        for batch, texts in batches.items():
            state = self.standing(job)
            tag = self._reserved() if state == "pending" else 0
            self.batches[batch] = Batch(job, texts, state, tag, ready, chunks=len(texts))

    def claim(self) -> Claim | None:
        pending = [
            (each.tag, each.ready, n)
            for n, each in self.batches.items()
            if each.state == "pending" and each.ready != LATER
        ]
        for _, _, number in sorted(pending):
            batch = self.batches[number]
            batch.attempt += 1
            texts = batch.known - self.vectors.keys()
            if any(texts & each.known for each in self.leased().values()):
                self._put_off(batch, LATER)
            else:
                batch.state, batch.expired = "leased", 0
                return Claim(number, batch.attempt, frozenset(texts))
        return None

    def claim_more(self, claim: Claim) -> list[Claim]:
        """What comes next of the same job, unless it was charged something or halved."""
        job = self.batches[claim.batch].job
        due = [
            each
            for each in self.batches.values()
            if each.state == "pending" and each.ready != LATER and each.job == job
        ]
        taken = {
            number: each
            for number, each in self.batches.items()
            if each in due and not each.suspect and self.standing(job) == "pending"
        }
        others = [
            each.known for n, each in self.leased().items() if n != claim.batch and n not in taken
        ]
        claims = []
        for number, batch in sorted(taken.items()):
            batch.attempt += 1
            texts = batch.known - self.vectors.keys()
            if any(texts & known for known in others):
                self._put_off(batch, LATER)
            else:
                batch.state, batch.expired = "leased", 0
                claims.append(Claim(number, batch.attempt, frozenset(texts)))
        return claims

    def standing(self, job: int) -> str:
        if self.jobs[job].cancelled:
            return "cancelled"
        return "held" if self.jobs[job].paused or self.space_paused else "pending"

    def leased(self) -> dict[int, Batch]:
        return {n: each for n, each in self.batches.items() if each.state == "leased"}

    def stands(self, claim: Claim) -> bool:
        batch = self.batches[claim.batch]
        return (batch.state, batch.attempt) == ("leased", claim.attempt)

    def expire(self, claim: Claim) -> None:
        self.batches[claim.batch].expired = next(self.clock)

    def heartbeat(self, claim: Claim) -> None:
        self.batches[claim.batch].expired = 0

    def commit(self, claim: Claim) -> None:
        inserted = self._insert(claim, claim.texts)
        self._close(claim.batch, "done", inserted=inserted)

    def store(self, claim: Claim, part: Iterable[str]) -> None:
        """Some texts get their vector, and the lease goes on."""
        texts, batch = set(part), self.batches[claim.batch]
        inserted = self._insert(claim, texts)
        self._settled(texts & batch.known)
        batch.stored = min(batch.chunks, batch.stored + inserted)

    def put_back(self, number: int, *, charge: int, later: bool) -> None:
        batch = self.batches[number]
        batch.stand(self._destination(number))
        batch.errors += charge
        self._put_off(batch, LATER if later else next(self.clock))

    def split(self, number: int, children: Iterable[int]) -> None:
        batch = self.batches[number]
        left = self._left(batch)
        half, state, ready = len(left) // 2, self._destination(number), next(self.clock)
        halves = filter(None, (left[:half], left[half:]))
        for child, texts in zip(children, halves, strict=True):
            made = Batch(
                batch.job, texts, state, self.finish, ready, chunks=len(texts), halved=True
            )
            made.gone = batch.gone & set(texts)
            made.stand(state)
            self.batches[child] = made
            if state != "cancelled":
                for of, job in [each for each in self.waits if each[0] == number]:
                    along = min(self.waits[of, job], made.chunks)
                    self.waits[child, job] = along
                    self.waits[of, job] -= along
        self._close(number, "split" if left else "done")

    def fail(self, number: int, texts: Iterable[str], code: str) -> None:
        batch = self.batches[number]
        failed = set(texts) & batch.known - self.vectors.keys()
        self.failures |= dict.fromkeys(failed, (code, batch.job))
        self.retried = {text: by for text, by in self.retried.items() if text not in failed}
        self._close(number, "dead" if failed else "done", failed=len(failed))

    def sweep(self, children: Callable[[int], Iterable[int]]) -> None:
        """Reclaim what expired, the oldest first; `children` tells the ids of a batch's halves."""
        expired = [(each.expired, n) for n, each in self.leased().items() if each.expired]
        for _, number in sorted(expired):
            batch = self.batches[number]
            batch.crashes += 1
            if batch.crashes < CRASHES_TO_SUSPECT:
                # It keeps its place in the queue.
                batch.stand(self._destination(number))
            elif len(batch.texts) > 1:
                self.split(number, children(number))
            else:
                self.fail(number, self._left(batch), "WORKER_CRASH")

    def pause(self, job: int) -> None:
        self.jobs[job].paused = True
        self._align()

    def resume(self, job: int) -> None:
        self.jobs[job].paused = False
        self._align()

    def pause_space(self, number: int) -> None:
        """The worker of a batch learns that the provider refuses: the batch keeps its place."""
        self.space_paused = True
        self.batches[number].stand(self._destination(number))
        self._align()

    def resume_space(self) -> None:
        self.space_paused = False
        self._align()

    def cancel(self, job: int) -> None:
        is_open = any(each.job == job and each.state in OPEN for each in self.batches.values())
        if is_open or self.is_waiting(job):
            self.jobs[job].cancelled = True
        self._align()

    def is_waiting(self, job: int) -> bool:
        """Whether it waits for batches of others; a job that was cancelled waits for nothing."""
        return any(by == job for _, by in self.waits) and not self.jobs[job].cancelled

    def retry(self, job: int | None) -> set[str]:
        """Returns the texts that a retry has to queue; each failure stands until a new verdict."""
        failed = {text for text, (_, of) in self.failures.items() if job in (None, of)}
        return failed - self._open_texts

    def repair(self) -> set[str]:
        """Returns the texts that the repair has to queue."""
        missing = self.missing()
        self._take_live(self.documents.values())
        return missing

    def missing(self) -> set[str]:
        """Texts in use without vector, failure and open batch."""
        return self.used - self.vectors.keys() - self.failures.keys() - self._open_texts

    def stranded(self) -> set[str]:
        """Missing texts of documents whose job was not cancelled, but for those a person lost."""
        standing = [each for each in self.documents.values() if not self.jobs[each.job].cancelled]
        wanted = {text for each in standing for text in each.newest}
        return self.missing() & wanted - self.lost

    def time_passes(self) -> None:
        ready = next(self.clock)
        for batch in self.batches.values():
            if batch.state == "pending" and batch.ready == LATER:
                batch.ready = ready

    @property
    def _open_texts(self) -> set[str]:
        return set(self._holders)

    @property
    def _holders(self) -> dict[str, int]:
        """The open batch that has a text: there is never more than one."""
        held = [
            (text, number)
            for number, each in self.batches.items()
            if each.state in OPEN
            for text in each.known
        ]
        assert len(dict(held)) == len(held)
        return dict(held)

    def _align(self) -> None:
        """Waiting batches go where their jobs stand. What goes on stands behind the others, and
        waits for nothing else.
        """
        ready = next(self.clock)
        for number, batch in sorted(self.batches.items()):
            if batch.state not in ("pending", "held"):
                continue
            before, state = batch.state, self._destination(number)
            batch.stand(state)
            if (before, state) == ("held", "pending"):
                batch.tag, batch.ready = self._reserved(), ready

    def _reserved(self) -> int:
        """The turn of one more batch, behind all others."""
        self.finish += 1
        return self.finish - 1

    def _put_off(self, batch: Batch, until: float) -> None:
        """To where the next new one has its turn."""
        batch.tag, batch.ready = self.finish, until

    def _destination(self, number: int) -> str:
        """Where a batch goes; that of a job that was stopped goes to one that waits for it."""
        batch = self.batches[number]
        former, stands = batch.job, self.standing(batch.job)
        heirs = [job for of, job in self.waits if of == number]
        going_on = [job for job in heirs if self.standing(job) == "pending"]
        held = [job for job in heirs if self.standing(job) == "held"]
        if stands == "pending" or not (going_on or (stands == "cancelled" and held)):
            return stands
        batch.job = min(going_on or held)
        self.jobs[batch.job].awaited -= self.waits.pop((number, batch.job))
        if stands != "cancelled":
            self.waits[number, former] = batch.chunks - batch.stored
            self.jobs[former].awaited += batch.chunks - batch.stored
        return self.standing(batch.job)

    def _left(self, batch: Batch) -> list[str]:
        return [each for each in batch.texts if each in batch.gone or each not in self.vectors]

    def _settled(self, texts: Iterable[str]) -> None:
        settled = set(texts)
        self._take_live(each for each in self.documents.values() if settled & set(each.newest))

    def _take_live(self, documents: Iterable[Document]) -> None:
        tried = {text for text, job in self.retried.items() if job == 0 or self._stands(job)}
        known = self.vectors.keys() | self.failures.keys() - tried
        for document in documents:
            if document.waiting and known >= set(document.newest):
                document.live, document.waiting = document.newest, False
        self._tidy()

    def _tidy(self) -> None:
        used = self.used
        self.vectors = {text: of for text, of in self.vectors.items() if text in used}
        self._forget(self.failures.keys() - used)
        for batch in self.batches.values():
            batch.gone |= set(batch.texts) - used

    def _forget(self, texts: Iterable[str]) -> None:
        for text in set(texts):
            self.failures.pop(text, None)
            self.retried.pop(text, None)

    def _stands(self, job: int) -> bool:
        return not self.jobs[job].cancelled

    def _insert(self, claim: Claim, texts: Iterable[str]) -> int:
        """Returns how many texts got their vector by this claim."""
        texts = set(texts) & self.batches[claim.batch].known
        new = texts - self.vectors.keys()
        self.vectors |= dict.fromkeys(new, (claim.batch, claim.attempt))
        self.batches[claim.batch].got += len(new)
        self._forget(texts)
        return len(new)

    def _close(self, number: int, state: str, *, inserted: int = 0, failed: int = 0) -> None:
        batch = self.batches[number]
        held = [self.vectors[text] for text in batch.known if text in self.vectors]
        batch.got += sum(of != number for of, _ in held)
        batch.stored = min(batch.chunks - failed, max(batch.stored + inserted, len(held)))
        batch.chunks = batch.stored + failed
        texts, batch.state, batch.texts = batch.texts, state, []
        self.waits = {each: n for each, n in self.waits.items() if each[0] != number}
        # What nobody uses any more goes when the batch is closed.
        self._settled(texts)
