package crossrank.elasticsearch;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import rerank.v1.ExplanationColumn;
import rerank.v1.ObjectiveColumn;
import rerank.v1.RerankResponse;

/**
 * The order of a page from what was retrieved and what the server said.
 *
 * <p>Documents of one product stand together where the product stands; what the server's policy
 * hides is left out.
 */
final class PageOrder {
  private final List<RetrievedDoc> retrieved;
  private final Outcome outcome;
  private final String status;

  /** Orders {@code retrieved} by an outcome that {@link #checked} gave. */
  PageOrder(List<RetrievedDoc> retrieved, Outcome outcome) {
    this.retrieved = retrieved;
    this.outcome = outcome;
    this.status = outcome.isDegraded() ? "degraded: " + outcome.reason().word() : "reranked";
  }

  /**
   * The outcome, or a degraded one where the response is not of this page: unknown, doubled,
   * missing or too many ids, or scores that do not fit.
   */
  static Outcome checked(List<RetrievedDoc> retrieved, Outcome outcome) {
    if (outcome.isDegraded()) {
      return outcome;
    }
    RerankResponse response = outcome.response();
    Set<String> left = new HashSet<>();
    retrieved.forEach(doc -> left.add(doc.productId()));
    int sent = left.size();
    int got = response.getCandidateIdsCount();
    int hidden = response.getPolicyTrace().getHidden();
    String wrong = null;
    if (got + hidden != sent) {
      wrong = "ids: got " + got + " and " + hidden + " hidden, want " + sent;
    } else if (response.getScoresCount() != got
        || !response.getScoresList().stream().allMatch(Float::isFinite)) {
      wrong = "scores: got " + response.getScoresCount() + ", want " + got + " finite numbers";
    } else if (!response.getCandidateIdsList().stream().allMatch(left::remove)) {
      wrong = "ids: got an unknown one or one twice, want those sent";
    }
    return wrong == null
        ? outcome
        : Outcome.degraded(Outcome.Reason.WRONG_ANSWER, wrong, outcome.tookNanos());
  }

  /** The documents at their places, scores strictly decreasing so that the places are kept. */
  RankedDoc[] docs() {
    return outcome.isDegraded() ? inRetrievalOrder() : inServerOrder(outcome.response());
  }

  private RankedDoc[] inRetrievalOrder() {
    float[] scores = new float[retrieved.size()];
    RankedDoc[] docs = new RankedDoc[scores.length];
    for (int i = 0; i < scores.length; i++) {
      float score = retrieved.get(i).score();
      scores[i] = Float.isFinite(score) ? score : 1f / (i + 1);
    }
    makeDecreasing(scores);
    for (int i = 0; i < scores.length; i++) {
      docs[i] = new RankedDoc(retrieved.get(i), i + 1, i + 1, scores[i], status, List.of());
    }
    return docs;
  }

  private RankedDoc[] inServerOrder(RerankResponse response) {
    Map<String, List<Integer>> ranksById = new HashMap<>();
    for (int rank = 0; rank < retrieved.size(); rank++) {
      String id = retrieved.get(rank).productId();
      ranksById.computeIfAbsent(id, unused -> new ArrayList<>(1)).add(rank);
    }
    int shown = 0;
    for (String id : response.getCandidateIdsList()) {
      shown += ranksById.get(id).size();
    }
    int[] ranks = new int[shown];
    int[] columns = new int[shown];
    float[] scores = new float[shown];
    int place = 0;
    for (int column = 0; column < response.getCandidateIdsCount(); column++) {
      for (int rank : ranksById.get(response.getCandidateIds(column))) {
        ranks[place] = rank;
        columns[place] = column;
        scores[place] = response.getScores(column);
        place++;
      }
    }
    makeDecreasing(scores);
    RankedDoc[] docs = new RankedDoc[shown];
    for (int i = 0; i < shown; i++) {
      List<RankedDoc.Part> parts = partsOf(response, columns[i]);
      RetrievedDoc doc = retrieved.get(ranks[i]);
      docs[i] = new RankedDoc(doc, ranks[i] + 1, i + 1, scores[i], status, parts);
    }
    return docs;
  }

  private static List<RankedDoc.Part> partsOf(RerankResponse response, int column) {
    if (response.getExplanationsCount() == 0) {
      return List.of();
    }
    List<RankedDoc.Part> parts = new ArrayList<>();
    for (ObjectiveColumn objective : response.getObjectivesList()) {
      if (column < objective.getProbabilitiesCount()) {
        parts.add(
            new RankedDoc.Part(
                "probability of " + objective.getObjective(), objective.getProbabilities(column)));
      }
    }
    for (ExplanationColumn group : response.getExplanationsList()) {
      if (column < group.getContributionsCount()) {
        parts.add(
            new RankedDoc.Part(
                "score from \"" + group.getGroup() + "\"", group.getContributions(column)));
      }
    }
    return parts;
  }

  /**
   * Raises scores, from the last to the first and by no more than needed, until each is above the
   * one after it and above zero: Elasticsearch orders by score, takes none below zero, and knows
   * neither the server's ties nor its pins.
   */
  static void makeDecreasing(float[] scores) {
    float below = 0f;
    for (int i = scores.length - 1; i >= 0; i--) {
      float least = below == 0f ? Float.MIN_NORMAL : Math.nextUp(below);
      scores[i] = scores[i] >= least && Float.isFinite(scores[i]) ? scores[i] : least;
      below = scores[i];
    }
  }
}
