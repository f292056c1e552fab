package crossrank.elasticsearch;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import crossrank.elasticsearch.CircuitBreaker.Permit;
import org.junit.jupiter.api.Test;

class CircuitBreakerTest {
  private static final long MS = 1_000_000L;
  private final CircuitBreaker breaker = new CircuitBreaker(2, 1_500 * MS);

  private void failTwice() {
    for (int i = 0; i < 2; i++) {
      assertEquals(Permit.CALL, breaker.permit(0));
      breaker.record(Permit.CALL, false, 0);
    }
  }

  @Test
  void callsStopAfterFailuresInARowOnly() {
    breaker.record(Permit.CALL, false, 0);
    breaker.record(Permit.CALL, true, 0);
    breaker.record(Permit.CALL, false, 0);
    assertFalse(breaker.isOpen());
    breaker.record(Permit.CALL, false, 0);
    assertTrue(breaker.isOpen());
    assertEquals(Permit.NONE, breaker.permit(499 * MS));
  }

  @Test
  void oneCallTriesAfterThePauseAndNoOtherBesideIt() {
    failTwice();
    assertEquals(Permit.TRY, breaker.permit(500 * MS));
    assertEquals(Permit.NONE, breaker.permit(501 * MS));
    breaker.record(Permit.TRY, true, 502 * MS);
    assertEquals(Permit.CALL, breaker.permit(503 * MS));
  }

  @Test
  void eachTryThatFailsDoublesThePauseUpToTheLongest() {
    failTwice();
    breaker.record(breaker.permit(500 * MS), false, 500 * MS);
    assertEquals(Permit.NONE, breaker.permit(1_499 * MS));
    breaker.record(breaker.permit(1_500 * MS), false, 1_500 * MS);
    assertEquals(Permit.NONE, breaker.permit(2_999 * MS));
    assertEquals(Permit.TRY, breaker.permit(3_000 * MS));
  }

  @Test
  void callsThatEndLateNeitherLengthenThePauseNorLetASecondTryIn() {
    failTwice();
    assertEquals(Permit.TRY, breaker.permit(500 * MS));
    breaker.record(Permit.CALL, false, 510 * MS);
    assertEquals(Permit.NONE, breaker.permit(520 * MS));
    breaker.record(Permit.TRY, true, 530 * MS);
    assertFalse(breaker.isOpen());
  }
}
