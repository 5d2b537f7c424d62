"""How the page of an evaluation looks: light and dark, on paper and on a phone. Nothing is loaded from anywhere."""

STYLE = """
:root {
  color-scheme: light dark;
  --ground: #fbfaf8; --card: #ffffff; --ink: #1d1c1a; --soft: #5f5b55; --line: #e3dfd8;
  --accent: #0b6e69; --bar: #3a9d96; --other: #b9b3a8; --whisker: #1d1c1a;
  --good: #e3f3ec; --good-ink: #0f5a41; --warn: #fdf1dc; --warn-line: #d99a2b; --warn-ink: #6b4708;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #161718; --card: #1f2122; --ink: #ece9e4; --soft: #a8a39b; --line: #36393b;
    --accent: #6fd0c8; --bar: #3f9f98; --other: #5d6164; --whisker: #ece9e4;
    --good: #17372e; --good-ink: #9be3c5; --warn: #3a2d14; --warn-line: #d99a2b; --warn-ink: #f3d59b;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--ground); color: var(--ink);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
}
main { max-width: 66rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
h1 { font-size: 1.05rem; font-weight: 600; color: var(--soft); margin: 0 0 1.25rem; overflow-wrap: anywhere; }
h2 { font-size: 1.3rem; line-height: 1.3; margin: 3rem 0 .35rem; }
h3 { font-size: .95rem; margin: 0 0 .5rem; }
p { margin: .35rem 0 .9rem; max-width: 46rem; }
.soft { color: var(--soft); }
.answer { display: flex; flex-wrap: wrap; gap: .5rem 2rem; align-items: baseline; }
.answer .figure {
  font-size: clamp(3rem, 11vw, 5rem); line-height: 1; font-weight: 700; letter-spacing: -.03em; color: var(--accent);
}
.answer p { flex: 1 1 18rem; font-size: 1.2rem; line-height: 1.45; margin: 0; }
.note {
  border-left: 4px solid var(--line); border-radius: 0 6px 6px 0; background: var(--card);
  padding: .7rem 1rem; margin: .8rem 0;
}
.note p { margin: 0; }
.note.warn { border-color: var(--warn-line); background: var(--warn); color: var(--warn-ink); }
.note.good { border-color: var(--good-ink); background: var(--good); color: var(--good-ink); }
.bars {
  display: grid; grid-template-columns: max-content 1fr max-content; gap: .55rem .9rem; align-items: center;
  margin: 1.2rem 0;
}
.bar { display: contents; }
.bars svg { width: 100%; height: 1.7rem; display: block; }
.bars .name { font-weight: 500; }
.bars .value { font-variant-numeric: tabular-nums; font-weight: 600; }
.bars .value small { font-weight: 400; color: var(--soft); }
figure { margin: 1rem 0; }
figcaption { color: var(--soft); font-size: .88rem; margin: 0 0 .4rem; max-width: 46rem; }
.scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: 8px; background: var(--card); }
.scroll:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: .93rem; }
th, td {
  padding: .5rem .9rem; text-align: right; vertical-align: top; white-space: nowrap;
  border-top: 1px solid var(--line);
}
thead th { border-top: 0; font-weight: 600; color: var(--soft); font-size: .85rem; }
thead td { border-top: 0; }
th:first-child { text-align: left; }
tbody th { font-weight: 500; white-space: normal; min-width: 9rem; }
tbody tr.whole { background: color-mix(in srgb, var(--accent) 9%, transparent); }
td small { display: block; color: var(--soft); }
.examples {
  display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 25rem), 1fr)); gap: 1rem;
  margin-top: 1rem;
}
.example {
  background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 1rem 1.1rem; min-width: 0;
}
.example h3 { display: flex; justify-content: space-between; gap: 1rem; }
.example .label { color: var(--soft); font-size: .82rem; margin: .8rem 0 .25rem; }
.example ul, .example ol { margin: 0; padding-left: 1.6rem; overflow-wrap: anywhere; font-size: .93rem; }
.example ul { list-style: none; padding-left: 0; }
.example li { padding: .12rem .3rem; border-radius: 4px; }
.example li.chosen { background: var(--good); color: var(--good-ink); font-weight: 600; }
.example li small { color: var(--soft); font-weight: 400; }
.badge {
  font-size: .8rem; font-weight: 600; padding: .1rem .5rem; border-radius: 1rem; background: var(--line);
  white-space: nowrap;
}
.badge.hit { background: var(--good); color: var(--good-ink); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .4rem 1.2rem; margin: 1rem 0; }
dt { color: var(--soft); }
dd { margin: 0; overflow-wrap: anywhere; }
@media (max-width: 40rem) {
  main { padding: 1.5rem 1rem 3rem; }
  .bars { display: block; }
  .bar { display: grid; grid-template-columns: 1fr max-content; margin-bottom: .8rem; }
  .bar svg { grid-column: 1 / -1; order: 1; }
  dl { grid-template-columns: 1fr; gap: .1rem; }
  dd { margin-bottom: .6rem; }
}
@media print {
  .example, .scroll { break-inside: avoid; }
  body { background: #fff; }
}
"""
