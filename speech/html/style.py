"""The style sheet of the HTML pages: light and dark, and narrow screens."""

STYLE = """
:root {
  color-scheme: light dark;
  --page: #ffffff; --panel: #f5f7f9; --text: #1c2126; --muted: #59636e; --rule: #d5dbe1;
  --accent: #2366b8; --bar: #8fb6e3;
  --substitute: #7a4a00; --substitute-back: #ffedc2;
  --delete: #a01b2c; --delete-back: #ffe1e1;
  --insert: #0b6536; --insert-back: #d8f3e1;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #14181d; --panel: #1d232a; --text: #e4e8ec; --muted: #9aa5b1; --rule: #38414b;
    --accent: #7db4f5; --bar: #3a6496;
    --substitute: #ffd479; --substitute-back: #463612;
    --delete: #ffa3a8; --delete-back: #4d2328;
    --insert: #85dfa9; --insert-back: #16402a;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 1rem 1rem 4rem; max-width: 60rem;
  background: var(--page); color: var(--text); font: 16px/1.5 system-ui, sans-serif;
}
h1 { font-size: 1.5rem; line-height: 1.25; margin: .5rem 0; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 2.5rem 0 .75rem; padding-top: .75rem;
  border-top: 1px solid var(--rule); }
h3 { font-size: 1rem; margin: 1.5rem 0 .5rem; }
h4 { font-size: .85rem; font-weight: 400; color: var(--muted); margin: .75rem 0 0; }
a { color: var(--accent); }
nav a { display: inline-block; padding: .3rem .8rem .3rem 0; }
.note { color: var(--muted); font-size: .875rem; max-width: 45rem; }
.wraps { overflow-wrap: anywhere; }
.scrolled { overflow-x: auto; margin: .5rem 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: start; padding: .3rem 1.25rem .3rem 0; border-bottom: 1px solid var(--rule);
  vertical-align: top; }
th { font-weight: 400; }
thead th { color: var(--muted); font-size: .875rem; white-space: nowrap; }
td { white-space: nowrap; }
td:has(.wraps) { white-space: normal; }
.bars { width: 100%; }
.bars td:nth-child(2) { width: 55%; }
.bars td:last-child { text-align: end; }
.interval { color: var(--muted); margin-inline-start: .75em; font-size: .9em; }
.bars th[scope=row] { white-space: nowrap; }
.columns { display: grid; gap: 0 2rem;
  grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); }
.columns table { width: 100%; }
.columns th { overflow-wrap: anywhere; }
.columns td { text-align: end; padding-inline-end: 0; }

.bar { display: block; overflow: visible; }
.bar rect { fill: var(--bar); }
.whisker { stroke: var(--text); stroke-width: 1.5; }
.chart { display: block; }
.chart.shrinks { max-width: 100%; height: auto; }
.chart text { fill: var(--text); font: 12px system-ui, sans-serif; }
.grid { stroke: var(--rule); }
.curve { fill: none; stroke: var(--accent); stroke-width: 2; }
.point, .cell { fill: var(--accent); }
.column { fill: var(--bar); }
.waveform { display: block; margin-top: .5rem; }
.wave { fill: var(--accent); stroke: var(--accent); stroke-width: .3; }
.silent { fill: var(--rule); }
.cut { stroke: var(--delete); stroke-width: 2; vector-effect: non-scaling-stroke; }
.chosen { fill: none; stroke: var(--text); stroke-width: 2.5; }

article { background: var(--panel); border-radius: .5rem; padding: .75rem 1rem; margin: .75rem 0; }
article header { display: flex; flex-wrap: wrap; justify-content: space-between; gap: 0 1rem;
  font-size: .875rem; }
article header span { color: var(--muted); }
audio { display: block; width: 100%; max-width: 30rem; height: 2.5rem; margin-top: .5rem; }
.alignment { margin: .5rem 0; line-height: 1.35; }
.alignment > span { display: inline-block; max-width: 100%; overflow-wrap: anywhere;
  vertical-align: bottom; margin: 0 .1rem .45rem;
  padding: 0 .2rem; border-radius: .25rem; }
/* A word of another direction runs in its own, and stands at the side where the others do. */
.alignment > span > span { display: block; min-height: 1.35em;
  unicode-bidi: plaintext; text-align: left; }
.alignment[dir=rtl] > span > span { text-align: right; }
.equal > span + span { color: var(--muted); }
.substitute { color: var(--substitute); background: var(--substitute-back); }
.delete { color: var(--delete); background: var(--delete-back); }
.insert { color: var(--insert); background: var(--insert-back); }
.substitute > span + span { font-weight: 600; }
.delete > span:first-child { text-decoration: line-through; }
.insert > span:last-child { text-decoration: underline; }
.substitute::before, .delete::before, .insert::before { display: block; font-size: .8rem;
  line-height: 1; padding-top: .15rem; }
.substitute::before { content: "\\2260"; }
.delete::before { content: "\\2212"; }
.insert::before { content: "+"; }
.legend > span { display: inline-block; padding: 0 .35rem; border-radius: .25rem; }
.legend > span::before { display: inline; padding-inline-end: .3em; font-size: inherit; }
.charts { display: grid; gap: 0 2rem;
  grid-template-columns: repeat(auto-fit, minmax(min(18rem, 100%), 1fr)); }
article p { margin: .25rem 0; overflow-wrap: anywhere; }
.transcript { font-size: 1.05rem; }
mark { color: var(--delete); background: var(--delete-back); border-radius: .2rem;
  outline: 1px solid var(--delete); font-weight: 600; }
.error { color: var(--delete); font-weight: 600; }
.warning { color: var(--substitute); }
@media (max-width: 36rem) {
  th, td { padding-inline-end: .75rem; font-size: .9rem; }
  /* The bars below their numbers, as wide as the screen. */
  .bars, .bars thead, .bars tbody { display: block; }
  .bars tr { display: grid; grid-template-columns: 6rem 1fr auto; padding-bottom: .3rem;
    border-bottom: 1px solid var(--rule); }
  .bars th, .bars td { border: 0; padding-bottom: 0; }
  .bars thead th:nth-child(2) { display: none; }
  .bars td:nth-child(2) { order: 1; grid-column: 1 / -1; width: auto; }
}
"""
