/**
 * The page's style sheet. Colours are variables with a light and a dark value each; text on its ground passes WCAG AA (4.5 : 1), marks pass
 * 3 : 1. Series colours: Okabe and Ito's, moved until they pass on either ground.
 */
export const pageStyle = `
:root {
  color-scheme: light dark;
  --page: #ffffff; --ink: #1b1f24; --muted: #59636e; --line: #d1d9e0; --raised: #f6f8fa; --link: #0550ae;
  --right: #116329; --wrong: #a40e26;
  --c0: #0072b2; --c1: #b35900; --c2: #00795a; --c3: #b0418a; --c4: #7a6a00; --c5: #5c4033; --c6: #8250df; --c7: #57606a;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #0d1117; --ink: #e6edf3; --muted: #9ba5b0; --line: #3d444d; --raised: #161b22; --link: #79b8ff;
    --right: #56d364; --wrong: #ff8f86;
    --c0: #58a6ff; --c1: #e69f00; --c2: #3fc79a; --c3: #e07fb8; --c4: #d8cf4a; --c5: #d0b090; --c6: #bc8cff; --c7: #a5b0bb;
  }
}
@media print {
  :root {
    color-scheme: light;
    --page: #ffffff; --ink: #000000; --muted: #444444; --line: #bbbbbb; --raised: #ffffff; --link: #000000;
    --c0: #0072b2; --c1: #b35900; --c2: #00795a; --c3: #b0418a; --c4: #7a6a00; --c5: #5c4033; --c6: #8250df; --c7: #57606a;
  }
  nav, form { display: none; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.55 system-ui, sans-serif; }
main, header, footer { max-width: 68rem; margin: 0 auto; padding: 0 1.25rem; }
header { padding-top: 2.5rem; }
h1 { font-size: 1.45rem; line-height: 1.4; font-weight: 600; margin: .4rem 0 1rem; text-wrap: pretty; }
h2 { font-size: 1.2rem; margin: 2.75rem 0 .5rem; padding-top: .75rem; border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.5rem 0 .4rem; }
p, li { overflow-wrap: anywhere; }
p.name, p.note, figcaption, footer { color: var(--muted); font-size: .9rem; }
p.name { margin: 0; }
p.note { margin: .3rem 0; max-width: 48rem; }
a { color: var(--link); }
nav { font-size: .9rem; margin: 1rem 0; }
nav a { margin-right: 1rem; white-space: nowrap; }
.warning { border-left: 4px solid var(--c1); background: var(--raised); padding: .5rem 1rem; margin: 1rem 0; }
.warning ul { margin: .3rem 0; padding-left: 1.2rem; }
figure { margin: 1rem 0; }
figure svg { max-width: 100%; height: auto; display: block; }
.narrow { display: none; }
@media (max-width: 46rem) { .wide { display: none; } .narrow { display: block; } h1 { font-size: 1.2rem; } header { padding-top: 1.25rem; } }
.scroll { overflow-x: auto; margin: .75rem 0; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .75rem .3rem 0; text-align: left; border-bottom: 1px solid var(--line); white-space: nowrap; vertical-align: top; }
th { font-weight: 600; }
.number { text-align: right; }
details { margin: .75rem 0; }
summary { cursor: pointer; }
pre { background: var(--raised); border: 1px solid var(--line); padding: .75rem; overflow-x: auto; font-size: .8125rem; line-height: 1.45; }
.question { border-bottom: 1px solid var(--line); margin: 0; padding: .4rem 0; }
.question > summary { display: flex; flex-wrap: wrap; gap: .25rem 1rem; align-items: baseline; }
.question > summary::before { content: '▸'; width: .8em; }
.question[open] > summary::before { content: '▾'; }
.question .marks { font-size: .8125rem; color: var(--muted); }
.answers { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 17rem), 1fr)); gap: .75rem; margin: .5rem 0 1rem; }
.answer { border: 1px solid var(--line); background: var(--raised); padding: .5rem .75rem; min-width: 0; }
.answer h4 { margin: 0 0 .3rem; font-size: .8125rem; }
.text { white-space: pre-wrap; overflow-wrap: anywhere; font-size: .875rem; margin: 0; unicode-bidi: isolate; max-height: 24rem; overflow-y: auto; }
.right { color: var(--right); } .wrong { color: var(--wrong); }
form { font-size: .9rem; background: var(--raised); border: 1px solid var(--line); padding: .6rem .75rem; margin: .75rem 0; }
form label { display: inline-block; margin-right: 1rem; max-width: 100%; }
select { font: inherit; max-width: min(14rem, 100%); }
@media print {
  body { font-size: 11pt; }
  .wide { display: block; } .narrow { display: none; }
  .scroll { overflow: visible; }
  table { font-size: 7.5pt; }
  th, td { white-space: normal; padding-right: .5rem; overflow-wrap: anywhere; }
  pre { white-space: pre-wrap; }
  h2, h3, figure, tr { break-inside: avoid; break-after: auto; }
  h2, h3 { break-after: avoid; }
  /* Paper cannot be clicked: tables stand open; texts of questions and hashes of files stay where they are folded. */
  details:not(.question, .files)::details-content { content-visibility: visible; display: block; block-size: auto; }
}
footer { margin-top: 3rem; padding-bottom: 2rem; }
`;
