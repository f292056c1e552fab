package crossrank.elasticsearch;

import io.grpc.CallOptions;
import io.grpc.ChannelCredentials;
import io.grpc.ClientCall;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.TlsChannelCredentials;
import io.grpc.okhttp.OkHttpChannelBuilder;
import io.grpc.stub.ClientCalls;
import io.grpc.stub.MetadataUtils;
import io.grpc.stub.StreamObserver;
import java.io.Closeable;
import java.io.IOException;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Set;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.ThreadFactory;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.Consumer;
import org.apache.logging.log4j.LogManager;
import org.apache.logging.log4j.Logger;
import rerank.v1.DegradedReason;
import rerank.v1.GetServerStatusRequest;
import rerank.v1.GetServerStatusResponse;
import rerank.v1.RerankRequest;
import rerank.v1.RerankResponse;
import rerank.v1.RerankServiceGrpc;

/**
 * Calls the server: one attempt per page, never blocking the caller, always with an outcome within
 * the deadline.
 *
 * <p>It has threads of its own; no thread of Elasticsearch connects, waits or retries.
 */
final class RerankClient implements Closeable {
  private static final Metadata.Key<String> AUTHORIZATION =
      Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER);

  private static final Logger logger = LogManager.getLogger(RerankClient.class);
  private static final int GREETING_SECONDS = 5;

  /** Failures of the page or of the caller, which say nothing against the server. */
  private static final Set<Status.Code> HEALTHY =
      Set.of(
          Status.Code.INVALID_ARGUMENT,
          Status.Code.RESOURCE_EXHAUSTED,
          Status.Code.CANCELLED,
          Status.Code.UNAUTHENTICATED,
          Status.Code.PERMISSION_DENIED);

  private final ExecutorService callbacks;
  private final ScheduledExecutorService timer;
  private final AtomicInteger inFlight = new AtomicInteger();
  private final CircuitBreaker breaker;
  private volatile ServerConnection connection;
  private volatile int maxInFlight;

  /** What the channel is made of. */
  record ServerAddress(String address, boolean tls, Path certificateAuthorities, String token) {}

  /** A channel and the token that goes with it; they change together. */
  private record ServerConnection(ManagedChannel channel, String token) {}

  RerankClient(CircuitBreaker breaker, int maxInFlight) {
    this.breaker = breaker;
    this.maxInFlight = maxInFlight;
    this.callbacks = Executors.newCachedThreadPool(threads("crossrank-call"));
    this.timer = Executors.newSingleThreadScheduledExecutor(threads("crossrank-timer"));
  }

  private static ThreadFactory threads(String name) {
    AtomicInteger number = new AtomicInteger();
    return task -> {
      Thread thread = new Thread(task, name + "-" + number.incrementAndGet());
      thread.setDaemon(true);
      return thread;
    };
  }

  CircuitBreaker breaker() {
    return breaker;
  }

  int inFlight() {
    return inFlight.get();
  }

  boolean isConnected() {
    return connection != null;
  }

  void limitInFlight(int most) {
    maxInFlight = most;
  }

  /**
   * Points later calls at another server; calls in flight end on the old connection.
   *
   * @param server The server, or null for none.
   * @throws IOException The certificate file cannot be read.
   * @throws IllegalArgumentException It holds no certificate.
   */
  void connectTo(ServerAddress server) throws IOException {
    ServerConnection made =
        server == null ? null : new ServerConnection(open(server), server.token());
    ServerConnection old = connection;
    connection = made;
    if (made != null) {
      greet(server.address(), made);
    }
    if (old != null) {
      old.channel().shutdown();
    }
  }

  /** Asks who is there, so that the first search finds a connection and the log an answer. */
  private void greet(String address, ServerConnection made) {
    CallOptions options =
        CallOptions.DEFAULT
            .withDeadlineAfter(GREETING_SECONDS, TimeUnit.SECONDS)
            .withWaitForReady();
    ClientCall<GetServerStatusRequest, GetServerStatusResponse> call =
        authorized(made).newCall(RerankServiceGrpc.getGetServerStatusMethod(), options);
    ClientCalls.asyncUnaryCall(
        call,
        GetServerStatusRequest.getDefaultInstance(),
        new StreamObserver<>() {
          @Override
          public void onNext(GetServerStatusResponse status) {
            logger.info("{} serves bundle {}", address, status.getBundleId());
          }

          @Override
          public void onError(Throwable failure) {
            logger.warn("{} did not say what it serves: {}", address, failure.toString());
          }

          @Override
          public void onCompleted() {}
        });
  }

  /** Throws what {@link #connectTo} would, and changes nothing. */
  void check(ServerAddress server) throws IOException {
    if (server != null) {
      open(server).shutdownNow();
    }
  }

  private ManagedChannel open(ServerAddress server) throws IOException {
    int colon = server.address().lastIndexOf(':');
    String host = server.address().substring(0, colon);
    int port = Integer.parseInt(server.address().substring(colon + 1));
    return OkHttpChannelBuilder.forAddress(host, port, credentials(server))
        .executor(callbacks)
        .transportExecutor(callbacks)
        .scheduledExecutorService(timer)
        .offloadExecutor(callbacks)
        .proxyDetector(address -> null)
        .disableRetry()
        .build();
  }

  private static ChannelCredentials credentials(ServerAddress server) throws IOException {
    if (!server.tls()) {
      return InsecureChannelCredentials.create();
    }
    if (server.certificateAuthorities() == null) {
      return TlsChannelCredentials.create();
    }
    try (InputStream file = Files.newInputStream(server.certificateAuthorities())) {
      return TlsChannelCredentials.newBuilder().trustManager(file).build();
    }
  }

  /**
   * Sends one page; {@code taker} gets the outcome exactly once, on a thread of this client, or on
   * the caller's when the page is not sent.
   */
  void rerank(RerankRequest page, long deadlineNanos, Consumer<Outcome> taker) {
    long began = System.nanoTime();
    ServerConnection server = connection;
    if (server == null) {
      String detail = "crossrank.address is not set";
      taker.accept(Outcome.degraded(Outcome.Reason.NOT_CONFIGURED, detail, 0));
      return;
    }
    if (inFlight.incrementAndGet() > maxInFlight) {
      inFlight.decrementAndGet();
      taker.accept(Outcome.degraded(Outcome.Reason.OVERLOADED, maxInFlight + " in flight", 0));
      return;
    }
    CircuitBreaker.Permit permit = breaker.permit(began);
    if (permit == CircuitBreaker.Permit.NONE) {
      inFlight.decrementAndGet();
      taker.accept(Outcome.degraded(Outcome.Reason.CIRCUIT_OPEN, "", 0));
      return;
    }
    Answer answer = new Answer(began, permit, taker);
    try {
      CallOptions options =
          CallOptions.DEFAULT.withDeadlineAfter(deadlineNanos, TimeUnit.NANOSECONDS);
      if (permit == CircuitBreaker.Permit.TRY) {
        // The old connection may be dead without a word, or the next attempt minutes away.
        server.channel().enterIdle();
        options = options.withWaitForReady();
      }
      ClientCall<RerankRequest, RerankResponse> call =
          authorized(server).newCall(RerankServiceGrpc.getRerankMethod(), options);
      ClientCalls.asyncUnaryCall(call, page, answer);
    } catch (RuntimeException broken) {
      answer.onError(broken);
    }
  }

  private static io.grpc.Channel authorized(ServerConnection server) {
    if (server.token() == null) {
      return server.channel();
    }
    Metadata headers = new Metadata();
    headers.put(AUTHORIZATION, "Bearer " + server.token());
    return io.grpc.ClientInterceptors.intercept(
        server.channel(), MetadataUtils.newAttachHeadersInterceptor(headers));
  }

  /** Takes one call's answer. */
  private final class Answer implements StreamObserver<RerankResponse> {
    private final long began;
    private final CircuitBreaker.Permit permit;
    private final Consumer<Outcome> taker;
    private boolean taken;
    private RerankResponse response;

    Answer(long began, CircuitBreaker.Permit permit, Consumer<Outcome> taker) {
      this.began = began;
      this.permit = permit;
      this.taker = taker;
    }

    @Override
    public void onNext(RerankResponse value) {
      response = value;
    }

    @Override
    public void onError(Throwable failure) {
      Status status = Status.fromThrowable(failure);
      take(
          HEALTHY.contains(status.getCode()),
          Outcome.degraded(reasonOf(status), detailOf(status), System.nanoTime() - began));
    }

    @Override
    public void onCompleted() {
      long took = System.nanoTime() - began;
      if (response == null) {
        take(false, Outcome.degraded(Outcome.Reason.WRONG_ANSWER, "nothing", took));
      } else if (response.getDegraded()) {
        Outcome.Reason reason = reasonOf(response.getDegradedReason());
        take(true, Outcome.degraded(reason, "server: " + response.getDegradedDetail(), took));
      } else {
        take(true, Outcome.reranked(response, took));
      }
    }

    private synchronized boolean isFirst() {
      boolean first = !taken;
      taken = true;
      return first;
    }

    private void take(boolean healthy, Outcome outcome) {
      if (isFirst()) {
        inFlight.decrementAndGet();
        breaker.record(permit, healthy, System.nanoTime());
        taker.accept(outcome);
      }
    }
  }

  private static Outcome.Reason reasonOf(Status status) {
    return switch (status.getCode()) {
      case DEADLINE_EXCEEDED -> Outcome.Reason.DEADLINE;
      case UNAVAILABLE -> Outcome.Reason.UNAVAILABLE;
      // the server cancels calls that it does not even look at
      case RESOURCE_EXHAUSTED, CANCELLED -> Outcome.Reason.OVERLOADED;
      case UNAUTHENTICATED, PERMISSION_DENIED -> Outcome.Reason.UNAUTHENTICATED;
      case INVALID_ARGUMENT -> Outcome.Reason.REFUSED_PAGE;
      default -> Outcome.Reason.FAILED;
    };
  }

  private static Outcome.Reason reasonOf(DegradedReason said) {
    return switch (said) {
      case DEGRADED_REASON_DEADLINE -> Outcome.Reason.DEADLINE;
      case DEGRADED_REASON_OVERLOADED -> Outcome.Reason.OVERLOADED;
      case DEGRADED_REASON_SCORER_FAILED -> Outcome.Reason.SCORER_FAILED;
      case DEGRADED_REASON_SCORES_NOT_FINITE -> Outcome.Reason.SCORES_NOT_FINITE;
      default -> Outcome.Reason.FAILED;
    };
  }

  private static String detailOf(Status status) {
    String said = status.getDescription();
    Throwable cause = status.getCause();
    return cause == null ? said : (said == null ? "" : said + ": ") + cause;
  }

  @Override
  public void close() {
    ServerConnection last = connection;
    connection = null;
    if (last != null) {
      last.channel().shutdownNow();
    }
    timer.shutdownNow();
    callbacks.shutdownNow();
  }
}
