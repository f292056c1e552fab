package crossrank.elasticsearch;

import org.elasticsearch.search.retriever.RetrieverBuilder;
import org.elasticsearch.search.retriever.RetrieverParserContext;
import org.elasticsearch.xcontent.AbstractObjectParser;

/** What Elasticsearch 8 calls differently from other versions. */
final class ElasticsearchApi {
  private ElasticsearchApi() {}

  static void trackUsage(RetrieverParserContext context, RetrieverBuilder retriever) {
    context.trackRetrieverUsage(retriever.getName());
  }

  /** Declares {@code filter}, {@code min_score} and {@code _name}. */
  static void declareBaseFields(
      String name,
      AbstractObjectParser<? extends RetrieverBuilder, RetrieverParserContext> parser) {
    BaseFields.declare(name, parser);
  }

  /** Reaches a method that only retrievers may call. */
  private abstract static class BaseFields extends RetrieverBuilder {
    static void declare(
        String name,
        AbstractObjectParser<? extends RetrieverBuilder, RetrieverParserContext> parser) {
      declareBaseParserFields(name, parser);
    }
  }
}
