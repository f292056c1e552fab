package crossrank.elasticsearch;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;

import java.io.IOException;
import java.util.List;
import org.elasticsearch.common.io.stream.BytesStreamOutput;
import org.elasticsearch.common.io.stream.StreamInput;
import org.junit.jupiter.api.Test;

class RankedDocTest {
  private static RankedDoc doc(String status) {
    RetrievedDoc retrieved = new RetrievedDoc(4, 2, 3.5f, "a", true, new float[0]);
    return new RankedDoc(
        retrieved, 9, 1, 0.7f, status, List.of(new RankedDoc.Part("price", -0.1f)));
  }

  @Test
  void anotherNodeReadsWhatThisOneWrote() throws IOException {
    RankedDoc doc = doc("reranked");
    try (BytesStreamOutput out = new BytesStreamOutput()) {
      doc.writeTo(out);
      try (StreamInput in = out.bytes().streamInput()) {
        RankedDoc read = new RankedDoc(in);
        assertEquals(doc, read);
        assertEquals(doc.toString(), read.toString());
        assertEquals(0, in.available());
      }
    }
    assertNotEquals(doc, doc("degraded: deadline"));
  }
}
