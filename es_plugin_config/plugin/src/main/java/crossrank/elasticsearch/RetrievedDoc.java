package crossrank.elasticsearch;

/**
 * One document of the inner retriever, in its order.
 *
 * @param doc Lucene's number of the document within its shard.
 * @param shardIndex The shard, as the search numbers it.
 * @param score The inner retriever's score; NaN when it sorts by something else.
 * @param productId The product's id, or a stand-in that no product has.
 * @param named Whether the document has a product id.
 * @param signals Numbers to send, in the order of the retriever's fields; NaN where it has none.
 */
record RetrievedDoc(
    int doc, int shardIndex, float score, String productId, boolean named, float[] signals) {}
