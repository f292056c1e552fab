package crossrank.elasticsearch;

import static org.elasticsearch.xcontent.ConstructingObjectParser.constructorArg;
import static org.elasticsearch.xcontent.ConstructingObjectParser.optionalConstructorArg;

import java.io.IOException;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.function.BiFunction;
import org.elasticsearch.core.TimeValue;
import org.elasticsearch.search.retriever.RetrieverBuilder;
import org.elasticsearch.search.retriever.RetrieverParserContext;
import org.elasticsearch.xcontent.ConstructingObjectParser;
import org.elasticsearch.xcontent.ObjectParser;
import org.elasticsearch.xcontent.ParseField;
import org.elasticsearch.xcontent.XContentParser;
import rerank.v1.EventKind;
import rerank.v1.History;
import rerank.v1.RerankRequest;

/** What a search says in {@code cross_rerank}, checked; README.md lists it. */
final class PageParameters {
  static final ParseField RETRIEVER = new ParseField("retriever");
  static final ParseField QUERY = new ParseField("query");
  static final ParseField SHOPPER = new ParseField("shopper");
  static final ParseField CONTEXT = new ParseField("context");
  static final ParseField OBJECTIVES = new ParseField("objectives");
  static final ParseField ID_FIELD = new ParseField("id_field");
  static final ParseField FIELDS = new ParseField("fields");
  static final ParseField RANK_WINDOW_SIZE = new ParseField("rank_window_size");
  static final ParseField DEADLINE = new ParseField("deadline");

  static final int MAX_WINDOW = 1_000;
  private static final int DEFAULT_WINDOW = 100;
  private static final int MAX_QUERY_BYTES = 1_024;
  private static final int MAX_EVENTS = 4_096;

  private static final ObjectParser<History.Builder, Void> HISTORY_PARSER =
      new ObjectParser<>("history", History::newBuilder);
  private static final ObjectParser<RerankRequest.Builder, Void> SHOPPER_PARSER =
      new ObjectParser<>("shopper", RerankRequest::newBuilder);
  private static final ObjectParser<RerankRequest.Builder, Void> CONTEXT_PARSER =
      new ObjectParser<>("context", RerankRequest::newBuilder);

  static {
    HISTORY_PARSER.declareStringArray(
        (history, ids) -> ids.forEach(id -> history.addProductIds(checkedId("product_ids", id))),
        new ParseField("product_ids"));
    HISTORY_PARSER.declareLongArray(History.Builder::addAllTimes, new ParseField("times"));
    HISTORY_PARSER.declareStringArray(
        (history, kinds) -> kinds.forEach(kind -> history.addKinds(eventKind(kind))),
        new ParseField("kinds"));
    HISTORY_PARSER.declareStringArray(
        (history, places) -> places.forEach(it -> history.addPlaces(checked("places", it))),
        new ParseField("places"));
    SHOPPER_PARSER.declareString(
        (page, id) -> page.setShopperId(checked("shopper.id", id)), new ParseField("id"));
    SHOPPER_PARSER.declareObject(
        (page, history) -> page.setHistory(newest(history)),
        HISTORY_PARSER,
        new ParseField("history"));
    CONTEXT_PARSER.declareString(
        (page, it) -> page.setSurface(checked("context.surface", it)), new ParseField("surface"));
    CONTEXT_PARSER.declareString(
        (page, it) -> page.setPlace(checked("context.place", it)), new ParseField("place"));
    CONTEXT_PARSER.declareString(
        (page, it) -> page.setCategory(checked("context.category", it)),
        new ParseField("category"));
    CONTEXT_PARSER.declareLong(RerankRequest.Builder::setTime, new ParseField("time"));
  }

  /**
   * What stays the same for every page of a search.
   *
   * @param fixed The message without candidates.
   * @param idField The field with the product's id, or {@code _id}.
   * @param fieldBySignal The fields to send, by the name of the signal they are sent as.
   * @param window How many candidates are retrieved and sent, 1 to 1,000.
   * @param deadline How long the search waits; null for the node's setting.
   */
  record Page(
      RerankRequest fixed,
      String idField,
      Map<String, String> fieldBySignal,
      int window,
      TimeValue deadline) {}

  private PageParameters() {}

  /** A parser that gives {@code build} the inner retriever and the page. */
  @SuppressWarnings("unchecked")
  static <T extends RetrieverBuilder> ConstructingObjectParser<T, RetrieverParserContext> parser(
      String name, BiFunction<RetrieverBuilder, Page, T> build) {
    ConstructingObjectParser<T, RetrieverParserContext> parser =
        new ConstructingObjectParser<>(
            name, arguments -> build.apply((RetrieverBuilder) arguments[0], page(arguments)));
    parser.declareNamedObject(
        constructorArg(),
        (p, context, inner) -> {
          RetrieverBuilder parsed = p.namedObject(RetrieverBuilder.class, inner, context);
          ElasticsearchApi.trackUsage(context, parsed);
          return parsed;
        },
        RETRIEVER);
    parser.declareString(optionalConstructorArg(), QUERY);
    parser.declareObject(
        optionalConstructorArg(), (p, c) -> SHOPPER_PARSER.apply(p, null), SHOPPER);
    parser.declareObject(
        optionalConstructorArg(), (p, c) -> CONTEXT_PARSER.apply(p, null), CONTEXT);
    parser.declareObject(optionalConstructorArg(), (p, c) -> weights(p), OBJECTIVES);
    parser.declareString(optionalConstructorArg(), ID_FIELD);
    parser.declareField(
        optionalConstructorArg(),
        (p, c) -> fields(p),
        FIELDS,
        ObjectParser.ValueType.OBJECT_ARRAY);
    parser.declareInt(optionalConstructorArg(), RANK_WINDOW_SIZE);
    parser.declareString(optionalConstructorArg(), DEADLINE);
    return parser;
  }

