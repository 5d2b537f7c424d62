"""What stands where: columns of the feature table, of the shares and of the session matrix; bits of the sources.

`rank.pyx` gives the same columns their names, in the same order.
"""

cdef enum:
    COSINE = 0
    LAST_COSINE = 1
    SEARCH_RANK = 2
    COVISITATION = 3
    COVISITATION_LOG = 4
    COVISITATION_RANK = 5
    COVISITATION_LAST = 6
    SESSION_KNN = 7
    SESSION_KNN_LOG = 8
    SESSION_KNN_RANK = 9
    POPULARITY = 10
    POPULARITY_RECENT = 11
    POPULARITY_TREND = 12
    IN_SESSION = 13
    SESSION_COUNT = 14
    SESSION_RECENCY = 15
    SESSION_LAST = 16
    SESSION_WEIGHT = 17
    IN_SESSION_UNIQUE = 18
    SESSION_LENGTH = 19
    SESSION_UNIQUE = 20
    CATEGORY_LAST = 21
    CATEGORY_SHARE = 22
    IMPORTANCE = 23
    FEATURES = 24

cdef enum:
    GROUPS = 6
    NO_GROUP = 6

cdef enum:
    BY_VECTOR = 1
    BY_COVISITATION = 2
    BY_SESSION_KNN = 4
    BY_POPULAR = 8
    BY_CATEGORY = 16
    BY_GIVEN = 32

cdef enum:
    COUNT = 0
    AFTER = 1
    WEIGHT = 2
    SESSION_WIDTH = 3
