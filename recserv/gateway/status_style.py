"""How the status page looks: light and dark, wide and on a phone. Nothing is loaded from anywhere."""

STYLE = """
:root {
  color-scheme: light dark;
  --ground: #f7f6f3; --card: #fff; --ink: #1d1c1a; --soft: #66615a; --line: #e4e0d9; --accent: #0b6e69; --bar: #9fd3ce;
  --bad: #a52a1c; --bad-ground: #fbe6e2; --good: #1e7a4f;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #161718; --card: #1f2122; --ink: #ece9e4; --soft: #a8a39b; --line: #36393b; --accent: #6fd0c8;
    --bar: #1f5f5a; --bad: #ff9d8f; --bad-ground: #43211c; --good: #7fd8ab;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--ground); color: var(--ink); overflow-wrap: anywhere;
  font: .95rem/1.45 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
}
main { max-width: 76rem; margin: 0 auto; padding: 1.25rem 1rem 3rem; }
header { display: flex; flex-wrap: wrap; gap: .25rem 1rem; align-items: baseline; margin-bottom: 1rem; }
h1 { font-size: 1.25rem; margin: 0; }
h2 { font-size: .95rem; margin: 0 0 .6rem; }
p { margin: 0; }
.soft { color: var(--soft); }
.bad { color: var(--bad); }
.good { color: var(--good); }
.problem {
  background: var(--bad-ground); color: var(--bad); border-radius: 8px; padding: .6rem .9rem; margin: 0 0 .75rem;
}
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: .75rem; margin: 0 0 .75rem; }
.tile, section {
  background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: .8rem 1rem; min-width: 0;
}
.tile dt { color: var(--soft); font-size: .85rem; }
.tile dd { margin: 0; font-size: 1.5rem; font-weight: 650; line-height: 1.25; font-variant-numeric: tabular-nums; }
.tile dd + dd { font-size: .8rem; font-weight: 400; color: var(--soft); }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(27rem, 100%), 1fr)); gap: .75rem; }
.wide { margin-bottom: .75rem; }
.last { margin-top: .75rem; }
.chart { display: block; width: 100%; height: 4.5rem; color: var(--accent); border-bottom: 1px solid var(--line); }
.axis { display: flex; justify-content: space-between; color: var(--soft); font-size: .8rem; }
.scroll { overflow-x: auto; }
.scroll:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: .9rem; }
th, td { padding: .3rem .55rem; text-align: right; border-top: 1px solid var(--line); white-space: nowrap; }
thead th { border-top: 0; color: var(--soft); font-weight: 600; font-size: .8rem; }
th:first-child, th.left, td.word { text-align: left; }
th:first-child { padding-left: 0; }
th:last-child, td:last-child { padding-right: 0; }
tbody th { font-weight: 500; }
.share { width: 30%; min-width: 4rem; }
.share svg { display: block; width: 100%; height: .7rem; color: var(--bar); }
@media (max-width: 34rem) {
  main { padding: 1rem .6rem 2rem; }
  .tile, section { padding: .7rem .75rem; }
  table { font-size: .8rem; }
  th, td { padding: .3rem; }
  .share { width: auto; min-width: 3rem; }
}
"""
