package crossrank.elasticsearch;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.grpc.InsecureServerCredentials;
import io.grpc.Metadata;
import io.grpc.Server;
import io.grpc.ServerCall;
import io.grpc.ServerCallHandler;
import io.grpc.ServerInterceptor;
import io.grpc.Status;
import io.grpc.okhttp.OkHttpServerBuilder;
import io.grpc.stub.StreamObserver;
import java.io.IOException;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicReference;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import rerank.v1.DegradedReason;
import rerank.v1.RerankRequest;
import rerank.v1.RerankResponse;
import rerank.v1.RerankServiceGrpc;

/** The client against a real gRPC server on a port of this machine. */
class RerankClientTest {
  private static final RerankRequest PAGE =
      RerankRequest.newBuilder().addCandidateIds("a").build();
  private static final long SECONDS_10 = TimeUnit.SECONDS.toNanos(10);

  private final CircuitBreaker breaker = new CircuitBreaker(3, TimeUnit.SECONDS.toNanos(5));
  private final RerankClient client = new RerankClient(breaker, 2);
  private final Shop shop = new Shop();
  private Server server;

  /** Answers as the test says. */
  private static final class Shop extends RerankServiceGrpc.RerankServiceImplBase
      implements ServerInterceptor {
    final AtomicInteger calls = new AtomicInteger();
    final AtomicReference<String> authorization = new AtomicReference<>();
    final CountDownLatch released = new CountDownLatch(1);
    volatile Status failure;
    volatile boolean stuck;
    volatile RerankResponse answer = RerankResponse.newBuilder().addCandidateIds("a").build();

    @Override
    public void rerank(RerankRequest page, StreamObserver<RerankResponse> observer) {
      calls.incrementAndGet();
      try {
        if (stuck) {
          released.await();
        }
      } catch (InterruptedException stopped) {
        Thread.currentThread().interrupt();
      }
      if (failure != null) {
        observer.onError(failure.asRuntimeException());
        return;
      }
      observer.onNext(answer);
      observer.onCompleted();
    }

    @Override
    public <Q, S> ServerCall.Listener<Q> interceptCall(
        ServerCall<Q, S> call, Metadata headers, ServerCallHandler<Q, S> next) {
      authorization.set(
          headers.get(Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER)));
      return next.startCall(call, headers);
    }
  }

  private void serve(int port, String token) throws IOException {
    server =
        OkHttpServerBuilder.forPort(port, InsecureServerCredentials.create())
            .addService(shop)
            .intercept(shop)
            .build()
            .start();
    client.connectTo(
        new RerankClient.ServerAddress("localhost:" + server.getPort(), false, null, token));
  }

  private CompletableFuture<Outcome> begin(long deadlineNanos) {
    CompletableFuture<Outcome> outcome = new CompletableFuture<>();
    client.rerank(PAGE, deadlineNanos, outcome::complete);
    return outcome;
  }

  private Outcome call(long deadlineNanos) throws Exception {
    return begin(deadlineNanos).get(20, TimeUnit.SECONDS);
  }

  @AfterEach
  void stop() throws InterruptedException {
    shop.released.countDown();
    client.close();
    if (server != null) {
      server.shutdownNow().awaitTermination();
    }
  }

  @Test
  void aPageIsAnsweredInOneCallWithTheToken() throws Exception {
    serve(0, "secret");
    Outcome outcome = call(SECONDS_10);
    assertFalse(outcome.isDegraded());
    assertEquals("a", outcome.response().getCandidateIds(0));
    assertEquals(1, shop.calls.get());
    assertEquals("Bearer secret", shop.authorization.get());
    assertEquals(0, client.inFlight());
  }

  @Test
  void withoutAnAddressNothingIsCalled() throws Exception {
    assertEquals(Outcome.Reason.NOT_CONFIGURED, call(SECONDS_10).reason());
  }

  @Test
  void aServerThatDoesNotAnswerEndsAtTheDeadline() throws Exception {
    serve(0, null);
    call(SECONDS_10);
    shop.stuck = true;
    Outcome outcome = call(TimeUnit.MILLISECONDS.toNanos(50));
    assertEquals(Outcome.Reason.DEADLINE, outcome.reason());
    assertTrue(outcome.tookNanos() < SECONDS_10, "took " + outcome.tookNanos());
    assertNull(shop.authorization.get());
  }

  @Test
  void failuresAreNamedAndNeverTriedAgainWithinTheCall() throws Exception {
    serve(0, null);
    Object[][] expected = {
      {Status.UNAVAILABLE, Outcome.Reason.UNAVAILABLE},
      {Status.INVALID_ARGUMENT.withDescription("why"), Outcome.Reason.REFUSED_PAGE},
      {Status.UNAUTHENTICATED, Outcome.Reason.UNAUTHENTICATED},
      {Status.RESOURCE_EXHAUSTED, Outcome.Reason.OVERLOADED},
      {Status.CANCELLED, Outcome.Reason.OVERLOADED},
      {Status.UNIMPLEMENTED, Outcome.Reason.FAILED}
    };
    for (Object[] each : expected) {
      shop.failure = (Status) each[0];
      int before = shop.calls.get();
      assertEquals(each[1], call(SECONDS_10).reason());
      assertEquals(before + 1, shop.calls.get());
    }
  }

  @Test
  void aPageThatTheServerDegradedHasItsReason() throws Exception {
    serve(0, null);
    shop.answer =
        RerankResponse.newBuilder()
            .setDegraded(true)
            .setDegradedReason(DegradedReason.DEGRADED_REASON_SCORER_FAILED)
            .setDegradedDetail("no memory")
            .build();
    Outcome outcome = call(SECONDS_10);
    assertEquals(Outcome.Reason.SCORER_FAILED, outcome.reason());
    assertEquals("server: no memory", outcome.detail());
    assertFalse(breaker.isOpen());
  }

  @Test
  void callsBeyondTheLimitAreNotMade() throws Exception {
    serve(0, null);
    shop.stuck = true;
    var first = begin(SECONDS_10);
    var second = begin(SECONDS_10);
    assertEquals(Outcome.Reason.OVERLOADED, call(SECONDS_10).reason());
    shop.released.countDown();
    assertFalse(first.get(20, TimeUnit.SECONDS).isDegraded());
    assertFalse(second.get(20, TimeUnit.SECONDS).isDegraded());
  }

  @Test
  void aServerThatIsGoneOpensTheBreakerAndOneThatIsBackClosesIt() throws Exception {
    serve(0, null);
    call(SECONDS_10);
    int port = server.getPort();
    server.shutdownNow().awaitTermination();
    for (int i = 0; i < 3; i++) {
      assertEquals(Outcome.Reason.UNAVAILABLE, call(SECONDS_10).reason());
    }
    assertEquals(Outcome.Reason.CIRCUIT_OPEN, call(SECONDS_10).reason());
    server =
        OkHttpServerBuilder.forPort(port, InsecureServerCredentials.create())
            .addService(shop)
            .build()
            .start();
    long end = System.nanoTime() + SECONDS_10;
    Outcome outcome = call(SECONDS_10);
    while (outcome.isDegraded() && System.nanoTime() < end) {
      Thread.sleep(20);
      outcome = call(SECONDS_10);
    }
    assertFalse(outcome.isDegraded(), outcome.toString());
    assertFalse(breaker.isOpen());
  }

  @Test
  void anotherAddressTakesLaterCalls() throws Exception {
    serve(0, null);
    Server first = server;
    call(SECONDS_10);
    serve(0, null);
    call(SECONDS_10);
    assertEquals(2, shop.calls.get());
    first.shutdownNow().awaitTermination();
    assertFalse(call(SECONDS_10).isDegraded());
  }
}
