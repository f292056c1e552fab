package crossrank.elasticsearch;

import java.util.EnumMap;
import java.util.Map;
import java.util.concurrent.atomic.LongAdder;

/** How the pages of this node ended since it started. */
final class CallCounters {
  private final LongAdder reranked = new LongAdder();
  private final LongAdder rerankedNanos = new LongAdder();
  private final Map<Outcome.Reason, LongAdder> degraded = new EnumMap<>(Outcome.Reason.class);

  CallCounters() {
    for (Outcome.Reason reason : Outcome.Reason.values()) {
      degraded.put(reason, new LongAdder());
    }
  }

  void count(Outcome outcome) {
    if (outcome.isDegraded()) {
      degraded.get(outcome.reason()).increment();
    } else {
      reranked.increment();
      rerankedNanos.add(outcome.tookNanos());
    }
  }

  long reranked() {
    return reranked.sum();
  }

  long rerankedNanos() {
    return rerankedNanos.sum();
  }

  long degraded(Outcome.Reason reason) {
    return degraded.get(reason).sum();
  }
}
