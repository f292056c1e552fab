package crossrank.elasticsearch;

import java.util.ArrayList;
import java.util.List;
import rerank.v1.PolicyTrace;
import rerank.v1.RerankResponse;

/** Small pages for the tests. */
final class Pages {
  private Pages() {}

  /** Documents 0, 1, ... of one shard with these ids and the scores 10, 9, ... */
  static List<RetrievedDoc> retrieved(String... ids) {
    List<RetrievedDoc> docs = new ArrayList<>();
    for (int i = 0; i < ids.length; i++) {
      docs.add(new RetrievedDoc(i, 0, 10f - i, ids[i], true, new float[] {i}));
    }
    return docs;
  }

  /** An answer of these ids with the scores 0.9, 0.8, ... */
  static Outcome answer(int hidden, String... ids) {
    RerankResponse.Builder response =
        RerankResponse.newBuilder()
            .setBundleId("b1")
            .setPolicyTrace(PolicyTrace.newBuilder().setHidden(hidden));
    for (int i = 0; i < ids.length; i++) {
      response.addCandidateIds(ids[i]).addScores(0.9f - 0.1f * i);
    }
    return Outcome.reranked(response.build(), 1_000_000L);
  }
}
