package crossrank.elasticsearch;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.util.List;
import java.util.Objects;
import java.util.function.Supplier;
import org.apache.lucene.search.ScoreDoc;
import org.apache.lucene.util.SetOnce;
import org.elasticsearch.action.ActionRequestValidationException;
import org.elasticsearch.action.search.SearchRequest;
import org.elasticsearch.index.query.QueryBuilder;
import org.elasticsearch.index.query.QueryRewriteContext;
import org.elasticsearch.search.builder.SearchSourceBuilder;
import org.elasticsearch.search.fetch.StoredFieldsContext;
import org.elasticsearch.search.rank.RankDoc;
import org.elasticsearch.search.retriever.CompoundRetrieverBuilder;
import org.elasticsearch.search.retriever.RetrieverBuilder;
import org.elasticsearch.search.retriever.RetrieverParserContext;
import org.elasticsearch.xcontent.ConstructingObjectParser;
import org.elasticsearch.xcontent.XContentBuilder;

/**
 * The retriever {@code cross_rerank}: takes what its inner retriever finds, has the server order it,
 * and gives the search the documents at their new places.
 *
 * <p>All of it happens while the coordinating node rewrites the search: the inner retriever runs as
 * a search of its own with ids and fields, its page goes to the server in one call, and the rewrite
 * goes on when the answer is there or the deadline has passed. No thread waits.
 */
