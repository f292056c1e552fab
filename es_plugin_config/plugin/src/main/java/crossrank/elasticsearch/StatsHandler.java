package crossrank.elasticsearch;

import static org.elasticsearch.rest.RestRequest.Method.GET;

import java.io.IOException;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.function.Supplier;
import org.elasticsearch.client.internal.node.NodeClient;
import org.elasticsearch.rest.BaseRestHandler;
import org.elasticsearch.rest.RestRequest;
import org.elasticsearch.rest.RestResponse;
import org.elasticsearch.rest.RestStatus;
import org.elasticsearch.xcontent.XContentBuilder;

/** Answers how the pages of the node that is asked ended since it started. */
final class StatsHandler extends BaseRestHandler {
  static final String PATH = "/_crossrank/stats";

  private final RerankClient client;
  private final Supplier<CallCounters> counters;

  StatsHandler(RerankClient client, Supplier<CallCounters> counters) {
    this.client = client;
    this.counters = counters;
  }

  @Override
  public String getName() {
    return "crossrank_stats";
  }

  @Override
  public List<Route> routes() {
    return List.of(new Route(GET, PATH));
  }

  @Override
  protected RestChannelConsumer prepareRequest(RestRequest request, NodeClient unused) {
    return channel ->
        channel.sendResponse(new RestResponse(RestStatus.OK, write(channel.newBuilder())));
  }

  private XContentBuilder write(XContentBuilder builder) throws IOException {
    CallCounters counted = counters.get();
    builder.startObject();
    builder.field("configured", client.isConnected());
    builder.field("circuit_open", client.breaker().isOpen());
    builder.field("in_flight", client.inFlight());
    builder.startObject("pages");
    builder.field("reranked", counted.reranked());
    builder.field("reranked_ms", TimeUnit.NANOSECONDS.toMillis(counted.rerankedNanos()));
    builder.startObject("degraded");
    for (Outcome.Reason reason : Outcome.Reason.values()) {
      builder.field(reason.word(), counted.degraded(reason));
    }
    return builder.endObject().endObject().endObject();
  }
}
