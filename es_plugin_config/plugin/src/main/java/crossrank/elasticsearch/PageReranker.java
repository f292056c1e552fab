package crossrank.elasticsearch;

import java.util.List;
import java.util.concurrent.Executor;
import java.util.concurrent.RejectedExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import java.util.function.Supplier;
import org.apache.logging.log4j.LogManager;
import org.apache.logging.log4j.Logger;
import org.elasticsearch.action.ActionListener;
import org.elasticsearch.action.search.SearchRequest;
import org.elasticsearch.client.internal.Client;
import org.elasticsearch.common.util.concurrent.ThreadContext;
import org.elasticsearch.core.TimeValue;
import org.elasticsearch.search.rank.RankDoc;
import rerank.v1.RerankRequest;

/** Runs the inner search of a page, sends what it found and gives the documents at their places. */
final class PageReranker {
  private static final Logger logger = LogManager.getLogger(PageReranker.class);

  /** The response header that says what became of the page. */
  static final String STATUS_HEADER = "X-CrossRank-Status";

  private static final long LOG_PAUSE_NANOS = TimeUnit.SECONDS.toNanos(30);

  private final RerankClient client;
  private final Executor continuation;
  private final ThreadContext threadContext;
  private final CallCounters counters = new CallCounters();
  private final AtomicLong lastLogged = new AtomicLong(System.nanoTime() - LOG_PAUSE_NANOS);
  private volatile TimeValue deadline;

  PageReranker(
      RerankClient client, Executor continuation, ThreadContext threadContext, TimeValue deadline) {
    this.client = client;
    this.continuation = continuation;
    this.threadContext = threadContext;
    this.deadline = deadline;
  }

  CallCounters counters() {
    return counters;
  }

  void setDeadline(TimeValue deadline) {
    this.deadline = deadline;
  }

  /**
   * Gives {@code listener} the documents of {@code search} in their order.
   *
   * <p>It fails only where the inner search fails; whatever happens to the call, the documents come,
   * then in retrieval order.
   */
  void rerank(
      Client searcher,
      SearchRequest search,
      PageParameters.Page page,
      boolean explain,
      ActionListener<RankDoc[]> listener) {
    searcher.search(
        search,
        listener.delegateFailureAndWrap(
            (next, found) -> {
              List<RetrievedDoc> retrieved = RetrievedDocs.of(found.getHits().getHits(), page);
              if (retrieved.isEmpty()) {
                next.onResponse(new RankDoc[0]);
              } else {
                send(retrieved, page, explain, next);
              }
            }));
  }

  private void send(
      List<RetrievedDoc> retrieved,
      PageParameters.Page page,
      boolean explain,
      ActionListener<RankDoc[]> listener) {
    Supplier<ThreadContext.StoredContext> restorable = threadContext.newRestorableContext(false);
    RerankRequest fixed =
        explain ? page.fixed().toBuilder().setExplain(true).build() : page.fixed();
    RerankRequest request =
        PageRequest.of(fixed, List.copyOf(page.fieldBySignal().keySet()), retrieved);
    TimeValue patience = page.deadline() == null ? deadline : page.deadline();
    if (retrieved.stream().noneMatch(RetrievedDoc::named)) {
      String detail = page.idField() + ": got no value in " + retrieved.size() + " documents";
      answer(
          retrieved, Outcome.degraded(Outcome.Reason.NO_PRODUCT_IDS, detail, 0), listener);
      return;
    }
    client.rerank(
        request,
        patience.nanos(),
        outcome ->
            onSearchThread(
                () -> {
                  try (ThreadContext.StoredContext restored = restorable.get()) {
                    assert restored != null;
                    answer(retrieved, outcome, listener);
                  }
                }));
  }

  /** Leaves the call's thread; where the pool is full, stays on it rather than fail the search. */
  private void onSearchThread(Runnable task) {
    try {
      continuation.execute(task);
    } catch (RejectedExecutionException full) {
      task.run();
    }
  }

  private void answer(
      List<RetrievedDoc> retrieved, Outcome outcome, ActionListener<RankDoc[]> listener) {
    ActionListener.completeWith(
        listener,
        () -> {
          Outcome usable = PageOrder.checked(retrieved, outcome);
          counters.count(usable);
          if (usable.isDegraded()) {
            log(usable);
          }
          threadContext.addResponseHeader(STATUS_HEADER, StatusHeader.of(usable));
          return new PageOrder(retrieved, usable).docs();
        });
  }

  /** Says why a page was degraded, at most every 30 seconds; the counters have them all. */
  private void log(Outcome outcome) {
    long now = System.nanoTime();
    long last = lastLogged.get();
    if (now - last < LOG_PAUSE_NANOS || !lastLogged.compareAndSet(last, now)) {
      logger.debug("degraded: {} {}", outcome.reason().word(), outcome.detail());
      return;
    }
    logger.warn(
        "pages keep retrieval order: {} {} (GET {} counts all)",
        outcome.reason().word(),
        outcome.detail(),
        StatsHandler.PATH);
  }
}
