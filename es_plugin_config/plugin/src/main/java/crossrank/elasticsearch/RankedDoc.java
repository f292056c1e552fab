package crossrank.elasticsearch;

import java.io.IOException;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Objects;
import org.apache.lucene.search.Explanation;
import org.elasticsearch.common.io.stream.StreamInput;
import org.elasticsearch.common.io.stream.StreamOutput;
import org.elasticsearch.common.io.stream.Writeable;
import org.elasticsearch.search.rank.RankDoc;
import org.elasticsearch.xcontent.XContentBuilder;

/** A document at its place on the page, with what {@code explain} and {@code profile} show of it. */
public final class RankedDoc extends RankDoc {
  /** The name on the wire between nodes. */
  public static final String NAME = "cross_rerank_doc";

  private final int retrievalRank;
  private final float retrievalScore;
  private final String status;
  private final List<Part> parts;

  /** One line below the explanation, for example what one feature group did to the score. */
  record Part(String label, float value) implements Writeable {
    Part(StreamInput in) throws IOException {
      this(in.readString(), in.readFloat());
    }

    @Override
    public void writeTo(StreamOutput out) throws IOException {
      out.writeString(label);
      out.writeFloat(value);
    }
  }

  RankedDoc(
      RetrievedDoc retrieved,
      int retrievalRank,
      int rank,
      float score,
      String status,
      List<Part> parts) {
    super(retrieved.doc(), score, retrieved.shardIndex());
    this.rank = rank;
    this.retrievalRank = retrievalRank;
    this.retrievalScore = retrieved.score();
    this.status = status;
    this.parts = parts;
  }

  /** Reads what another node wrote. */
  public RankedDoc(StreamInput in) throws IOException {
    super(in);
    retrievalRank = in.readVInt();
    retrievalScore = in.readFloat();
    status = in.readString();
    parts = in.readCollectionAsList(Part::new);
  }

  @Override
  protected void doWriteTo(StreamOutput out) throws IOException {
    out.writeVInt(retrievalRank);
    out.writeFloat(retrievalScore);
    out.writeString(status);
    out.writeCollection(parts);
  }

  @Override
  public String getWriteableName() {
    return NAME;
  }

  /** Where the inner retriever had it, from 1. */
  int retrievalRank() {
    return retrievalRank;
  }

  @Override
  public Explanation explain(Explanation[] sources, String[] queryNames) {
    List<Explanation> details = new ArrayList<>();
    for (Part part : parts) {
      details.add(Explanation.match(part.value(), part.label()));
    }
    Collections.addAll(details, sources);
    return Explanation.match(
        score,
        "cross_rerank: "
            + status
            + ", rank ["
            + rank
            + "], retrieval rank ["
            + retrievalRank
            + "], retrieval score ["
            + retrievalScore
            + "], from:",
        details);
  }

  @Override
  protected void doToXContent(XContentBuilder builder, Params params) throws IOException {
    builder.field("retrieval_rank", retrievalRank);
    if (Float.isFinite(retrievalScore)) {
      builder.field("retrieval_score", retrievalScore);
    }
    builder.field("status", status);
  }

  @Override
  protected boolean doEquals(RankDoc other) {
    RankedDoc that = (RankedDoc) other;
    return retrievalRank == that.retrievalRank
        && Float.compare(retrievalScore, that.retrievalScore) == 0
        && status.equals(that.status)
        && parts.equals(that.parts);
  }

  @Override
  protected int doHashCode() {
    return Objects.hash(retrievalRank, retrievalScore, status, parts);
  }

  @Override
  public String toString() {
    return "{rank="
        + rank
        + ", retrieval_rank="
        + retrievalRank
        + ", retrieval_score="
        + retrievalScore
        + ", score="
        + score
        + ", status="
        + status
        + "}";
  }
}
