package crossrank.elasticsearch;

import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import org.elasticsearch.common.document.DocumentField;
import org.elasticsearch.search.SearchHit;
import org.elasticsearch.search.sort.ShardDocSortField;

/** Reads the hits of an inner search. */
final class RetrievedDocs {
  private RetrievedDocs() {}

  /** The documents of {@code hits}, which are sorted by shard and document last. */
  static List<RetrievedDoc> of(SearchHit[] hits, PageParameters.Page page) {
    List<RetrievedDoc> docs = new ArrayList<>(hits.length);
    List<String> fields = List.copyOf(page.fieldBySignal().values());
    for (SearchHit hit : hits) {
      Object[] sort = hit.getRawSortValues();
      long shardDoc = (long) sort[sort.length - 1];
      float[] signals = new float[fields.size()];
      for (int i = 0; i < signals.length; i++) {
        signals[i] = number(hit.field(fields.get(i)));
      }
      String id = productId(hit, page.idField());
      docs.add(
          new RetrievedDoc(
              ShardDocSortField.decodeDoc(shardDoc),
              ShardDocSortField.decodeShardRequestIndex(shardDoc),
              hit.getScore(),
              id == null ? standIn(hit) : id,
              id != null,
              signals));
    }
    return docs;
  }

  /** The id, or null where the document has none that the server takes. */
  private static String productId(SearchHit hit, String field) {
    String id = null;
    if (field.equals("_id")) {
      id = hit.getId();
    } else {
      DocumentField values = hit.field(field);
      Object value = values == null ? null : values.getValue();
      if (value instanceof String || value instanceof Integer || value instanceof Long) {
        id = value.toString();
      }
    }
    return id == null || !PageRequest.isId(id) ? null : id;
  }

  /** An id that no product has, the same for the same document; it is scored by the rest. */
  private static String standIn(SearchHit hit) {
    String document = hit.getIndex() + "\0" + hit.getId();
    try {
      byte[] digest =
          MessageDigest.getInstance("SHA-256").digest(document.getBytes(StandardCharsets.UTF_8));
      return "no-product-id:" + HexFormat.of().formatHex(digest, 0, 16);
    } catch (NoSuchAlgorithmException impossible) {
      throw new IllegalStateException(impossible);
    }
  }

  private static float number(DocumentField field) {
    Object value = field == null ? null : field.getValue();
    float number = Float.NaN;
    if (value instanceof Number it) {
      number = it.floatValue();
    } else if (value instanceof Boolean it) {
      number = it ? 1f : 0f;
    }
    return Float.isInfinite(number) ? Float.NaN : number;
  }
}
