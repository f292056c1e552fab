package crossrank.elasticsearch;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.elasticsearch.common.Strings;
import org.elasticsearch.core.TimeValue;
import org.elasticsearch.search.retriever.RetrieverBuilder;
import org.elasticsearch.search.retriever.RetrieverParserContext;
import org.elasticsearch.search.retriever.StandardRetrieverBuilder;
import org.elasticsearch.usage.SearchUsage;
import org.elasticsearch.xcontent.NamedXContentRegistry;
import org.elasticsearch.xcontent.ParseField;
import org.elasticsearch.xcontent.XContentParser;
import org.elasticsearch.xcontent.XContentParserConfiguration;
import org.elasticsearch.xcontent.json.JsonXContent;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import rerank.v1.EventKind;
import rerank.v1.RerankRequest;

class PageParametersTest {
  private static final String INNER = "\"retriever\": {\"standard\": {}}";
  private static final NamedXContentRegistry REGISTRY =
      new NamedXContentRegistry(
          List.of(
              new NamedXContentRegistry.Entry(
                  RetrieverBuilder.class,
                  new ParseField("standard"),
                  (parser, context) ->
                      StandardRetrieverBuilder.fromXContent(
                          parser, (RetrieverParserContext) context))));

  private PageParameters.Page page;

  private CrossRerankRetrieverBuilder parsed(String json) throws IOException {
    XContentParserConfiguration configuration =
        XContentParserConfiguration.EMPTY.withRegistry(REGISTRY);
    var context =
        new RetrieverParserContext(new SearchUsage(), feature -> true);
    try (XContentParser parser = JsonXContent.jsonXContent.createParser(configuration, json)) {
      return PageParameters.parser(
              "cross_rerank",
              (inner, parsed) -> {
                page = parsed;
                return new CrossRerankRetrieverBuilder(
                    org.elasticsearch.search.retriever.CompoundRetrieverBuilder.RetrieverSource
                        .from(inner),
                    parsed,
                    null);
              })
          .apply(parser, context);
    }
  }

  private RerankRequest fixed(String parameters) throws IOException {
    parsed("{" + INNER + (parameters.isEmpty() ? "" : ", ") + parameters + "}");
    return page.fixed();
  }

  @Test
  void whatIsNotSaidHasDefaults() throws IOException {
    RerankRequest fixed = fixed("");
    assertEquals("", fixed.getQuery());
    assertFalse(fixed.hasShopperId());
    assertEquals("_id", page.idField());
    assertEquals(100, page.window());
    assertEquals(Map.of(), page.fieldBySignal());
  }

  @Test
  void everythingGoesToItsPlaceInTheMessage() throws IOException {
    RerankRequest fixed =
        fixed(
            """
            "query": "milk", "id_field": "product_id", "rank_window_size": 50, "deadline": "80ms",
            "shopper": {"id": "s1", "history": {"product_ids": ["a", "b"], "times": [5, 6],
              "kinds": ["click", "purchase"], "places": ["x", ""]}},
            "context": {"surface": "search", "place": "store-7", "category": "dairy", "time": 99},
            "objectives": {"click": 0.25, "purchase": 1},
            "fields": {"promoted": "campaign.promoted"}
            """);
    assertEquals("milk", fixed.getQuery());
    assertEquals("s1", fixed.getShopperId());
    assertEquals(List.of("a", "b"), fixed.getHistory().getProductIdsList());
    assertEquals(
        List.of(EventKind.EVENT_KIND_CLICK, EventKind.EVENT_KIND_PURCHASE),
        fixed.getHistory().getKindsList());
    assertEquals("store-7", fixed.getPlace());
    assertEquals("dairy", fixed.getCategory());
    assertEquals(99, fixed.getTime());
    assertEquals(Map.of("click", 0.25f, "purchase", 1f), fixed.getObjectiveWeightsMap());
    assertEquals(Map.of("promoted", "campaign.promoted"), page.fieldBySignal());
    assertEquals(TimeValue.timeValueMillis(80), page.deadline());
    assertEquals(50, page.window());
  }

  @Test
  void fieldsMayBeAListOfTheirNames() throws IOException {
    fixed("\"fields\": [\"stock\", \"price\"]");
    assertEquals(Map.of("stock", "stock", "price", "price"), page.fieldBySignal());
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      quoteCharacter = '`',
      value = {
        "\"rank_window_size\": 0 | rank_window_size: got 0, want 1 to 1000",
        "\"rank_window_size\": 1001 | rank_window_size: got 1001, want 1 to 1000",
        "\"deadline\": \"11s\" | deadline: got 11s, want 1ms to 10s",
        "\"objectives\": {\"click\": \"much\"} | objectives.click: got much, want a number",
        "\"context\": {\"surfaces\": \"search\"} | did you mean [surface]?",
        "\"querry\": \"milk\" | did you mean [query]?",
        "\"shopper\": {\"history\": {\"product_ids\": [\"a\"]}} | times: got 0 entries, want 1",
        "\"shopper\": {\"history\": {\"product_ids\": [\"a\"], \"times\": [1], \"kinds\": [\"x\"]}}"
            + " | kinds: got x, want impression, click, cart or purchase"
      })
  void aMistakeIsNamed(String parameters, String message) {
    Exception refused = assertThrows(Exception.class, () -> fixed(parameters));
    StringBuilder said = new StringBuilder();
    for (Throwable cause = refused; cause != null; cause = cause.getCause()) {
      said.append(cause.getMessage()).append('\n');
    }
    assertTrue(said.toString().contains(message), said.toString());
  }

  @Test
  void aLongHistoryKeepsItsNewestEvents() throws IOException {
    String ids =
        IntStream.range(0, 5_000).mapToObj(i -> "\"p" + i + "\"").collect(Collectors.joining(","));
    String times =
        IntStream.range(0, 5_000).mapToObj(String::valueOf).collect(Collectors.joining(","));
    RerankRequest fixed =
        fixed("\"shopper\": {\"history\": {\"product_ids\": [" + ids + "], \"times\": [" + times
            + "]}}");
    assertEquals(4_096, fixed.getHistory().getTimesCount());
    assertEquals("p4999", fixed.getHistory().getProductIds(0));
    assertEquals(904, fixed.getHistory().getTimes(4_095));
  }

  @Test
  void logsOfASearchDoNotNameTheShopper() throws IOException {
    CrossRerankRetrieverBuilder retriever =
        parsed("{" + INNER + ", \"query\": \"milk\", \"shopper\": {\"id\": \"mrs-smith\"}}");
    String logged = Strings.toString(retriever);
    assertTrue(logged.contains("milk"));
    assertFalse(logged.contains("mrs-smith"), logged);
  }
}
