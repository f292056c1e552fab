package crossrank.elasticsearch;

import static crossrank.elasticsearch.Pages.answer;
import static crossrank.elasticsearch.Pages.retrieved;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.Arrays;
import java.util.List;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import rerank.v1.ExplanationColumn;
import rerank.v1.ObjectiveColumn;

class PageOrderTest {
  private static int[] docs(List<RetrievedDoc> retrieved, Outcome outcome) {
    RankedDoc[] docs = new PageOrder(retrieved, PageOrder.checked(retrieved, outcome)).docs();
    return Arrays.stream(docs).mapToInt(it -> it.doc).toArray();
  }

  private static Outcome.Reason reason(Outcome outcome) {
    return PageOrder.checked(retrieved("a", "b", "c"), outcome).reason();
  }

  @Test
  void documentsStandWhereTheServerPutThem() {
    List<RetrievedDoc> page = retrieved("a", "b", "c");
    RankedDoc[] docs = new PageOrder(page, answer(0, "c", "a", "b")).docs();
    assertArrayEquals(new int[] {2, 0, 1}, Arrays.stream(docs).mapToInt(it -> it.doc).toArray());
    assertEquals(0.9f, docs[0].score);
    assertEquals(1, docs[0].rank);
    assertEquals(3, docs[0].retrievalRank());
  }

  @Test
  void documentsOfOneProductStandTogether() {
    assertArrayEquals(
        new int[] {1, 0, 2}, docs(retrieved("a", "b", "a"), answer(0, "b", "a")));
  }

  @Test
  void whatAPolicyHidesIsLeftOut() {
    assertArrayEquals(new int[] {2, 0}, docs(retrieved("a", "b", "c"), answer(1, "c", "a")));
  }

  @Test
  void anAnswerOfAnotherPageLeavesRetrievalOrder() {
    assertEquals(Outcome.Reason.WRONG_ANSWER, reason(answer(0, "c", "a")));
    assertEquals(Outcome.Reason.WRONG_ANSWER, reason(answer(0, "c", "a", "b", "d")));
    assertEquals(Outcome.Reason.WRONG_ANSWER, reason(answer(0, "c", "a", "x")));
    assertEquals(Outcome.Reason.WRONG_ANSWER, reason(answer(0, "c", "a", "a")));
    assertArrayEquals(
        new int[] {0, 1, 2}, docs(retrieved("a", "b", "c"), answer(0, "c", "a", "x")));
  }

  @Test
  void scoresThatDoNotFitLeaveRetrievalOrder() {
    Outcome good = answer(0, "c", "a", "b");
    var notFinite = good.response().toBuilder().setScores(1, Float.NaN).build();
    var tooFew = good.response().toBuilder().clearScores().addScores(1f).build();
    assertEquals(Outcome.Reason.WRONG_ANSWER, reason(Outcome.reranked(notFinite, 0)));
    assertEquals(Outcome.Reason.WRONG_ANSWER, reason(Outcome.reranked(tooFew, 0)));
  }

  @Test
  void aDegradedPageKeepsItsScores() {
    List<RetrievedDoc> page = retrieved("a", "b");
    Outcome late = Outcome.degraded(Outcome.Reason.DEADLINE, "", 5);
    RankedDoc[] docs = new PageOrder(page, late).docs();
    assertEquals(10f, docs[0].score);
    assertEquals(9f, docs[1].score);
    assertTrue(docs[0].toString().contains("degraded: deadline"));
  }

  @Test
  void documentsSortedByAFieldGetScoresThatKeepTheirOrder() {
    float[] none = {};
    List<RetrievedDoc> page =
        List.of(
            new RetrievedDoc(7, 0, Float.NaN, "a", true, none),
            new RetrievedDoc(3, 1, Float.NaN, "b", true, none));
    RankedDoc[] docs =
        new PageOrder(page, Outcome.degraded(Outcome.Reason.UNAVAILABLE, "", 0)).docs();
    assertEquals(7, docs[0].doc);
    assertTrue(docs[0].score > docs[1].score);
  }

  @Test
  void scoresAreRaisedOnlyWhereTheOrderNeedsIt() {
    float[] scores = {0.2f, 0.9f, 0.5f, 0.5f, -3f, 0f};
    PageOrder.makeDecreasing(scores);
    assertEquals(0.9f, scores[1]);
    assertEquals(Math.nextUp(0.9f), scores[0]);
    assertEquals(0.5f, scores[3]);
    assertEquals(Math.nextUp(0.5f), scores[2]);
    assertEquals(Float.MIN_NORMAL, scores[5]);
  }

  @ParameterizedTest
  @ValueSource(longs = {1, 2, 3, 4, 5})
  void anyScoresBecomeStrictlyDecreasingAndPositive(long seed) {
    Random random = new Random(seed);
    float[] scores = new float[1_000];
    for (int i = 0; i < scores.length; i++) {
      scores[i] = random.nextInt(4) == 0 ? 0.25f : (float) random.nextGaussian() * 100;
    }
    PageOrder.makeDecreasing(scores);
    for (int i = 1; i < scores.length; i++) {
      assertTrue(scores[i - 1] > scores[i]);
    }
    assertTrue(scores[scores.length - 1] > 0);
  }

  @Test
  void explanationsOfTheServerAreBelowTheDocument() {
    Outcome plain = answer(0, "b", "a");
    var explained =
        plain.response().toBuilder()
            .addObjectives(
                ObjectiveColumn.newBuilder().setObjective("click").addProbabilities(0.3f)
                    .addProbabilities(0.1f))
            .addExplanations(
                ExplanationColumn.newBuilder().setGroup("price").addContributions(0.05f)
                    .addContributions(-0.02f))
            .build();
    List<RetrievedDoc> page = retrieved("a", "b");
    RankedDoc first = new PageOrder(page, Outcome.reranked(explained, 0)).docs()[0];
    var explanation =
        first.explain(new org.apache.lucene.search.Explanation[0], new String[0]);
    assertEquals("probability of click", explanation.getDetails()[0].getDescription());
    assertEquals(0.3f, explanation.getDetails()[0].getValue());
    assertEquals("score from \"price\"", explanation.getDetails()[1].getDescription());
    assertTrue(explanation.getDescription().contains("retrieval rank [2]"));
    assertFalse(new PageOrder(page, plain).docs()[0]
        .explain(new org.apache.lucene.search.Explanation[0], new String[0])
        .getDetails().length > 0);
  }
}
