// What failed and may pass is asked for again by itself: later each time, and not while nobody looks.

const FIRST_MS = 1_000;
const MOST_MS = 15_000;

export class Retry {
  /** `again`: tells by another call of `late` or `well` how it went. */
  constructor(again, mostMs = MOST_MS) {
    this.again = again;
    this.mostMs = mostMs;
    this.well();
  }

  /** It failed. At random in between: pages that lost a server together do not come back together. */
  late() {
    this.stop();
    const waitMs = Math.min(FIRST_MS * 2 ** this.failures++, this.mostMs) * (0.5 + Math.random());
    this.timer = setTimeout(() => this.due(), waitMs);
  }

  due() {
    if (!document.hidden) return this.again();
    this.unseen = new AbortController();
    document.addEventListener("visibilitychange", () => this.again(), { once: true, signal: this.unseen.signal });
  }

  /** It went well: nothing is to be done, and the next failure is the first. */
  well() {
    this.stop();
    this.failures = 0;
  }

  stop() {
    clearTimeout(this.timer);
    this.unseen?.abort();
  }
}
