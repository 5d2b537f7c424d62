// How one list became another, and how much two lists share. Pure: lists of ids, best first.

/** By id: {kind: "new" | "up" | "down" | "same", by}, and the ids that are gone. */
export function moves(before, now) {
  const was = new Map(before.map((id, place) => [id, place]));
  const moved = new Map();
  now.forEach((id, place) => {
    if (!was.has(id)) moved.set(id, { kind: "new", by: 0 });
    else {
      const by = was.get(id) - place;
      moved.set(id, { kind: by > 0 ? "up" : by < 0 ? "down" : "same", by: Math.abs(by) });
    }
  });
  return { moved, gone: before.filter((id) => !moved.has(id)) };
}

export const sameOrder = (one, other) => one.length === other.length && one.every((id, place) => id === other[place]);

/** How many of the first `depth` both have, and the average over all depths up to it of the share that both have. */
export function overlap(one, other, depth = 10) {
  const most = Math.min(depth, Math.max(one.length, other.length));
  const seen = [new Set(), new Set()];
  let both = 0;
  let shares = 0;
  for (let place = 0; place < most; place++) {
    [one, other].forEach((list, n) => {
      if (place >= list.length) return;
      seen[n].add(list[place]);
      if (seen[1 - n].has(list[place])) both += 1;
    });
    shares += both / (place + 1);
  }
  return { shared: both, of: most, rank: most ? shares / most : 1 };
}

const ORDER = ["new", "up", "down"];

/** For somebody who hears the page. */
export function movesSaid({ moved, gone }) {
  const counted = ORDER.map((kind) => [kind, [...moved.values()].filter((move) => move.kind === kind).length]);
  const told = [...counted, ["gone", gone.length]].filter(([, count]) => count).map(([kind, count]) => `${count} ${kind}`);
  return told.length ? told.join(", ") : "nothing moved";
}
