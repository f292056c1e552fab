package crossrank.elasticsearch;

import java.util.List;
import java.util.function.Supplier;
import org.elasticsearch.search.builder.SearchSourceBuilder;
import org.elasticsearch.search.rank.RankDoc;
import org.elasticsearch.search.retriever.RankDocsRetrieverBuilder;
import org.elasticsearch.search.retriever.RetrieverBuilder;

/** Shows documents at their places, and never more than there are. */
final class PlacedDocsRetrieverBuilder extends RankDocsRetrieverBuilder {
  private final Supplier<RankDoc[]> docs;

  PlacedDocsRetrieverBuilder(int window, RetrieverBuilder inner, Supplier<RankDoc[]> docs) {
    super(window, List.of(inner), docs, null);
    this.docs = docs;
  }

  /**
   * Cuts the page itself: the base class counts one too many where the search has no {@code from},
   * and then shows a document that only matched the inner query, such as one that a policy hides.
   */
  @Override
  public void extractToSearchSourceBuilder(SearchSourceBuilder source, boolean compoundUsed) {
    super.extractToSearchSourceBuilder(source, compoundUsed);
    int left = Math.max(0, docs.get().length - Math.max(0, source.from()));
    source.size(Math.min(source.size(), left));
  }
}
