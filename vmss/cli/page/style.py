"""The style sheet of the page: light and dark, for wide windows, phones and paper. A test computes the contrasts."""

STYLE = """
:root { color-scheme: light dark;
  --page: #f7f6f3; --card: #ffffff; --line: #e3e0da; --text: #23262b; --soft: #5b616a; --track: #efedE8;
  --good: #2c7a6b; --good-text: #1f6557; --late: #a8700f; --late-text: #80540a; --bad: #bf3b30; --bad-text: #a52c22;
  --plan: #4a6fa5; --wash: #e7f1ee; --bad-wash: #fbeceA; --late-wash: #faf2e2; --code: #f3f1ec; }
@media screen and (prefers-color-scheme: dark) { :root {
  --page: #14171a; --card: #1c2024; --line: #31373d; --text: #e4e6e8; --soft: #a4abb3; --track: #262b30;
  --good: #4fae9b; --good-text: #7fcdbd; --late: #d19a3a; --late-text: #e3b35f; --bad: #e8695d; --bad-text: #f59288;
  --plan: #7fa3d8; --wash: #1d302d; --bad-wash: #3a2322; --late-wash: #352b1a; --code: #262b30; } }
* { box-sizing: border-box; }
html { background: var(--page); -webkit-text-size-adjust: 100%; }
body { margin: 0 auto; padding: 2.5rem 1.5rem 3rem; max-width: 74rem; color: var(--text);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Noto Sans", "DejaVu Sans", sans-serif;
  font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
h1, h2, h3, p, ul, dl, dd { margin: 0; padding: 0; }
h1 { font-size: clamp(1.7rem, 4.5vw, 2.5rem); line-height: 1.15; font-weight: 650; letter-spacing: -0.02em; }
h2 { font-size: 1.15rem; font-weight: 650; letter-spacing: -0.01em; }
h3 { font-size: 1rem; font-weight: 600; }
ul { list-style: none; }
code { font: 0.86em/1.6 ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace;
  background: var(--code); border-radius: 4px; padding: 0.1em 0.35em; -webkit-box-decoration-break: clone;
  box-decoration-break: clone; }
.soft { color: var(--soft); }
.small { font-size: 0.87rem; }
.of { color: var(--soft); margin-bottom: 0.6rem; }
.lede { font-size: 1.08rem; color: var(--soft); margin-top: 0.7rem; max-width: 46rem; }
.good { color: var(--good-text); } .late { color: var(--late-text); } .bad { color: var(--bad-text); }
section { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 1.4rem 1.5rem;
  margin-top: 1.25rem; }
.hint { color: var(--soft); font-size: 0.87rem; margin: 0.15rem 0 1rem; max-width: 52rem; }
.share { display: block; width: 100%; height: 10px; margin-top: 1.4rem; border-radius: 5px; background: var(--track); }
.legend { display: flex; flex-wrap: wrap; gap: 0.3rem 1.3rem; margin-top: 0.7rem; font-size: 0.87rem;
  color: var(--soft); }
.legend li { display: flex; align-items: center; gap: 0.45rem; }
.legend svg { width: 14px; height: 14px; flex: none; overflow: visible; }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(9rem, 100%), 1fr)); gap: 1.1rem 1.5rem;
  margin-top: 1.7rem; padding-top: 1.3rem; border-top: 1px solid var(--line); }
.facts dt { color: var(--soft); font-size: 0.87rem; }
.facts dd { font-size: 1.15rem; font-weight: 600; line-height: 1.3; }
.facts dd small { display: block; font-size: 0.87rem; font-weight: 400; color: var(--soft); margin-top: 0.1rem; }
.told > li { border-left: 4px solid var(--late); padding: 0.1rem 0 0.1rem 0.9rem; margin-top: 1rem; }
.told > li.is-bad { border-color: var(--bad); }
.told > li.is-plain { border-color: var(--line); }
.told p { max-width: 58rem; }
.state { font-size: 0.78rem; font-weight: 650; letter-spacing: 0.03em; margin-right: 0.5rem; white-space: nowrap; }
.row { display: grid; gap: 0.1rem 1.2rem; align-items: center;
  grid-template-columns: clamp(9rem, 22%, 13rem) minmax(0, 1fr) clamp(8.5rem, 21%, 12rem); padding: 0.45rem 0; }
.row + .row { border-top: 1px solid var(--line); }
.row .name { font-weight: 550; }
.row .name small, .row .says small { display: block; font-weight: 400; color: var(--soft); font-size: 0.82rem; }
.row .says { font-size: 0.87rem; }
.chart { display: block; width: 100%; overflow: visible; }
.axis { position: relative; height: 1.3rem; font-size: 0.78rem; color: var(--soft); white-space: nowrap; }
.axis span { position: absolute; transform: translateX(-50%); }
.axis span.from { transform: none; } .axis span.to { transform: translateX(-100%); }
.row.scale { padding: 0; border: 0; }
.row.scale + .row { border-top: 0; }
.legend + details, .told + details { margin-top: 0.9rem; }
details { border-top: 1px solid var(--line); padding: 0.7rem 0; }
details > summary { cursor: pointer; padding: 0.2rem 0; border-radius: 4px; }
summary h3 { display: inline; }
summary .soft { margin-left: 0.5rem; }
:focus-visible { outline: 2px solid var(--plan); outline-offset: 2px; }
.rooms { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(19rem, 100%), 1fr)); gap: 1.6rem 2.2rem; }
.rooms p { font-size: 0.87rem; }
.rooms .chart { height: 96px; margin: 0.6rem 0 0.2rem; }
footer { color: var(--soft); font-size: 0.82rem; margin-top: 1.5rem; max-width: 58rem; }
.f-good { fill: var(--good); } .f-late { fill: var(--late); }
.f-bad { fill: var(--bad); } .f-plan { fill: var(--plan); }
.f-track { fill: var(--track); } .f-soft { fill: var(--soft); } .f-wash { fill: var(--wash); }
.o-bad, .o-soft, .l-good, .l-plan, .l-now, .l-edge { fill: none; vector-effect: non-scaling-stroke; }
.o-bad { stroke: var(--bad); stroke-width: 1.5; } .o-soft { stroke: var(--soft); stroke-width: 1; }
.l-good { stroke: var(--good); stroke-width: 2; stroke-linejoin: round; }
.l-plan { stroke: var(--plan); stroke-width: 2; stroke-dasharray: 5 4; }
.l-cut { fill: none; vector-effect: non-scaling-stroke; stroke: var(--card); stroke-width: 1.5; }
.l-next { fill: none; vector-effect: non-scaling-stroke; stroke: var(--plan); stroke-width: 2; }
.l-now { stroke: var(--soft); stroke-width: 1; stroke-dasharray: 2 3; }
.l-edge { stroke: var(--soft); stroke-width: 1; }
.l-base { fill: none; stroke: var(--line); stroke-width: 1; vector-effect: non-scaling-stroke; }
.m-kept, .m-goes, .m-hole, .m-pin { fill: none; vector-effect: non-scaling-stroke; stroke-linecap: round; }
.m-kept { stroke: var(--good); stroke-width: 10; } .m-goes { stroke: var(--good); stroke-width: 10; }
.m-hole { stroke: var(--card); stroke-width: 6; }
.m-pin { stroke: var(--plan); stroke-width: 9; stroke-linecap: square; }
@media (max-width: 46rem) {
  body { padding: 1.5rem 0.9rem 2rem; }
  section { padding: 1.1rem 1rem; border-radius: 10px; }
  .row { grid-template-columns: minmax(0, 1fr) minmax(0, auto); }
  .row .name { grid-column: 1; grid-row: 1; } .row .says { grid-column: 2; grid-row: 1; text-align: right; }
  .row .draw { grid-column: 1 / -1; grid-row: 2; margin: 0.35rem 0; }
  .row.scale .draw { margin: 0; } .row.scale .name, .row.scale .says { display: none; }
}
@media print {
  @page { size: A4; margin: 14mm; }
  :root { color-scheme: light; }
  html, section { background: none; }
  body { padding: 0; font-size: 10pt; max-width: none; }
  section { border: 0; border-top: 1px solid var(--line); border-radius: 0; padding: 0.8rem 0; }
  .row, .told > li, .rooms > div, .facts > div { break-inside: avoid; }
  h2, h3, summary, .hint { break-after: avoid; }
  details::details-content { content-visibility: visible; display: block; height: auto; }
  svg { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""
