package crossrank.elasticsearch;

/**
 * Stops calls to a server that fails: after some failures in a row for a short pause, then one call
 * tries it; each try that fails doubles the pause up to the longest.
 *
 * <p>Times are nanoseconds of any steady clock.
 */
final class CircuitBreaker {
  /** What a call is allowed. */
  enum Permit {
    /** It must not be made. */
    NONE,
    /** It is one of many. */
    CALL,
    /** It tries a server that failed. */
    TRY
  }

  private static final long FIRST_PAUSE_NANOS = 500_000_000L;

  private int failuresToOpen;
  private long longestPauseNanos;
  private long pauseNanos;
  private int failures;
  private boolean open;
  private long tryAtNanos;
  private boolean trying;

  CircuitBreaker(int failuresToOpen, long longestPauseNanos) {
    configure(failuresToOpen, longestPauseNanos);
  }

  /** Takes new limits; what was counted stays. */
  synchronized void configure(int failuresToOpen, long longestPauseNanos) {
    this.failuresToOpen = failuresToOpen;
    this.longestPauseNanos = longestPauseNanos;
  }

  /** Whether a call may be made at {@code now}; each that may must end in {@link #record}. */
  synchronized Permit permit(long now) {
    if (!open) {
      return Permit.CALL;
    }
    if (trying || now - tryAtNanos < 0) {
      return Permit.NONE;
    }
    trying = true;
    return Permit.TRY;
  }

  /** Takes the outcome of a call that {@link #permit} let through. */
  synchronized void record(Permit permit, boolean succeeded, long now) {
    if (permit == Permit.TRY) {
      trying = false;
    }
    if (succeeded) {
      failures = 0;
      open = false;
      return;
    }
    failures++;
    if (permit == Permit.TRY) {
      pauseNanos = Math.min(2 * pauseNanos, longestPauseNanos);
      tryAtNanos = now + pauseNanos;
    } else if (!open && failures >= failuresToOpen) {
      pauseNanos = Math.min(FIRST_PAUSE_NANOS, longestPauseNanos);
      tryAtNanos = now + pauseNanos;
      open = true;
    }
  }

  /** Whether calls are stopped. */
  synchronized boolean isOpen() {
    return open;
  }
}
