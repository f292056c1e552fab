package crossrank.elasticsearch;

import java.util.Locale;
import rerank.v1.RerankResponse;

/**
 * What became of one page: the server's response, or why there is none that can be used.
 *
 * @param response The response; null when degraded.
 * @param reason Why the page keeps retrieval order; null when it was reranked.
 * @param detail The reason in words, for people; empty when there is nothing to add.
 * @param tookNanos From the call to its outcome.
 */
record Outcome(RerankResponse response, Reason reason, String detail, long tookNanos) {

  /** Why a page keeps retrieval order; the gateway uses the same words. */
  enum Reason {
    /** No address is set. */
    NOT_CONFIGURED,
    /** No document of the page has a product id. */
    NO_PRODUCT_IDS,
    /** This node, or the server, has as many calls as it takes. */
    OVERLOADED,
    /** Calls failed in a row, and the breaker holds them back. */
    CIRCUIT_OPEN,
    /** No answer in time. */
    DEADLINE,
    /** The server cannot be reached, or broke the connection. */
    UNAVAILABLE,
    /** The server wants another token. */
    UNAUTHENTICATED,
    /** The server does not take the page; the detail says why. */
    REFUSED_PAGE,
    /** The answer is not of this page. */
    WRONG_ANSWER,
    /** The server's scorer failed. */
    SCORER_FAILED,
    /** The server's scorer gave a score that is not a finite number. */
    SCORES_NOT_FINITE,
    /** Anything else. */
    FAILED;

    /** The word for logs, headers and counters. */
    String word() {
      return name().toLowerCase(Locale.ROOT);
    }
  }

  static Outcome reranked(RerankResponse response, long tookNanos) {
    return new Outcome(response, null, "", tookNanos);
  }

  static Outcome degraded(Reason reason, String detail, long tookNanos) {
    return new Outcome(null, reason, detail == null ? "" : detail, tookNanos);
  }

  boolean isDegraded() {
    return reason != null;
  }
}
