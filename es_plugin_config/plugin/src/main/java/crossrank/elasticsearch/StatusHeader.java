package crossrank.elasticsearch;

import java.util.concurrent.TimeUnit;

/** The text of the response header that says what became of a page. */
final class StatusHeader {
  private static final int MAX_DETAIL = 200;

  private StatusHeader() {}

  /** For example {@code degraded; reason=deadline; took_ms=50; detail="..."}; printable ASCII. */
  static String of(Outcome outcome) {
    long tookMs = TimeUnit.NANOSECONDS.toMillis(outcome.tookNanos());
    if (!outcome.isDegraded()) {
      String bundle = printable(outcome.response().getBundleId());
      return "reranked; bundle=" + bundle + "; took_ms=" + tookMs;
    }
    String detail = printable(outcome.detail());
    return "degraded; reason="
        + outcome.reason().word()
        + "; took_ms="
        + tookMs
        + (detail.isEmpty() ? "" : "; detail=\"" + detail + "\"");
  }

  private static String printable(String text) {
    StringBuilder kept = new StringBuilder();
    for (int i = 0; i < text.length() && kept.length() < MAX_DETAIL; i++) {
      char letter = text.charAt(i);
      kept.append(letter == '"' ? '\'' : letter < ' ' || letter > '~' ? ' ' : letter);
    }
    return kept.toString();
  }
}
