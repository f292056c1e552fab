package com.example.rerank;

import io.grpc.CallOptions;
import io.grpc.Channel;
import io.grpc.ClientCall;
import io.grpc.ClientInterceptor;
import io.grpc.ForwardingClientCall.SimpleForwardingClientCall;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.StatusRuntimeException;
import io.grpc.TlsChannelCredentials;
import java.io.File;
import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import rerank.v1.RerankRequest;
import rerank.v1.RerankResponse;
import rerank.v1.RerankServiceGrpc;
import rerank.v1.RerankServiceGrpc.RerankServiceBlockingStub;

/**
 * Sends one page to a rerank server and prints its new order. Whatever goes wrong, it prints the
 * page in retrieval order with the reason: a search never fails because of its reranking.
 */
public final class Rerank {
  /** A page in its new order, or in retrieval order with a reason. */
  public record Answer(List<String> candidateIds, List<Float> scores, String degraded) {}

  // Reranking changes nothing, so a page may be sent again when the server went away; clients that
  // fail often stop doing so (retryThrottling).
  private static final Map<String, ?> SERVICE_CONFIG =
      Map.of(
          "methodConfig",
          List.of(
              Map.of(
                  "name", List.of(Map.of("service", RerankServiceGrpc.SERVICE_NAME)),
                  "retryPolicy",
                      Map.of(
                          "maxAttempts", 2.0,
                          "initialBackoff", "0.005s",
                          "maxBackoff", "0.05s",
                          "backoffMultiplier", 2.0,
                          "retryableStatusCodes", List.of("UNAVAILABLE")))),
          "retryThrottling", Map.of("maxTokens", 10.0, "tokenRatio", 0.1));

  private Rerank() {}

  /** Returns the page in the server's order within the timeout, or in retrieval order. */
  public static Answer rerank(
      RerankServiceBlockingStub stub, RerankRequest request, long timeoutMs) {
    try {
      RerankResponse response =
          stub.withDeadlineAfter(timeoutMs, TimeUnit.MILLISECONDS).rerank(request);
      String degraded =
          response.getDegraded()
              ? response.getDegradedReason() + ": " + response.getDegradedDetail()
              : "";
      return new Answer(response.getCandidateIdsList(), response.getScoresList(), degraded);
    } catch (StatusRuntimeException error) {
      return new Answer(
          request.getCandidateIdsList(), List.of(), String.valueOf(error.getMessage()));
    }
  }

  /** Runs the example: -s HOST:PORT, -q QUERY, -t TIMEOUT_MS, -c CA_FILE, -b TOKEN, ids. */
  public static void main(String[] arguments) throws IOException, InterruptedException {
    String server = "localhost:50061";
    String query = "";
    String token = "";
    long timeoutMs = 200;
    ChannelCredentials credentials = InsecureChannelCredentials.create();
    List<String> ids = new ArrayList<>();
    for (int at = 0; at < arguments.length; at++) {
      switch (arguments[at]) {
        case "-s" -> server = arguments[++at];
        case "-q" -> query = arguments[++at];
        case "-t" -> timeoutMs = Long.parseLong(arguments[++at]);
        case "-b" -> token = arguments[++at];
        case "-c" ->
            credentials =
                TlsChannelCredentials.newBuilder().trustManager(new File(arguments[++at])).build();
        default -> ids.add(arguments[at]);
      }
    }
    if (ids.isEmpty()) {
      System.err.println("rerank: candidates: got 0, want product ids in retrieval order");
      System.exit(2);
    }
    ManagedChannel channel =
        Grpc.newChannelBuilder(server, credentials)
            .defaultServiceConfig(SERVICE_CONFIG)
            .enableRetry()
            .build();
    try {
      RerankServiceBlockingStub stub = RerankServiceGrpc.newBlockingStub(channel);
      if (!token.isEmpty()) {
        stub = stub.withInterceptors(new BearerToken(token));
      }
      RerankRequest request =
          RerankRequest.newBuilder().addAllCandidateIds(ids).setQuery(query).build();
      Answer answer = rerank(stub, request, timeoutMs);
      if (!answer.degraded().isEmpty()) {
        System.err.println("retrieval order: " + answer.degraded());
      }
      for (int rank = 0; rank < answer.candidateIds().size(); rank++) {
        String score = answer.scores().isEmpty() ? "" : "\t" + answer.scores().get(rank);
        System.out.println(answer.candidateIds().get(rank) + score);
      }
    } finally {
      channel.shutdownNow().awaitTermination(1, TimeUnit.SECONDS);
    }
  }

  /** Sends a bearer token with each call. */
  private record BearerToken(String token) implements ClientInterceptor {
    private static final Metadata.Key<String> AUTHORIZATION =
        Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER);

    @Override
    public <Q, A> ClientCall<Q, A> interceptCall(
        MethodDescriptor<Q, A> method, CallOptions options, Channel next) {
      return new SimpleForwardingClientCall<>(next.newCall(method, options)) {
        @Override
        public void start(Listener<A> listener, Metadata headers) {
          headers.put(AUTHORIZATION, "Bearer " + token);
          super.start(listener, headers);
        }
      };
    }
  }
}
