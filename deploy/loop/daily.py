"""The rounds that are due: every finished day of the streams after the newest that was read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

from deploy.loop.learning import STREAM, Learner, Round, round_documents
from deploy.loop.publishing import BundlePublisher
from deploy.loop.search_log import QUERIES, SEARCHES


def due_days(learner: Learner, now: datetime) -> list[date]:
    """Return the days to read, oldest first: those whose events have all come by `now`.

    The newest that was read is among them when its round was stopped.
    """
    days = learner.plan.days
    newest = days.day_of(now.astimezone(UTC) - days.delay) - timedelta(days=1)
    read = learner.tables.watermark()
    if read is None:
        times = [learner.streams.first(stream) for stream in (SEARCHES, QUERIES)]
        known = [each for each in times if each is not None]
        if not known:
            return []
        read = days.day_of(max(min(known), days.begin)) - timedelta(days=1)
    elif not learner.tables.is_finished(read):
        read -= timedelta(days=1)
    return [read + timedelta(days=n) for n in range(1, (newest - read).days + 1)]


def run_due_rounds(learner: Learner, publisher: BundlePublisher, now: datetime) -> Iterator[Round]:
    """Run a round for every due day that has searches, and write what it did to the streams.

    Raises:
        RerankError: The child that names what stops a round.
    """
    for day in due_days(learner, now):
        start = learner.plan.days.start(day)
        end = start + learner.plan.days.length
        if not any(True for s in (SEARCHES, QUERIES) for _ in learner.streams.read(s, start, end)):
            continue
        number = len(learner.tables.verdicts())
        served = publisher.served(learner.plan.threads)
        run = served.run if learner.plan.warm_start else None
        result = replace(
            learner.run(day, served.order, publisher, run),
            serving_bundle_id=served.order.bundle_id,
            canary_bundle_id=served.canary_id,
        )
        documents = round_documents(result, number, now)
        learner.streams.append(STREAM, documents)
        learner.tables.finish(day)  # a round that is cut before this is due again
        yield result
