package crossrank.elasticsearch;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.charset.StandardCharsets;
import java.util.List;
import org.junit.jupiter.api.Test;
import rerank.v1.RerankRequest;

class PageRequestTest {
  private static final RerankRequest FIXED = RerankRequest.newBuilder().setQuery("milk").build();

  @Test
  void everyProductIsSentOnceWithItsFirstDocument() {
    RerankRequest page =
        PageRequest.of(FIXED, List.of("stock"), Pages.retrieved("a", "b", "a", "c"));
    assertEquals(List.of("a", "b", "c"), page.getCandidateIdsList());
    assertEquals(List.of(10f, 9f, 7f), page.getRetrievalScoresList());
    assertEquals("stock", page.getSignals(0).getName());
    assertEquals(List.of(0f, 1f, 3f), page.getSignals(0).getValuesList());
    assertEquals("milk", page.getQuery());
  }

  @Test
  void documentsSortedByAFieldHaveNoRetrievalScores() {
    List<RetrievedDoc> page =
        List.of(new RetrievedDoc(0, 0, Float.NaN, "a", true, new float[0]));
    assertEquals(0, PageRequest.of(FIXED, List.of(), page).getRetrievalScoresCount());
  }

  @Test
  void idsAreMeasuredInBytes() {
    assertTrue(PageRequest.isId("é".repeat(128)));
    assertFalse(PageRequest.isId("é".repeat(129)));
    assertFalse(PageRequest.isId(""));
  }

  @Test
  void aLongTextIsCutBetweenCharacters() {
    String text = "a".repeat(1_023) + "😀" + "b";
    assertEquals("a".repeat(1_023), PageRequest.beginning(text, 1_024));
    assertEquals("milk", PageRequest.beginning("milk", 1_024));
    String umlauts = PageRequest.beginning("ü".repeat(1_000_000), 1_024);
    assertEquals(1_024, umlauts.getBytes(StandardCharsets.UTF_8).length);
  }
}
