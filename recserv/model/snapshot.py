"""The model: an immutable directory of arrays, verified before anything in it is parsed, mapped into memory.

    manifest.json                 format version, counts, dimensions, metric, build options, SHA-256 and size of each file
    item_ids.bin                  item ids, UTF-8, one after the other      item_id_offsets.npy        int64 [n + 1]
    items.bin                     `types.Item` as msgpack, one after the other   item_offsets.npy      int64 [n + 1]
    available.npy                 uint8 [n]
    categories.json               category names; positions name them       (c names)
    item_category_offsets.npy     int64 [n + 1]     item_categories.npy     int32   general to specific
    embeddings.npy                float32 [n, d], rows of unit length; a zero row: no vector, not in the index
    embedding_origin.npy          uint8 [n]: 0 none, 1 behaviour, 2 content
    index.hnsw                    hnswlib, inner product over embeddings.npy, labels are item positions
    covisitation_offsets.npy      int64 [n + 1]     covisitation_items.npy  int32   covisitation_weights.npy float32
                                  per item its neighbours, heaviest first, weights > 0
    knn_item_offsets.npy          int64 [n + 1]     knn_item_sessions.npy   int32   per item its sessions, newest first
    knn_session_offsets.npy       int64 [s + 1]     knn_session_items.npy   int32   per session its items in time order
    knn_session_age.npy           float32 [s], days before the newest event (0 where the data carry no time)
    knn_item_idf.npy              float32 [n]
    popularity.npy                float32 [n], weighted event counts        popularity_recent.npy      float32 [n]
    popular_items.npy             int32, at most 1000, most popular first   trending_items.npy         int32, the same, recent
    category_popular_offsets.npy  int64 [c + 1]     category_popular_items.npy  int32, at most 200 a category
    ranker.json                   names of the features, their weights

n items, d dimensions, s sessions, c categories. No pickle anywhere. The index file alone may be absent: the other
sources then answer, and the answer says so.
"""

from __future__ import annotations
