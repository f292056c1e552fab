package crossrank.elasticsearch;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import org.junit.jupiter.api.Test;

class StatusHeaderTest {
  @Test
  void aRerankedPageNamesItsBundle() {
    assertEquals("reranked; bundle=b1; took_ms=1", StatusHeader.of(Pages.answer(0, "a")));
  }

  @Test
  void aReasonCannotBreakTheHeader() {
    Outcome outcome =
        Outcome.degraded(
            Outcome.Reason.REFUSED_PAGE, "got \"é\"\r\nSet-Cookie: a" + "x".repeat(500), 7_500_000);
    String text = StatusHeader.of(outcome);
    assertTrue(text.startsWith("degraded; reason=refused_page; took_ms=7; detail=\"got ' '  Set-"));
    assertTrue(text.length() < 300);
  }
}