  /** The page of the parser's arguments, in the order of their declaration. */
  @SuppressWarnings("unchecked")
  private static Page page(Object[] arguments) {
    RerankRequest.Builder fixed = RerankRequest.newBuilder().setPolicyTrace(true);
    if (arguments[1] != null) {
      fixed.setQuery(PageRequest.beginning((String) arguments[1], MAX_QUERY_BYTES));
    }
    for (int i = 2; i <= 3; i++) {
      if (arguments[i] != null) {
        fixed.mergeFrom(((RerankRequest.Builder) arguments[i]).build());
      }
    }
    if (arguments[4] != null) {
      fixed.putAllObjectiveWeights((Map<String, Float>) arguments[4]);
    }
    return new Page(
        fixed.build(),
        arguments[5] == null ? "_id" : (String) arguments[5],
        arguments[6] == null ? Map.of() : (Map<String, String>) arguments[6],
        arguments[7] == null ? DEFAULT_WINDOW : checkedWindow((int) arguments[7]),
        arguments[8] == null ? null : checkedDeadline((String) arguments[8]));
  }

  private static Map<String, Float> weights(XContentParser parser) throws IOException {
    Map<String, Float> weights = new LinkedHashMap<>();
    for (Map.Entry<String, Object> entry : parser.map().entrySet()) {
      if (!(entry.getValue() instanceof Number weight) || !Float.isFinite(weight.floatValue())) {
        throw refused("objectives." + entry.getKey(), entry.getValue(), "a number");
      }
      weights.put(entry.getKey(), weight.floatValue());
    }
    return weights;
  }

  private static Map<String, String> fields(XContentParser parser) throws IOException {
    Map<String, String> fields = new LinkedHashMap<>();
    if (parser.currentToken() == XContentParser.Token.START_OBJECT) {
      parser.map().forEach((signal, field) -> fields.put(signal, String.valueOf(field)));
    } else {
      parser.list().forEach(field -> fields.put(String.valueOf(field), String.valueOf(field)));
    }
    return fields;
  }

  private static int checkedWindow(int size) {
    if (size < 1 || size > MAX_WINDOW) {
      throw refused("rank_window_size", size, "1 to " + MAX_WINDOW);
    }
    return size;
  }

  private static TimeValue checkedDeadline(String text) {
    TimeValue deadline = TimeValue.parseTimeValue(text, "deadline");
    if (deadline.millis() < 1 || deadline.millis() > 10_000) {
      throw refused("deadline", text, "1ms to 10s");
    }
    return deadline;
  }

  private static String checked(String what, String text) {
    if (!text.isEmpty() && !PageRequest.isId(text)) {
      throw refused(what, text.length() + " characters", "at most 256 bytes");
    }
    return text;
  }

  private static String checkedId(String what, String text) {
    if (!PageRequest.isId(text)) {
      throw refused(what, text.length() + " characters", "ids of 1 to 256 bytes");
    }
    return text;
  }

  private static EventKind eventKind(String word) {
    for (EventKind kind : EventKind.values()) {
      if (kind != EventKind.UNRECOGNIZED
          && kind != EventKind.EVENT_KIND_UNSPECIFIED
          && kind.name().equals("EVENT_KIND_" + word.toUpperCase(Locale.ROOT))) {
        return kind;
      }
    }
    throw refused("kinds", word, "impression, click, cart or purchase");
  }

  /** The newest events that the server takes; all columns stay beside each other. */
  private static History newest(History.Builder history) {
    int events = history.getProductIdsCount();
    checkLength("times", history.getTimesCount(), events, false);
    checkLength("kinds", history.getKindsCount(), events, true);
    checkLength("places", history.getPlacesCount(), events, true);
    if (events <= MAX_EVENTS) {
      return history.build();
    }
    List<Integer> order = new ArrayList<>(events);
    for (int i = 0; i < events; i++) {
      order.add(i);
    }
    order.sort((a, b) -> Long.compare(history.getTimes(b), history.getTimes(a)));
    History.Builder kept = History.newBuilder();
    for (int i : order.subList(0, MAX_EVENTS)) {
      kept.addProductIds(history.getProductIds(i)).addTimes(history.getTimes(i));
      if (history.getKindsCount() > 0) {
        kept.addKinds(history.getKinds(i));
      }
      if (history.getPlacesCount() > 0) {
        kept.addPlaces(history.getPlaces(i));
      }
    }
    return kept.build();
  }

  private static void checkLength(String column, int got, int want, boolean mayBeEmpty) {
    if (got != want && !(mayBeEmpty && got == 0)) {
      throw refused("history." + column, got + " entries", want + ", as many as product_ids");
    }
  }

  static IllegalArgumentException refused(String what, Object got, String want) {
    return new IllegalArgumentException(what + ": got " + got + ", want " + want);
  }
}