public final class CrossRerankRetrieverBuilder
    extends CompoundRetrieverBuilder<CrossRerankRetrieverBuilder> {
  /** The name in a search. */
  public static final String NAME = "cross_rerank";

  private final PageParameters.Page page;
  private final PageReranker reranker;
  private boolean shown = true;

  CrossRerankRetrieverBuilder(
      RetrieverSource inner, PageParameters.Page page, PageReranker reranker) {
    super(List.of(inner), page.window());
    this.page = page;
    this.reranker = reranker;
  }

  /** A parser of retrievers that send their pages to {@code reranker}. */
  static ConstructingObjectParser<CrossRerankRetrieverBuilder, RetrieverParserContext> parser(
      PageReranker reranker) {
    var parser =
        PageParameters.parser(
            NAME,
            (inner, page) ->
                new CrossRerankRetrieverBuilder(RetrieverSource.from(inner), page, reranker));
    ElasticsearchApi.declareBaseFields(NAME, parser);
    return parser;
  }

  @Override
  public String getName() {
    return NAME;
  }

  @Override
  public RetrieverBuilder minScore(Float minScore) {
    throw PageParameters.refused(
        "min_score", minScore, "none here, but in the inner retriever: scores change when degraded");
  }

  @Override
  protected CrossRerankRetrieverBuilder clone(
      List<RetrieverSource> inner, List<QueryBuilder> filters) {
    CrossRerankRetrieverBuilder copy =
        new CrossRerankRetrieverBuilder(inner.get(0), page, reranker);
    copy.preFilterQueryBuilders = filters;
    copy.retrieverName = retrieverName;
    copy.shown = shown;
    return copy;
  }

  /** Elasticsearch asks before anything else; a search of {@code size: 0} shows no page. */
  @Override
  public ActionRequestValidationException validate(
      SearchSourceBuilder source,
      ActionRequestValidationException problems,
      boolean isScroll,
      boolean allowPartialSearchResults) {
    shown = source.size() != 0;
    return super.validate(source, problems, isScroll, allowPartialSearchResults);
  }

  @Override
  protected RetrieverBuilder doRewrite(QueryRewriteContext context) {
    try {
      return rewriteInner(context);
    } catch (IOException failed) {
      throw new UncheckedIOException(failed);
    }
  }

  /** What the base class does, up to the point where it would run the inner search itself. */
  private RetrieverBuilder rewriteInner(QueryRewriteContext context) throws IOException {
    List<QueryBuilder> filters = rewritePreFilters(context);
    if (filters != preFilterQueryBuilders) {
      return clone(innerRetrievers, filters);
    }
    RetrieverSource inner = innerRetrievers.get(0);
    RetrieverBuilder retriever = inner.retriever();
    if (retriever.isCompound() && inner.source() == null) {
      List<QueryBuilder> passedOn = retriever.getPreFilterQueryBuilders();
      preFilterQueryBuilders.stream().filter(it -> !passedOn.contains(it)).forEach(passedOn::add);
    }
    RetrieverBuilder rewritten = retriever.rewrite(context);
    if (rewritten != retriever) {
      return clone(List.of(RetrieverSource.from(rewritten)), filters);
    }
    if (!shown) {
      return placed(retriever, () -> new RankDoc[0]);
    }
    SearchSourceBuilder source =
        inner.source() == null
            ? createSearchSourceBuilder(context.getPointInTimeBuilder(), retriever)
            : inner.source();
    SearchSourceBuilder rewrittenSource = source.rewrite(context);
    if (rewrittenSource != inner.source()) {
      return clone(List.of(new RetrieverSource(retriever, rewrittenSource)), filters);
    }
    return rerank(context, retriever, rewrittenSource);
  }

  private RetrieverBuilder rerank(
      QueryRewriteContext context, RetrieverBuilder retriever, SearchSourceBuilder source) {
    SearchRequest search = new SearchRequest().source(source);
    // Shards keep their numbers only where none is skipped beforehand.
    search.setPreFilterShardSize(Integer.MAX_VALUE);
    SetOnce<RankDoc[]> docs = new SetOnce<>();
    boolean explain = context.isExplain();
    context.registerAsyncAction(
        (client, listener) ->
            reranker.rerank(
                client,
                search,
                page,
                explain,
                listener.delegateFailureAndWrap(
                    (next, ordered) -> {
                      retriever.setRankDocs(ordered);
                      docs.set(ordered);
                      next.onResponse(null);
                    })));
    return placed(retriever, docs::get);
  }

  private RetrieverBuilder placed(RetrieverBuilder retriever, Supplier<RankDoc[]> docs) {
    return new PlacedDocsRetrieverBuilder(rankWindowSize, retriever, docs)
        .retrieverName(retrieverName);
  }

  @Override
  protected SearchSourceBuilder finalizeSourceBuilder(SearchSourceBuilder source) {
    source.fetchSource(false);
    source.storedFields((StoredFieldsContext) null);
    if (!page.idField().equals("_id")) {
      source.fetchField(page.idField());
    }
    page.fieldBySignal().values().forEach(source::fetchField);
    return source;
  }

  @Override
  protected RankDoc[] combineInnerRetrieverResults(List<ScoreDoc[]> results, boolean explain) {
    throw new IllegalStateException("the page is ordered before the base class would do it");
  }

  /** Everything but the shopper, who is written to no log. */
  @Override
  protected void doToXContent(XContentBuilder builder, Params params) throws IOException {
    builder.field(
        PageParameters.RETRIEVER.getPreferredName(), innerRetrievers.get(0).retriever());
    builder.field(PageParameters.QUERY.getPreferredName(), page.fixed().getQuery());
    if (page.fixed().getObjectiveWeightsCount() > 0) {
      builder.field(
          PageParameters.OBJECTIVES.getPreferredName(), page.fixed().getObjectiveWeightsMap());
    }
    builder.field(PageParameters.ID_FIELD.getPreferredName(), page.idField());
    builder.field(PageParameters.FIELDS.getPreferredName(), page.fieldBySignal());
    builder.field(PageParameters.RANK_WINDOW_SIZE.getPreferredName(), rankWindowSize);
    if (page.deadline() != null) {
      builder.field(
          PageParameters.DEADLINE.getPreferredName(), page.deadline().getStringRep());
    }
  }

  @Override
  public boolean doEquals(Object other) {
    return super.doEquals(other) && page.equals(((CrossRerankRetrieverBuilder) other).page);
  }

  @Override
  public int doHashCode() {
    return Objects.hash(super.doHashCode(), page);
  }
}
