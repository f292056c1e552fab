package crossrank.elasticsearch;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import rerank.v1.RerankRequest;
import rerank.v1.Signal;

/** The message for the server: a search's fixed part and the candidates that it retrieved. */
final class PageRequest {
  /** The longest id that the server takes, in bytes of UTF-8. */
  static final int MAX_ID_BYTES = 256;

  private PageRequest() {}

  /**
   * Fills in the candidates: each product once, in retrieval order, with its first document's score
   * and signals.
   */
  static RerankRequest of(RerankRequest fixed, List<String> signals, List<RetrievedDoc> retrieved) {
    RerankRequest.Builder page = fixed.toBuilder();
    Set<String> seen = new HashSet<>();
    List<RetrievedDoc> candidates = new ArrayList<>(retrieved.size());
    boolean scored = false;
    for (RetrievedDoc doc : retrieved) {
      if (seen.add(doc.productId())) {
        candidates.add(doc);
        page.addCandidateIds(doc.productId());
        scored |= Float.isFinite(doc.score());
      }
    }
    if (scored) {
      for (RetrievedDoc doc : candidates) {
        page.addRetrievalScores(Float.isFinite(doc.score()) ? doc.score() : Float.NaN);
      }
    }
    for (int i = 0; i < signals.size(); i++) {
      Signal.Builder signal = Signal.newBuilder().setName(signals.get(i));
      for (RetrievedDoc doc : candidates) {
        signal.addValues(doc.signals()[i]);
      }
      page.addSignals(signal);
    }
    return page.build();
  }

  /** Whether the server takes this as an id. */
  static boolean isId(String text) {
    return !text.isEmpty()
        && (text.length() * 3 <= MAX_ID_BYTES
            || text.getBytes(StandardCharsets.UTF_8).length <= MAX_ID_BYTES);
  }

  /** The longest beginning of {@code text} that has at most {@code most} bytes of UTF-8. */
  static String beginning(String text, int most) {
    if (text.length() * 3L <= most) {
      return text;
    }
    int bytes = 0;
    for (int i = 0; i < text.length(); ) {
      int point = text.codePointAt(i);
      bytes += point < 0x80 ? 1 : point < 0x800 ? 2 : point < 0x10000 ? 3 : 4;
      if (bytes > most) {
        return text.substring(0, i);
      }
      i += Character.charCount(point);
    }
    return text;
  }
}
