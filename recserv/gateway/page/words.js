// What the contract's names mean, in plain words.

export const DEGRADED = {
  STATE_UNAVAILABLE: "what is stored of this shopper cannot be read",
  STALE_STATE: "the newest event is not in the stored state",
  INDEX_UNAVAILABLE: "similar products cannot be searched for",
  INDEX_TIMEOUT: "the search for similar products took too long",
  RANKER_UNAVAILABLE: "the ranking model is missing",
  DEADLINE: "there was too little time for a full answer",
  OVERLOAD: "the server is too busy for a full answer",
  SOURCE_UNAVAILABLE: "one of the sources failed",
  EXPLANATION_UNAVAILABLE: "no explanations could be given",
  STAGE_FAILED: "something failed in the server",
};

export const SOURCE = {
  CONTEXT_VECTOR: "similar",
  COVISITATION: "seen together",
  SESSION_KNN: "similar visits",
  POPULAR: "popular",
  POPULAR_IN_CATEGORY: "popular in category",
  TRENDING: "trending",
  REQUESTED: "asked for",
};

export const SOURCE_LONG = {
  CONTEXT_VECTOR: "Found near what this visit is about, or by the words of a search",
  COVISITATION: "Seen together with recent products of this visit",
  SESSION_KNN: "Chosen in past visits like this one",
  POPULAR: "Popular in the whole shop",
  POPULAR_IN_CATEGORY: "Popular in a category of this visit",
  TRENDING: "Popular lately",
  REQUESTED: "Named in the question itself",
};

export const CAUSE = {
  NOT_CONFIGURED: "this server has no language model",
  QUEUE_FULL: "too many explanations were waiting",
  BUDGET_SPENT: "the budget for texts is spent",
  PROVIDER_FAILED: "the language model could not be reached",
  DISCARDED: "what the language model wrote was not fit to be shown",
  EXPIRED: "nobody came to it in time",
};

/** What failed, for whom a code and an English detail of the server say nothing. */
export const FAILED = {
  UNAVAILABLE: "the server, or what it stores in, cannot be reached",
  DEADLINE_EXCEEDED: "it took too long",
  RESOURCE_EXHAUSTED: "the server is too busy",
  INTERNAL: "something failed in the server",
};

export const DONE = {
  VIEW: "looked at",
  SEARCH: "searched for",
  ADD_TO_CART: "put into the cart:",
  REMOVE_FROM_CART: "took out of the cart:",
  PURCHASE: "bought",
  DISLIKE: "does not want",
};

/** The end of an enum's name: bare("SOURCE_POPULAR", "SOURCE_") is "POPULAR". */
export const bare = (name, prefix) => (name ?? "").replace(prefix, "");

export const sourceOf = (result) => bare(result.source, "SOURCE_");

export function degradedWords(reasons) {
  return reasons.map((reason) => DEGRADED[bare(reason, "DEGRADED_REASON_")] ?? "for a reason this page does not know").join("; ");
}

export function plural(count, one, many = `${one}s`) {
  return `${count} ${count === 1 ? one : many}`;
}
